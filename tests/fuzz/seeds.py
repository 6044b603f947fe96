#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus: one input of each kind that matters, by hand.

Usage: seeds.py CORPUS-FOLDER
"""
import os
import struct
import sys

MBOX = (b"From alice@example.org Mon Nov 23 10:00:00 2026\nReceived: x\nSubject: one\nStatus: RO\n\nline\n.dot\n\n"
        b"From bob@example.org Tue Nov 24 10:00:00 2026\r\nSubject: two\r\n\r\nFrom inside\r\n\r\n"
        b"From carol Wed, 25 Nov 2026 10:00:00 +0100\n\nno end")
INTERNAL = (b"From MAILER-DAEMON Mon Nov 23 10:00:00 2026\nDate: x\nFrom: Mail System Internal Data <M@x>\n"
            b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\nStatus: RO\n\ntext\n\n" + MBOX)


def text(octets):
    return struct.pack("=I", len(octets)) + octets


def message(kind, fields=b""):
    return bytes([kind]) + fields


def piece(octets):
    return bytes([len(octets)]) + octets


def part(octets):
    return bytes([len(octets) >> 8, len(octets) & 255]) + octets


def login(name, password):
    return message(1, text(name) + text(password) + b"\1")


def opened(kind, count, last):
    state = struct.pack("=5Q", 0, 0, 0, 0, 0) if kind == 1 else b""
    return message(65, bytes([kind]) + struct.pack("=IIQ", count, last, 32) + state)


def name(folder, octets, content=b"Subject: x\n\nx\n"):
    return bytes([folder]) + piece(octets) + piece(content)


def index(count, *records):
    """After tests/fuzz/fuzz_state.c has mended it: struct index_header of 160 octets, records, sizes of From_ lines."""
    head = bytes(16 + 16 + 40) + struct.pack("=QQQQ", 0, 0, count, 0) + bytes(48)
    sizes = struct.pack("=%dH" % count, *[r[0] - (records[n - 1][0] + records[n - 1][1] + 1 if n else 0) for n, r in enumerate(records)])
    return head + b"".join(struct.pack("=4Q", *r) for r in records) + sizes + bytes(-len(sizes) % 8)


def journal(gap, *entries):
    """As tests/fuzz/fuzz_state.c lays it out and mends it, for MBOX: all behind the first octets moves to the front.  entries:
    number, phase, done, bytes."""
    left = len(MBOX) - gap
    head = bytes(80) + struct.pack("=8Q", 0, left, 16, 2, 1, 0, 0, 0)
    return head + b"".join(bytes(16) + struct.pack("=8Q", *e, 0, 0, 0, 0) for e in entries) + struct.pack("=2Q", gap, left)


COMMANDS = b"\r\n".join([
    b"CAPA", b"NOOP", b"STAT", b"LIST", b"LIST 1", b"UIDL", b"UIDL 2", b"RETR 1", b"TOP 2 1", b"TOP 1 0", b"LAST", b"DELE 1",
    b"DELE 1", b"RSET", b"RETR 2", b"DELE 2", b"retr 99999999999999999999", b"USER x", b"QUIT", b""])

# From message 1 on, as many as fit and all, and the answer.
UNIQUE_IDS = piece(message(4, struct.pack("=IB", 1, 0))) + piece(message(4, struct.pack("=IB", 1, 1)))
IDS = piece(message(69, struct.pack("=I", 1) + text(b"abc") + text(b"def")))

SEEDS = {
    "login": [login(b"alice", b"secret"), login(b"", b""), login(b"a" * 248, b"p" * 511), b"\2", b"\1\xff\xff\xff\xff"],
    "maildrop": [
        bytes([0]) + part(MBOX) + part(b"") + part(b"") + part(b"") + UNIQUE_IDS + piece(message(3)) +
        piece(message(5, struct.pack("=I", 1) + text(b"\1"))) + piece(message(6, struct.pack("=I", 1) + text(b"\2"))) +
        piece(message(7, struct.pack("=I", 2))),
        bytes([0]) + part(INTERNAL) + part(b"") + part(b"postern journal\0" + bytes(200)) + part(bytes(72)) +
        UNIQUE_IDS + piece(message(7, struct.pack("=I", 0))),
        bytes([1]) + part(b"") + piece(message(2, struct.pack("=II", 1, 1))) + UNIQUE_IDS +
        piece(message(5, struct.pack("=I", 1) + text(b"\1"))) + piece(message(6, struct.pack("=I", 1) + text(b"\2"))) +
        piece(message(7, struct.pack("=I", 2))),
        bytes([0]) + part(b"not an mbox\n"),
    ],
    "logrecord": [b"6:1::text", b"5:3:alice:password", b"6:2:a\\x0a:pam", b"9:1::x", b"6:1:" + b"u" * 2000 + b":x", b"\xff\0\n\"\\", b""],
    "maildir": [
        part(b"") + bytes([3]) + name(0, b"1700000000.M1.host") + name(1, b"1700000001.M2P3.host,S=14,W=17:2,FS") + name(1, b"\n\x1b.x:2,") +
        UNIQUE_IDS + piece(message(2, struct.pack("=II", 1, 1))) + piece(message(5, struct.pack("=I", 1) + text(b"\2"))) +
        piece(message(7, struct.pack("=I", 1))),
        part(b"x1popidx" + bytes(200)) + bytes([2]) + name(0, b"a" * 255) + name(2, b"tmp") + UNIQUE_IDS,
    ],
    "state": [
        bytes([17]) + part(MBOX) + part(index(2, (48, 52, 58, 0), (150, 60, 60, 0))) + part(b"") + part(b"1 2 3\n") + UNIQUE_IDS +
        piece(message(5, struct.pack("=I", 1) + text(b"\1"))) + piece(message(7, struct.pack("=I", 1))),
        bytes([12]) + part(MBOX) + part(b"") + part(journal(30, (2, 1, 0, 16), (1, 1, 0, 0))) + part(b"") + UNIQUE_IDS,
        bytes([3]) + part(MBOX * 2) + part(index(1, (48, 52, 58, 0))) + part(b"") + part(b"") + piece(message(3)) + UNIQUE_IDS,
        bytes([28]) + part(MBOX) + part(b"") + part(journal(4, (4, 6, 0, 4), (3, 5, 0, 4))) + part(b"") + UNIQUE_IDS,
        bytes([28]) + part(MBOX) + part(b"") + part(journal(4, (2, 1, 64, 0), (3, 2, len(MBOX) - 4, 0))) + part(b"") + UNIQUE_IDS,
    ],
    "mbox_scan": [bytes([n]) + box for n in (0, 7, 255) for box in (MBOX, INTERNAL, MBOX.replace(b"\n", b"\r\n"), b"\n\n", b"x")],
    "session": [
        bytes([0]) + b"USER alice\r\nQUIT\r\n",
        bytes([1, 0]) + piece(message(64, b"\1\1")) + b"USER alice\r\nPASS x y \r\nAUTH PLAIN =\r\nAUTH PLAIN\r\n*\r\nQUIT\r\n",
        bytes([3, 3]) + piece(opened(1, 2, 1)) + bytes([4]) + IDS + bytes([0]) +
        piece(message(70, b"\1" + struct.pack("=II", 1, 1))) + b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n" + COMMANDS,
        bytes([5, 1]) + piece(opened(2, 2, 0)) + bytes([4]) + IDS + bytes([2]) +
        piece(message(66, struct.pack("=I", 1))) + bytes([0]) + piece(message(67)) + bytes([0]) + piece(message(68)) +
        b"USER a\r\nPASS b\r\n" + COMMANDS,
        bytes([0]) + b"NO\0OP\r\nA\rB\r\n" + b"x" * 300 + b"\r\nAUTH\r\nCAPA",
    ],
    "settings": [
        b"# comment\nmail-location = mbox:/var/mail/%u maildir:~/Maildir\nauthentication = users\nminimum-uid=500\n",
        b"[x]\ny = z\n", b"idle-timeout = 99999999999999\n", b"  continued\n", b"pam-service\n", b"x" * 300],
    "stuffing": [b"\0\0" + t for t in (b".", b"a\n.b\r\n..\n", b"H: x\r\n\r\n1\n2\n3", b"\r\r\n.", b"")],
    "users": [
        b"# users\nbob:*:1:1::/::\nalice:{SHA512-CRYPT}$6$x$yyyyyyyyyy:::Alice:/home/a:/bin/sh:userdb_mail=mbox:~/m/%u x=y\n",
        b"alice:{PLAIN}x:65534:65534::/h::mail=maildir:/x\n", b"alice\n", b"alice:a:4294967296:x:::\n", b":::::::\n"],
}


def main():
    for target, inputs in SEEDS.items():
        folder = os.path.join(sys.argv[1], target)
        os.makedirs(folder, exist_ok=True)
        for n, octets in enumerate(inputs):
            with open(os.path.join(folder, f"seed-{n}"), "wb") as f:
                f.write(octets)


if __name__ == "__main__":
    main()
