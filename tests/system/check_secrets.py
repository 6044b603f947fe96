"""Passwords and hashes in memory: what a core image of each process holds, read from /proc/PID/mem as root.

Moments: after a failed login, right after a login, and in TRANSACTION; by PASS and by AUTH PLAIN, whole and in pieces; by PAM,
users file and shadow.  That the search finds what is there is seen while a PAM module waits: then the password is in memory.
"""

import base64
import pwd
import re
import time

import check_pam
import mail
from box import HELPER, PAM, WRONG, Pop, all_gone, configure, processes, sh, wait_for, write
from check_login import USERS

USER = "secretive"
PASSWORD = "Quittenbrot-58-Xylophon"
TYPED = "Hollerkuechle-31-Falsch"


def plain(password):
    return base64.b64encode(("\0%s\0%s" % (USER, password)).encode()).decode()


def image(pid):
    """All that a core image would have."""
    pieces = []
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for line in maps:
            start, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            if "r" not in rights or "[vvar" in line or "[vsyscall" in line:
                continue
            mem.seek(int(start, 16))
            try:
                pieces.append(mem.read(int(end, 16) - int(start, 16)))
            except OSError:
                continue
    return b"".join(pieces)


def secrets():
    """What may be nowhere, by name.  Of a base64 text also what is left where its beginning was overwritten."""
    with open("/etc/shadow") as f:
        stored = next(line for line in f if line.startswith(USER + ":")).split(":")[1]
    found = {"the password": PASSWORD, "the wrong password": TYPED, "the hash": stored}
    for what, password in (("the password", PASSWORD), ("the wrong password", TYPED)):
        found["half of " + what] = password[len(password) // 2:]
        found["base64 of " + what] = plain(password)[-20:]
    found["the hash without its salt"] = stored.rsplit("$", 1)[1]
    return {what: text.encode() for what, text in found.items()}


def seen(found):
    """'secret in process', as many as there are."""
    images = [(p, image(p.pid)) for p in processes()]
    return sorted("%s in %s %d (uid %d)" % (what, p.exe, p.pid, p.uids[0]) for p, octets in images for what,
                  text in found.items()
                  if text in octets)


def by_pass(pop, password):
    pop.must("USER " + USER)
    return pop.ask("PASS " + password)


def by_pieces(pop, password):
    """The line in three packets, so that it is put together from parts in the session's buffer."""
    pop.must("USER " + USER)
    for piece in ("PA", "SS " + password[:9], password[9:] + "\r\n"):
        pop.sock.sendall(piece.encode())
        time.sleep(0.1)
    return pop.line()


def by_plain(pop, password):
    return pop.ask("AUTH PLAIN " + plain(password))


def by_asked_plain(pop, password):
    pop.send("AUTH PLAIN")
    pop.line()
    return pop.ask(plain(password))


def pipelined(pop, password):
    pop.sock.sendall(("USER %s\r\nPASS %s\r\nNOOP\r\n" % (USER, password)).encode())
    pop.line()
    answer = pop.line()
    pop.line()
    return answer


def moments(t, method, way):
    what = "%s, %s" % (method, way.__name__)
    found = secrets()
    with Pop().greet() as pop:
        t.equal(way(pop, TYPED), WRONG, what + ": a wrong password")
        t.equal(seen(found), [], what + ": after the failed login, no secret in memory")
        t.equal(way(pop, PASSWORD), b"+OK maildrop locked and ready\r\n", what + ": the right one")
        t.equal(seen(found), [], what + ": after the login, no secret in memory")
        pop.many("RETR 1")
        pop.many("UIDL")
        t.equal(seen(found), [], what + ": in TRANSACTION, no secret in memory")
        pop.must("QUIT")
    all_gone()


def refused_lines(t):
    """Passwords that never reach the helper: before USER, in a line too long, cancelled, not base64, with a NUL."""
    found = secrets()
    with Pop().greet() as pop:
        for line in ("PASS " + PASSWORD, "PASS " + PASSWORD + "\0", "PASS " + PASSWORD + "x" * 300,
                     "AUTH PLAIN " + plain(PASSWORD) + "=",
                     "AUTH PLAIN " + base64.b64encode(PASSWORD.encode()).decode(), "AUTH LOGIN " + plain(PASSWORD)):
            t.ok(pop.ask(line).startswith(b"-ERR"), "refused before the helper: %.12s..." % line)
        pop.send("AUTH PLAIN")
        pop.line()
        t.ok(pop.ask(plain(PASSWORD)[:-1]).startswith(b"-ERR"), "refused before the helper: half of a SASL answer")
        pop.must("CAPA")
        pop.rest()
        t.equal(seen(found), [], "refused before the helper: no secret in memory")


def control(t):
    """The search finds a password that is there."""
    check_pam.use("wait")
    with Pop().greet() as pop:
        pop.must("USER " + USER)
        pop.send("PASS " + PASSWORD)
        check_pam.left_pid("wait")
        got = seen({"the password": PASSWORD.encode()})
        t.equal(sorted(line.split(" in ")[1].split(" ")[0] for line in got if "/postern-" in line), [HELPER, PAM],
                "while PAM is busy, the password is seen in the helper and in the program that asks PAM")
        write(check_pam.LEFT + "go", "")
        pop.line()
    all_gone()


def run(t):
    check_pam.build()
    sh("userdel -rf %s; rm -rf /var/lib/postern/%s" % (USER, USER), check=False)
    sh("useradd -m %s && echo '%s:%s' | chpasswd -c SHA256 -s 1000" % (USER, USER, PASSWORD))
    mail.make_mbox(USER, mail.MADE)
    with open("/etc/shadow") as f:
        stored = next(line for line in f if line.startswith(USER + ":")).split(":")[1]
    write(USERS, "bob:*:1:1::/::\n%s:%s:%d:%d::/home/%s::\n" % (
        USER, stored, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid, USER), 0o600)
    t.section(control)
    for method in ("pam", "users", "shadow"):
        configure(failure_delay=0, authentication=method)
        for way in (by_pass, by_pieces, by_plain, by_asked_plain, pipelined) if method == "pam" else (by_pass,):
            t.section(moments, method, way)
    t.section(refused_lines)
    configure(failure_delay=0)
    wait_for(lambda: not processes())
    sh("rm -f " + USERS)
