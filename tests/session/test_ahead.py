#!/usr/bin/python3
"""A Maildir and a client that does not wait for answers: messages are then opened before it asks for them, and it must not
be able to tell.  Each list of commands is sent in one piece, and one at a time; the answers are the same."""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import random  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

COUNT = 60
MULTI = (b"RETR", b"TOP", b"UIDL", b"LIST", b"CAPA")


def messages():
    return [b"Subject: %d\n\nmessage %d\n%s" % (n, n, b".dot\n" * n) for n in range(1, COUNT + 1)]


def is_multi(command):
    words = command.split()
    return words[0] in (b"RETR", b"TOP") or (words[0] in MULTI and len(words) == 1)


def answer(c, command):
    first = c.read_line()
    rest = c.read_multi() if first.startswith(b"+OK") and is_multi(command) else b""
    return first, rest


def answers(folder, commands, at_once, vanished=()):
    """What a session says; the files of vanished messages go after the login.  With what is left in the Maildir then."""
    run = pt.Run(folder, kind="maildir")
    pt.maildir_make(run.maildrop, [("new/%d.M%d.host" % (1700000000 + n, n), text) for n, text in enumerate(messages(), 1)])
    heard = []
    with pt.Session(run) as c:
        c.log_in()
        for n in vanished:
            os.unlink("%s/new/%d.M%d.host" % (run.maildrop, 1700000000 + n, n))
        if at_once:
            c.send(b"".join(line + b"\r\n" for line in commands))
            heard = [answer(c, line) for line in commands]
        else:
            for line in commands:
                c.send(line + b"\r\n")
                heard.append(answer(c, line))
        c.quit()
    return heard, sorted(pt.maildir_read(run.maildrop))


def same(folder, commands, vanished=()):
    check(answers(folder, commands, True, vanished) == answers(folder, commands, False, vanished),
          "in one piece the answers differ")


def texts(folder):
    """All messages, in one piece: the right ones."""
    commands = [b"RETR %d" % n for n in range(1, COUNT + 1)]
    heard, _ = answers(folder, commands, True)
    for n, (status, text) in enumerate(heard, 1):
        check(status.startswith(b"+OK") and pt.unstuffed(text) == pt.wire_form(messages()[n - 1]), "RETR %d: %s" % (n, status))


def some(chance, length):
    """Commands in a run mostly upwards, with others between them."""
    n, out = 1, []
    for _ in range(length):
        n = n % COUNT + 1 if chance.random() < 0.8 else chance.randint(1, COUNT)
        out.append(chance.choice([b"RETR %d" % n] * 6 + [b"TOP %d 1" % n, b"DELE %d" % n, b"RETR %d" % (COUNT + 1), b"UIDL",
                                                        b"UIDL %d" % n, b"RSET", b"NOOP", b"STAT", b"LAST"]))
    return out


def main(folder, tap):
    up = [b"RETR %d" % n for n in range(1, COUNT + 1)]
    tap.run("all of them", texts, folder)
    tap.run("upwards, twice", same, folder, up + up)
    tap.run("downwards", same, folder, up[::-1])
    tap.run("fetched and deleted", same, folder, [x for n in range(1, COUNT + 1) for x in (b"RETR %d" % n, b"DELE %d" % n)])
    tap.run("deleted before they are fetched", same, folder, [b"DELE %d" % n for n in range(3, COUNT, 4)] + up)
    tap.run("a UIDL between them", same, folder, up[:20] + [b"UIDL"] + up[20:])
    tap.run("some have vanished", same, folder, up, (1, 5, 6, 7, 30, COUNT))
    tap.run("QUIT with messages asked for ahead", same, folder, up[:20] + [b"DELE 1"])
    for seed in range(12):
        chance = random.Random(seed)
        tap.run("commands at random, %d" % seed, same, folder, some(chance, 150), chance.sample(range(1, COUNT), seed % 3))


if __name__ == "__main__":
    pt.in_place(main)
