#!/usr/bin/python3
"""Mail that comes during a session: it is not shown, and an UPDATE that takes everything that was shown leaves it alone."""

import sys

sys.dont_write_bytecode = True

import fcntl  # noqa: E402
import os  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

MESSAGES = [b"Subject: one\n\nfirst\n", b"Subject: two\n\nsecond\n", b"Subject: three\n\nthird\n"]
NEW = b"Subject: new\n\nhas just come\n"


def deliver(run, text):
    """As a delivery agent does: dot-lock, fcntl lock, append."""
    lock = run.maildrop + ".lock"
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with open(run.maildrop, "ab") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        f.write(b"From new@example.org Mon Nov 23 11:00:00 2026\n" + text + b"\n")
    os.unlink(lock)


def session(folder, delete, look, again):
    """One session; look: what the client asks after the delivery, so that the helper looks at the mailbox again; again:
    whether there is another delivery behind that."""
    run = pt.Run(folder, box=pt.mbox_join(MESSAGES)[0])
    with pt.Session(run) as c:
        c.log_in()
        deliver(run, NEW)
        c.expect(b"STAT", b"+OK 3 ")
        if look is not None:
            c.ask_multi(look)
        if again:
            deliver(run, NEW)
        for n in delete:
            c.expect(b"DELE %d" % n, b"+OK")
        c.quit()
    left = [m for n, m in enumerate(MESSAGES, 1) if n not in delete] + [NEW] * (1 + again)
    got = pt.mbox_messages(pt.read_file(run.maildrop))
    check(got == left, "left: %s, instead of %s" % (got, left))
    with pt.Session(run) as c:
        c.log_in()
        c.expect(b"STAT", b"+OK %d " % len(left))
        c.quit()


def poured_in(folder):
    """A delivery between any two looks: every message is sent all the same."""
    run = pt.Run(folder, box=pt.mbox_join(MESSAGES)[0])
    with pt.Session(run) as c:
        c.log_in()
        for n in (3, 1, 2, 1, 3, 2):
            deliver(run, NEW)
            got = pt.unstuffed(c.ask_multi(b"RETR %d" % n))
            check(got == pt.wire_form(MESSAGES[n - 1]), "RETR %d: %s" % (n, got))
        c.quit()


def main(folder, tap):
    for look in (None, b"RETR 1", b"RETR 3", b"TOP 2 0", b"UIDL"):
        for delete in ((1, 2, 3), (3,), (1,), (2, 3)):
            for again in (False, True):
                tap.run("delivery, %s,%s DELE %s" % (look.decode() if look else "no look", " delivery," * again, delete),
                        session, folder, delete, look, again)
    tap.run("a delivery before every RETR", poured_in, folder)


if __name__ == "__main__":
    pt.in_place(main)
