#!/usr/bin/python3
"""A helper that was taken over, played here against the real session and monitor: whatever it answers, the session ends with
one line in the log or tells the client that it cannot, sends nothing beyond the message, does not grow, and never crashes.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import re  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402

import postern_test as pt  # noqa: E402
import wire_peer as w  # noqa: E402
from postern_test import check, readable  # noqa: E402

MBOX = b"From a@example.org Mon Nov 23 10:00:00 2026\nSubject: x\n\n.body\n\nFrom b Mon Nov 23 10:00:00 2026\n\nsecond\n"
START = (44, MBOX.index(b"\nsecond\n"))
HUGE = (1 << 64) - 1


class Stage:
    """A session with us as its helper."""

    def __init__(self, folder):
        self.run = pt.Run(folder, {"idle-timeout": "3", "lock-timeout": "0"})
        with open(self.run.maildrop, "wb") as f:
            f.write(MBOX)
        self.fake = w.FakeHelper(self.run.folder)
        self.run.helper = self.fake.path
        self.client = pt.Connection(self.run)

    def __enter__(self):
        check(self.client.read_line() == pt.GREETING, "no greeting")
        self.client.expect(b"USER alice", b"+OK")
        self.client.send(b"PASS secret\r\n")
        octets, fds = self.fake.take()
        check((octets, fds) == (w.login(), []), "LOGIN is %r, %s" % (octets, fds))
        return self

    def __exit__(self, kind, *_):
        self.fake.close()
        if kind is not None:
            self.client.abandon()

    def answer(self, octets, fds=()):
        try:
            w.send(self.fake.sock, octets, fds)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def open_mbox(self, *records, fd=None, count=None):
        """Answers LOGIN with a table of these records and the mbox, or another descriptor in its place."""
        mbox = os.open(self.run.maildrop, os.O_RDONLY) if fd is None else fd
        table = w.memfd(w.table(*records))
        st = os.fstat(mbox)
        state = (st.st_size, st.st_mtime_ns // 10 ** 9, st.st_mtime_ns % 10 ** 9, st.st_ctime_ns // 10 ** 9,
                 st.st_ctime_ns % 10 ** 9)
        self.answer(w.opened(w.MBOX, len(records) if count is None else count, 0, state), [table, mbox])
        os.close(table)
        got = self.client.read_line()
        check(got == b"+OK maildrop locked and ready", "PASS: %s" % readable(got or b"<close>"))

    def open_maildir(self, *records):
        table = w.memfd(w.table(*records))
        self.answer(w.opened(w.MAILDIR, len(records)), [table])
        os.close(table)
        got = self.client.read_line()
        check(got == b"+OK maildrop locked and ready", "PASS: %s" % readable(got or b"<close>"))

    def rest(self):
        """What the client still gets, to the end."""
        while not self.client.eof:
            check(self.client.wait_input(pt.PATIENCE), "the session does not end")
        return bytes(self.client.pending)

    def check_over(self, what, how=("helper-failed",)):
        """The session has ended by itself, with its line, and not by a signal."""
        self.fake.close()
        self.client.end()
        lines = [line for line in self.run.log_lines() if line.startswith("session-end ")]
        check(len(lines) == 1 and re.match(r"session-end how=(%s) " % "|".join(how), lines[0]), "%s: log: %s" % (what, lines))


def refused_login(folder, what, octets, fds=()):
    """An answer to LOGIN that is none: [SYS/TEMP], and the end."""
    with Stage(folder) as s:
        s.answer(octets, fds)
        rest = s.rest()
        check(re.fullmatch(rb"-ERR \[SYS/TEMP\] [^\r\n]*\r\n", rest), "%s: came %s" % (what, readable(rest)))
        s.check_over(what)


def every_type(folder):
    for kind in [n for n in range(256) if n not in (w.REFUSED, w.OPENED) and (n < 9 or 60 < n < 76 or n % 50 == 5)]:
        refused_login(folder, "message %d" % kind, w.message(kind, b"\1\1"))


def wrong_refusals(folder):
    for fields in (b"", b"\1", b"\1\1\1", b"\0\1", b"\5\1", b"\xff\0"):
        refused_login(folder, "REFUSED %r" % fields, w.message(w.REFUSED, fields))
    with open("/dev/null") as f:
        refused_login(folder, "REFUSED with a descriptor", w.message(w.REFUSED, b"\1\1"), [f.fileno()])


def wrong_openings(folder):
    good = w.table((0, 1, 3, 0))
    mbox = os.open("/dev/zero", os.O_RDONLY)
    opened = w.opened(w.MBOX, 1)
    for what, octets, fds in (
            ("no field", w.message(w.OPENED), []), ("kind 0", w.opened(w.MBOX, 1)[:1] + b"\0" + opened[2:],
                                                    [w.memfd(good), mbox]),
            ("kind 3", w.opened(w.MBOX, 1)[:1] + b"\3" + opened[2:], [w.memfd(good), mbox]),
            ("cut off", opened[:-1], [w.memfd(good), mbox]), ("too long", opened + b"\0", [w.memfd(good), mbox]),
            ("no descriptor", opened, []), ("one descriptor", opened, [w.memfd(good)]),
            ("three descriptors", opened, [w.memfd(good), mbox, mbox]), ("60 descriptors", opened, [mbox] * 60),
            ("empty with a descriptor", w.opened(w.MBOX, 0), [mbox]),
            ("empty with octets", w.opened(w.MBOX, 0, octets=1), []),
            ("LAST beyond the end", w.opened(w.MBOX, 1, 2), [w.memfd(good), mbox]),
            ("more than there can be", w.opened(w.MBOX, 10000001), [w.memfd(good), mbox]),
            ("2^32 - 1 messages", w.opened(w.MBOX, 0xffffffff), [w.memfd(good), mbox]),
            ("100 KiB", opened + b"x" * 100000, [w.memfd(good), mbox])):
        refused_login(folder, "OPENED: " + what, octets, fds)
    os.close(mbox)


def reopened(fd, flags):
    again = os.open("/proc/self/fd/%d" % fd, flags)
    os.close(fd)
    return again


def wrong_tables(folder):
    good = w.table((0, 1, 3, 0))
    regular = os.path.join(folder, "table")
    with open(regular, "wb") as f:
        f.write(good)
    os.path.exists(regular + ".fifo") or os.mkfifo(regular + ".fifo")
    pair = socket.socketpair()
    for what, table in (
            ("not sealed", w.memfd(good, 0)), ("open to writing", w.memfd(good, w.fcntl.F_SEAL_SHRINK | w.fcntl.F_SEAL_GROW)),
            ("open to shrinking", w.memfd(good, w.fcntl.F_SEAL_WRITE | w.fcntl.F_SEAL_GROW)),
            ("too short", w.memfd(good[:-1])), ("too long", w.memfd(good + b"\0")), ("empty", w.memfd(b"")),
            ("a terabyte", w.memfd(b"", size=1 << 40)), ("a file", os.open(regular, os.O_RDWR)),
            ("a FIFO", os.open(regular + ".fifo", os.O_RDWR)), ("a folder", os.open(folder, os.O_RDONLY)),
            ("/dev/zero", os.open("/dev/zero", os.O_RDONLY)), ("a socket", os.dup(pair[0].fileno())),
            ("a path", os.open(regular, os.O_PATH)), ("only to write", reopened(w.memfd(good), os.O_WRONLY))):
        mbox = os.open("/dev/zero", os.O_RDONLY)
        refused_login(folder, "a table that is " + what, w.opened(w.MBOX, 1), [table, mbox])
        os.close(table)
        os.close(mbox)


def peak(c):
    """Peak resident kilobytes of the session, which is the monitor's child postern."""
    statuses = [pt.process_status(pid) for pid in pt.descendants(c.process.pid)]
    sessions = [status for status in statuses if status.get("Name") == "postern"]
    check(len(sessions) == 1, "sessions: %s" % statuses)
    return pt.kilobytes(sessions[0], "VmHWM")


def lying_tables(folder):
    """Places, sizes and fingerprints that are not so: at most the octets of the record, and no final dot after a wrong one."""
    for record in ((1 << 63, 5, 7, 0), (HUGE, HUGE, HUGE, HUGE), (0, HUGE, 5, 0), (HUGE - 3, 10, 10, 0), (1 << 40, 5, 7, 0),
                   (0, 0, HUGE, 0), (0, 1 << 62, 1 << 62, 1), (START[0], 18, 22, 1)):
        with Stage(folder) as s:
            s.open_mbox(record, record)
            before = peak(s.client)
            for line in (b"STAT", b"LIST 1", b"DELE 1", b"STAT", b"RSET"):
                s.client.expect(line, b"+OK")
            check(peak(s.client) - before < 1024, "the session grew")
            s.client.send(b"TOP 2 1\r\nRETR 1\r\n")
            s.client.finish_sending()
            s.fake.sock.close()
            s.fake.sock = None
            rest = s.rest()
            check(b"second" not in rest and rest.count(b"\r\n.\r\n") <= 1, "more than the record: " + readable(rest))
            s.check_over("record %s" % (record,), ("closed", "changed", "helper-failed"))


def odd_mailboxes(folder):
    """The descriptor of the mbox is something else."""
    fifo = os.path.join(folder, "mbox.fifo")
    os.path.exists(fifo) or os.mkfifo(fifo)
    pair = socket.socketpair()
    for what, fd in (("a FIFO", os.open(fifo, os.O_RDWR)), ("a folder", os.open(folder, os.O_RDONLY)),
                     ("a socket", pair[0].fileno()), ("/dev/zero", os.open("/dev/zero", os.O_RDONLY)),
                     ("/dev/null", os.open("/dev/null", os.O_RDWR)),
                     ("only to write", os.open(fifo + ".w", os.O_WRONLY | os.O_CREAT)),
                     ("a path", os.open(fifo, os.O_PATH)), ("the session's own socket", None)):
        with Stage(folder) as s:
            own = s.fake.sock.fileno() if fd is None else fd
            s.open_mbox((0, 100000, 100002, 1), fd=own)
            s.client.send(b"RETR 1\r\n")
            s.client.finish_sending()
            if fd is not None:
                s.fake.sock.close()
                s.fake.sock = None
            rest = s.rest()
            check(len(rest) < 200000 and not rest.endswith(b"\r\n.\r\n"), "%s: came %s" % (what, readable(rest)))
            s.check_over("an mbox that is " + what, ("closed", "changed", "helper-failed", "idle"))


def wrong_files(folder):
    """Answers to MESSAGES."""
    path = os.path.join(folder, "message")
    with open(path, "wb") as f:
        f.write(b"Subject: x\n\nbody\n")
    os.path.exists(path + ".fifo") or os.mkfifo(path + ".fifo")
    record = (0, 17, 20, 0)
    good = os.open(path, os.O_RDONLY)
    for what, octets, fds, ends in (
            ("another message", w.message(w.FILES, w.numbers(2)), [good], True),
            ("no descriptor", w.message(w.FILES, w.numbers(1)), [], True),
            ("two descriptors", w.message(w.FILES, w.numbers(1)), [good, good], True),
            ("too long", w.message(w.FILES, w.numbers(1) + b"x"), [good], True),
            ("cut off", w.message(w.FILES, b"\1"), [good], True), ("GONE with a descriptor", w.message(w.GONE), [good], True),
            ("VERIFIED", w.message(w.VERIFIED, bytes(40)), [], True), ("LOGIN", w.login(), [], True),
            ("a FIFO", w.message(w.FILES, w.numbers(1)), [os.open(path + ".fifo", os.O_RDWR)], False),
            ("a folder", w.message(w.FILES, w.numbers(1)), [os.open(folder, os.O_RDONLY)], False),
            ("/dev/null", w.message(w.FILES, w.numbers(1)), [os.open("/dev/null", os.O_RDONLY)], False),
            ("writable", w.message(w.FILES, w.numbers(1)), [os.open(path, os.O_WRONLY)], False)):
        with Stage(folder) as s:
            s.open_maildir(record, record)
            s.client.send(b"RETR 1\r\n")
            s.client.finish_sending()
            got = w.receive(s.fake.sock)
            check(got[0] == w.message(w.MESSAGES, w.numbers(1, 1)), "MESSAGES is %r" % (got,))
            s.answer(octets, fds)
            rest = s.rest()
            check(rest.startswith(b"-ERR [SYS/TEMP] ") and rest.count(b"\r\n") == 1, "%s: came %s" % (what, readable(rest)))
            s.check_over("FILES: " + what, ("helper-failed",) if ends else ("closed",))


def odd_among_several(folder):
    """Of six messages that come together the second is no message: it is told as gone, and the others are sent."""
    text = b"Subject: x\n\nbody\n"
    path = os.path.join(folder, "one-of-several")
    for name, octets in ((path, text), (path + ".short", text[:-1])):
        with open(name, "wb") as f:
            f.write(octets)
    os.mkfifo(path + ".fifo")
    good = os.open(path, os.O_RDONLY)
    for odd in (os.open(path + ".short", os.O_RDONLY), os.open(path + ".fifo", os.O_RDWR), os.open(folder, os.O_RDONLY),
                os.open("/dev/null", os.O_RDONLY), os.open(path, os.O_WRONLY), os.open(path, os.O_PATH)):
        with Stage(folder) as s:
            s.open_maildir(*[(0, len(text), len(pt.wire_form(text)), 0)] * 7)
            for n, fds in ((1, [good]), (2, [good, odd, good, good, good, good])):
                s.client.send(b"RETR %d\r\n" % n)
                got = w.receive(s.fake.sock)
                check(got[0] == w.message(w.MESSAGES, w.numbers(n, len(fds))), "MESSAGES is %r" % (got,))
                s.answer(w.message(w.FILES, w.numbers(n)), fds)
                check(s.client.read_line().startswith(b"+OK") and s.client.read_multi() == pt.wire_form(text), "RETR %d" % n)
            s.client.expect(b"RETR 3", b"-ERR")
            for n in (4, 5, 6, 7, 4):
                check(s.client.ask_multi(b"RETR %d" % n) == pt.wire_form(text), "RETR %d, after the odd one" % n)
            s.client.finish_sending()
            check(s.rest() == b"", "more than the answers came")
            s.check_over("an odd file among several", ("closed",))
        os.close(odd)
    os.close(good)


def shrinking_message(folder):
    """A message's file that is cut while it is sent: no final dot, and never an octet that is not the file's."""
    text = b"Subject: x\n\n" + b"line of the message\n" * 100000
    octets = len(pt.wire_form(text))
    path = os.path.join(folder, "shrinking")
    for left in (0, 300000):
        with open(path, "wb") as f:
            f.write(text)
        with Stage(folder) as s:
            s.open_maildir((0, len(text), octets, 0))
            s.client.send(b"RETR 1\r\n")
            w.receive(s.fake.sock)
            s.answer(w.message(w.FILES, w.numbers(1)), [os.open(path, os.O_RDONLY)])
            check(s.client.read_line() == b"+OK message follows", "no +OK")
            os.truncate(path, left)
            s.client.finish_sending()
            rest = s.rest()
            check(not rest.endswith(b"\r\n.\r\n") and pt.stuffed(pt.wire_form(text)).startswith(rest),
                  "left with %d: %d octets, %s" % (left, len(rest), readable(rest[-100:])))
            s.check_over("a message that shrinks", ("changed",))


def wrong_octets(folder):
    """A message that does not come to its octets: a client that waits, and one that does not, gets nothing of it."""
    text = b"Subject: x\n\n" + b"line of the message\n" * 1000
    path = os.path.join(folder, "wrong")
    with open(path, "wb") as f:
        f.write(text)
    for commands in (b"RETR 1\r\n", b"RETR 1\r\nNOOP\r\n"):
        with Stage(folder) as s:
            s.open_maildir((0, len(text), len(pt.wire_form(text)) + 1, 0))
            s.client.send(commands)
            w.receive(s.fake.sock)
            s.answer(w.message(w.FILES, w.numbers(1)), [os.open(path, os.O_RDONLY)])
            rest = s.rest()
            check(rest == b"", "%r: came %s" % (commands, readable(rest[:100])))
            s.check_over("a message with wrong octets", ("changed",))


def wrong_ids(folder):
    record = (0, 1, 3, 0)

    def ids(first, *texts):
        return w.message(w.IDS, w.numbers(first) + b"".join(w.text(t) for t in texts))

    for what, octets in (
            ("none", ids(1)), ("nothing", w.message(w.IDS)), ("empty id", ids(1, b"", b"b")),
            ("71 octets", ids(1, b"a" * 71, b"b")),
            ("a space", ids(1, b" ", b"b")), ("a CR LF", ids(1, b"\r\n", b"ab")), ("8 bits", ids(1, b"a", b"\xe4")),
            ("a NUL", ids(1, b"\0", b"b")), ("one more than there are", ids(1, b"a", b"b", b"c")),
            ("of another message", ids(2, b"b")), ("of message 0", ids(0, b"a", b"b")),
            ("a length beyond the end", w.message(w.IDS, w.numbers(1, 5) + b"ab")),
            ("a length of 2^32 - 1", w.message(w.IDS, w.numbers(1, 0xffffffff) + b"ab")),
            ("an octet too many", ids(1, b"a", b"b") + b"x"), ("another answer", w.message(w.UPDATED, b"\1" + w.numbers(0, 2)))):
        with Stage(folder) as s:
            s.open_maildir(record, record)
            s.client.send(b"UIDL\r\n")
            check(w.receive(s.fake.sock)[0] == w.unique_ids(1, True), "no UNIQUE_IDS")
            s.answer(octets)
            rest = s.rest()
            check(rest.startswith(b"-ERR [SYS/TEMP] ") and rest.count(b"\r\n") == 1, "%s: came %s" % (what, readable(rest)))
            s.check_over("IDS: " + what)
    with Stage(folder) as s:
        s.open_maildir(record, record)
        s.client.send(b"UIDL\r\n")
        w.receive(s.fake.sock)
        s.answer(ids(1, b"a", b"b"), [os.open("/dev/null", os.O_RDONLY)])
        check(s.rest().startswith(b"-ERR [SYS/TEMP] "), "with a descriptor")
        s.check_over("IDS: with a descriptor")


def ids_that_break_off(folder):
    """Once the listing has begun, what is missing ends it without the final dot."""
    record = (0, 1, 3, 0)
    for what, octets, ends in (
            ("gone", w.message(w.GONE), ("changed",)), ("a space", w.message(w.IDS, w.numbers(2) + w.text(b" ")), None),
            ("the first ones again", w.message(w.IDS, w.numbers(1) + w.text(b"a")), None)):
        with Stage(folder) as s:
            s.open_maildir(record, record)
            s.client.send(b"UIDL\r\n")
            w.receive(s.fake.sock)
            s.answer(w.message(w.IDS, w.numbers(1) + w.text(b"a")))
            s.answer(octets)
            rest = s.rest()
            check(b"\r\n.\r\n" not in rest and b"2 " not in rest, "%s: came %s" % (what, readable(rest)))
            s.check_over("IDS: then " + what, *([ends] if ends else []))


def wrong_updates(folder):
    """Whatever is not a clean UPDATED is no +OK to QUIT."""
    record = (0, 1, 3, 0)
    for what, octets in (("durable 0", b"\0" + w.numbers(1, 1)), ("durable 2", b"\2" + w.numbers(1, 1)), ("nothing", b""),
                         ("cut off", b"\1" + w.numbers(1)), ("too long", b"\1" + w.numbers(1, 1, 1))):
        with Stage(folder) as s:
            s.open_maildir(record, record)
            s.client.expect(b"DELE 2", b"+OK")
            s.client.send(b"QUIT\r\n")
            check(w.receive(s.fake.sock)[0] == w.message(w.DELETED, w.numbers(1) + w.text(b"\2")), "no DELETED")
            check(w.receive(s.fake.sock)[0] == w.message(w.UPDATE, w.numbers(0)), "no UPDATE")
            s.answer(w.message(w.UPDATED, octets))
            rest = s.rest()
            check(rest.startswith(b"-ERR [SYS/TEMP] ") and rest.count(b"\r\n") == 1, "%s: came %s" % (what, readable(rest)))
            s.check_over("UPDATED: " + what, ("helper-failed", "update-failed"))


def unasked_answers(folder):
    """Answers before they were asked for are taken for what they are: the wrong ones."""
    record = (0, 1, 3, 0)
    with Stage(folder) as s:
        s.open_maildir(record, record)
        s.fake.sock.setblocking(False)
        try:
            for _ in range(100000):
                w.send(s.fake.sock, w.message(w.UPDATED, b"\1" + w.numbers(9, 9)))
        except BlockingIOError:
            pass
        before = peak(s.client)
        for _ in range(100):
            s.client.expect(b"NOOP", b"+OK")
        check(peak(s.client) - before < 512, "the session grew")
        s.client.expect(b"UIDL", b"-ERR [SYS/TEMP] ")
        s.rest()
        s.check_over("a flood of answers")


def silence(folder):
    """A helper that does not answer, and stays: idle-timeout and lock-timeout, then the end."""
    with Stage(folder) as s:
        s.open_maildir((0, 1, 3, 0))
        s.client.expect(b"RETR 1", b"-ERR [SYS/TEMP] ")
        s.rest()
        s.check_over("silence")


def hang_up(folder, late):
    with Stage(folder) as s:
        if late:
            s.open_maildir((0, 1, 3, 0))
        s.fake.sock.close()
        s.fake.log.close()
        s.fake.sock = s.fake.log = None
        if late:
            s.client.expect(b"QUIT", b"-ERR [SYS/TEMP] ")
        else:
            check(s.client.read_line().startswith(b"-ERR [SYS/TEMP] "), "no [SYS/TEMP]")
        s.rest()
        s.check_over("a helper that hangs up")


def log_datagrams(folder):
    """Datagrams on the log's socket, all there before the monitor looks, and an empty one in front: each is one line at most,
    printable, whatever is in it.  (Whose name the lines of a mailbox's owner bear: tests/system/check_helper.py.)"""
    with Stage(folder) as s:
        os.kill(s.client.process.pid, signal.SIGSTOP)
        for octets in (b"", b"\0", b"x", b"6:1::a\nsession-end how=quit user=\"root\"", b"6:1::" + b"x" * 100000,
                       b"6:2:" + b"u" * 5000 + b":pam",
                       b"9:1::x", b"6:9::x", b"6:1:no end", b":::::::", b"6:1::\x1b[2J\xff\r\n", b"6:1::%n%s%n"):
            s.fake.log.send(octets)
        with open("/dev/null") as f:
            w.send(s.fake.log, b"6:1::with a descriptor", [f.fileno()] * 50)
        s.fake.log.close()
        os.kill(s.client.process.pid, signal.SIGCONT)
        s.answer(w.message(w.REFUSED, b"\2\0"))
        s.rest()
        s.fake.close()
        s.client.end()
        lines = pt.read_file(s.run.log).splitlines()
        check(all(re.match(rb"postern\[\d+\]: (note|helper-says|session-end|login|helper-failed) [ -~]*$", line)
                  for line in lines),
              "log: %s" % lines)
        ends = [line for line in lines if b"]: session-end" in line]
        check(len(ends) == 1 and b"how=refused" in ends[0] and len(lines) == 13, "%d lines: %s" % (len(lines), lines))
        check(all(len(line) < 5000 for line in lines), "a line of %d octets" % max(map(len, lines)))


def log_flood(folder):
    """20,000 lines: the monitor takes them, does not grow, and ends with the session."""
    with Stage(folder) as s:
        monitor = "/proc/%d/status" % s.client.process.pid
        for n in range(20000):
            if n == 1000:
                before = hwm(monitor)
            s.fake.log.send(b"6:1::flood")
        grown = hwm(monitor) - before
        check(grown < 512, "the monitor grew by %d kB" % grown)
        s.answer(w.message(w.REFUSED, b"\2\0"))
        s.rest()
        s.check_over("a flood of log lines", ("refused",))


def hwm(status):
    with open(status) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


def main(folder, tap):
    if pt.WRAPPER:
        tap.skip("a hostile helper", "a wrapper's memory and time are not the programs'")
        return
    tap.run("answers to LOGIN of every kind", every_type, folder)
    tap.run("REFUSED that is none", wrong_refusals, folder)
    tap.run("OPENED that is none", wrong_openings, folder)
    tap.run("tables that are not sealed, too short, too long, or no memory", wrong_tables, folder)
    tap.run("tables that lie", lying_tables, folder)
    tap.run("an mbox that is something else", odd_mailboxes, folder)
    tap.run("answers to MESSAGES", wrong_files, folder)
    tap.run("an odd file among several", odd_among_several, folder)
    tap.run("a message that shrinks while it is sent", shrinking_message, folder)
    tap.run("a message that does not come to its octets", wrong_octets, folder)
    tap.run("unique-ids that are none", wrong_ids, folder)
    tap.run("unique-ids that break off", ids_that_break_off, folder)
    tap.run("answers to UPDATE", wrong_updates, folder)
    tap.run("answers before the question", unasked_answers, folder)
    tap.run("no answer", silence, folder)
    tap.run("a helper that hangs up during the login", hang_up, folder, False)
    tap.run("a helper that hangs up after the login", hang_up, folder, True)
    tap.run("log datagrams of every kind", log_datagrams, folder)
    if "ASAN_OPTIONS" in os.environ:
        tap.skip("a flood of log datagrams", "a sanitizer's memory is not the programs'")
    else:
        tap.run("a flood of log datagrams", log_flood, folder)


if __name__ == "__main__":
    pt.in_place(main)
