#!/usr/bin/python3
"""Clients that send without end, or never read: memory stays flat, and the session goes on or ends as postern(8) says.

Memory is the peak resident set (VmHWM in /proc/PID/status) of each process; it must not grow with what the client does.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check, readable  # noqa: E402

# What a process may grow by: pages of buffers that are first used now.
FLAT_KB = 1024

# Seconds after which a session that should have ended after one is not waited for any more.
GIVEN_UP = 60 if pt.WRAPPER else 8

LINE = b"x" * 75 + b"\n"

MESSAGES = [b"Subject: %d\n\ntext\n" % n for n in range(10)]


def peaks(c):
    """{process id: peak resident set in kB}."""
    found = {pid: pt.kilobytes(pt.process_status(pid), "VmHWM") for pid in c.processes()}
    return {pid: peak for pid, peak in found.items() if peak is not None}


def check_flat(c, before, tap):
    now = peaks(c)
    check(set(now) == set(before), "other processes than before: %s instead of %s" % (sorted(now), sorted(before)))
    tap.note("peak kB before and after: %s" % [(before[pid], now[pid]) for pid in sorted(now)])
    for pid in now:
        check(now[pid] - before[pid] <= FLAT_KB, "process %d grew from %d to %d kB" % (pid, before[pid], now[pid]))


def new_run(folder, settings=(), messages=MESSAGES):
    return pt.Run(folder, settings, box=pt.mbox_join(messages)[0])


class Writer(threading.Thread):
    """Sends one piece again and again, as fast as it is taken, while we read."""

    def __init__(self, c, piece, times):
        super().__init__(daemon=True)
        self.c, self.piece, self.times = c, piece, times
        self.stopped = False
        self.start()

    def run(self):
        try:
            for _ in range(self.times):
                self._send(memoryview(self.piece))
                if self.stopped:
                    return
        except OSError:
            pass  # the server has closed

    def _send(self, view):
        while view and not self.stopped:
            select.select([], [self.c.fd_out], [], 0.2)
            try:
                view = view[os.write(self.c.fd_out, view):]
            except BlockingIOError:
                pass

    def stop(self):
        self.stopped = True
        self.join()


def count_answers(c, answer, times, others=()):
    """Reads until the answer has come so many times, without keeping what came; other lines have to be in `others`."""
    rest, got = b"", 0
    while got < times:
        check(not c.eof and (c.pending or c.wait_input(pt.PATIENCE)), "%d answers of %d" % (got, times))
        lines = (rest + bytes(c.pending)).split(b"\r\n")
        c.pending.clear()
        rest = lines.pop()
        found = lines.count(answer)
        got += found
        if found != len(lines):
            strange = set(lines) - {answer, *others}
            check(not strange, "came: %s" % strange)
    check(got == times and rest == b"", "%d answers instead of %d, and %s" % (got, times, readable(rest)))


def flood(c, piece, times, answer, others=()):
    """Sends piece so many times, at once, and reads the answer so many times."""
    together = 1000
    writer = Writer(c, piece * together, times // together)
    try:
        count_answers(c, answer, times, others)
    finally:
        writer.stop()


def cancelled_auth(folder, tap):
    run = new_run(folder)
    with pt.Session(run) as c:
        c.read_line()
        for _ in range(3):
            c.expect(b"AUTH PLAIN", b"+ ")
            c.expect(b"*", b"-ERR authentication cancelled")
        before = peaks(c)
        flood(c, b"AUTH PLAIN\r\n*\r\n", 10000, b"-ERR authentication cancelled", [b"+ "])
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


def many_commands(folder, tap, command, times, transport):
    run = new_run(folder)
    with pt.Session(run, transport) as c:
        c.log_in()
        answer = c.expect(command, b"+OK")
        before = peaks(c)
        flood(c, command + b"\r\n", times, answer)
        check_flat(c, before, tap)
        c.quit()


def large_messages(folder, tap):
    """A message that is larger than all buffers, again and again."""
    run = new_run(folder, messages=[b"Subject: large\n\n" + LINE * 10000])
    with pt.Session(run) as c:
        c.log_in()
        wanted = c.ask_multi(b"RETR 1")
        before = peaks(c)
        for _ in range(50):
            check(c.ask_multi(b"RETR 1") == wanted, "another text")
        check_flat(c, before, tap)
        c.quit()


def flood_past_login_timeout(folder, piece):
    """Input that is always there does not keep a session open beyond login-timeout."""
    run = new_run(folder, {"login-timeout": "1"})
    with pt.Session(run) as c:
        started = time.monotonic()
        writer = Writer(c, piece, sys.maxsize)
        try:
            while not c.eof and time.monotonic() < started + GIVEN_UP:
                c.wait_input(0.5)
                c.pending.clear()
        finally:
            writer.stop()
        took = time.monotonic() - started
        check(c.eof, "after %.1f s the session is still open" % took)
        check(took > 0.9, "closed after %.1f s" % took)
        c.end()
    lines = [line for line in run.log_lines() if line.startswith("session-end how=login-timeout ")]
    check(len(lines) == 1, "log: %s" % run.log_lines())


def never_reads(folder, login):
    """A client that sends commands and never reads an answer is given up within the time that silence is given."""
    settings = {"login-timeout": "60", "idle-timeout": "1"} if login else {"login-timeout": "1", "idle-timeout": "600"}
    run = new_run(folder, settings, [b"Subject: large\n\n" + b"x" * 10000000])
    with pt.Session(run) as c:
        if login:
            c.log_in()
        else:
            c.read_line()
        started = time.monotonic()
        writer = Writer(c, b"RETR 1\r\n" if login else b"CAPA\r\n" * 10000, 1 if login else sys.maxsize)
        try:
            while c.process.poll() is None and time.monotonic() < started + GIVEN_UP:
                time.sleep(0.05)
        finally:
            writer.stop()
        took = time.monotonic() - started
        check(c.process.poll() is not None, "after %.1f s the session is still there" % took)
        check(took > 0.9, "gone after %.1f s" % took)
        c.end()
    lines = [line for line in run.log_lines() if line.startswith("session-end how=")]
    check(len(lines) == 1 and lines[0].split()[1] in ("how=stalled", "how=login-timeout"), "log: %s" % lines)


class SmallWindow(pt.Connection):
    """Over TCP, a client that has no megabytes of buffers: a kernel that has opens its window in steps of a sixteenth."""

    def _connect(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.socket()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            ours.connect(listener.getsockname())
            return ours, listener.accept()[0]


def reads_slowly(folder, transport):
    """A client that takes longer than idle-timeout for one answer, but reads on, is not idle."""
    text = b"Subject: large\n\n" + LINE * 300000
    wanted = b"+OK message follows\r\n" + pt.stuffed(pt.wire_form(text))
    run = new_run(folder, {"idle-timeout": "2"}, [text])
    c = SmallWindow(run, transport)
    try:
        c.log_in()
        c.send(b"RETR 1\r\n")
        pieces = []
        for _ in range(15):
            check(select.select([c.fd_in], [], [], pt.PATIENCE)[0], "nothing more after %d octets" % sum(map(len, pieces)))
            pieces.append(os.read(c.fd_in, 100000))
            time.sleep(0.4)
        check(c.process.poll() is None and all(pieces), "closed after %d octets" % sum(map(len, pieces)))
        pieces.append(c.read_multi())
        c.quit()
        check(b"".join(pieces) == wanted, "another text")
    except BaseException:
        c.abandon()
        raise


def slow_octets(folder):
    """An octet now and then does not make the time for one command longer: idle-timeout is for the whole line."""
    run = new_run(folder, {"idle-timeout": "1"})
    with pt.Session(run) as c:
        c.log_in()
        started = time.monotonic()
        while not c.eof and time.monotonic() < started + GIVEN_UP:
            c.send(b"x")
            c.wait_input(0.1)
        took = time.monotonic() - started
        check(c.eof and not c.pending, "after %.1f s the session is still open" % took)
        check(took > 0.9, "closed after %.1f s" % took)
        c.end()


def stopped_now_and_then(folder):
    """Nor do stops make it longer: they interrupt a wait, which goes on with the time that is left."""
    run = new_run(folder, {"idle-timeout": "1"})
    with pt.Session(run) as c:
        c.log_in()
        sessions = [pid for pid in pt.descendants(c.process.pid) if pt.process_status(pid).get("Name") == "postern"]
        check(len(sessions) == 1, "sessions: %s" % sessions)
        started = time.monotonic()
        while not c.eof and time.monotonic() < started + GIVEN_UP:
            for number in (signal.SIGSTOP, signal.SIGCONT):
                try:
                    os.kill(sessions[0], number)
                except ProcessLookupError:
                    break
            c.wait_input(0.3)
        took = time.monotonic() - started
        check(c.eof and not c.pending, "after %.1f s the session is still open" % took)
        check(took > 0.9, "closed after %.1f s" % took)
        c.end()


def goes_silent(folder):
    """A client whose commands came one right after the other is waited for awake for a moment, and then asleep."""
    def busy():
        with open("/proc/%d/stat" % sessions[0]) as f:
            return sum(int(ticks) for ticks in f.read().rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")

    run = new_run(folder)
    with pt.Session(run) as c:
        c.log_in()
        sessions = [pid for pid in pt.descendants(c.process.pid) if pt.process_status(pid).get("Name") == "postern"]
        check(len(sessions) == 1, "sessions: %s" % sessions)
        for _ in range(20):
            for _ in range(100):
                c.expect(b"NOOP", b"+OK")
            before = busy()
            time.sleep(0.1)
            took = busy() - before
            check(took < 0.05, "%.2f s of processor time in 0.1 s of silence" % took)
        c.quit()


def failures_are_delayed(folder):
    """failure-delay is for each failure, whether the name is there or not; a right password is not delayed."""
    run = new_run(folder, {"failure-delay": "1"})
    with pt.Session(run) as c:
        c.read_line()
        for line in (b"AUTH PLAIN AGFsaWNlAHdyb25n", b"AUTH PLAIN AG5vYm9keS1oYXMtdGhpcy1uYW1lAHNlY3JldA=="):
            started = time.monotonic()
            c.expect(line, b"-ERR [AUTH] ")
            took = time.monotonic() - started
            check(0.9 < took < 3 + pt.PATIENCE / 10, "%s took %.2f s" % (line, took))
        started = time.monotonic()
        c.expect(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==", b"+OK")
        took = time.monotonic() - started
        check(took < (0.9 if not pt.WRAPPER else pt.PATIENCE), "the login took %.2f s" % took)
        c.quit()


def main(folder, tap):
    if pt.WRAPPER:
        tap.skip("memory and floods", "a wrapper's memory and speed are not the programs'")
    else:
        floods(folder, tap)
    for transport in ("socketpair", "TCP"):
        tap.run("a client that reads slowly over " + transport, reads_slowly, folder, transport)
    tap.run("an octet now and then", slow_octets, folder)
    if pt.WRAPPER:
        tap.skip("stops and processor time of a session", "under a wrapper the processes have other names")
    else:
        tap.run("a session that is stopped now and then", stopped_now_and_then, folder)
        tap.run("a client that goes silent", goes_silent, folder)
    tap.run("failed logins are delayed", failures_are_delayed, folder)


def floods(folder, tap):
    tap.run("10,000 cancelled AUTH", cancelled_auth, folder, tap)
    tap.run("100 MiB without a line end, before the login", no_line_end, folder, tap, False)
    tap.run("100 MiB without a line end, after the login", no_line_end, folder, tap, True)
    for transport in ("pipes", "socketpair", "TCP"):
        tap.run("a million NOOP over " + transport, many_commands, folder, tap, b"NOOP", 1000000, transport)
    tap.run("200,000 UIDL 1", many_commands, folder, tap, b"UIDL 1", 200000, "socketpair")
    tap.run("a large message again and again", large_messages, folder, tap)
    tap.run("a flood of AUTH does not outlast login-timeout", flood_past_login_timeout, folder, b"AUTH PLAIN\r\n*\r\n" * 4000)
    tap.run("a flood of CAPA does not outlast login-timeout", flood_past_login_timeout, folder, b"CAPA\r\n" * 10000)
    tap.run("a line without end does not outlast login-timeout", flood_past_login_timeout, folder, b"x" * 60000)
    tap.run("a client that never reads, before the login", never_reads, folder, False)
    tap.run("a client that never reads, after the login", never_reads, folder, True)


if __name__ == "__main__":
    pt.in_place(main)
