#!/usr/bin/python3
"""The state of a maildrop removed, damaged or replaced, before a session and between any two of its commands: the index, LAST,
the session lock, a journal, and those on their way.  That costs time: every answer is right, no mail is lost, and the
unique-ids stay, but for which of two equal messages is which.

	test_state.py [ALL]

With ALL each damage is done at each moment; otherwise before the session, and at two of the others in turns.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import random  # noqa: E402

import fault_session as fs  # noqa: E402
from fault_session import Maildrop, check, pt  # noqa: E402

EQUAL = b"From: a@example.org\nSubject: twice\n\nthe same\n"


def text(n, length):
    return b"From: a@example.org\nSubject: message %d\n\n" % n + b"line %d\n" % n * length


# Equal messages get the small mbox an index; the Maildir has one when it is large.
MBOX = [text(1, 5), EQUAL, text(2, 300), text(3, 1), EQUAL, text(4, 40)]
MAILDIR = [text(n, n) for n in range(1, 46)]
MAILDROPS = {
    "mbox": (MBOX, (1, 4), "state/alice", ("index", "last", "session.lock", "journal", "index.new", "last.new", "journal.new")),
    "maildir": (MAILDIR, (1, 4), "maildir", (".postern-index", ".postern-lock", ".postern-index.new")),
}
MOMENTS = ("before the session", "after PASS", "after LIST", "after UIDL", "after RETR", "after DELE")
PRECIOUS = b"not to be touched\n"


# Damages: f(path, old content, random numbers, another user's file of that name)


def write(path, octets):
    with open(path, "wb") as f:
        f.write(octets)


def remove(path, old, chance, other):
    pass


def empty(path, old, chance, other):
    write(path, b"")


def cut(path, old, chance, other):
    write(path, old[:len(old) // 2])


def one_bit(path, old, chance, other):
    damaged = bytearray(old or b"\0")
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    write(path, damaged)


def noise(path, old, chance, other):
    write(path, chance.randbytes(len(old) or 20000))


def noisy_end(path, old, chance, other):
    """What stands in front is whole, and tells of more."""
    whole = len(old) * 3 // 4
    write(path, old[:whole] + chance.randbytes(len(old) - whole or 100))


def zeros(path, old, chance, other):
    write(path, bytes(len(old) or 20000))


def huge(path, old, chance, other):
    write(path, old)
    os.truncate(path, 1 << 40)


def others(path, old, chance, other):
    write(path, other)


def link(path, old, chance, other):
    os.symlink(os.path.join(os.path.dirname(path), "precious"), path)


def folder(path, old, chance, other):
    os.mkdir(path)


def fifo(path, old, chance, other):
    os.mkfifo(path)


DAMAGES = (remove, empty, cut, one_bit, noise, noisy_end, zeros, huge, others, link, folder, fifo)

# What only its owner can have laid there may end in a refusal that has its reason in the log; nothing else may.
LAID = (link, folder, fifo)


class Equals(Maildrop):
    """In an mbox all have one From_ line, so that equal messages are equal."""

    def put(self, run):
        if self.kind != "mbox":
            super().put(run)
            return
        write(run.maildrop, b"".join(pt.FROM_LINE % (b"sender@example.org", 0, 0) + m + b"\n" for m in self.messages))


class Place:
    """A maildrop that has been fetched from once, and what every answer has to be."""

    def __init__(self, top, kind, others):
        self.kind = kind
        self.messages, delete, state, self.targets = MAILDROPS[kind]
        self.others = others
        self.maildrop = Equals(kind, self.messages, delete)
        self.run = pt.Run(top, (), kind)
        self.state = os.path.join(self.run.folder, state)
        self.ids = None

    def begin(self):
        for path in (os.path.join(self.run.folder, "state"), self.run.maildrop):
            if os.path.isdir(path):
                fs.empty_folder(path)
        if self.kind == "maildir" and os.path.isdir(self.run.maildrop):
            os.rmdir(self.run.maildrop)
        write(self.run.log, b"")
        self.maildrop.put(self.run)
        with pt.Session(self.run) as c:
            c.log_in()
            ids = c.ask_multi(b"UIDL")
            c.ask_multi(b"RETR 1")
            c.ask_multi(b"RETR 3")
            c.quit()
        check(self.ids in (None, ids), "unique-ids differ without any damage")
        self.ids = ids
        write(os.path.join(self.state, "precious"), PRECIOUS)

    def damage(self, target, how, chance):
        path = os.path.join(self.state, target)
        old = b""
        if os.path.exists(path):
            old = pt.read_file(path)
            os.unlink(path)
        how(path, old, chance, self.others.get(target, b"of another"))

    def clear_laid(self):
        """Somebody mends it."""
        for name in os.listdir(self.state):
            path = os.path.join(self.state, name)
            if name.startswith(("journal", "index", "last", "session.lock", ".postern-")) and \
                    (os.path.islink(path) or not os.path.isfile(path)):
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def check_list(c, messages):
    listed = [line.split() for line in c.ask_multi(b"LIST").split(b"\r\n")[:-1]]
    check([int(size) for _, size in listed] == [len(pt.wire_form(m)) for m in messages], "LIST: %s" % listed)


def check_retr(c, messages, n):
    check(pt.unstuffed(c.ask_multi(b"RETR %d" % n)) == pt.wire_form(messages[n - 1]), "RETR %d: other octets" % n)


def refused(c, answer):
    check(fs.REFUSED.match(answer or b""), "answered: %s" % answer)
    c.hang_up()
    c.wait_all()


def session(place, moment, act, may_refuse):
    """Returns how it ended: "deleted", or who refused."""
    messages = place.messages
    if moment == 0:
        act()
    with pt.Session(place.run) as c:
        check(c.read_line() == pt.GREETING, "greeting")
        c.expect(b"USER alice", b"+OK")
        answer = c.ask(b"PASS secret")
        if may_refuse and not answer.startswith(b"+OK"):
            refused(c, answer)
            return "login refused"
        check(answer.startswith(b"+OK"), "PASS: %s" % answer)
        if moment == 1:
            act()
        check_list(c, messages)
        if moment == 2:
            act()
        check(c.ask_multi(b"UIDL") == place.ids, "unique-ids are others")
        if moment == 3:
            act()
        for n in (2, 3, 6):
            check_retr(c, messages, n)
        if moment == 4:
            act()
        for n in sorted(place.maildrop.delete):
            c.expect(b"DELE %d" % n, b"+OK")
        if moment == 5:
            act()
        answer = c.ask(b"QUIT")
        c.hang_up()
        check(c.wait_all() == 0, "exit status")
    if may_refuse and answer.startswith(b"-ERR [SYS/TEMP]"):
        return "QUIT refused"
    check(answer.startswith(b"+OK"), "QUIT: %s" % answer)
    return "deleted"


def ids_of(place, texts, ids):
    """{text: its ids}."""
    found = {}
    for text_, line in zip(texts, ids.split(b"\r\n")):
        found.setdefault(text_, set()).add(line.split()[1])
    return found


def check_after(place, ended):
    """What is there, and that the next session shows it, with the same unique-ids."""
    state = place.maildrop.state(place.run)
    check(state == ("after" if ended == "deleted" else "before"), "%s, and the maildrop is: %s" % (ended, state))
    check(pt.read_file(os.path.join(place.state, "precious")) == PRECIOUS, "a link was followed")
    place.clear_laid()
    messages = place.maildrop.kept if ended == "deleted" else place.messages
    with pt.Session(place.run) as c:
        c.log_in()
        check_list(c, messages)
        ids = c.ask_multi(b"UIDL")
        for n in range(1, min(len(messages), 7)):
            check_retr(c, messages, n)
        c.quit()
    was, now = ids_of(place, place.messages, place.ids), ids_of(place, messages, ids)
    check(all(now[m] <= was[m] for m in messages), "unique-ids have changed")
    left = [n for n in fs.left_over(place.run) if n != "precious" and not n.startswith("journal.strange-") and
            n not in ("index.new", "last.new")]
    check(not left, "left over: %s" % left)


def one(place, job, tally):
    target, how, moment = job
    chance = random.Random(repr(job))
    how = globals()[how]
    place.begin()
    try:
        ended = session(place, moment, lambda: place.damage(target, how, chance), how in LAID)
        if ended != "deleted":
            check(any("error=" in line for line in place.run.log_lines()), "refused without a reason in the log")
        check_after(place, ended)
    except pt.Failure as e:
        raise pt.Failure("%s: %s\n%s" % (MOMENTS[moment], e, place.run.log_tail()))
    tally["damages"] += 1
    tally[ended] += 1


def jobs_of(kind):
    jobs = []
    for target in MAILDROPS[kind][3]:
        for how in DAMAGES:
            some = len(jobs)
            moments = range(6) if sys.argv[1:] == ["ALL"] else sorted({0, 1 + some % 5, 1 + (some // 5) % 5})
            jobs += [(target, how.__name__, moment) for moment in moments]
    return jobs


def others_files(top, kind, inject):
    """The same files of another mailbox, made by sessions; the journal by one whose disk fails when messages move."""
    place = Place(top, kind, {})
    place.messages = [text(n, 50 + n) for n in range(7, 7 + len(place.messages))]
    place.maildrop = Equals(kind, place.messages + [EQUAL, EQUAL], (1, 3))
    place.begin()
    found = {}
    for name in MAILDROPS[kind][3]:
        if os.path.exists(os.path.join(place.state, name)):
            found[name] = pt.read_file(os.path.join(place.state, name))
    if kind == "mbox":
        found["journal"] = found["journal.new"] = leave_journal(place, inject)
        found["last.new"], found["index.new"] = found["last"], found["index"]
    return found


def leave_journal(place, inject):
    for at in range(200, 20, -1):
        with open(place.run.conf + ".fault", "w") as f:
            f.write("%s %d 5 -1\n" % (place.run.helper, at))
        with pt.Session(place.run, more={"POSTERN_HELPER": inject}) as c:
            fs.session(c, place.maildrop, fs.Report())
        path = os.path.join(place.state, "journal")
        if os.path.exists(path):
            return pt.read_file(path)
        place.begin()
    raise pt.Failure("no failure leaves a journal")


def damages(top, tap, kind, inject):
    others = others_files(top, kind, inject)
    check(set(MAILDROPS[kind][3]) - {".postern-index.new"} <= set(others), "another mailbox has only %s" % sorted(others))
    tally = fs.spread(jobs_of(kind), lambda: Place(top, kind, others), one)
    tap.note(fs.told(tally))
    check(tally["deleted"] > 0 and tally["login refused"] > 0, "some outcome was never seen")


def two_sessions(top, kind):
    """The session lock is removed, so that there are two at once: nothing is lost all the same."""
    place = Place(top, kind, {})
    place.begin()
    with pt.Session(place.run) as a:
        a.log_in()
        os.unlink(os.path.join(place.state, place.targets[2] if kind == "mbox" else place.targets[1]))
        with pt.Session(place.run) as b:
            b.log_in()
            b.expect(b"DELE 1", b"+OK")
            b.quit()
        answer = a.ask(b"RETR 4")
        if answer.startswith(b"+OK"):
            check(pt.unstuffed(a.read_multi()) == pt.wire_form(place.messages[3]), "RETR 4: other octets")
        else:
            check(fs.REFUSED.match(answer), "RETR 4: %s" % answer)
        a.expect(b"DELE 4", b"+OK")
        a.expect(b"DELE 1", b"+OK")
        a.quit()
    check(place.maildrop.state(place.run) == "after", place.maildrop.state(place.run))


def closed_folder(top):
    """Where the user can make no files, fcntl(2) alone locks the mbox."""
    place = Place(top, "mbox", {})
    place.begin()
    os.chmod(place.run.folder, 0o555)
    try:
        ended = session(place, 6, None, False)
    finally:
        os.chmod(place.run.folder, 0o755)
    check_after(place, ended)
    check(any("mbox-without-dot-lock" in line for line in place.run.log_lines()), "the log: " + place.run.log_tail())


def main(top, tap):
    inject = os.path.join(top, "injector")
    copy_program(os.path.join(top, "inject"), inject)
    for kind in ("mbox", "maildir"):
        if pt.WRAPPER:
            tap.skip(kind, "programs under WRAPPER make other calls")
            continue
        tap.run("%s: its state damaged at any moment" % kind, damages, top, tap, kind, inject)
        tap.run("%s: two sessions, when somebody removes the session lock" % kind, two_sessions, top, kind)
    tap.run("mbox: in a folder in which the user can make no files", closed_folder, top)


def copy_program(source, copy):
    write(copy, pt.read_file(source))
    os.chmod(copy, 0o755)


if __name__ == "__main__":
    pt.in_place(main, [os.path.join(os.environ.get("top_builddir", "."), "tests/fault/inject")])
