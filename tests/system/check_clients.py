"""What other programs fetch is what is stored, byte for byte, from an mbox and from a Maildir."""

import email
import email.generator
import glob
import io
import os
import poplib
import re
import shutil
import socket
import threading

import mail
from box import Pop, configure, fetch_all, sh, wait_for, write

# A password for a .netrc would do as well; these files are read by the clients only.
PLACE = "/var/tmp/fetched"
poplib._MAXLINE = 1 << 20  # its own limit of 2048 is for attackers, not for tests


def fresh_place():
    shutil.rmtree(PLACE, ignore_errors=True)
    os.makedirs(PLACE)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def by_poplib(user, _):
    pop = poplib.POP3("127.0.0.1", timeout=60)
    pop.user(user)
    pop.pass_("secret")
    number, octets = pop.stat()
    sizes = [int(line.split()[1]) for line in pop.list()[1]]
    fetched = []
    for n in range(1, number + 1):
        _, lines, _ = pop.retr(n)
        fetched.append(b"\n".join(lines) + b"\n")
    pop.quit()
    if sum(sizes) != octets or len(sizes) != number:
        raise RuntimeError("STAT %d %d, LIST %s" % (number, octets, sizes))
    return fetched


def by_curl(user, messages):
    fetched = []
    for n in range(1, len(messages) + 1):
        sh(["curl", "--silent", "--show-error", "--fail", "--output", PLACE + "/message", "--user", user + ":secret",
            "pop3://127.0.0.1/%d" % n])
        fetched.append(read(PLACE + "/message").replace(b"\r\n", b"\n"))
    return fetched


def by_fetchmail(user, _):
    """One file per message, by its own order."""
    write(PLACE + "/take", "#!/bin/sh\nn=$(ls %s | grep -c '^m')\ncat >%s/m$(printf %%03d $n)\n" % (PLACE, PLACE), 0o755)
    write(PLACE + "/rc", "poll 127.0.0.1 protocol pop3 timeout 60\nuser %s password secret is root here\n"
                         "options keep fetchall no rewrite no mimedecode mda %s/take\n" % (user, PLACE), 0o600)
    sh(["fetchmail", "--silent", "--invisible", "--nosyslog", "--sslproto", "", "--idfile", PLACE + "/ids", "--pidfile",
        PLACE + "/pid", "-f", PLACE + "/rc"])
    return [read(path) for path in sorted(glob.glob(PLACE + "/m*"))]


def by_mpop(user, _):
    """A Maildir whose names sort in the order of delivery is not promised, so mpop calls a program, too."""
    write(PLACE + "/take", "#!/bin/sh\nn=$(ls %s | grep -c '^m')\ncat >%s/m$(printf %%03d $n)\n" % (PLACE, PLACE), 0o755)
    write(PLACE + "/rc", "account default\nhost 127.0.0.1\nport 110\nuser %s\npassword secret\ntls off\nauth user\nkeep on\n"
                         "received_header off\nuidls_file %s/uidls\ndelivery mda %s/take\n" % (user, PLACE, PLACE), 0o600)
    sh(["mpop", "--quiet", "--file=" + PLACE + "/rc"])
    return [read(path) for path in sorted(glob.glob(PLACE + "/m*"))]


class Lmtp(threading.Thread):
    """Takes one getmail's messages.  (Its other ways to deliver start a child for each and wait for it wrongly.)"""

    ANSWERS = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 good bye\r\n"}

    def __init__(self):
        super().__init__(daemon=True)
        self.messages = []
        self.listener = socket.create_server(("127.0.0.1", 0))

    def run(self):
        client, _ = self.listener.accept()
        with client, client.makefile("rwb") as f:
            f.write(b"220 ready\r\n")
            f.flush()
            for line in f:
                verb = line[:4].upper().strip()
                f.write(self.ANSWERS.get(verb, b"250 done\r\n"))
                f.flush()
                if verb == b"DATA":
                    text = b"".join(iter(f.readline, b".\r\n"))
                    self.messages.append(re.sub(rb"(?m)^\.", b"", text).replace(b"\r\n", b"\n"))
                    f.write(b"250 done\r\n")
                    f.flush()


def by_getmail(user):
    lmtp = Lmtp()
    lmtp.start()
    write(PLACE + "/getmail/getmailrc", "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nusername = %s\n"
          "password = secret\n[destination]\ntype = MDA_lmtp\nhost = 127.0.0.1\nport = %d\noverride = %s@example.org\n"
          "[options]\nread_all = true\ndelete = false\nreceived = false\ndelivered_to = false\nverbose = 0\n" %
          (user, lmtp.listener.getsockname()[1], user), 0o600)
    sh(["getmail", "--quiet", "--getmaildir", PLACE + "/getmail"])
    lmtp.join(10)
    return lmtp.messages


def kept_by_email_package(message):
    """Whether Python's email package, with which getmail takes messages apart, puts this one together as it was."""
    out = io.BytesIO()
    email.generator.BytesGenerator(out).flatten(email.message_from_bytes(message), linesep="\r\n")
    return out.getvalue() == mail.wire(message)


def by_own(user):
    with Pop().enter(user) as pop:
        messages, agree = fetch_all(pop)
        pop.must("QUIT")
    if not agree:
        raise RuntimeError("STAT, LIST and RETR disagree")
    return messages


CLIENTS = (("poplib", None, by_poplib), ("curl", "curl", by_curl), ("fetchmail", "fetchmail", by_fetchmail),
           ("mpop", "mpop", by_mpop))


def with_each_client(t, user, stored, kind):
    for name, program, fetch in CLIENTS:
        what = "%s fetches %d messages from %s" % (name, len(stored), kind)
        if program and shutil.which(program) is None:
            t.skip(what, program + " is not installed")
            continue
        fresh_place()
        fetched = fetch(user, stored)
        different = [(n, got, want) for n, (got, want) in enumerate(zip(fetched, stored), 1) if got != want]
        t.equal((len(fetched), different[:1]), (len(stored), []), what + ", byte for byte")


def with_getmail(t, user, stored, kind):
    """In its own order, and put together anew: those that survive this are compared."""
    kept = [m for m in stored if kept_by_email_package(m)]
    what = "getmail fetches %d messages from %s, and the %d that it does not rewrite" % (len(stored), kind, len(kept))
    if shutil.which("getmail") is None:
        t.skip(what, "getmail6 is not installed")
        return
    fresh_place()
    fetched = by_getmail(user)
    t.equal((len(fetched), [m for m in kept if m not in fetched][:1]), (len(stored), []), what + " byte for byte")
    t.ok(len(kept) > len(stored) // 2, "which are most of them")


def every_message(t, user, messages, kind):
    """All there are, odd ones too, by a client that mends nothing."""
    fetched = by_own(user)
    different = [(n, got, want) for n, (got, want) in enumerate(zip(fetched, map(mail.wire, messages)), 1) if got != want]
    t.equal((len(fetched), different[:1]), (len(messages), []), "%d messages from %s, to the octet" % (len(messages), kind))
    fresh_place()
    raw = []
    for n in range(1, len(messages) + 1):
        sh(["curl", "--silent", "--show-error", "--fail", "--output", PLACE + "/m", "--user", user + ":secret",
            "pop3://127.0.0.1/%d" % n])
        raw.append(read(PLACE + "/m"))
    t.equal([n for n, (got, want) in enumerate(zip(raw, map(mail.wire, messages)), 1) if got != want], [],
            "the same by curl")


def mbox(t):
    real = mail.suite()
    t.ok(len(real) > 30, "Python's test messages are there (libpython3-testsuite)", len(real))
    everything = [mail.quote(mail.finished(m)) for m in mail.MADE + mail.ODD + real]
    tidy = [m for m in everything if mail.tidy(m)]
    mail.make_mbox("alice", tidy)
    before = mail.mbox_bytes("alice")
    with_each_client(t, "alice", tidy, "an mbox")
    with_getmail(t, "alice", tidy, "an mbox")
    t.ok(mail.mbox_bytes("alice") == before, "and the mbox is as it was")
    mail.make_mbox("alice", everything)
    every_message(t, "alice", everything, "an mbox")


def maildir(t):
    everything = mail.MADE + mail.ODD + mail.UNFINISHED + mail.suite()
    tidy = [m for m in everything if mail.tidy(m)]
    mail.make_maildir("bob", tidy)
    with_each_client(t, "bob", tidy, "a Maildir")
    with_getmail(t, "bob", tidy, "a Maildir")
    t.equal(mail.maildir_messages("bob"), tidy, "and the Maildir has the same messages")
    mail.make_maildir("bob", everything)
    every_message(t, "bob", everything, "a Maildir")


def fetch_and_delete(t):
    """As a person does it: fetched and gone."""
    mail.make_mbox("alice", mail.MADE)
    fresh_place()
    write(PLACE + "/rc", "poll 127.0.0.1 protocol pop3 timeout 60\nuser alice password secret is root here\n"
                         "options no keep fetchall mda \"cat >/dev/null\"\n", 0o600)
    sh(["fetchmail", "--silent", "--nosyslog", "--sslproto", "", "--pidfile", PLACE + "/pid", "-f", PLACE + "/rc"])
    t.ok(wait_for(lambda: mail.mbox_bytes("alice") == b""), "fetchmail empties an mbox")
    status = os.stat("/var/mail/alice")
    t.equal(oct(status.st_mode & 0o7777), "0o660", "whose rights stay")
    mail.make_maildir("bob", mail.MADE)
    sh("curl --silent --show-error --fail --user bob:secret --request 'DELE 2' --head pop3://127.0.0.1/")
    t.equal(mail.maildir_messages("bob"), mail.MADE[:1] + mail.MADE[2:], "curl deletes one message of a Maildir")


def run(t):
    configure()
    for check in (mbox, maildir, fetch_and_delete):
        t.section(check)
