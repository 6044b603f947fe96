#!/usr/bin/python3
"""A Maildir and messages that are opened, or read, before the client asks for them, which it must not be able to tell: for a
client that does not wait for answers, and for one that does.  Each list of commands is sent in one piece, and one at a time;
the answers are the same."""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import random  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

COUNT = 60
WINDOW = 256 * 1024  # what is read at once (session/transmit.c)
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


def sizes(folder):
    """Messages that just fit into what is read at once, or just do not: the right ones, in any order, twice and cut short."""
    lengths = [WINDOW, WINDOW + 1, 0, 2 * WINDOW, WINDOW - 1, 1, 2 * WINDOW + 1, WINDOW, WINDOW]
    stored = [(b"%d\n" % n * length)[:length] for n, length in enumerate(lengths, 1)]
    run = pt.Run(folder, kind="maildir")
    pt.maildir_make(run.maildrop, [("new/%d.M%d.host" % (1700000000 + n, n), text) for n, text in enumerate(stored, 1)])
    upwards = list(range(1, len(stored) + 1))
    with pt.Session(run) as c:
        c.log_in()
        for n in upwards + upwards[::-1] + [3, 4, 4, 5, 5, 6, 8, 9]:
            got = pt.unstuffed(c.ask_multi(b"RETR %d" % n))
            check(got == pt.wire_form(stored[n - 1]), "RETR %d: %d octets: %s" % (n, len(got), pt.readable(got)))
        for n in upwards:
            check(pt.unstuffed(c.ask_multi(b"TOP %d 3" % n)) == pt.wire_form(pt.top_of(stored[n - 1], 3)), "TOP %d" % n)
            check(pt.unstuffed(c.ask_multi(b"RETR %d" % n)) == pt.wire_form(stored[n - 1]), "RETR %d after TOP" % n)
        c.quit()


def shortened(folder):
    """Files that somebody cuts when they are open already, and not read yet: nothing is sent for them, and the others are
    what they are."""
    run = pt.Run(folder, kind="maildir")
    names = ["new/%d.M%d.host" % (1700000000 + n, n) for n in range(1, COUNT + 1)]
    pt.maildir_make(run.maildrop, list(zip(names, messages())))
    cut = {7: 20, 8: 0, 12: 1}
    with pt.Session(run) as c:
        c.log_in()
        for n in range(1, COUNT + 1):
            if n == 5:
                for which, left in cut.items():
                    os.truncate("%s/%s" % (run.maildrop, names[which - 1]), left)
            if n in cut:
                c.expect(b"RETR %d" % n, b"-ERR")
                continue
            check(pt.unstuffed(c.ask_multi(b"RETR %d" % n)) == pt.wire_form(messages()[n - 1]), "RETR %d" % n)
        c.quit()


def edited(folder):
    """A message that somebody writes anew, as long as it was, between two commands: what is sent is of one time, where it is longer
    than what is read at once, too."""
    run = pt.Run(folder, kind="maildir")
    lengths = [10, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 5000, 3 * WINDOW]
    names = ["new/%d.M%d.host" % (1700000000 + n, n) for n in range(1, len(lengths) + 1)]
    before, after = ([b"\n" + letter * (length - 1) for length in lengths] for letter in (b"b", b"a"))
    pt.maildir_make(run.maildrop, list(zip(names, before)))
    with pt.Session(run) as c:
        c.log_in()
        for n in range(1, len(lengths) + 1):
            check(pt.unstuffed(c.ask_multi(b"TOP %d 0" % n)) == pt.wire_form(pt.top_of(before[n - 1], 0)), "TOP %d" % n)
            with open("%s/%s" % (run.maildrop, names[n - 1]), "r+b") as f:
                f.write(after[n - 1])
            got = pt.unstuffed(c.ask_multi(b"RETR %d" % n))
            check(got in (pt.wire_form(before[n - 1]), pt.wire_form(after[n - 1])),
                  "RETR %d: %d octets before, %d after" % (n, got.count(b"b"), got.count(b"a")))
        c.quit()


def many_ids(folder):
    """More unique-ids than come at once: those of all, and of one after the other, and of any one."""
    run = pt.Run(folder, (), "mbox", pt.mbox_join([b"Subject: %d\n\n" % n for n in range(3000)])[0])
    with pt.Session(run) as c:
        c.log_in()
        ids = [line.split() for line in c.ask_multi(b"UIDL").splitlines()]
        check([number for number, _ in ids] == [b"%d" % n for n in range(1, 3001)], "not one line for each message")
        check(len({one for _, one in ids}) == len(ids), "equal ones")
        for n in list(range(1, 3001)) + [3000, 1, 2999, 1500, 1400, 1600]:
            c.expect(b"UIDL %d" % n, b"+OK %d %s" % (n, ids[n - 1][1]))
        check([line.split() for line in c.ask_multi(b"UIDL").splitlines()] == ids, "others when all are asked for again")
        c.quit()


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
    tap.run("messages around what is read at once", sizes, folder)
    tap.run("some are cut short", shortened, folder)
    tap.run("some are written anew between two commands", edited, folder)
    tap.run("upwards, twice", same, folder, up + up)
    tap.run("downwards", same, folder, up[::-1])
    tap.run("fetched and deleted", same, folder, [x for n in range(1, COUNT + 1) for x in (b"RETR %d" % n, b"DELE %d" % n)])
    tap.run("deleted before they are fetched", same, folder, [b"DELE %d" % n for n in range(3, COUNT, 4)] + up)
    tap.run("a UIDL between them", same, folder, up[:20] + [b"UIDL"] + up[20:])
    tap.run("unique-ids of 3,000 messages", many_ids, folder)
    tap.run("some have vanished", same, folder, up, (1, 5, 6, 7, 30, COUNT))
    tap.run("QUIT with messages asked for ahead", same, folder, up[:20] + [b"DELE 1"])
    for seed in range(12):
        chance = random.Random(seed)
        tap.run("commands at random, %d" % seed, same, folder, some(chance, 150), chance.sample(range(1, COUNT), seed % 3))


if __name__ == "__main__":
    pt.in_place(main)
