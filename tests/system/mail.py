"""Messages and maildrops for the system tests."""

import glob
import os
import pwd
import grp
import re

SUITE = "/usr/lib/python3.*/test/test_email/data/msg_*.txt"

HEAD = b"From: Mary Smith <mary@example.net>\nTo: alice@example.org\nDate: Fri, 21 Nov 1997 09:55:06 -0600\n"

# Each has what some server or client got wrong once.
MADE = [
    HEAD + b"Subject: ordinary\n\nHello.\n",
    HEAD + b"Subject: dots\n\n.\n..\n.one\n\n.\nlast line\n",
    HEAD + b"Subject: From in the body\n\nA paragraph.\n>From here on it is quoted.\n From with a space\n",
    HEAD + b"Subject: eight bits\nContent-Type: text/plain; charset=utf-8\n\n\xc3\xa4\xc3\xb6\xc3\xbc \xe2\x82\xac\n",
    HEAD + b"Subject: no body\n\n",
    HEAD + b"Subject: empty lines\n\n\n\n\n",
    HEAD + b"Subject: long\n\n" + b"".join(b"%06d " % n + b"x" * 60 + b"\n" for n in range(4000)),
    HEAD + b"Subject: =?utf-8?q?folded?=\n\tand folded\n again\nX-Empty:\n\nbody\n",
]

# Not for clients that mend what they fetch: the octets are compared by the tests' own client and by curl.
ODD = [
    b".starts with a dot\n\nbody\n",
    HEAD + b"Subject: a bare CR\r in a header\n\n\r\n.\r\nCRLF line\r\nbare \r CR\n",
    HEAD + b"Subject: NUL\n\na\0b\n",
    HEAD + b"Subject: a long line\n\n" + b"y" * 300000 + b"\n",
    b"\n\nno header\n",
]

# In a Maildir, a message may also lack its final newline.
UNFINISHED = [HEAD + b"Subject: unfinished\n\nno newline at the end", HEAD + b"Subject: headers only"]


def quote(message):
    """As mboxo wants it: no line of the stored text begins with "From "."""
    return re.sub(rb"(?m)^From ", b">From ", message)


def suite():
    """Real messages: those that Python's email package is tested with."""
    messages = []
    for path in sorted(glob.glob(SUITE)):
        with open(path, "rb") as f:
            messages.append(f.read())
    return messages


def tidy(message):
    """A message that every mail program stores as it was sent."""
    header, _, _ = message.partition(b"\n\n")
    fields = re.sub(rb"\n[ \t]+", b" ", header).split(b"\n")
    return (message.endswith(b"\n") and b"\n\n" in message and b"\r" not in message and b"\0" not in message and
            all(re.match(rb"[!-9;-~]+:", field) for field in fields) and all(len(line) < 900 for line in message.split(b"\n")))


def finished(message):
    """With a newline at the end, as an mbox needs it."""
    return message if message.endswith(b"\n") else message + b"\n"


def wire(message):
    """The octets that RETR sends, less byte-stuffing: the oracle of all comparisons."""
    return re.sub(rb"(?<!\r)\n", b"\r\n", finished(message))


def make_mbox(user, messages, path=None):
    """Writes /var/mail/USER with Debian's rights."""
    path = path or "/var/mail/" + user
    with open(path, "wb") as f:
        for message in messages:
            f.write(b"From mary@example.net Fri Nov 21 09:55:06 1997\n" + quote(message) + b"\n")
    os.chown(path, pwd.getpwnam(user).pw_uid, grp.getgrnam("mail").gr_gid)
    os.chmod(path, 0o660)


def leave_stale_lock(user):
    """The dot-lock of a process that has ended: the next login has to take it away, and needs the lock keeper for that."""
    with open("/var/mail/%s.lock" % user, "w", encoding="ascii") as f:
        f.write("%d\n" % (2 ** 31 - 1))


def make_maildir(user, messages):
    """Makes ~/Maildir anew; every other message was seen already."""
    account = pwd.getpwnam(user)
    top = account.pw_dir + "/Maildir"
    for folder in ("", "/tmp", "/new", "/cur"):
        os.makedirs(top + folder, mode=0o700, exist_ok=True)
        os.chown(top + folder, account.pw_uid, account.pw_gid)
    for folder in ("/new", "/cur"):
        for name in os.listdir(top + folder):
            os.unlink(top + folder + "/" + name)
    for n, message in enumerate(messages):
        name = "%d.M%dP1.example" % (1000000000 + n, n)
        path = top + ("/cur/" + name + ":2,S" if n % 2 else "/new/" + name)
        with open(path, "wb") as f:
            f.write(message)
        os.chown(path, account.pw_uid, account.pw_gid)
        os.chmod(path, 0o600)


def maildir_messages(user):
    """What is stored in ~/Maildir, in the order of delivery."""
    top = pwd.getpwnam(user).pw_dir + "/Maildir/"
    paths = [top + folder + "/" + name for folder in ("new", "cur") for name in os.listdir(top + folder)]
    messages = []
    for path in sorted(paths, key=os.path.basename):
        with open(path, "rb") as f:
            messages.append(f.read())
    return messages


def mbox_bytes(user):
    with open("/var/mail/" + user, "rb") as f:
        return f.read()
