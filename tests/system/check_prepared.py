"""Mailboxes, Maildirs, state folders and locks that an attacker has prepared: refused with a reason or served, at once, and
nothing that belongs to somebody else is read, written, removed or waited for.
"""

import glob
import hashlib
import os
import pwd
import re
import socket
import stat
import time

import mail
from box import (STATE, Pop, all_gone, configure, journal_mark, left_behind, logged, proportional_set_size,
                 processes, sh, wait_for, write)

MBOX = "/var/mail/alice"
LOCK = MBOX + ".lock"
FOLDER = STATE + "/alice"
MAILDIR = "/home/bob/Maildir"
SECRET = b"canary that nobody may read\n"
CANARY = "/srv/canary/secret"
LOOSE = "/srv/canary/loose"

# An answer that takes longer than this was waited for by something: a FIFO, a lock, a device.
AT_ONCE = 20


def remove(path):
    sh(["rm", "-rf", path])


def digest(path):
    if os.path.islink(path):
        return os.readlink(path)
    st = os.lstat(path)
    with open(path, "rb") as f:
        return st.st_ino, st.st_mode, st.st_uid, st.st_mtime_ns, hashlib.sha256(f.read()).hexdigest()


def canaries():
    return [digest(path) for path in (CANARY, LOOSE, "/etc/passwd", "/etc/shadow")] + [sorted(os.listdir("/srv/canary"))]


def make_canaries():
    remove("/srv/canary")
    os.makedirs("/srv/canary")
    write(CANARY, b"From x Mon Nov 23 10:00:00 2026\n\n" + SECRET, 0o600)
    write(LOOSE, b"From x Mon Nov 23 10:00:00 2026\n\n" + SECRET, 0o666)
    for path in (CANARY, LOOSE, "/srv/canary"):
        own(path, "daemon")
    os.chmod("/srv/canary", 0o777)


def node(path, kind, device, user="alice"):
    os.mknod(path, kind | 0o600, device)
    os.chown(path, pwd.getpwnam(user).pw_uid, -1)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)


def hard_link_to_link(path):
    os.symlink(CANARY, "/srv/link")
    os.link("/srv/link", path, follow_symlinks=False)
    os.unlink("/srv/link")


def own(path, user="alice"):
    os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid, follow_symlinks=False)


def session(user, commands=("STAT", "UIDL 1", "RETR 1", "DELE 1", "QUIT")):
    """All answers of one session as one piece, and how long it took."""
    began, pieces = time.monotonic(), []
    with Pop(timeout=AT_ONCE).greet() as pop:
        pieces.append(pop.login(user, "secret"))
        for command in commands if pieces[0].startswith(b"+OK") else ():
            pieces.append(pop.ask(command))
            if pieces[-1].startswith(b"+OK message follows"):
                pieces.append(pop.rest() or b"")
    return b"".join(pieces), time.monotonic() - began


def look(t, what, user, wanted="", pattern=None):
    """A session on what was prepared: answered at once, canaries as they were, nothing left, a reason in the log if refused."""
    before, mark = canaries(), journal_mark()
    answers, took = session(user)
    t.ok(took < AT_ONCE and answers, what + ": answered at once", took)
    if wanted:
        t.ok(answers.startswith(wanted), what + ": " + wanted.decode(), answers[:200])
    t.ok(SECRET.strip() not in answers and b"root:" not in answers, what + ": nobody else's octets are served", answers[:300])
    t.ok(canaries() == before, what + ": nobody else's file is touched")
    if pattern:
        t.ok(logged(mark, pattern), what + ": the log says why")
    left = "\n".join(line for line in left_behind().splitlines() if not line.startswith("file alice.lock"))
    t.equal(left, "", what + ": nothing is left")


def mboxes(t):
    """CVE-2008-2936, CVE-2008-2937, CVE-2010-2023: what stands in the spool in the place of the mbox."""
    for what, prepare, pattern in (
            ("a link to another's mbox", lambda: os.symlink(LOOSE, MBOX), "mbox-open .*(symbolic links|Symbolic link loop)"),
            ("a link to one's own file", lambda: os.symlink("/home/alice/mine", MBOX), "mbox-open .*(symbolic links|Symbolic link loop)"),
            ("a link to nothing", lambda: os.symlink("/srv/canary/new", MBOX), "mbox-open .*(symbolic links|Symbolic link loop)"),
            ("a hard link to a link", lambda: hard_link_to_link(MBOX), "mbox-open .*(symbolic links|Symbolic link loop)"),
            ("a hard link to another's file", lambda: os.link(LOOSE, MBOX), "mbox-(foreign-owner|several-names)"),
            ("a hard link to one's own file", lambda: os.link("/home/alice/mine", MBOX), "mbox-several-names"),
            ("a FIFO", lambda: node(MBOX, stat.S_IFIFO, 0), "mbox-not-regular"),
            ("a socket", lambda: (unix_socket(MBOX), own(MBOX)), "mbox-(open|not-regular)"),
            ("a folder", lambda: (os.mkdir(MBOX), own(MBOX)), "mbox-(open|not-regular)"),
            ("/dev/zero", lambda: node(MBOX, stat.S_IFCHR, os.makedev(1, 5)), "mbox-(open|not-regular)"),
            ("another's, mode 666", lambda: (write(MBOX, b"From x\n\n" + SECRET, 0o666), own(MBOX, "bob"),
                                             os.chmod(MBOX, 0o666)),
             "mbox-foreign-owner"),
            ("root's, mode 666", lambda: write(MBOX, b"From x\n\n" + SECRET, 0o666), "mbox-foreign-owner")):
        remove(MBOX)
        write("/home/alice/mine", b"From x Mon Nov 23 10:00:00 2026\n\nmine\n", 0o600)
        own("/home/alice/mine")
        try:
            prepare()
        except PermissionError as e:
            t.skip("mbox: " + what, "cannot be made here: %s" % e)
            continue
        before = sorted((e.name, e.inode()) for e in os.scandir("/var/mail") if e.name == "alice")
        look(t, "mbox: " + what, "alice", b"-ERR [SYS/", "^maildrop .*" + pattern)
        t.equal(sorted((e.name, e.inode()) for e in os.scandir("/var/mail") if e.name == "alice"), before,
                "mbox: %s: stays where it is" % what)
    remove(MBOX)


def group_mail(t):
    """An mbox of another's that group mail may read, behind a link: nobody opens it with that group (CVE-2010-0301's class)."""
    mail.make_mbox("bob", [mail.HEAD + b"\n" + SECRET])
    remove(MBOX)
    os.symlink("/var/mail/bob", MBOX)
    look(t, "mbox: a link to another's, readable for group mail", "alice", b"-ERR [SYS/")
    remove(MBOX)
    remove("/var/mail/bob")


def locks(t):
    """CVE-2010-2024, CVE-2017-5899: the lock's name is taken by something else; it is not followed, and not removed."""
    configure(failure_delay=0, lock_timeout=0)
    for what, prepare in (
            ("a link to another's file", lambda: os.symlink(LOOSE, LOCK)),
            ("a link to /etc/passwd", lambda: os.symlink("/etc/passwd", LOCK)),
            ("a link to nothing", lambda: os.symlink("/srv/canary/made", LOCK)),
            ("a hard link to another's file", lambda: os.link(LOOSE, LOCK)),
            ("a folder", lambda: os.mkdir(LOCK)), ("a FIFO", lambda: node(LOCK, stat.S_IFIFO, 0)),
            ("another's file", lambda: (write(LOCK, "1\n", 0o644), own(LOCK, "bob")))):
        mail.make_mbox("alice", mail.MADE)
        remove(LOCK)
        prepare()
        before = os.lstat(LOCK)
        look(t, "dot-lock: " + what, "alice", b"-ERR [")
        after = os.lstat(LOCK)
        t.equal((after.st_ino, after.st_mtime_ns), (before.st_ino, before.st_mtime_ns), "dot-lock: %s: stays as it is" % what)
    remove(LOCK)
    configure(failure_delay=0)
    look(t, "dot-lock: none any more", "alice", b"+OK")


def state_files(t):
    """The state folder is the user's: whatever the user lays there harms nobody else, and no login waits for it."""
    mail.make_mbox("alice", mail.MADE[1:])
    rest = mail.mbox_bytes("alice")
    mail.make_mbox("alice", mail.MADE)
    whole = mail.mbox_bytes("alice")
    for name in ("index", "journal", "last", "session.lock"):
        path = FOLDER + "/" + name
        for what, prepare in (
                ("a link to another's file", lambda p=path: os.symlink(LOOSE, p)),
                ("a link to nothing", lambda p=path: os.symlink("/srv/canary/made", p)),
                ("a hard link to another's file", lambda p=path: os.link(LOOSE, p)),
                ("a FIFO", lambda p=path: node(p, stat.S_IFIFO, 0)),
                ("a folder", lambda p=path: os.mkdir(p)), ("a link to /dev/zero", lambda p=path: os.symlink("/dev/zero", p)),
                ("a terabyte of nothing", lambda p=path: (write(p, b"", 0o600), os.truncate(p, 1 << 40), own(p))),
                ("random octets", lambda p=path: (write(p, os.urandom(5000), 0o600), own(p))),
                ("another's file", lambda p=path: (write(p, SECRET, 0o666), own(p, "bob")))):
            mail.make_mbox("alice", mail.MADE)
            remove(FOLDER)
            session("alice", ("QUIT",))
            remove(path)
            prepare()
            look(t, "state folder: %s is %s" % (name, what), "alice")
            t.ok(mail.mbox_bytes("alice") in (whole, rest), "state folder: %s is %s: no mail is lost" % (name, what))
    remove(FOLDER)


def state_folder(t):
    """Laid by somebody who could write to the state directory once."""
    for what, prepare in (
            ("a link to another's folder", lambda: os.symlink("/srv/canary", FOLDER)),
            ("a link to /etc", lambda: os.symlink("/etc", FOLDER)),
            ("a file", lambda: write(FOLDER, "x")), ("another's folder",
                                                     lambda: (os.mkdir(FOLDER, 0o777), os.chmod(FOLDER, 0o777),
                                                              own(FOLDER, "bob"))),
            ("a FIFO", lambda: node(FOLDER, stat.S_IFIFO, 0, "root"))):
        mail.make_mbox("alice", mail.MADE)
        remove(FOLDER)
        prepare()
        before = os.lstat("/etc").st_uid, os.lstat("/srv/canary").st_uid, os.lstat(FOLDER).st_uid
        look(t, "state folder: " + what, "alice")
        t.equal((os.lstat("/etc").st_uid, os.lstat("/srv/canary").st_uid, os.lstat(FOLDER).st_uid), before,
                "state folder: %s: nothing is given away" % what)
    remove(FOLDER)


def make_maildir():
    remove(MAILDIR)
    mail.make_maildir("bob", mail.MADE[:3])


def in_maildir(path, what):
    """Lays one thing into the Maildir."""
    full = os.path.join(MAILDIR, path)
    remove(full)
    what(full)


def maildirs(t):
    """Folders that are none, and files that are no messages."""
    def folder_link(target):
        return lambda p: os.symlink(target, p)

    cases = [("new is a link to /etc", "new", folder_link("/etc")),
             ("cur is a link to another's folder", "cur", folder_link("/srv/canary")),
             ("new is a file", "new", lambda p: write(p, "x")), ("tmp is a link", "tmp", folder_link("/srv/canary")),
             ("new is a FIFO", "new", lambda p: node(p, stat.S_IFIFO, 0, "bob")),
             ("cur is another's folder", "cur", lambda p: (os.mkdir(p, 0o777), own(p, "alice")))]
    for folder in ("new", "cur"):
        name = folder + "/1.M1.example" + (":2," if folder == "cur" else "")
        cases += [("a link to another's file in " + folder, name, folder_link(LOOSE)),
                  ("a link to /etc/shadow in " + folder, name, folder_link("/etc/shadow")),
                  ("a hard link to root's file in " + folder, name,
                   lambda p: (write("/home/root.txt", SECRET, 0o600), os.link("/home/root.txt", p))),
                  ("a FIFO in " + folder, name, lambda p: node(p, stat.S_IFIFO, 0, "bob")),
                  ("a folder in " + folder, name, os.mkdir),
                  ("a socket in " + folder, name, unix_socket),
                  ("/dev/zero in " + folder, name, lambda p: os.symlink("/dev/zero", p))]
    for name in (".postern-index", ".postern-lock"):
        cases += [("%s is a link to another's file" % name, name, folder_link(LOOSE)),
                  ("%s is a link to nothing" % name, name, folder_link("/srv/canary/made")),
                  ("%s is a FIFO" % name, name, lambda p: node(p, stat.S_IFIFO, 0, "bob")),
                  ("%s is a folder" % name, name, os.mkdir),
                  ("%s is random" % name, name, lambda p: (write(p, os.urandom(3000), 0o600), own(p, "bob"))),
                  ("%s is a terabyte" % name, name, lambda p: (write(p, b"", 0o600), os.truncate(p, 1 << 40), own(p, "bob")))]
    for what, path, prepare in cases:
        make_maildir()
        in_maildir(path, prepare)
        look(t, "Maildir: " + what, "bob")
    remove("/home/root.txt")
    make_maildir()
    os.rename(MAILDIR, "/home/bob/elsewhere")
    os.symlink("/srv/canary", MAILDIR)
    os.chmod("/srv/canary", 0o755)
    look(t, "Maildir: itself a link to another's folder", "bob")
    os.chmod("/srv/canary", 0o777)
    remove(MAILDIR)
    remove("/home/bob/elsewhere")


def odd_names(t):
    """Control characters, 8 bits, 255 octets: each is a message, and its unique-id one that RFC 1939 allows."""
    remove(MAILDIR)
    mail.make_maildir("bob", [])
    names = [b"1.M1\n.x", b"2.M2\r\n+OK", b"3.\x1b[2J", b"4.\xff\xfe", b"5. ", b"6.\x7f", b"7" * 255, b"8.M8,S=1,S=2",
             b"9.M9:2,:2,S", b"10.M%n%s",
             b"11.M..", b"-12.M", b"13.\t"]
    for n, name in enumerate(names):
        path = os.path.join(MAILDIR.encode(), b"new" if n % 2 else b"cur", name)
        with open(path, "wb") as f:
            f.write(b"Subject: %d\n\nx\n" % n)
        os.chown(path, pwd.getpwnam("bob").pw_uid, -1)
    mark = journal_mark()
    with Pop().enter("bob") as pop:
        t.equal(int(pop.must("STAT").split()[1]), len(names), "Maildir: odd names are messages")
        ids = pop.many("UIDL").split(b"\r\n")[:-1]
        t.ok(len(ids) == len(names) and len(set(i.split(b" ", 1)[1] for i in ids)) == len(names) and
             all(re.fullmatch(rb"\d+ [!-~]{1,70}", i) for i in ids), "Maildir: odd names: unique-ids as RFC 1939 has them", ids)
        for n in range(len(names)):
            pop.must("DELE %d" % (n + 1))
        pop.must("QUIT")
    entry = logged(mark, "^session-end ")
    t.ok(entry and " deleted=%d left=0 " % len(names) in entry["MESSAGE"], "Maildir: odd names: all can be deleted", entry)


def many_files(t):
    """100,000 empty files."""
    remove(MAILDIR)
    mail.make_maildir("bob", [])
    for n in range(100000):
        os.close(os.open(MAILDIR + "/new/%d.M%d.example" % (1700000000 + n, n), os.O_CREAT | os.O_WRONLY, 0o600))
    sh("chown -R bob:bob %s/new" % MAILDIR)
    with Pop(timeout=60).enter("bob") as pop:
        t.equal(pop.must("STAT"), b"+OK 100000 0\r\n", "Maildir: 100,000 empty files are 100,000 messages")
        size = proportional_set_size([p.pid for p in processes()])
        t.ok(size < 100000, "Maildir: 100,000 empty files: %d kB in all processes" % size)
        pop.must("QUIT")
    remove(MAILDIR)
    t.equal(left_behind(), "", "Maildir: 100,000 empty files: nothing is left")


def long_headers(t):
    """A header of a million lines, and a header line of 20 MB, in an mbox."""
    lines = b"".join(b"X-%07d: x\n" % n for n in range(1000000))
    mail.make_mbox("alice", [lines + b"\nbody\n", b"Subject: " + b"y" * 20000000 + b"\n\nbody\n"])
    with Pop(timeout=60).enter("alice") as pop:
        t.ok(pop.many("TOP 1 0") == mail.wire(lines) + b"\r\n", "mbox: TOP of a million header lines")
        t.ok(pop.many("RETR 1") == mail.wire(lines) + b"\r\nbody\r\n", "mbox: RETR of a million header lines")
        t.ok(len(pop.many("TOP 2 0")) == 20000000 + 13, "mbox: TOP of a header line of 20 MB")
        pop.many("UIDL")
        size = proportional_set_size([p.pid for p in processes()])
        t.ok(size < 5000, "mbox: such headers: %d kB in all processes" % size)
        pop.must("QUIT")
    t.equal(left_behind(), "", "mbox: such headers: nothing is left")


def shrinking(t):
    """An mbox that its owner cuts while it is being sent: the connection ends without the final dot."""
    mail.make_mbox("alice", [mail.HEAD + b"\n" + b"line of a long message\n" * 1000000])
    for left in (0, 100, 5000000):
        mail.make_mbox("alice", [mail.HEAD + b"\n" + b"line of a long message\n" * 1000000])
        mark = journal_mark()
        with Pop(timeout=30).enter("alice") as pop:
            pop.must("RETR 1")
            os.truncate(MBOX, left)
            t.equal(pop.rest(), None, "mbox: cut to %d while it is sent: no final dot" % left)
        t.ok(logged(mark, "^session-end how=changed "), "mbox: cut to %d while it is sent: the log says so" % left)
        t.equal(left_behind(), "", "mbox: cut to %d while it is sent: nothing is left" % left)


def run(t):
    configure(failure_delay=0)
    all_gone()
    make_canaries()
    for check in (mboxes, group_mail, locks, state_files, state_folder, maildirs, odd_names, many_files, long_headers,
                  shrinking):
        t.section(check)
    mail.make_mbox("alice", mail.MADE)
    make_maildir()
    wait_for(lambda: not glob.glob("/var/mail/*.lock"))
    remove("/srv/canary")
