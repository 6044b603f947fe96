#!/usr/bin/python3
"""Disks as they are: a full one under the mailbox, a full one under the state folder, a mailbox and a state folder that can
only be read.  Needs root, to mount; the sessions run as uid 65534.
"""

import sys

sys.dont_write_bytecode = True

import ctypes  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

import fault_session as fs  # noqa: E402
from fault_session import NOBODY, Maildrop, Report, check, pt  # noqa: E402

MESSAGES = [b"From: a@example.org\nSubject: message %d\n\n" % n + b"a line of it\n" * (700 * n) for n in range(1, 7)]
DISK_KB = 512


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


class Place:
    """A Run whose mailbox (its own folder) or state folder is a disk of 512 kB."""

    def __init__(self, folder, maildrop, where):
        self.run = pt.Run(folder, (), maildrop.kind)
        self.maildrop = maildrop
        self.disk = os.path.join(self.run.folder, "state" if where == "state" else "disk")
        if where == "mailbox":
            os.mkdir(self.disk)
        mount("-t", "tmpfs", "-o", "size=%dk,mode=755" % DISK_KB, "postern-test", self.disk)
        if where == "mailbox":
            self.run.maildrop = os.path.join(self.disk, maildrop.kind)
            self.run.write_users()
        maildrop.put(self.run)
        fs.give_away(self.run.folder)

    def fill(self):
        """Not a byte is left."""
        path = os.path.join(self.disk, ".filler")
        with open(path, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"\0" * 4096)
            except OSError:
                pass
        os.chown(path, pt.NOBODY, pt.NOBODY)

    def unfill(self):
        os.unlink(os.path.join(self.disk, ".filler"))

    def read_only(self, on):
        mount("-o", "remount," + ("ro" if on else "rw"), self.disk)

    def session(self):
        with pt.Session(self.run, before=NOBODY) as c:
            return fs.session(c, self.maildrop, Report())

    def end(self):
        subprocess.run(["umount", self.disk], check=True)


def judge(place, report, wanted):
    """wanted: what QUIT or the login has to have answered, and whether the log has to have this word."""
    run, maildrop = place.run, place.maildrop
    state = maildrop.state(run)
    durable = report.logged_in and report.quit is not None
    got = "deleted" if durable else "QUIT refused" if report.logged_in else "login refused"
    check(got in wanted, "%s: %s; %s" % (got, report.refusals, run.log_tail()))
    check(state == ("after" if durable else "before"), "%s, and the mailbox is: %s" % (got, state))
    if report.refusals:
        lines = [line for line in run.log_lines() if "error=" in line]
        check(any("No space left" in line or "Read-only" in line for line in lines), "the log does not tell why: " + run.log_tail())
    return durable


def scene(folder, kind, where, wrong, delete, wanted):
    maildrop = Maildrop(kind, MESSAGES, delete)
    place = Place(folder, maildrop, where)
    try:
        if wrong == "full":
            place.fill()
        else:
            place.read_only(True)
        durable = judge(place, place.session(), wanted)
        if wrong == "full":
            place.unfill()
        else:
            place.read_only(False)
        with pt.Session(place.run, before=NOBODY) as c:
            report = fs.session(c, Maildrop(kind, maildrop.kept if durable else MESSAGES, () if durable else delete), Report())
        check(report.quit is not None and not report.refusals, "when the disk is well again: %s" % report.refusals)
        check(maildrop.state(place.run) == "after", "in the end: " + maildrop.state(place.run))
        left = fs.left_over(place.run) + [n for n in os.listdir(place.disk) if n.endswith(".lock") and n != "session.lock"]
        check(not left, "left over: %s" % left)
    finally:
        place.end()


SOME, LAST, ALL = (2, 4), (5, 6), (1, 2, 3, 4, 5, 6)
SCENES = (
    # The mbox needs no room where it stands, not even for a lock that tells its number.
    ("mbox", "mailbox", "full", SOME, ("deleted",)),
    ("mbox", "mailbox", "full", ALL, ("deleted",)),
    # What is only read needs nothing written.
    ("mbox", "mailbox", "ro", SOME, ("QUIT refused",)),
    ("mbox", "mailbox", "ro", ALL, ("QUIT refused",)),
    # Without room for a journal nothing can go from the middle; the end can.
    ("mbox", "state", "full", SOME, ("QUIT refused",)),
    ("mbox", "state", "full", LAST, ("deleted",)),
    ("mbox", "state", "ro", SOME, ("login refused",)),
    ("maildir", "mailbox", "full", SOME, ("deleted",)),
    ("maildir", "mailbox", "full", ALL, ("deleted",)),
    ("maildir", "mailbox", "ro", SOME, ("login refused",)),
)


def missing():
    reason = fs.missing(("mount", "umount"))
    if reason is not None:
        return reason
    clone_newns = 0x20000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newns) == -1:
        return "no mount namespace: " + os.strerror(ctypes.get_errno())
    probe = tempfile.mkdtemp(prefix="postern-")
    try:
        if subprocess.run(["mount", "--make-rprivate", "/"], stderr=subprocess.DEVNULL).returncode != 0 or \
                subprocess.run(["mount", "-t", "tmpfs", "postern-test", probe], stderr=subprocess.DEVNULL).returncode != 0:
            return "mount is not allowed"
        subprocess.run(["umount", probe], check=True)
    finally:
        os.rmdir(probe)
    return None


def main(folder, tap):
    for kind, where, wrong, delete, wanted in SCENES:
        tap.run("%s: the disk of the %s is %s, DELE of %d: %s" % (kind, where, {"ro": "read-only"}.get(wrong, wrong),
                len(delete), " or ".join(wanted)), scene, folder, kind, where, wrong, delete, wanted)


if __name__ == "__main__":
    reason = missing()
    if reason is not None:
        print("1..0 # SKIP " + reason)
        sys.exit(0)
    sys.exit(fs.in_roots_place(main))
