#!/usr/bin/python3
"""System calls towards the client: answers leave in as few writes as possible, and nothing is written to descriptor 2.

A status line that is written apart from its text costs 40 ms per message where Nagle's algorithm meets a delayed ACK.
"""

import sys

sys.dont_write_bytecode = True

import glob  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

CALLS = "write,writev,pwrite64,pwritev,send,sendto,sendmsg,sendmmsg,sendfile,splice"

SMALL = b"Subject: small\n\n" + b"line\n.dot\n" * 100
LARGE = b"Subject: large\n\n" + b"x" * 75 + b"\n"


def strace_works():
    try:
        return subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def new_run(folder, settings=(), messages=(SMALL,)):
    return pt.Run(folder, settings, box=pt.mbox_join(messages)[0])


class Traced:
    """A session over TCP under strace.  The calls are looked at when it is over: strace writes a little later."""

    def __init__(self, folder, messages, transport="TCP"):
        self.run = new_run(folder, (), messages)
        self.trace = self.run.folder + "/trace"
        command = ["strace", "-qq", "-f", "-ff", "-o", self.trace, "-e", "trace=" + CALLS]
        # Where the programs are built with it: LeakSanitizer is a tracer itself, and fails beside another.
        more = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
        self.connection = pt.Connection(self.run, transport, command, more)

    def __enter__(self):
        return self.connection

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.connection.abandon()

    def calls(self):
        """The lines of all processes, those of one in their order."""
        lines = []
        for name in sorted(glob.glob(self.trace + ".*")):
            with open(name, errors="replace") as f:
                lines += f.read().splitlines()
        return lines

    def writes(self):
        """On descriptors 0 and 1: in the session they are the client, in the other processes /dev/null."""
        return [line for line in self.calls() if re.match(r"\w+\([01],", line)]

    def check_count(self, most, least=0):
        writes = self.writes()
        shown = "\n".join(line[:100] for line in writes[:20])
        check(least <= len(writes) <= most, "%d writes instead of %d:\n%s" % (len(writes), most, shown))


def test_small_retr(folder):
    t = Traced(folder, [SMALL])
    with t as c:
        c.log_in()
        check(c.ask_multi(b"RETR 1") == pt.stuffed(pt.wire_form(SMALL)), "RETR 1: another text")
        c.quit()
    # The greeting, USER, PASS, RETR and QUIT.
    t.check_count(5, 5)


def test_dialogue(folder):
    t = Traced(folder, [SMALL])
    with t as c:
        c.log_in()
        c.expect(b"STAT", b"+OK 1 ")
        for line in (b"LIST", b"UIDL", b"TOP 1 3", b"CAPA"):
            c.ask_multi(line)
        c.expect(b"DELE 1", b"+OK")
        c.quit()
    # The greeting, USER, PASS, these six, and QUIT.
    t.check_count(10, 10)


def test_large_retr(folder):
    text = LARGE * 40000
    t = Traced(folder, [text])
    with t as c:
        c.log_in()
        check(len(c.ask_multi(b"RETR 1")) == len(pt.wire_form(text)), "RETR 1: another length")
        c.quit()
    # 3.7 MB.  A socket that is full takes less than it is given, so there is no exact number; pieces of 16 kB would be 230.
    t.check_count(120)


def test_packet(folder):
    packet = b"USER alice\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nQUIT\r\n"
    wanted = [pt.GREETING, b"+OK name is welcome here", b"+OK maildrop locked and ready",
              b"+OK 1 %d" % len(pt.wire_form(SMALL)), b"+OK message follows"]
    t = Traced(folder, [SMALL])
    with t as c:
        c.send(packet)
        for line in wanted:
            got = c.read_line()
            check(got == line, "%s instead of %s" % (got, line))
        check(c.read_multi() == pt.stuffed(pt.wire_form(SMALL)), "RETR 1: another text")
        got = c.read_line()
        check(got == b"+OK POP3 server signing off", "QUIT: %s" % got)
        check(c.read_line() is None, "more after QUIT")
        c.end()
    # The greeting may go before the packet is there.
    t.check_count(2, 1)


def test_pipelined(folder):
    messages = [b"Subject: %d\n\ntext\n" % n for n in range(1000)]
    t = Traced(folder, messages)
    with t as c:
        c.log_in()
        c.send(b"".join(b"LIST %d\r\nRETR %d\r\n" % (n, n) for n in range(1, 1001)))
        for n in range(1000):
            check(c.read_line().startswith(b"+OK %d " % (n + 1)), "LIST %d" % (n + 1))
            check(c.read_line().startswith(b"+OK"), "RETR %d" % (n + 1))
            check(c.read_multi() == b"Subject: %d\r\n\r\ntext\r\n" % n, "RETR %d: another text" % (n + 1))
        c.quit()
    # 20 kB of commands; answers are collected at least as long as commands of one read are there.
    t.check_count(50)


def test_list(folder):
    t = Traced(folder, [b"Subject: %d\n\ntext\n" % n for n in range(5000)])
    with t as c:
        c.log_in()
        check(c.ask_multi(b"LIST").count(b"\n") == 5000, "LIST has not 5000 lines")
        check(c.ask_multi(b"UIDL").count(b"\n") == 5000, "UIDL has not 5000 lines")
        c.quit()
    # 55 and 195 kB.
    t.check_count(20)


class Watched(pt.Connection):
    """A session whose end of the connection can be looked at."""

    def _connect(self):
        ours, other = pt.Connection._connect()
        self.watched = other.dup()
        return ours, other


def test_nodelay(folder):
    for transport in ("TCP", "inetd"):
        run = new_run(folder)
        c = Watched(run, transport)
        try:
            line = c.read_line()
            check(line == pt.GREETING, "greeting: %s" % line)
            option = c.watched.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            check(option != 0, "TCP_NODELAY is not set on the connection (%s)" % transport)
            c.watched.close()
            c.expect(b"QUIT", b"+OK")
            c.end()
        except BaseException:
            c.abandon()
            raise


def test_descriptor_2(folder):
    """As inetd starts it, in every kind of end: nothing but replies comes, and nothing goes over descriptor 2."""
    for script, settings in ((b"QUIT\r\n", ()), (b"USER alice\r\nPASS secret\r\nSTAT\r\nQUIT\r\n", ()),
                             (b"USER alice\r\nPASS wrong\r\nQUIT\r\n", ()), (b"junk\r\n" * 25, ()),
                             (b"USER alice\r\nPASS secret\r\n", {"no-such-key": "1"})):
        run = new_run(folder, settings)
        with pt.Session(run, "inetd") as c:
            c.send(script)
            c.finish_sending()
            line = c.read_line()
            while line is not None:
                check(re.match(rb"\+OK|-ERR", line), "no reply, but came to the client: %s" % line)
                line = c.read_line()
            c.end()


TESTS = (
    ("a small RETR is one write", test_small_retr),
    ("every answer is one write", test_dialogue),
    ("a large RETR leaves in large pieces", test_large_retr),
    ("USER, PASS, STAT, RETR and QUIT in one packet are answered in order, in few writes", test_packet),
    ("2000 pipelined commands are answered in few writes", test_pipelined),
    ("LIST and UIDL of 5000 messages are few writes", test_list),
)


def main(folder, tap):
    tap.run("nothing is written to the client but replies when descriptor 2 is the client too", test_descriptor_2, folder)
    tap.run("TCP_NODELAY is set where descriptor 1 is TCP", test_nodelay, folder)
    reason = None
    if pt.WRAPPER:
        reason = "strace does not go with WRAPPER"
    elif shutil.which("strace") is None:
        reason = "strace is not installed"
    elif not strace_works():
        reason = "strace may not trace here"
    for name, function in TESTS:
        if reason is None:
            tap.run(name, function, folder)
        else:
            tap.skip(name, reason)


if __name__ == "__main__":
    pt.in_place(main)
