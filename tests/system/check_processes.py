"""Who runs as whom, and holds what: the table of postern(8), read from /proc of live sessions."""

import grp
import os
import pwd
import re
import signal
import time

import mail
from box import (HELPER, SERVER, WRONG, Pop, all_gone, configure, journal_mark, left_behind, logged, processes,
                 processes_at_rest, proportional_set_size, sh, wait_for)

NO_CAPABILITIES = ("CapEff", "CapPrm", "CapInh", "CapAmb")
# A session's share of memory before the login, and what of it is not from files.  A client alone has every page of libc to
# itself that the kernel chose to map around the touched ones, which is between 100 and 250 kB by how libc lies in the page
# cache; so there only the second is judged.
IDLE_KILOBYTES = 250
IDLE_ANONYMOUS_KILOBYTES = 200


def roles():
    """The processes of the only session there is, by what they are."""
    found, all_of_them = {}, processes_at_rest()
    for p in all_of_them:
        if p.exe == SERVER:
            found["session" if p.parent in [q.pid for q in all_of_them if q.exe == SERVER] else "monitor"] = p
        elif p.exe == HELPER:
            child = p.parent in [q.pid for q in all_of_them if q.exe == HELPER]
            found["keeper" if child else "helper"] = p
    return found


def socket_inodes(p):
    return {fd: int(re.match(r"socket:\[(\d+)\]", what).group(1)) for fd, what in p.fds.items() if what.startswith("socket")}


def unix_sockets(kind):
    """The inodes of Unix sockets of a type: 5 is SOCK_SEQPACKET."""
    with open("/proc/net/unix") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return {int(row[6]) for row in rows if int(row[4], 16) == kind}


def tcp_sockets():
    inodes = set()
    for name in ("tcp", "tcp6"):
        with open("/proc/net/" + name) as f:
            inodes |= {int(line.split()[9]) for line in f.readlines()[1:]}
    return inodes


def check_ids(t, p, what, uid, gid, groups):
    t.equal((p.uids, p.gids, sorted(p.groups)), ([uid] * 4, [gid] * 4, sorted(groups)), what + ": user and group ids")
    t.equal([p.status[key] for key in NO_CAPABILITIES], ["0" * 16] * 4, what + ": no capabilities")


def check_confined(t, p, what, unconfined):
    more = int(p.status["Seccomp_filters"]) - int(unconfined.status["Seccomp_filters"])
    t.equal((p.status["NoNewPrivs"], p.status["Seccomp"], more > 0), ("1", "2", True), what + ": no_new_privs, seccomp")


def check_client_side(t, found, when):
    """Monitor and session: which of them holds the client."""
    postern = pwd.getpwnam("postern")
    for role in ("monitor", "session"):
        check_ids(t, found[role], role + " " + when, postern.pw_uid, postern.pw_gid, [postern.pw_gid])
    check_confined(t, found["session"], "session " + when, found["monitor"])
    t.equal(found["monitor"].status["NoNewPrivs"], "0", "monitor %s: may start a setuid program" % when)
    t.equal(set(socket_inodes(found["monitor"]).values()) & tcp_sockets(), set(), "monitor %s: not the client" % when)
    inodes = socket_inodes(found["session"])
    t.ok(inodes.get(0) == inodes.get(1) and inodes.get(0) in tcp_sockets(), "session %s: 0 and 1 are the client" % when,
         found["session"].fds)
    t.ok(found["session"].fds[2] == "/dev/null", "session %s: 2 is nothing" % when, found["session"].fds)
    t.ok(inodes.get(3) in unix_sockets(5), "session %s: 3 is the helper's socket" % when, found["session"].fds)


def before_login(t):
    with Pop().greet():
        found = roles()
        t.equal(sorted(found), ["monitor", "session"], "before a login: two processes")
        check_client_side(t, found, "before a login")
        t.equal(sorted(found["session"].fds), [0, 1, 2, 3], "session before a login: no other descriptor")
        mine = socket_inodes(found["monitor"])
        t.ok(set(mine.values()) <= unix_sockets(5) and all(mine.get(fd) or what == "/dev/null"
                                                           for fd, what in found["monitor"].fds.items()),
             "monitor before a login: the helper's end and /dev/null", found["monitor"].fds)


def while_root(t):
    """The helper as root, seen while it delays the answer to a wrong password."""
    configure(failure_delay=3)
    with Pop().greet() as pop:
        pop.must("USER alice")
        pop.send("PASS wrong")
        helper = wait_for(lambda: roles().get("helper"))
        time.sleep(0.7)
        helper = roles()["helper"]
        t.equal((helper.uids, helper.gids, helper.groups), ([0] * 4, [0] * 4, []), "helper while root: root alone, no groups")
        t.ok(not set(socket_inodes(helper).values()) & tcp_sockets(), "helper while root: not the client", helper.fds)
        t.ok(sorted(helper.fds) == [0, 1, 2, 3] and helper.fds[0] == helper.fds[1] == "/dev/null",
             "helper while root: session, log, and nothing else", helper.fds)
        with open("/proc/%d/environ" % helper.pid, "rb") as f:
            t.ok(b"secret" not in f.read() and b"wrong" not in f.read(), "helper while root: no password in its environment")
        with open("/proc/%d/cmdline" % helper.pid, "rb") as f:
            t.equal(f.read(), b"postern-helper\0", "helper while root: nothing in its arguments")
        t.equal(pop.line(), WRONG, "the answer comes")
    all_gone()
    configure(failure_delay=0)


def after_login_mbox(t):
    alice, group_mail = pwd.getpwnam("alice"), grp.getgrnam("mail").gr_gid
    mail.make_mbox("alice", mail.MADE)
    mail.leave_stale_lock("alice")  # so that the keeper has work
    with Pop().enter("alice") as pop:
        pop.must("STAT")
        found = roles()
        t.equal(sorted(found), ["helper", "keeper", "monitor", "session"], "mbox: four processes")
        check_client_side(t, found, "after a login")
        check_ids(t, found["helper"], "helper, mbox", alice.pw_uid, alice.pw_gid, os.getgrouplist("alice", alice.pw_gid))
        check_confined(t, found["helper"], "helper, mbox", found["monitor"])
        check_ids(t, found["keeper"], "lock keeper", alice.pw_uid, group_mail, [])
        check_confined(t, found["keeper"], "lock keeper", found["monitor"])
        t.ok(len(socket_inodes(found["keeper"])) <= 2 and not [w for w in found["keeper"].fds.values() if w.startswith("/var")],
             "lock keeper: no mailbox", found["keeper"].fds)
        check_session_files(t, found["session"], "/var/mail/alice")
        foreign = [w for w in found["helper"].fds.values() if w.startswith("/") and not
                   (w == "/dev/null" or w.startswith(("/var/mail/alice", "/var/lib/postern/alice", "/memfd:")))]
        t.equal(foreign, [], "helper, mbox: holds the mailbox, its state, and no other file")
        t.equal(os.path.exists("/var/mail/alice.lock"), False, "mbox: no lock is held between commands")
        pop.must("QUIT")


def check_session_files(t, session, mailbox):
    """Behind 3 there may be the table and files of the mailbox, and only to read."""
    for fd, what in session.fds.items():
        if fd <= 3:
            continue
        with open("/proc/%d/fdinfo/%d" % (session.pid, fd)) as f:
            flags = int(re.search(r"flags:\s+(\d+)", f.read()).group(1), 8)
        known = what == mailbox or what.startswith((mailbox + "/", "/memfd:"))
        t.ok(known and (what.startswith("/memfd:") or flags & os.O_ACCMODE == os.O_RDONLY),
             "session after a login: descriptor %d is %s" % (fd, what), oct(flags))


def after_login_maildir(t):
    bob = pwd.getpwnam("bob")
    mail.make_maildir("bob", mail.MADE * 5)
    with Pop().enter("bob") as pop:
        for n in range(1, 5 * len(mail.MADE) + 1):
            pop.many("RETR %d" % n)
        pop.many("RETR 3")
        pop.many("RETR 3")
        found = roles()
        t.equal(sorted(found), ["helper", "monitor", "session"], "Maildir: three processes")
        check_client_side(t, found, "after a Maildir login")
        check_ids(t, found["helper"], "helper, Maildir", bob.pw_uid, bob.pw_gid, os.getgrouplist("bob", bob.pw_gid))
        check_confined(t, found["helper"], "helper, Maildir", found["monitor"])
        check_session_files(t, found["session"], bob.pw_dir + "/Maildir")
        messages = {role: [what for what in p.fds.values() if re.search("Maildir/(new|cur)/.", what)] for role, p in found.items()}
        t.equal([len(messages[role]) for role in ("helper", "session", "monitor")], [0, 1, 0],
                "Maildir: of all that was fetched the last message is open, and for the session alone")
        foreign = [w for w in found["helper"].fds.values()
                   if w.startswith("/") and w != "/dev/null" and not w.startswith((bob.pw_dir + "/Maildir", "/memfd:"))]
        t.equal(foreign, [], "helper, Maildir: holds the Maildir, and no other file")
        pop.must("QUIT")


def idle_cost(t):
    """One client that says nothing, and twenty."""
    for number, field, bound in ((1, "Pss_Anon", IDLE_ANONYMOUS_KILOBYTES), (20, "Pss", IDLE_KILOBYTES)):
        clients = [Pop(source="127.0.0.%d" % (30 + n)).greet() for n in range(number)]
        pids = [p.pid for p in processes()]
        size = proportional_set_size(pids, field) / number
        t.ok(len(pids) <= 2 * number and size <= bound,
             "%d idle: %d processes, %d kB %s each" % (number, len(pids), size, field))
        for client in clients:
            client.close()
        t.ok(all_gone(), "and they end when the client goes")


def killed(t):
    """Whoever is killed, nothing is deleted and nothing stays; only the lock keeper can be done without."""
    for role in ("session", "helper", "keeper", "monitor"):
        mail.make_mbox("alice", mail.MADE)
        mail.leave_stale_lock("alice")
        before = mail.mbox_bytes("alice")
        mark = journal_mark()
        with Pop().enter("alice") as pop:
            pop.must("DELE 1")
            os.kill(roles()[role].pid, signal.SIGKILL)
            if role in ("session", "monitor"):
                t.ok(pop.at_end(), "%s killed: the connection ends" % role)
                t.ok(all_gone(2), "%s killed: the others end within two seconds" % role, processes())
            else:
                t.ok(not pop.ask("QUIT").startswith(b"+OK"), "%s killed: QUIT does not say that it deleted" % role)
        t.equal(left_behind(), "", "%s killed: nothing is left" % role)
        t.ok(mail.mbox_bytes("alice") == before, "%s killed: nothing is deleted" % role)
        if role != "monitor":
            t.ok(logged(mark, "^session-end how="), "%s killed: the end is logged" % role)


def keeper_waits(t):
    """Who reads makes no lock: the keeper only waits, and still does its work when a message is deleted."""
    messages = [b"Subject: %d\n\n%s\n" % (n, b"x" * 70 * 500) for n in range(4)]
    spool = os.stat("/var/mail")
    alice = pwd.getpwnam("alice")
    for killed_then in (False, True):
        mail.make_mbox("alice", messages)
        os.utime("/var/mail/alice", (1795000000, 1795000000))
        before, locked = mail.mbox_bytes("alice"), os.stat("/var/mail").st_mtime_ns
        with Pop().enter("alice") as pop:
            pop.must("QUIT")
        all_gone()
        t.equal(os.stat("/var/mail").st_mtime_ns, locked, "no index: a login makes no lock")
        with Pop().enter("alice") as pop:
            found = roles()
            t.equal((len(processes()), sorted(found)), (4, ["helper", "keeper", "monitor", "session"]), "index: one keeper, unwatched")
            check_ids(t, found["keeper"], "keeper that waits", alice.pw_uid, spool.st_gid, [])
            t.equal(found["keeper"].status["NoNewPrivs"], "1", "keeper that waits: no_new_privs")
            t.equal(os.stat("/var/mail").st_mtime_ns, locked, "index: a login makes no lock")
            pop.must("DELE 1")
            if killed_then:
                os.kill(found["keeper"].pid, signal.SIGKILL)
            answer = pop.ask("QUIT")
        t.equal((answer[:3], mail.mbox_bytes("alice") == before), ((b"-ER", True) if killed_then else (b"+OK", False)),
                "keeper that waits%s: QUIT" % (", killed" if killed_then else ""))
        t.equal(left_behind(), "", "keeper that waits: nothing is left")
        t.ok((os.stat("/var/mail").st_mtime_ns == locked) == killed_then, "keeper that waits: a lock when it is needed")


def stopped(t):
    """systemctl stop in the middle of a session."""
    mail.make_mbox("alice", mail.MADE)
    before = mail.mbox_bytes("alice")
    mark = journal_mark()
    with Pop().enter("alice") as pop, Pop().enter("bob") as other:
        pop.must("DELE 1")
        sh("systemctl stop 'pop3@*'")
        t.ok(pop.at_end() and other.at_end(), "systemctl stop: the connections end")
    t.equal(left_behind(), "", "systemctl stop: no process, unit or lock is left")
    t.ok(mail.mbox_bytes("alice") == before, "systemctl stop: nothing is deleted")
    t.ok(logged(mark, '^session-end how=terminated user="alice"'), "systemctl stop: the log says so")
    with Pop().enter("alice") as pop:
        t.ok(pop.must("STAT").startswith(b"+OK %d " % len(mail.MADE)), "and the next session finds all")


def run(t):
    configure(failure_delay=0)
    all_gone()
    for check in (before_login, while_root, after_login_mbox, after_login_maildir, idle_cost, killed, keeper_waits, stopped):
        t.section(check)
