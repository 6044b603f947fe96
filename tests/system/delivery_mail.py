"""Messages that can be accounted for: each has a serial and a digest, and it shows when an octet of it is missing.

Agents add header fields and quote "From " lines, each in its way, so the digest is of our own fields and of the body as it
was before any quoting.
"""

import hashlib
import re

FIELDS = (b"X-Serial", b"X-For", b"Subject", b"Message-ID")

# A line of every kind that some program has got wrong; none makes a message end early for a program that does its work.
ODD_LINES = [b".", b"..", b".a dot first", b"From here on it is a story.", b">From here on", b">>From far away", b"",
             b" From with a space", b"\xc3\xbcber \xe2\x82\xac", b"\ta tab", b"Status: RO", b"X-UID: 7", b"Content-Length: 3",
             b"y" * 900]

FROM_LINE = re.compile(rb"(?:\A|(?<=\n\n))From \S+ +[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\n")


class Found:
    """What is known of a message that was fetched or read: serial and purger are None where it does not even have a serial."""

    def __init__(self, serial, purger, whole):
        self.serial = serial
        self.purger = purger        # whether mutt is to purge it, and no client to delete it
        self.whole = whole


def digest(fields, body):
    """Of a header as a dictionary and a body with LF."""
    total = hashlib.sha256()
    for name in FIELDS:
        total.update(name + b":" + fields.get(name, b"") + b"\n")
    total.update(re.sub(rb"(?m)^>+From ", b"From ", body))
    return total.hexdigest().encode()


def size_of_body(dice):
    """Mostly letters, some pages, a few pictures."""
    kind = dice.random()
    if kind < 0.8:
        return dice.randrange(50, 3000)
    return dice.randrange(3000, 30000) if kind < 0.98 else dice.randrange(100000, 300000)


def make_body(serial, dice):
    """Ends without an empty line, for some agents add one and others add it only where there is none."""
    lines, size, wanted = [], 0, size_of_body(dice)
    while size < wanted:
        line = dice.choice(ODD_LINES) if dice.random() < 0.1 else b"%x" % dice.getrandbits(4 * dice.randrange(1, 75))
        lines.append(line)
        size += len(line) + 1
    return b"\n".join(lines + [b"end of " + serial.encode()]) + b"\n"


def make_ballast(serial, size):
    """A body so large that moving it takes its time."""
    lines = b"".join(b"%076d\n" % n for n in range(1000))
    return lines * (size // len(lines)) + b"end of " + serial.encode() + b"\n"


def make(serial, user, purger, dice, ballast=0):
    """A message as an agent gets it."""
    body = make_ballast(serial, ballast) if ballast else make_body(serial, dice)
    reader = b"mutt" if purger else b"client"
    fields = {b"X-Serial": serial.encode(), b"X-For": reader, b"Subject": b"%s for %s" % (serial.encode(), reader),
              b"Message-ID": b"<%s@example.net>" % serial.encode()}
    head = [b"From: Mary Smith <mary@example.net>", b"To: %s@box.example.org" % user.encode(),
            b"Date: Fri, 21 Nov 1997 09:55:06 -0600"]
    head += [name + b": " + fields[name] for name in FIELDS] + [b"X-Digest: " + digest(fields, body)]
    return b"\n".join(head) + b"\n\n" + body


def quote(message):
    """As Postfix, Exim and maildrop store it in an mbox."""
    return re.sub(rb"(?m)^From ", b">From ", message)


def examine(message):
    """A message with LF, as it was fetched or stored."""
    head, _, body = message.partition(b"\n\n")
    fields = dict(re.findall(rb"(?m)^([!-9;-~]+): (.*)$", head))
    serial = fields.get(b"X-Serial")
    if serial is None:
        return Found(None, None, False)
    whole = fields.get(b"X-Digest") == digest(fields, body)
    return Found(serial.decode("latin-1"), fields.get(b"X-For") == b"mutt", whole)


def split_mbox(data):
    """The messages of an mbox that our agents wrote; what stands before the first is a message, too, for it should not be."""
    starts = list(FROM_LINE.finditer(data))
    messages = []
    if data and (not starts or starts[0].start() != 0):
        messages.append(data[:starts[0].start() if starts else len(data)])
    for n, start in enumerate(starts):
        end = starts[n + 1].start() if n + 1 < len(starts) else len(data)
        message = data[start.end():end]
        messages.append(message[:-1] if message.endswith(b"\n\n") else message)
    return messages
