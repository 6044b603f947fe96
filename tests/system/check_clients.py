"""What other programs fetch is what is stored, byte for byte, from an mbox and from a Maildir."""

import glob
import os
import poplib
import shutil

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


def by_getmail(user, _):
    for folder in ("new", "cur", "tmp"):
        os.makedirs(PLACE + "/Maildir/" + folder)
    os.makedirs(PLACE + "/getmail")
    write(PLACE + "/getmail/getmailrc", "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nusername = %s\n"
          "password = secret\n[destination]\ntype = Maildir\npath = %s/Maildir/\n[options]\nread_all = true\n"
          "delete = false\nreceived = false\ndelivered_to = false\nverbose = 0\n" % (user, PLACE), 0o600)
    sh(["getmail", "--quiet", "--getmaildir", PLACE + "/getmail"])
    return sorted(read(path) for path in glob.glob(PLACE + "/Maildir/new/*"))


def by_own(user, _):
    with Pop().enter(user) as pop:
        messages, agree = fetch_all(pop)
        pop.must("QUIT")
    if not agree:
        raise RuntimeError("STAT, LIST and RETR disagree")
    return messages


CLIENTS = (("poplib", None, by_poplib), ("curl", "curl", by_curl), ("fetchmail", "fetchmail", by_fetchmail),
           ("mpop", "mpop", by_mpop), ("getmail", "getmail", by_getmail))


def with_each_client(t, user, stored, kind):
    for name, program, fetch in CLIENTS:
        what = "%s fetches %d messages from %s" % (name, len(stored), kind)
        if program and shutil.which(program) is None:
            t.skip(what, program + " is not installed")
            continue
        fresh_place()
        fetched = fetch(user, stored)
        wanted = sorted(stored) if name == "getmail" else stored
        different = [(n, got, want) for n, (got, want) in enumerate(zip(fetched, wanted), 1) if got != want]
        t.equal((len(fetched), different[:1]), (len(wanted), []), what + ", byte for byte")


def every_message(t, user, messages, kind):
    """All there are, odd ones too, by a client that mends nothing."""
    fetched = by_own(user, None)
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
    t.ok(mail.mbox_bytes("alice") == before, "and the mbox is as it was")
    mail.make_mbox("alice", everything)
    every_message(t, "alice", everything, "an mbox")


def maildir(t):
    everything = mail.MADE + mail.ODD + mail.UNFINISHED + mail.suite()
    tidy = [m for m in everything if mail.tidy(m)]
    mail.make_maildir("bob", tidy)
    with_each_client(t, "bob", tidy, "a Maildir")
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
    sh("curl --silent --show-error --fail --user bob:secret --request 'DELE 2' --list-only pop3://127.0.0.1/")
    t.equal(mail.maildir_messages("bob"), mail.MADE[:1] + mail.MADE[2:], "curl deletes one message of a Maildir")


def run(t):
    configure()
    for check in (mbox, maildir, fetch_and_delete):
        t.section(check)
