"""Sessions that something goes wrong in: what they may say, and what must be on disk afterwards."""

import collections
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "session"))

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

REFUSED = re.compile(rb"-ERR \[(SYS/TEMP|SYS/PERM|IN-USE)\] ")


class Maildrop:
    """Messages, of which some are to be deleted, in either kind of maildrop."""

    def __init__(self, kind, messages, delete):
        self.kind = kind
        self.messages = messages
        self.delete = frozenset(delete)
        self.kept = [m for n, m in enumerate(messages, 1) if n not in self.delete]

    def name(self, n):
        return "%s/%d.M%dP1.host%s" % (("new", 1700000000 + n, n, "") if n % 2 else ("cur", 1700000000 + n, n, ":2,"))

    def put(self, run):
        if self.kind == "mbox":
            with open(run.maildrop, "wb") as f:
                f.write(pt.mbox_join(self.messages)[0])
        else:
            pt.maildir_make(run.maildrop, [(self.name(n), m) for n, m in enumerate(self.messages, 1)])

    def texts(self, run):
        """What is there, as a sorted list: only mailboxes of different messages are used."""
        if self.kind == "mbox":
            return sorted(pt.mbox_messages(pt.read_file(run.maildrop)))
        return sorted(pt.maildir_read(run.maildrop).values())

    def state(self, run):
        """"before", "after", "part" (Maildir), or what is wrong."""
        there = self.texts(run)
        if there == sorted(self.messages):
            return "before"
        if there == sorted(self.kept):
            return "after"
        lost = [m for m in self.kept if there.count(m) != 1]
        if self.kind == "maildir" and not lost and all(there.count(m) <= 1 for m in self.messages) and \
                all(m in self.messages for m in there):
            return "part"
        return "%d messages there, %d lost or twice there" % (len(there), len(lost))


class Report:
    """What one session was told."""

    def __init__(self):
        self.refusals = []
        self.logged_in = self.cut_off = False
        self.quit = None    # the answer to QUIT, if there was one
        self.ids = None
        self.count = 0


def answer(c, report, line):
    """The first line of the answer, None at the end of the connection.  What is no +OK has to bear a code."""
    try:
        c.send(line + b"\r\n")
        got = c.read_line()
    except (BrokenPipeError, ConnectionResetError):
        got = None
    if got is None:
        report.cut_off = True
    elif not got.startswith(b"+OK"):
        check(REFUSED.match(got), "%s: %s" % (pt.readable(line), pt.readable(got)))
        report.refusals.append(got)
    return got if got is not None and got.startswith(b"+OK") else None


def many_lines(c, report):
    """The rest of a multi-line answer, or what came of it, and whether it was complete."""
    try:
        return c.read_multi(), True
    except pt.Failure as e:
        if "before the final dot" not in str(e):
            raise
        report.cut_off = True
        return bytes(c.pending), False


def retrieve(c, report, n, text):
    if report.cut_off or answer(c, report, b"RETR %d" % n) is None:
        return
    got, whole = many_lines(c, report)
    wanted = pt.stuffed(pt.wire_form(text))
    check(got == wanted if whole else wanted.startswith(got), "RETR %d: other octets%s" % (n, " " * (not whole) + "so far" * (not whole)))


def log_in(c, report):
    check(c.read_line() == pt.GREETING, "no greeting")
    report.logged_in = answer(c, report, b"USER alice") is not None and answer(c, report, b"PASS secret") is not None
    return report.logged_in


def session(c, maildrop, report):
    """A client that fetches everything and deletes what is to be deleted."""
    if log_in(c, report):
        got = answer(c, report, b"STAT")
        check(got == b"+OK %d %d" % (len(maildrop.messages), sum(len(pt.wire_form(m)) for m in maildrop.messages)),
              "STAT: %s" % got)
        report.count = len(maildrop.messages)
        answer(c, report, b"LIST")
        many_lines(c, report)
        if answer(c, report, b"UIDL") is not None:
            report.ids = many_lines(c, report)[0].split(b"\r\n")[:-1]
        for n, text in enumerate(maildrop.messages, 1):
            retrieve(c, report, n, text)
        for n in sorted(maildrop.delete):
            if not report.cut_off:
                answer(c, report, b"DELE %d" % n)
    if not report.cut_off:
        report.quit = answer(c, report, b"QUIT")
        if report.quit is None and report.refusals and not report.cut_off and report.logged_in:
            check(report.refusals[-1].startswith(b"-ERR [SYS/TEMP] "), "QUIT: %s" % report.refusals[-1])
    c.end()
    return report


def left_over(run):
    """Locks, journals and files on their way to be something."""
    found = [name for name in os.listdir(run.folder) if name.endswith(".lock") or name.startswith(".lk")]
    state = os.path.join(run.folder, "state", "alice")
    if os.path.isdir(state):
        found += [name for name in os.listdir(state) if name not in ("index", "last", "session.lock")]
    return found


def check_next(run, maildrop, ids, durable):
    """The next login, when nothing is wrong any more: it shows what is there, recovers, and leaves nothing over."""
    report = Report()
    with pt.Session(run) as c:
        if not log_in(c, report):
            c.end() # the reason is in the log when the session is over
            raise pt.Failure("the next login: %s" % report.refusals)
        count = int(c.expect(b"STAT", b"+OK ").split()[1])
        new_ids = [line.split()[1] for line in c.ask_multi(b"UIDL").split(b"\r\n")[:-1]]
        shown = [pt.unstuffed(c.ask_multi(b"RETR %d" % n)) for n in range(1, count + 1)]
        c.quit()
    there = maildrop.texts(run)
    check(sorted(shown) == sorted(pt.wire_form(m) for m in there), "the next login shows something else than is there")
    state = maildrop.state(run)
    check(state == "after" or (not durable and state in ("before", "part")), "after the next login: " + state)
    if ids:
        check(set(new_ids) <= {i.split()[1] for i in ids}, "unique-ids have changed")
    left = left_over(run)
    check(not left, "left over: %s" % left)
    return state


def empty_folder(path):
    """Removes what is in it."""
    for name in os.listdir(path):
        full = os.path.join(path, name)
        if stat.S_ISDIR(os.lstat(full).st_mode):
            empty_folder(full)
            os.rmdir(full)
        else:
            os.unlink(full)


# Many small cases


WORKERS = 6


def work(jobs, begin, do, out):
    """One process's jobs; what became of them is written to out."""
    tally, wrong = collections.Counter(), []
    try:
        place = begin()
        for job in jobs:
            try:
                do(place, job, tally)
            except pt.Failure as e:
                wrong.append("%s: %s" % (job, e))
    except BaseException:
        wrong.append(traceback.format_exc())
    with os.fdopen(out, "w") as f:
        json.dump([tally, wrong], f)


def spread(jobs, begin, do):
    """Calls do(begin(), job, tally) for all jobs, in several processes: sessions wait for the clock of the file system more
    than they work.  Returns the sum of the tallies.  One Failure tells of all that do raised."""
    tally, wrong, children = collections.Counter(), [], []
    sys.stdout.flush()
    for number in range(WORKERS):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            pt.Run.serial += 100 * (1 + number)
            pt.adopt_orphans()
            work(jobs[number::WORKERS], begin, do, writer)
            os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    pt.Run.serial += 100 * (1 + WORKERS)
    for pid, reader in children:
        with os.fdopen(reader) as f:
            some, more = json.loads(f.read() or '[{}, ["a process of the test has failed"]]')
        tally.update(some)
        wrong += more
        os.waitpid(pid, 0)
    check(not wrong, "%d wrong:\n%s" % (len(wrong), "\n".join(wrong[:12])))
    return tally


def told(tally):
    return ", ".join("%s: %d" % item for item in sorted(tally.items()))


# Tests that are root, for mounting or tracing, while their sessions are not


NOBODY = ["setpriv", "--reuid=%d" % pt.NOBODY, "--regid=%d" % pt.NOBODY, "--clear-groups"]


def missing(tools):
    """Why such a test cannot run here, or None."""
    if os.getuid() != 0:
        return "not root"
    if pt.WRAPPER:
        return "WRAPPER is set"
    absent = [tool for tool in ("setpriv", *tools) if shutil.which(tool) is None]
    return absent[0] + " is missing" if absent else None


def give_away(folder):
    """To the user of the sessions."""
    for path, folders, files in os.walk(folder):
        for name in [path] + [os.path.join(path, f) for f in folders + files]:
            os.chown(name, pt.NOBODY, pt.NOBODY)


def in_roots_place(main):
    """Runs main(folder, tap) with the programs in the folder, as root."""
    pt.adopt_orphans()
    folder = tempfile.mkdtemp(prefix="postern-")
    tap = pt.Tap()
    try:
        os.chmod(folder, 0o755)
        for program in pt.programs():
            shutil.copy(program, folder)
            os.chmod(os.path.join(folder, os.path.basename(program)), 0o755)
        main(folder, tap)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tap.end()
