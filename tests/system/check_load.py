"""Sixty-four sessions at once."""

import os
import threading

import mail
from box import Pop, configure, fetch_all, journal, journal_mark, left_behind, sh, units

SESSIONS = 64
SOURCES = 8


def user_name(n):
    return "user%02d" % n


def make_users():
    """Half have an mbox, half a Maildir; each message names its owner."""
    names = " ".join(map(user_name, range(SESSIONS)))
    sh("for user in %s; do useradd -m $user; done" % names)
    sh("for user in %s; do echo $user:secret; done | chpasswd -c SHA256 -s 1000" % names)
    boxes = {}
    for n in range(SESSIONS):
        user = user_name(n)
        boxes[user] = [mail.HEAD + b"Subject: %d for %s\n\n" % (k, user.encode()) + b"text\n" * (n * 10 + k) for k in range(10)]
        (mail.make_maildir if n % 2 else mail.make_mbox)(user, boxes[user])
    return boxes


class Session(threading.Thread):
    """Logs in, waits until all are logged in, fetches, deletes the first message, leaves."""

    def __init__(self, n, messages, together):
        super().__init__()
        self.n, self.messages, self.together = n, messages, together
        self.result = "not finished"

    def run(self):
        try:
            with Pop(source="127.0.0.%d" % (100 + self.n % SOURCES), timeout=120) as pop:
                pop.enter(user_name(self.n))
                self.together.wait(120)
                fetched, agree = fetch_all(pop)
                pop.must("DELE 1")
                pop.must("QUIT")
            self.result = "" if agree and fetched == [mail.wire(m) for m in self.messages] else "other messages"
        except (OSError, RuntimeError, threading.BrokenBarrierError) as e:
            self.together.abort()
            self.result = repr(e)


def all_at_once(t, boxes):
    mark = journal_mark()
    together = threading.Barrier(SESSIONS)
    sessions = [Session(n, boxes[user_name(n)], together) for n in range(SESSIONS)]
    for s in sessions:
        s.start()
    for s in sessions:
        s.join()
    wrong = ["%s: %s" % (user_name(s.n), s.result) for s in sessions if s.result]
    t.equal(wrong, [], "%d sessions, all logged in at once, complete" % SESSIONS)
    t.equal(left_behind(), "", "no process, unit or lock is left")
    t.equal(units("pop3.socket"), [("pop3.socket", "active")], "the socket listens on")
    ends = [e["POSTERN_USER"] for e in journal(mark, "session-end") if e["POSTERN_HOW"] == "quit"]
    t.equal(sorted(ends), sorted(boxes), "each one's end is logged once")
    for user, messages in boxes.items():
        stored = (b"".join(b"From mary@example.net Fri Nov 21 09:55:06 1997\n" + m + b"\n" for m in messages[1:]))
        maildir = os.path.isdir("/home/%s/Maildir" % user)
        if (mail.maildir_messages(user) != messages[1:]) if maildir else (mail.mbox_bytes(user) != stored):
            t.ok(False, user + "'s other messages are as they were")
            return
    t.ok(True, "the first message of each is gone, and all others are as they were")


def run(t):
    configure()
    boxes = make_users()
    t.section(all_at_once, boxes)
