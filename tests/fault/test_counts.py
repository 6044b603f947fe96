#!/usr/bin/python3
"""What is written and what the disk is waited for, counted with strace: a session that deletes nothing changes nothing, and
one that deletes everything or the last messages does the same whether little or much stays.  Needs root, since the helper
cannot be looked into otherwise; the sessions run as uid 65534.
"""

import sys

sys.dont_write_bytecode = True

import glob  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402

import fault_session as fs  # noqa: E402
from fault_session import NOBODY, Maildrop, check, pt  # noqa: E402

CALLS = ("write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,truncate,ftruncate,fallocate,fsync,fdatasync,"
         "sync_file_range,syncfs,sync,msync,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,utimensat,"
         "open,openat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,chown,fchown,fchownat")
WAITS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")


def text(n, length):
    return b"From: a@example.org\nSubject: message %d\n\n" % n + b"x" * length + b"\n"


class Traced:
    """A maildrop, and what its sessions did to files in the folder of the test."""

    def __init__(self, folder, kind, messages):
        self.run = pt.Run(folder, (), kind)
        self.maildrop = Maildrop(kind, messages, ())
        self.maildrop.put(self.run)
        fs.give_away(self.run.folder)
        self.sessions = 0

    def session(self, commands):
        """Returns the changing calls as (name, file, bytes), those of one process in order."""
        self.sessions += 1
        trace = os.path.join(self.run.folder, "trace%d" % self.sessions)
        before = ["strace", "-qq", "-f", "-ff", "-y", "-o", trace, "-e", "trace=" + CALLS] + NOBODY
        more = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
        with pt.Session(self.run, before=before, more=more) as c:
            c.log_in()
            for line in commands:
                c.send(line + b"\r\n")
                first = c.read_line()
                check(first.startswith(b"+OK"), "%s: %s" % (line, first))
                if line.split()[0] in (b"RETR", b"TOP") or line in (b"LIST", b"UIDL"):
                    c.read_multi()
            c.quit()
        calls = []
        for name in sorted(glob.glob(trace + ".*")):
            with open(name, errors="replace") as f:
                calls += [call for call in map(self.parse, f) if call is not None]
        return calls

    def parse(self, line):
        """None for what changes no file here: other places, the log, files opened to be read, calls that failed."""
        m = re.match(r"(\w+)\((.*)\) += (-?\d+)", line)
        if m is None or m.group(3).startswith("-"):
            return None
        name, arguments, result = m.groups()
        paths = [os.path.normpath(p) for p in self.paths(name, arguments)]
        inside = [os.path.relpath(p, self.run.folder) for p in paths if p.startswith(self.run.folder + "/")]
        inside = [p for p in inside if p != "log"]
        if not inside or (name in ("open", "openat") and not re.search("O_CREAT|O_TRUNC|O_WRONLY|O_RDWR", arguments)):
            return None
        return name, " ".join(inside), int(result) if "write" in name else 0

    def paths(self, name, arguments):
        """Of descriptors with their names, and of names in folders of such."""
        if "at" in name[-4:] and name not in ("truncate", "ftruncate"):
            return [path if path.startswith("/") else folder + "/" + path for folder, path in
                    re.findall(r'(?:AT_FDCWD|\d+)<([^>]*)>, "([^"]*)"', arguments)]
        return re.findall(r'^\d+<([^>]*)>', arguments) + re.findall(r'"(/[^"]*)"', arguments)


def everything(count):
    return [b"STAT", b"LIST", b"UIDL", b"LAST"] + [b"RETR %d" % n for n in range(1, count + 1)] + [b"TOP 1 3", b"NOOP"]


def shown(calls):
    return "\n".join("%s %s %d" % call for call in calls)


def kept_as_it_was(traced, before):
    st = os.stat(traced.run.maildrop)
    check((st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns) == before, "the mailbox is another one")


def mbox_quiet(folder, tap, length):
    """The first session may write an index and LAST into the state folder, and locks beside the mailbox; the third nothing."""
    traced = Traced(folder, "mbox", [text(n, length) for n in range(1, 9)])
    st = os.stat(traced.run.maildrop)
    before = (st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    counts = []
    for number in range(3):
        calls = traced.session(everything(8))
        counts.append(len(calls))
        touched = [c for c in calls if c[1] == "mbox" and c[0] not in ("open", "openat")]
        check(not touched, "the mailbox is touched:\n" + shown(touched))
        waits = [c for c in calls if c[0] in WAITS]
        check(not waits, "the disk is waited for:\n" + shown(waits))
        emptied = [c for c in calls if c[0] == "ftruncate" and ".lk" in c[1]]
        check(not emptied, "ext4 writes a file that was emptied to the disk when it is closed:\n" + shown(emptied))
        kept_as_it_was(traced, before)
        if number == 2:
            rest = [c for c in calls if not re.search(r"session\.lock|^mbox$|/?\.lk|mbox\.lock", c[1])]
            check(not rest, "the third session writes:\n" + shown(rest))
            locks = [c for c in calls if c[1] == "mbox" or ".lock" in c[1] and "session.lock" not in c[1]]
            check(length < 100000 or not locks, "a session with an index takes locks:\n" + shown(locks))
    tap.note("calls that make, open for writing or change a file in three sessions: %s" % counts)


def maildir_quiet(folder, tap, count):
    """The first moves new mail to cur/ and waits for the two folders; the third has nothing to do."""
    traced = Traced(folder, "maildir", [text(n, 100) for n in range(1, count + 1)])
    counts = []
    for number in range(3):
        calls = traced.session(everything(count))
        counts.append(len(calls))
        own = [c for c in calls if ".postern-" in c[1] and c[0] not in WAITS]
        moves = [c for c in calls if c[0].startswith("rename") and c not in own]
        waits = [c for c in calls if c[0] in WAITS]
        rest = [c for c in calls if c not in own + moves + waits]
        check(not rest, "what is that for?\n" + shown(rest))
        if number == 0:
            check(len(moves) == count and sorted(c[1] for c in waits) == ["maildir/cur", "maildir/new"],
                  "%d moves; waits:\n%s" % (len(moves), shown(waits)))
        else:
            check(not moves and not waits, "session %d:\n%s" % (number + 1, shown(moves + waits)))
        if number == 2:
            check([c[1] for c in own] in (["maildir/.postern-lock"], []), "the third session writes:\n" + shown(own))
    tap.note("calls that make, open for writing or change a file in three sessions: %s" % counts)


def ending(folder, kind, kept, length, delete):
    """The calls of a session that deletes the last `delete` messages of kept + delete, without those that keep the index."""
    traced = Traced(folder, kind, [text(n, length) for n in range(1, kept + 1)] + [text(n, 400) for n in range(delete)])
    calls = traced.session([b"DELE %d" % n for n in range(kept + 1, kept + delete + 1)])
    state = traced.maildrop.texts(traced.run)
    check(len(state) == kept, "%d messages are left" % len(state))
    check(not any("journal" in c[1] for c in calls), "a journal:\n" + shown(calls))
    index = [c for c in calls if re.search(r"state/alice/index|postern-index", c[1])]
    names = [(name, re.sub(r"\.lk\w+", ".lk", re.sub(r"\d{10}[^ ]*", "MESSAGE", path)), size if "lk" not in path else 0)
             for name, path, size in calls if (name, path, size) not in index and name != "utimensat"]
    return names, sum(c[2] for c in index)


def same_whatever_stays(folder, tap, kind, delete, length):
    small, _ = ending(folder, kind, 10, length, delete)
    large, index = ending(folder, kind, 10000, length, delete)
    none, _ = ending(folder, kind, 0, length, delete)
    check(small == large, "10 stay:\n%s\n10000 stay:\n%s" % (shown(small), shown(large)))
    check([c[0] for c in none if c[0] in WAITS] == [c[0] for c in large if c[0] in WAITS], "all go: " + shown(none))
    tap.note("%d calls, %d bytes written, %d waits for the disk, whether 10 or 10000 stay; bytes of an index: %d" % (
        len(large), sum(c[2] for c in large), len([c for c in large if c[0] in WAITS]), index))


def main(folder, tap):
    for length in (100, 150000):
        tap.run("mbox of messages of %d bytes: no DELE, nothing is written" % length, mbox_quiet, folder, tap, length)
    for count in (4, 60):
        tap.run("Maildir of %d messages: no DELE, only moves and flags" % count, maildir_quiet, folder, tap, count)
    for kind, delete, length in (("mbox", 3, 20), ("mbox", 3, 400), ("maildir", 4, 20)):
        tap.run("%s: DELE of the last %d of messages of %d bytes costs the same whatever stays" % (kind, delete, length),
                same_whatever_stays, folder, tap, kind, delete, length)


if __name__ == "__main__":
    reason = fs.missing(("strace",))
    if reason is None and subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        reason = "strace may not trace here"
    if reason is not None:
        print("1..0 # SKIP " + reason)
        sys.exit(0)
    sys.exit(fs.in_roots_place(main))
