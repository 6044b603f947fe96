#!/usr/bin/python3
"""Clients that send without end, or never read: memory stays flat, and the session goes on or ends as postern(8) says.

Memory is the peak resident set (VmHWM in /proc/PID/status) of each process; it must not grow with what the client does.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import re  # noqa: E402
import select  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import Failure, check, readable  # noqa: E402

# What a process may grow by: pages of buffers that are first used now.
FLAT_KB = 1024

MESSAGES = [b"Subject: %d\n\ntext\n" % n for n in range(10)]


def peaks(c):
    """{process id: peak resident set in kB}."""
    found = {}
    for pid in c.processes():
        try:
            with open("/proc/%d/status" % pid) as f:
                m = re.search(r"VmHWM:\s+(\d+) kB", f.read())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if m is not None:
            found[pid] = int(m.group(1))
    return found


def check_flat(c, before, tap):
    now = peaks(c)
    check(set(now) == set(before), "other processes than before: %s instead of %s" % (sorted(now), sorted(before)))
    tap.note("peak kB before and after: %s" % [(before[pid], now[pid]) for pid in sorted(now)])
    for pid in now:
        check(now[pid] - before[pid] <= FLAT_KB, "process %d grew from %d to %d kB" % (pid, before[pid], now[pid]))


def new_run(folder, settings=(), messages=MESSAGES):
    run = pt.Run(folder, settings)
    with open(run.maildrop, "wb") as f:
        f.write(pt.mbox_join(messages)[0])
    return run


class Flood:
    """Sends one piece again and again and counts the lines that come back, without keeping them."""

    def __init__(self, c, piece, times, answer):
        self.c, self.answer = c, answer
        self.piece, self.times = piece, times
        self.got = 0
        self.rest = b""

    def run(self):
        """Until all is sent and as many answers have come as there are pieces.  Returns the other lines that came."""
        view, left, others = memoryview(b""), self.times, []
        deadline = time.monotonic() + 10 * pt.PATIENCE
        many = self.piece * min(1000, self.times)
        sent_pieces = 0
        while self.got < self.times and not self.c.eof:
            check(time.monotonic() < deadline, "%d answers of %d" % (self.got, self.times))
            if not view and left > 0:
                count = min(len(many) // len(self.piece), left)
                view, left, sent_pieces = memoryview(many)[:count * len(self.piece)], left - count, sent_pieces + count
            ready = select.select([self.c.fd_in], [self.c.fd_out] if view else [], [], pt.PATIENCE)
            check(ready[0] or ready[1], "no answer and no room: %d answers of %d" % (self.got, self.times))
            if ready[1]:
                view = self._write(view)
            if ready[0]:
                others += self._read()
        return others

    def _write(self, view):
        try:
            return view[os.write(self.c.fd_out, view):]
        except BlockingIOError:
            return view
        except (BrokenPipeError, ConnectionResetError):
            return view[len(view):]

    def _read(self):
        self.c._receive()
        lines = (self.rest + bytes(self.c.pending)).split(b"\r\n")
        self.c.pending.clear()
        self.rest = lines.pop()
        wanted = lines.count(self.answer)
        self.got += wanted
        return [line for line in lines if line != self.answer] if wanted != len(lines) else []


def cancelled_auth(folder, tap):
    run = new_run(folder)
    with pt.Session(run) as c:
        c.read_line()
        for _ in range(3):
            c.expect(b"AUTH PLAIN", b"+ ")
            c.expect(b"*", b"-ERR")
        before = peaks(c)
        others = Flood(c, b"AUTH PLAIN\r\n*\r\n", 10000, b"-ERR authentication cancelled").run()
        check(set(others) == {b"+ "} and len(others) == 10000, "came: %s" % set(others))
        check_flat(c, before, tap)
        c.expect(b"USER alice", b"+OK")
        c.expect(b"PASS secret", b"+OK")
        c.quit()


def no_line_end(folder, tap, login):
    run = new_run(folder)
    with pt.Session(run, "TCP") as c:
        if login:
            c.log_in()
        else:
            c.read_line()
        c.expect(b"x" * 100000, b"-ERR line too long")
        before = peaks(c)
        piece = b"DELE 1 " * (1 << 17)
        for _ in range(100 * (1 << 20) // len(piece)):
            c.send(piece)
        check(not c.pending, "an answer before the line's end: " + readable(bytes(c.pending)))
        c.expect(b"", b"-ERR line too long")
        check_flat(c, before, tap)
        c.quit()
    check(pt.read_file(run.maildrop) == pt.mbox_join(MESSAGES)[0], "the mbox has changed")


def many_commands(folder, tap, piece, times, answer, transport):
    run = new_run(folder)
    with pt.Session(run, transport) as c:
        c.log_in()
        c.expect(b"NOOP", b"+OK")
        before = peaks(c)
        others = Flood(c, piece, times, answer).run()
        check(not others, "came: %s" % set(others))
        check_flat(c, before, tap)
        c.quit()


def many_rets(folder, tap):
    """RETR again and again of a message that is larger than all buffers."""
    text = b"Subject: large\n\n" + b"x" * 75 + b"\n"
    run = new_run(folder, messages=[text * 10000])
    with pt.Session(run) as c:
        c.log_in()
        wanted = c.ask_multi(b"RETR 1")
        before = peaks(c)
        for _ in range(50):
            check(c.ask_multi(b"RETR 1") == wanted, "another text")
        check_flat(c, before, tap)
        c.quit()


def flood_past_login_timeout(folder, tap):
    """Input that is always there does not keep a session open beyond login-timeout."""
    run = new_run(folder, {"login-timeout": "1"})
    with pt.Session(run) as c:
        started = time.monotonic()
        flood = Flood(c, b"AUTH PLAIN\r\n*\r\n", 10 ** 9, b"-ERR authentication cancelled")
        flood.times = 10 ** 9
        limit = 6 if not pt.WRAPPER else 60
        while not c.eof and time.monotonic() < started + limit:
            flood_for(flood, 0.2)
        took = time.monotonic() - started
        check(c.eof, "after %.1f s and %d commands the session is still open" % (took, flood.got))
        check(took > 0.9, "closed after %.1f s" % took)
        c.end()


def endless_line_past_login_timeout(folder, tap):
    run = new_run(folder, {"login-timeout": "1"})
    with pt.Session(run) as c:
        started = time.monotonic()
        limit = 6 if not pt.WRAPPER else 60
        while not c.eof and time.monotonic() < started + limit:
            if select.select([c.fd_in], [], [], 0)[0]:
                c._receive()
            try:
                os.write(c.fd_out, b"x" * 10000)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                break
        took = time.monotonic() - started
        check(took < limit, "after %.1f s the session is still open" % took)
        check(took > 0.9, "closed after %.1f s" % took)
        c.end()


def flood_for(flood, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not flood.c.eof:
        ready = select.select([flood.c.fd_in], [flood.c.fd_out], [], 0.1)
        if ready[1]:
            flood._write(memoryview(flood.piece * 100))
        if ready[0]:
            flood._read()


def never_reads(folder, tap, settings, login, ends):
    """A client that sends commands and never reads an answer is given up, within the time that silence is given."""
    run = new_run(folder, settings, [b"Subject: large\n\n" + b"x" * 10000000])
    with pt.Session(run) as c:
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if login:
            c.log_in()
            commands = b"RETR 1\r\n"
        else:
            c.read_line()
            commands = b"CAPA\r\n" * 200000
        started = time.monotonic()
        view = memoryview(commands)
        while c.process.poll() is None and time.monotonic() < started + ends[1]:
            if view and select.select([], [c.fd_out], [], 0.05)[1]:
                try:
                    view = view[os.write(c.fd_out, view):]
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass
            else:
                time.sleep(0.05)
        took = time.monotonic() - started
        check(c.process.poll() is not None, "after %.1f s the session is still there" % took)
        check(took >= ends[0], "gone after %.1f s" % took)
        c.end()
    return run


def slow_octets(folder, tap):
    """An octet now and then does not make the time for one command longer: idle-timeout is for the whole line."""
    run = new_run(folder, {"idle-timeout": "1"})
    with pt.Session(run) as c:
        c.log_in()
        started = time.monotonic()
        while not c.eof and time.monotonic() < started + 10:
            c.send(b"x")
            c.wait_input(0.1)
        took = time.monotonic() - started
        check(c.eof and not c.pending, "after %.1f s the session is still open" % took)
        check(0.9 < took < 5, "closed after %.1f s" % took)
        c.end()


def main(folder, tap):
    if pt.WRAPPER:
        tap.skip("memory and time", "a wrapper's memory and speed are not the programs'")
    else:
        tap.run("10,000 cancelled AUTH", cancelled_auth, folder, tap)
        tap.run("100 MiB without a line end, before the login", no_line_end, folder, tap, False)
        tap.run("100 MiB without a line end, after the login", no_line_end, folder, tap, True)
        for transport in ("pipes", "socketpair", "TCP"):
            tap.run("a million NOOP, " + transport, many_commands, folder, tap, b"NOOP\r\n", 1000000, b"+OK", transport)
        tap.run("200,000 UIDL 1", many_commands_uidl, folder, tap)
        tap.run("RETR of a large message again and again", many_rets, folder, tap)
        tap.run("a flood of commands does not outlast login-timeout", flood_past_login_timeout, folder, tap)
        tap.run("a line without end does not outlast login-timeout", endless_line_past_login_timeout, folder, tap)
        tap.run("a client that never reads, before the login", never_reads, folder, tap,
                {"login-timeout": "1", "idle-timeout": "600"}, False, (0.8, 8))
        tap.run("a client that never reads, after the login", never_reads, folder, tap,
                {"login-timeout": "60", "idle-timeout": "1"}, True, (0.8, 8))
    tap.run("an octet now and then", slow_octets, folder, tap)


def many_commands_uidl(folder, tap):
    run = new_run(folder)
    with pt.Session(run) as c:
        c.log_in()
        answer = c.expect(b"UIDL 1", b"+OK 1 ")
        before = peaks(c)
        others = Flood(c, b"UIDL 1\r\n", 200000, answer).run()
        check(not others, "came: %s" % set(others))
        check_flat(c, before, tap)
        c.quit()


if __name__ == "__main__":
    pt.in_place(main)
