#!/usr/bin/python3
"""Octets: for every message that can be, LIST, STAT, RETR, TOP and UIDL agree with each other and with the stored text.

Real messages (Debian's libpython3.11-testsuite) and nasty ones, in an mbox with LF and with CRLF line ends and in a Maildir.
What has to come is computed here by the naive model of postern_test.py.
"""

import sys

sys.dont_write_bytecode = True

import glob  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check, readable  # noqa: E402

LIBRARY = "/usr/lib/python3.11/test/test_email/data"

TOP_LINES = (0, 1, 2, 3, 10, 10 ** 9)

# Around these the programs' buffers end; a dot or a CR LF that lies across an end is where conversions go wrong.
BORDERS = (4096, 65536, 131072, 262144)


def nasty_messages():
    head = b"Subject: nasty\n\n"
    yield b""
    yield b"\n"
    yield b"\n\n\n"
    yield b"Subject: header only\n"
    yield b"Subject: header only, no line end"
    yield b"Subject: header and empty line\n\n"
    yield b"Subject: ends in empty lines\n\nx\n\n\n"
    yield b"\nbody without header\n"
    yield b"\n\nFrom: a body\n"
    yield b"."
    yield b".\n"
    yield b".."
    yield b"..\n"
    yield b".x\n..x\n...x\n\n.\n..\n...\n"
    yield head + b".\n"
    yield head + b"."
    yield head + b"a\n.\nb\n.\n.\n"
    yield head + b"\n.\n"
    yield head + b"\r.\r"
    yield head + b"a\r.\rb\n"
    yield head + b"\r\r\n."
    yield head + b"\r\n.\r\n"
    yield head + b"\r\n.\n\r.\n"
    yield head + b"\r\n.\r\nDELE 1\r\nQUIT\r\n"
    yield b"\r"
    yield b"\r\n"
    yield b"\r\r"
    yield b"\r\r\n\r"
    yield b".\r\n"
    yield b".\r"
    yield b"Subject: a line of a CR alone ends no header\n\r\r\nstill: header\n\nbody\n"
    yield b"Subject: CRLF\r\n\r\nline\r\n.\r\n..\r\nlast\r\n"
    yield b"Subject: CRLF, no line end\r\n\r\nline\r\nlast"
    yield b"Subject: mixed\r\n\nline\r\nline\nline\r\nlast\n"
    yield b"Subject: mixed\n\r\nline\nline\r\n"
    yield head + b"\0\0\n\0.\n.\0\n\0"
    yield b"\0"
    yield b"Sub\0ject: NUL\n\n\0\n"
    yield head + bytes(range(256)) * 3
    yield "Subject: gr\u00fc\u00dfe\n\n\u00e4\u00f6\u00fc \u20ac \U0001f4ec\n".encode()
    yield head + b"From a line above\nFrom sender@example.org Mon Nov 23 10:00:00 2026\nnot after an empty line\n"
    yield head + b"\n>From quoted\n\n>>From twice\n"
    yield head + b"\nFrom sender@example.org Mon Nov 23 10:00:00 2026\nhas to be quoted\n"
    yield head + b"\r\nFrom sender@example.org Mon Nov 23 10:00:00 2026\r\nhas to be quoted\r\n"
    yield b"From sender@example.org Mon Nov 23 10:00:00 2026\nSubject: begins with a From_ line\n\nx\n"
    yield b"Content-Length: 3\n\nlonger than that\n\nand longer\n"
    yield b"Content-Length: 1000000\n\nshorter than that\n"
    yield b"Status: RO\nX-Status: F\nX-UID: 7\nX-IMAPbase: 1 2\nX-Keywords:\n\nx\n"
    yield head + b"x" * 3000000
    yield b"X-Long: " + b"y" * 3000000 + b"\n\nbody\n"
    yield head + b"." * 3000000 + b"\n"
    yield head + b".\n" * 200000
    yield b"\n" * 300000
    yield b"\r" * 300000
    yield b"\0" * 300000
    for border in BORDERS:
        for off in range(-4, 3):
            text = head + b"x" * (border + off - len(head))
            yield text + b"\n.\n..\nx\n"
            yield text + b"\r\n.\r\n.."
            yield text


def many_messages():
    chance = pt.chance()
    for n in range(200 if pt.WRAPPER else 5000):
        lines = [b"." * chance.randrange(3) + b"x" * chance.randrange(70) for _ in range(chance.randrange(8))]
        yield b"Subject: %d\nMessage-ID: <%d@example.org>\n\n" % (n, n) + b"\n".join(lines) + b"\n" * chance.randrange(3)


def maildir_name(n, text):
    """In the order of the messages; sizes in a name are right, or lie, and names are longer or odder than a unique-id."""
    name = "%d.M%dP1.mx" % (1795000000 + n, n)
    octets = len(pt.wire_form(text))
    odd = ("", ",S=%d,W=%d" % (len(text), octets), ",S=%d,W=%d" % (len(text), octets + 1), ",S=%d,W=%d" % (len(text) + 1, 7),
           ",W=99999999999999999999", ",S=,W=", "-" + "x" * 150, " \x01\x7f", "\u00e4")
    flags = ("", ":2,", ":2,S", ":2,FS", ":2,Sabc", ":1,x", ":")
    return ("new/" if n % 3 == 0 else "cur/") + name + odd[n % len(odd)] + ("" if n % 3 == 0 else flags[n % len(flags)])


def to_crlf(text):
    return re.sub(rb"(?<!\r)\n", b"\r\n", text)


class Maildrop:
    """Messages in one of the forms, and what the session has to say about them."""

    def __init__(self, folder, form, messages):
        self.run = pt.Run(folder, kind="maildir" if form == "Maildir" else "mbox")
        if form == "Maildir":
            pt.maildir_make(self.run.maildrop, [(maildir_name(n, text), text) for n, text in enumerate(messages)])
            stored = messages
        else:
            box, stored = pt.mbox_join(messages)
            if form == "mbox with CRLF":
                box, stored = to_crlf(box), [to_crlf(text) for text in stored]
            elif form == "mbox that ends without LF":
                box = box.rstrip(b"\n")
                stored[-1] = stored[-1].rstrip(b"\n")
            with open(self.run.maildrop, "wb") as f:
                f.write(box)
        self.stored = stored
        self.wire = [pt.wire_form(text) for text in stored]

    def now(self):
        if self.run.kind == "mbox":
            return pt.read_file(self.run.maildrop)
        return {name.split("/")[1].split(":")[0]: text for name, text in pt.maildir_read(self.run.maildrop).items()}

    def numbered(self):
        return enumerate(self.wire, 1)


def compare(what, got, wanted):
    if got == wanted:
        return
    place = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    start = max(0, place - 20)
    check(False, "%s: %d octets instead of %d, different from %d on:\n%s\ninstead of\n%s" % (
        what, len(got), len(wanted), place, readable(got[start:place + 60]), readable(wanted[start:place + 60])))


def check_stat(maildrop, c):
    wanted = b"+OK %d %d" % (len(maildrop.wire), sum(map(len, maildrop.wire)))
    got = c.ask(b"STAT")
    check(got == wanted, "%s instead of %s" % (readable(got), readable(wanted)))


def check_list(maildrop, c):
    compare("LIST", c.ask_multi(b"LIST"), b"".join(b"%d %d\r\n" % (n, len(wire)) for n, wire in maildrop.numbered()))
    for n, wire in list(maildrop.numbered())[:200]:
        got = c.ask(b"LIST %d" % n)
        check(got == b"+OK %d %d" % (n, len(wire)), "LIST %d: %s" % (n, readable(got)))


def check_message(n, got, wire):
    compare("RETR %d" % n, got, pt.stuffed(wire))
    compare("RETR %d, unstuffed" % n, pt.unstuffed(got), wire)


def check_retr(maildrop, c):
    for n, wire in maildrop.numbered():
        check_message(n, c.ask_multi(b"RETR %d" % n), wire)


def check_retr_backwards(maildrop, c):
    for n, wire in reversed(list(maildrop.numbered())):
        check_message(n, c.ask_multi(b"RETR %d" % n), wire)


def check_retr_pipelined(maildrop, c):
    c.send(b"".join(b"RETR %d\r\n" % n for n, _ in maildrop.numbered()))
    for n, wire in maildrop.numbered():
        got = c.read_line()
        check(got == b"+OK message follows", "RETR %d: %s" % (n, got))
        check_message(n, c.read_multi(), wire)


def check_top(maildrop, c):
    for n, text in list(enumerate(maildrop.stored, 1))[:300]:
        for lines in TOP_LINES:
            what = "TOP %d %d" % (n, lines)
            compare(what, c.ask_multi(what.encode()), pt.stuffed(pt.wire_form(pt.top_of(text, lines))))


def unique_ids(maildrop, c):
    lines = c.ask_multi(b"UIDL").split(b"\r\n")[:-1]
    check(len(lines) == len(maildrop.wire), "%d lines of UIDL for %d messages" % (len(lines), len(maildrop.wire)))
    ids = []
    for n, line in enumerate(lines, 1):
        m = re.fullmatch(rb"(\d+) ([\x21-\x7e]{1,70})", line)
        check(m is not None and int(m.group(1)) == n, "line %d of UIDL: %s" % (n, readable(line)))
        ids.append(m.group(2))
    check(len(set(ids)) == len(ids), "unique-ids that are not unique")
    return ids


def check_unique_ids(maildrop, c):
    ids = unique_ids(maildrop, c)
    for n in range(1, min(len(ids), 100) + 1):
        got = c.ask(b"UIDL %d" % n)
        check(got == b"+OK %d %s" % (n, ids[n - 1]), "UIDL %d: %s" % (n, readable(got)))
    maildrop.ids = ids


def check_same_ids(maildrop, c):
    check(unique_ids(maildrop, c) == maildrop.ids, "other unique-ids than in the first session")


def check_quit(maildrop, c, before):
    c.quit()
    check(maildrop.now() == before, "the maildrop has changed")
    maildrop.run.log_lines()


FIRST_SESSION = (
    ("STAT is the sum of the octets", check_stat),
    ("LIST is the octets of each message", check_list),
    ("UIDL is unique", check_unique_ids),
    ("RETR one by one", check_retr),
    ("TOP", check_top),
)

SECOND_SESSION = (
    ("UIDL is the same, though the first session ended without QUIT", check_same_ids),
    ("RETR pipelined", check_retr_pipelined),
    ("RETR backwards", check_retr_backwards),
)


class Reconnecting:
    """A session that is opened again after a test point that failed, so that the next one can be tried."""

    def __init__(self, run):
        self.run, self.connection = run, None

    def call(self, function, maildrop, *more):
        if self.connection is None:
            self.connection = pt.Connection(self.run, "TCP")
            self.connection.log_in()
        try:
            function(maildrop, self.connection, *more)
        except BaseException:
            self.connection.abandon()
            self.connection = None
            raise

    def hang_up(self):
        if self.connection is not None:
            self.connection.end()
        self.connection = None


def try_maildrop(tap, folder, name, form, messages):
    maildrop = Maildrop(folder, form, messages)
    before = maildrop.now()
    session = Reconnecting(maildrop.run)
    label = "%s, %s: " % (name, form)
    for text, function in FIRST_SESSION:
        tap.run(label + text, session.call, function, maildrop)
    tap.run(label + "end without QUIT", session.hang_up)
    for text, function in SECOND_SESSION:
        tap.run(label + text, session.call, function, maildrop)
    tap.run(label + "QUIT, nothing has changed", session.call, check_quit, maildrop, before)
    maildrop.run.remove()


def main(folder, tap):
    library = sorted(glob.glob(os.path.join(folder, "data", "*")))
    sets = [("nasty messages", list(nasty_messages())), ("many messages", list(many_messages())),
            ("Python's test messages", [pt.read_file(path) for path in library])]
    for name, messages in sets:
        for form in ("mbox", "mbox with CRLF", "mbox that ends without LF", "Maildir"):
            if not messages:
                tap.skip("%s, %s" % (name, form), "no %s (Debian: libpython3.11-testsuite)" % LIBRARY)
            elif form != "mbox that ends without LF":
                try_maildrop(tap, folder, name, form, messages)
            elif name == "nasty messages":
                try_maildrop(tap, folder, name, form, messages[:5] + [b"Subject: last\n\nno line end"])


if __name__ == "__main__":
    pt.in_place(main, [LIBRARY] if os.path.isdir(LIBRARY) else [])
