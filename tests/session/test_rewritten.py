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
        change_of = parts[VICTIM - 1:VICTIM + 1]
        change(change_of)
        parts[VICTIM - 1:VICTIM + 1] = change_of
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


def main(folder, tap):
    for name, (received, change) in CHANGES.items():
        for count in (SMALL, LARGE):
            tap.run("%s: %d messages are read" % (name, count), read_on, folder, count, received, change, tap)
        for which in (VICTIM, VICTIM + 1, LARGE + 1):
            tap.run("%s: message %d is removed" % (name, which), removed, folder, LARGE, received, change, which, False)
    tap.run("removed after it could not be read", removed, folder, LARGE, b"", longer(24), VICTIM, True)


if __name__ == "__main__":
    pt.in_place(main)
