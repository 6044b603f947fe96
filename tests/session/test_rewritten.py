#!/usr/bin/python3
"""
An mbox in which another program rewrites header fields in place between two sessions, and to which mail is delivered then.

Dovecot and c-client make room for Status and X-Keywords in the padding of the same message or of the next one, so that the last
message stays where it is, and an index that is believed as far as it looks right is wrong about some in between.  Whatever it says:
no other octets are ever sent as a message, no other message is removed, and the session after one that found out is right.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

# The first is read whole, of the second an index is believed; the victim is no message that a login looks at.
SMALL, LARGE = 30, 400
VICTIM = 8

# So that what is rewritten is behind what is known of a message's beginning.
RECEIVED = b"".join(b"Received: from relay%d.example.org by mail.example.net; Mon, 23 Nov 2026 10:00:00 +0000\n" % i
                    for i in range(8))


def message(n, received):
    return (b"From: sender@example.org\nSubject: %d\nMessage-ID: <%d@example.org>\n" % (n, n) + received +
            b"Status: O\nX-Status: \nX-Keywords: " + b" " * 50 + b"\nX-UID: %d\n\n" % n + b"some text of the body\n" * 130 +
            b"Yours sincerely,\nJoe\n")


def longer(octets):
    """The victim gets keywords at the cost of the next message."""
    def change(parts):
        parts[0] = parts[0].replace(b"X-Keywords: ", b"X-Keywords: " + b"k" * octets, 1)
        parts[1] = parts[1].replace(b"X-Keywords: " + b" " * octets, b"X-Keywords: ", 1)
    return change


def change_victim(parts, change):
    """Changes it, and the next one perhaps."""
    both = parts[VICTIM - 1:VICTIM + 1]
    change(both)
    parts[VICTIM - 1:VICTIM + 1] = both


def same_length(parts):
    parts[0] = parts[0].replace(b"Status: O\n", b"Status: RO\n", 1).replace(b"X-Keywords:  ", b"X-Keywords: ", 1)


def another_line(parts):
    """One line end more, of which the wire needs one octet more."""
    parts[0] = parts[0].replace(b"X-Status: \nX-Keywords: " + b" " * 10, b"X-Status: \nX-UIDL: a\nX-Keywords: ", 1)


CHANGES = {
    "another Status in its own padding": (b"", same_length),
    "the same behind a long header": (RECEIVED, same_length),
    "another line in its own padding": (b"", another_line),
    "the same behind a long header, too": (RECEIVED, another_line),
    "24 octets of the next one's padding": (RECEIVED, longer(24)),
    "10 octets of the next one's padding": (RECEIVED, longer(10)),
    "24 octets, with a short header": (b"", longer(24)),
}


def uidl(c):
    return dict(line.split(b" ") for line in c.ask_multi(b"UIDL").split(b"\r\n")[:-1])


class Rewritten:
    """An mbox that had a session, was rewritten, and has got one message more."""

    def __init__(self, folder, count, received, change):
        box, _ = pt.mbox_join([message(n, received) for n in range(1, count + 1)])
        self.run = pt.Run(folder, box=box)
        with pt.Session(self.run) as c:
            c.log_in()
            self.ids = uidl(c)
            c.quit()
        check(os.path.exists(self.run.folder + "/state/alice/index"), "there is no index")
        parts = pt.mbox_split(box)
        change_victim(parts, change)
        rewritten = b"".join(parts)
        check(len(rewritten) == len(box) and rewritten != box, "the change is none, or has another length")
        self.box = rewritten + pt.mbox_join([message(count + 1, received)])[0]
        with open(self.run.maildrop, "r+b") as f:
            f.write(self.box)
        self.stored = pt.mbox_messages(self.box)

    def octets(self):
        return sum(len(pt.wire_form(m)) for m in self.stored)

    def retrieve(self, c, n):
        """True: message n came, and is right.  False: it was refused, or the connection ended before its final dot."""
        answer = c.ask(b"RETR %d" % n)
        if answer is None or answer.startswith(b"-ERR"):
            return False
        try:
            got = pt.unstuffed(c.read_multi())
        except pt.Failure:
            check(c.eof, "a message without its end, and no end of the connection")
            return False
        check(got == pt.wire_form(self.stored[n - 1]), "RETR %d: other octets" % n)
        return True

    def session(self):
        """Whether one session is right in all it says."""
        c = pt.Connection(self.run)
        try:
            c.log_in()
            right = c.ask(b"STAT") == b"+OK %d %d" % (len(self.stored), self.octets())
            ids = uidl(c)
            check(all(ids[n] == self.ids[n] for n in self.ids), "other unique-ids than before")
            for n in (VICTIM - 1, VICTIM, VICTIM + 1, VICTIM + 2, len(self.stored) - 1, len(self.stored)):
                right = not c.eof and self.retrieve(c, n) and right
            if c.eof:
                c.end()
            else:
                c.quit()
        except BaseException:
            c.abandon()
            raise
        return right


def read_on(folder, count, received, change, tap):
    """Messages are sent as they are, or not; and all are in one of the sessions that follow."""
    r = Rewritten(folder, count, received, change)
    sessions = 1
    while not r.session():
        sessions += 1
        check(sessions <= (1 if count == SMALL else 2), "session %d is not right yet" % (sessions - 1))
    if count == LARGE:
        tap.note("%d sessions" % sessions)
    check(pt.read_file(r.run.maildrop) == r.box, "the mbox has changed")


def removed(folder, count, received, change, which, look):
    """Message which is removed as it is, or not at all; look: whether it was asked for before."""
    r = Rewritten(folder, count, received, change)
    parts = pt.mbox_split(r.box)
    with pt.Session(r.run) as c:
        c.log_in()
        if look and not r.retrieve(c, which):
            check(not c.eof, "the connection has ended")
        c.expect(b"DELE %d" % which, b"+OK")
        answer = c.ask(b"QUIT")
        check(answer is not None, "no answer to QUIT")
        c.end()
    del parts[which - 1]
    left = pt.read_file(r.run.maildrop)
    if answer.startswith(b"+OK"):
        check(left == b"".join(parts), "the message was not what was removed, or not all of it")
    else:
        check(left == r.box, "the mbox has changed: %s" % answer)
    with pt.Session(r.run) as c:
        c.log_in()
        c.expect(b"STAT", b"+OK %d %d" % (len(pt.mbox_messages(left)), sum(len(pt.wire_form(m)) for m in pt.mbox_messages(left))))
        c.quit()


class Growing:
    """An mbox that is rewritten, and gets a message more, before each session."""

    def __init__(self, folder, parts):
        self.parts = parts
        self.run = pt.Run(folder, box=b"".join(parts))
        self.delivered = 0

    def change(self):
        """Writes what is in parts now, and one more."""
        self.delivered += 1
        self.parts.append(pt.mbox_join([message(LARGE + self.delivered, RECEIVED)])[0])
        with open(self.run.maildrop, "r+b") as f:
            f.write(b"".join(self.parts))
            f.truncate()

    def session(self, *commands):
        """The first words of the answers to commands, and the unique-ids, which are asked for at the end."""
        with pt.Session(self.run) as c:
            c.log_in()
            answers = []
            for command in commands:
                answers.append(c.ask(command).split(b" ")[0])
                if command.startswith(b"RETR") and answers[-1] == b"+OK":
                    c.read_multi()
            ids = uidl(c)
            c.quit()
        return answers, ids


def large():
    return pt.mbox_split(pt.mbox_join([message(n, RECEIVED) for n in range(1, LARGE + 1)])[0])


def pad(parts, n, octets):
    """Makes message n longer by as many octets of padding."""
    parts[n - 1] = parts[n - 1].replace(b"X-Keywords:", b"X-Keywords:" + b" " * octets, 1)


def asked_for_ids_then(folder):
    """A refused message is not refused again, though unique-ids are asked for then, and mail comes before each session."""
    g = Growing(folder, large())
    g.session()
    change_victim(g.parts, longer(24))
    g.change()
    g.session(b"RETR %d" % VICTIM)
    g.change()
    check(g.session(b"RETR %d" % VICTIM)[0] == [b"+OK"], "the next session has not been right")


def gone_and_deleted(folder):
    """A message that somebody has removed, in favour of the padding before it, is deleted once."""
    g = Growing(folder, large())
    _, ids = g.session()
    gone = ids[b"%d" % VICTIM]
    pad(g.parts, VICTIM - 1, len(g.parts.pop(VICTIM - 1)))
    g.change()
    with pt.Session(g.run) as c:
        c.log_in()
        if gone in uidl(c).values():
            c.expect(b"DELE %d" % VICTIM, b"+OK")
        c.quit()
    check(pt.read_file(g.run.maildrop) == b"".join(g.parts), "something else is gone")
    check(gone not in g.session()[1].values(), "it is listed again")


def equal_ones(folder, commands):
    """Which of equal messages is which is still known after a session that found another one rewritten, or nobody asked in."""
    parts = large()
    parts[300] = parts[310] = parts[320]
    g = Growing(folder, parts)
    g.session()
    with pt.Session(g.run) as c:
        c.log_in()
        c.expect(b"DELE 301", b"+OK")
        c.quit()
    twin = g.parts.pop(300)
    _, ids = g.session()
    change_victim(g.parts, longer(24))
    g.change()
    with pt.Session(g.run) as c:
        c.log_in()
        for command in commands:
            c.ask(command)
        c.ask(b"QUIT")
        c.end()
    left = pt.mbox_split(pt.read_file(g.run.maildrop))
    _, now = g.session()
    check([now[b"%d" % n] for n, part in enumerate(left, 1) if part == twin] == [ids[b"310"], ids[b"320"]],
          "equal messages have got other unique-ids")


def cut_off(folder):
    """A From_ line without its end, which a full disk has left, is no reason to refuse the message before it."""
    box, stored = pt.mbox_join([message(n, b"") for n in range(1, 4)])
    run = pt.Run(folder, box=box + b"From new@example.org Mon Nov 23 11:00:00 2026")
    with pt.Session(run) as c:
        c.log_in()
        c.expect(b"STAT", b"+OK 4 ")
        for n, text in enumerate(stored + [b""], 1):
            check(pt.unstuffed(c.ask_multi(b"RETR %d" % n)) == pt.wire_form(text), "RETR %d" % n)
        c.quit()


def locked(folder):
    """Where somebody else has the lock when a wrong message is noticed, the next session is right as well."""
    g = Growing(folder, large())
    g.session()
    change_victim(g.parts, longer(24))
    g.change()
    g.run.write_settings({"lock-timeout": "0"})
    with pt.Session(g.run) as c:
        c.log_in()
        with open(g.run.maildrop + ".lock", "w") as f:
            f.write("1\n")
        c.expect(b"RETR %d" % VICTIM, b"-ERR [SYS/TEMP]")
        os.unlink(g.run.maildrop + ".lock")
        c.quit()
    check(g.session(b"RETR %d" % VICTIM)[0] == [b"+OK"], "the next session has not been right")


def never_asked(folder):
    """Unique-ids that nobody has asked for before are made of what is there, not of where the index says that it is."""
    g = Growing(folder, large())
    with pt.Session(g.run) as c:
        c.log_in()
        c.quit()
    check(os.path.exists(g.run.folder + "/state/alice/index"), "there is no index")
    change_victim(g.parts, longer(24))
    g.change()
    with pt.Session(g.run) as c:
        c.log_in()
        c.expect(b"UIDL", b"-ERR [SYS/TEMP]")
        c.quit()
    _, ids = g.session()
    os.unlink(g.run.folder + "/state/alice/index")
    check(g.session()[1] == ids, "other unique-ids than those of the messages")


def index_not_writable(folder):
    """An index that cannot be marked as wrong is removed."""
    g = Growing(folder, large())
    g.session()
    change_victim(g.parts, longer(24))
    g.change()
    os.chmod(g.run.folder + "/state/alice/index", 0o400)
    with pt.Session(g.run) as c:
        c.log_in()
        c.expect(b"RETR %d" % VICTIM, b"-ERR [SYS/TEMP]")
        check(not os.path.exists(g.run.folder + "/state/alice/index"), "it is still there")
        c.quit()
    check(g.session(b"RETR %d" % VICTIM)[0] == [b"+OK"], "the next session has not been right")


def empty(folder):
    """Nor is another message taken for an empty one, of which nothing can be known."""
    parts = large()
    parts[VICTIM - 1] = pt.mbox_join([b""])[0]
    g = Growing(folder, parts)
    g.session()
    pad(g.parts, VICTIM - 1, len(g.parts.pop(VICTIM - 1)))
    g.change()
    check(g.session(b"RETR %d" % VICTIM)[0] == [b"-ERR"], "something was sent as the empty message")
    check(g.session(b"RETR %d" % VICTIM)[0] == [b"+OK"], "the next session has not been right")


def main(folder, tap):
    for name, (received, change) in CHANGES.items():
        for count in (SMALL, LARGE):
            tap.run("%s: %d messages are read" % (name, count), read_on, folder, count, received, change, tap)
        for which in (VICTIM, VICTIM + 1, LARGE + 1):
            tap.run("%s: message %d is removed" % (name, which), removed, folder, LARGE, received, change, which, False)
    tap.run("read, and unique-ids asked for then", asked_for_ids_then, folder)
    tap.run("a message that is gone is deleted", gone_and_deleted, folder)
    for commands in ((), (b"RETR %d" % VICTIM,), (b"DELE %d" % VICTIM,), (b"DELE %d" % VICTIM, b"DELE %d" % (VICTIM + 1))):
        tap.run("equal messages: %s" % (b", ".join(commands).decode() or "nothing"), equal_ones, folder, commands)
    tap.run("a From_ line without its end", cut_off, folder)
    tap.run("a lock is held", locked, folder)
    tap.run("unique-ids asked for the first time", never_asked, folder)
    tap.run("an index that cannot be written", index_not_writable, folder)
    tap.run("an empty message", empty, folder)
    tap.run("removed after it could not be read", removed, folder, LARGE, b"", longer(24), VICTIM, True)


if __name__ == "__main__":
    pt.in_place(main)
