#!/usr/bin/python3
"""The installed programs, in sessions in which one system call of the helper on a file fails: each call from the settings to
the end of QUIT in turn, with full disk, quota, i/o error, read-only file system, file size limit, interruption, no memory.

	test_sessions.py [ALL]

With ALL each call fails with each error that it can have; otherwise with two of them, in turns.
"""

import sys

sys.dont_write_bytecode = True

import collections  # noqa: E402
import errno  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402

import fault_session as fs  # noqa: E402
from fault_session import Maildrop, Report, check, pt  # noqa: E402

ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EINTR, errno.ENOMEM, errno.EFBIG)
FSYNCS = {"x86_64": (74, 75), "aarch64": (82, 83)}[os.uname().machine]


def texts(count, length):
    return [b"From: a@example.org\nSubject: message %d\n\n" % n + (b"line %d of it\n" % n) * (1 + length * n // 14)
            for n in range(1, count + 1)]


MAILDROPS = (
    ("mbox, DELE of two in the middle", Maildrop("mbox", texts(6, 500), (2, 4))),
    ("mbox, DELE of the last two", Maildrop("mbox", texts(4, 500), (3, 4))),
    ("mbox with an index, DELE of the first", Maildrop("mbox", texts(3, 190000), (1,))),
    ("Maildir, DELE of three", Maildrop("maildir", texts(6, 500), (1, 2, 5))),
    ("Maildir with an index, DELE of two", Maildrop("maildir", texts(45, 10), (7, 40))),
)


class Fault:
    """One session in which call number `at` of the helper fails with `error`, and the login after it."""

    def __init__(self, run, inject, maildrop):
        self.run, self.inject, self.maildrop = run, inject, maildrop
        self.calls, self.failed = 0, -1

    def begin(self):
        for path in (os.path.join(self.run.folder, "state"), self.run.maildrop):
            if os.path.isdir(path):
                fs.empty_folder(path)
                os.rmdir(path) if path == self.run.maildrop else None
        self.maildrop.put(self.run)
        open(self.run.log, "w").close()

    def play(self, at, error, fsize=-1):
        with open(self.run.conf + ".fault", "w") as f:
            f.write("%s %d %d %d\n" % (self.run.helper, at, error, fsize))
        with pt.Session(self.run, more={"POSTERN_HELPER": self.inject}) as c:
            report = fs.session(c, self.maildrop, Report())
        with open(self.run.conf + ".done") as f:
            self.calls, self.failed = map(int, f.read().split())
        return report

    def judge(self, report):
        state = self.maildrop.state(self.run)
        durable = report.logged_in and report.quit is not None
        if durable:
            check(state == "after", "QUIT was answered +OK, but: " + state)
            check(self.failed not in FSYNCS, "QUIT was answered +OK when the disk was not waited for")
        elif not report.logged_in:
            check(state == "before", "no login, but: " + state)
        lines = self.run.log_lines()
        if report.refusals or report.cut_off:
            check(any("error=" in line or "reason=" in line for line in lines), "no reason in the log: %s" % lines)
        return fs.check_next(self.run, self.maildrop, report.ids, durable)


def outcome(report):
    if not report.logged_in:
        return "login refused"
    if report.cut_off:
        return "connection closed"
    if report.quit is None:
        return "QUIT refused"
    return "a command refused" if report.refusals else "no harm"


def one(fault, job, tally):
    at, error = job
    fault.begin()
    report = fault.play(at, error)
    if fault.failed == -1:
        return
    try:
        tally["left " + fault.judge(report)] += 1
    except pt.Failure as e:
        raise pt.Failure("system call %d, %s: %s\n%s" % (fault.failed, os.strerror(error), e, fault.run.log_tail()))
    tally["failures"] += 1
    tally[outcome(report)] += 1


def chosen(at, calls):
    """Where there are many calls, most of them are alike."""
    if sys.argv[1:] == ["ALL"]:
        return ERRORS
    if calls > 120:
        return (ERRORS[at % len(ERRORS)],)
    return (ERRORS[at % len(ERRORS)], ERRORS[(at * 3 + at // len(ERRORS) + 1) % len(ERRORS)])


def failures(folder, tap, maildrop):
    def begin():
        return Fault(pt.Run(folder, (), maildrop.kind), os.path.join(folder, "injector"), maildrop)

    fault = begin()
    fault.begin()
    report = fault.play(0, 0)
    check(report.quit is not None and not report.refusals, "a session without any failure is refused: %s" % report.refusals)
    fault.judge(report)
    jobs = [(at, error) for at in range(1, fault.calls + 1) for error in sorted(set(chosen(at, fault.calls)))]
    tally = fs.spread(jobs, begin, one)
    tap.note("%d calls; %s" % (fault.calls, fs.told(tally)))
    check(min(tally[k] for k in ("failures", "login refused", "QUIT refused", "no harm", "left before", "left after")) > 0,
          "some outcome was never seen")


def sizes(folder, tap, maildrop):
    """A limit on the size of files, as a real one: every write behind it fails, or is cut short."""
    run = pt.Run(folder, (), maildrop.kind)
    fault = Fault(run, os.path.join(folder, "injector"), maildrop)
    tally = collections.Counter()
    for limit in (0, 1, 7, 100, 400, 4000, 4096, 5000, 9000, 12288, 12500, 14000, 20000, 1000000, 4000000):
        fault.begin()
        report = fault.play(0, 0, limit)
        try:
            fault.judge(report)
        except pt.Failure as e:
            raise pt.Failure("limit %d: %s\n%s" % (limit, e, run.log_tail()))
        tally[outcome(report)] += 1
    tap.note(fs.told(tally))
    check(tally["no harm"] > 0 and sum(tally.values()) > 10, "some outcome was never seen")


def main(folder, tap):
    shutil.copyfile(os.path.join(folder, "inject"), os.path.join(folder, "injector"))
    os.chmod(os.path.join(folder, "injector"), 0o755)
    reason = "programs under WRAPPER make other calls" if pt.WRAPPER else None
    for name, maildrop in MAILDROPS:
        for kind, function in (("each call fails once", failures), ("file size limits", sizes)):
            if reason is None:
                tap.run("%s: %s" % (name, kind), function, folder, tap, maildrop)
            else:
                tap.skip(name, reason)


if __name__ == "__main__":
    pt.in_place(main, [os.path.join(os.environ.get("top_builddir", "."), "tests/fault/inject")])
