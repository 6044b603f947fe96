"""The installed setuid helper, called by hand: by whom it lets itself be called, what it makes of what a caller can choose, and
what it does where it cannot become root or cannot stop being it.
"""

import ctypes
import json
import os
import pty
import pwd
import re
import resource
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "session"))

import check_pam  # noqa: E402
import mail  # noqa: E402
import wire_peer as w  # noqa: E402
from box import HELPER, Pop, all_gone, configure, journal, journal_mark, left_behind, logged, sh, wait_for, write  # noqa: E402
from check_login import USERS  # noqa: E402
from check_stages import by_role  # noqa: E402

ENVIRONMENT = {"REMOTE_ADDR": "192.0.2.7"}
OPENED = bytes([w.OPENED])
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, CLONE_NEWUSER = 38, 24, 0x10000000
libc = ctypes.CDLL(None, use_errno=True)


def helper(**more):
    return w.Helper(HELPER, ENVIRONMENT, **more)


def descriptors_of(pid):
    return {int(fd): os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)}


def missing_descriptors(t):
    """Each subset of 0 to 2 closed at exec."""
    for closed in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        with helper(before=lambda closed=closed: [os.close(fd) for fd in closed]) as h:
            t.ok(h.ask(w.login())[0][:1] == OPENED, "descriptors %s closed: a login" % (closed,))
            have = descriptors_of(h.process.pid)
            t.equal([have.get(fd) for fd in closed], ["/dev/null"] * len(closed),
                    "descriptors %s closed: nothing else gets there" % (closed,))


def many_descriptors(t):
    have = []
    for count in (0, 200):
        with helper(before=lambda count=count: [os.dup2(0, 4 + n) for n in range(count)]) as h:
            t.ok(h.ask(w.login())[0][:1] == OPENED, "%d descriptors too many: a login" % count)
            have.append(sorted(what.split(":[")[0] for what in descriptors_of(h.process.pid).values()))
    t.equal(have[1], have[0], "200 descriptors too many: none is left")


def in_child(uid, function):
    """What function() returns in a process of that user, whose group is the user's own."""
    read, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            account = pwd.getpwuid(uid)
            os.setgroups([account.pw_gid])
            os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
            os.setresuid(uid, uid, uid)
            os.write(write_end, json.dumps(function()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read, "rb") as f:
        octets = f.read()
    os.waitpid(pid, 0)
    return json.loads(octets) if octets else None


def call_by_hand(seconds=20, **more):
    """(first octet of the answer to LOGIN that comes in time, log records) of a helper."""
    try:
        with helper(**more) as h:
            h.send(w.login())
            got = h.receive(seconds)
            h.sock.close()
            h.ends()
            return [got[0][0] if got and got[0] else None, h.log_records()]
    except PermissionError:
        return ["not started", []]


def callers(t):
    """Who may: the monitor, as the service user, by a pair that it made itself."""
    postern, alice = pwd.getpwnam("postern").pw_uid, pwd.getpwnam("alice").pw_uid
    answer, records = in_child(postern, call_by_hand)
    t.ok(answer == w.OPENED, "called by postern: a login", records)
    t.equal(in_child(alice, call_by_hand)[0], "not started", "called by alice: the mode forbids it")
    sh("chmod 4755 " + HELPER)
    answer, records = in_child(alice, call_by_hand)
    sh("chmod 4710 " + HELPER)
    t.ok(answer == w.REFUSED and "caller is not the account" in records[0], "called by alice, mode 4755: refused", records)
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answer, records = in_child(postern, lambda: call_by_hand(3, sock=pair))
    t.ok(answer is None and "not started by the monitor" in records[0], "a pair that somebody else made: the helper ends", records)


def not_a_session(t):
    """A terminal, a pipe, TCP or a file in the place of the pair: refused before anything is read of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    tcp = socket.create_connection(listener.getsockname())
    pipe, null, terminal = os.pipe(), os.open("/dev/null", os.O_RDWR), pty.openpty()
    for what, fd in (("TCP", tcp.fileno()), ("a pipe", pipe[0]), ("a terminal", terminal[1]), ("a file", null),
                     ("nothing", None)):
        with helper(before=lambda fd=fd: os.dup2(fd, 3) if fd is not None else os.close(3)) as h:
            t.equal(h.ends(), 1, "%s on descriptor 3: the helper ends" % what)
            records = h.log_records()
            t.ok(len(records) == 1 and "helper-gives-up" in records[0], "%s on descriptor 3: and says why" % what, records)
    for fd in (*pipe, null, *terminal):
        os.close(fd)
    tcp.close()
    listener.close()


def drop_bounding_set():
    for n in range(41):
        libc.prctl(PR_CAPBSET_DROP, n, 0, 0, 0)


def enter_user_namespace():
    """One in which root is nobody."""
    if libc.unshare(CLONE_NEWUSER) == -1:
        os._exit(77)


def failed_drops(t):
    """Where root cannot be had, or not be given up, it ends with a reason."""
    postern = pwd.getpwnam("postern").pw_uid
    for what, before, reason in (
            ("no_new_privs", lambda: libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs"),
            ("a user namespace without mapping", enter_user_namespace, "setuid")):
        answer, records = in_child(postern, lambda before=before: call_by_hand(before=before))
        t.ok(answer != w.OPENED and records and reason in records[0], "%s: refused with a reason" % what,
             (answer, records))
    for what, before in (("an empty bounding set", drop_bounding_set), ):
        with helper(before=before) as h:
            got = h.ask(w.login())
            t.ok(got and got[0][:1] != OPENED and h.ends() is not None and h.log_records(), what + ": refused with a reason",
                 (got, h.records))
    mail.make_mbox("alice", mail.MADE)
    mail.leave_stale_lock("alice")
    with helper(before=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))) as h:
        got = h.ask(w.login())
        # Raising it again takes CAP_SYS_RESOURCE, which a container may not have; the lock keeper then cannot be made.
        t.ok(got[0] == bytes([w.REFUSED, w.TEMPORARY, 0]) and re.search("lock-keeper|dot-lock", h.log_records()[-1]) or
             got[0][:1] == OPENED and h.log_records() == ["6:2:alice:pam"],
             "RLIMIT_NPROC=0 of the caller: it works with all its locks, or is refused", (got, h.log_records()))
    sh("rm -f /var/mail/alice.lock")


CAP_SYS_RESOURCE = 24


def no_processes():
    """For the owner of a mailbox, and nobody who could lift that."""
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def keeper_that_cannot_fork(t):
    """It is there, and when a lock is wanted it ends: no login without the lock that others look for."""
    mail.make_mbox("alice", mail.MADE)
    mail.leave_stale_lock("alice")
    before = mail.mbox_bytes("alice")
    with helper(before=no_processes) as h:
        got = h.ask(w.login())
        t.equal(got[0], bytes([w.REFUSED, w.TEMPORARY, 0]), "a lock keeper that cannot fork: refused for now")
        t.ok("mbox-dot-lock" in h.log_records()[-1] and "Broken pipe" in h.log_records()[-1],
             "a lock keeper that cannot fork: the log says so", h.log_records())
    sh("rm -f /var/mail/alice.lock")
    t.equal(left_behind(), "", "a lock keeper that cannot fork: nothing is left")
    t.ok(mail.mbox_bytes("alice") == before, "a lock keeper that cannot fork: the mbox is as it was")


def brute_force(t):
    """A member of the group, by hand: three tries per process, each delayed; what PAM logs cannot be kept from the log."""
    configure(failure_delay=1)
    mark = journal_mark()
    count = 10
    answers, began = [], time.monotonic()
    helpers = [helper() for _ in range(count)]
    for _ in range(3):
        for h in helpers:
            h.send(w.login(b"alice", b"guess"))
        answers += [h.receive()[0] for h in helpers]
    took = time.monotonic() - began
    for h in helpers:
        t.ok(h.ends() is not None, "brute force: no fourth try") if h is helpers[0] else h.ends()
        h.sock.close()
        h.log.close()
    t.equal(set(answers), {bytes([w.REFUSED, w.AUTH, 1]), bytes([w.REFUSED, w.AUTH, 0])}, "brute force: all refused alike")
    t.ok(took >= 3, "brute force: every try is delayed", took)
    lines = [e for e in journal(mark) if "authentication failure" in e.get("MESSAGE", "")]
    t.ok(len(lines) >= 3 * count, "brute force: PAM has logged each", len(lines))
    configure(failure_delay=0)


def processor_time(name, password):
    """Seconds of processor time that three tries take in all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with helper() as h:
        answers = [h.ask(w.login(name, password))[0] for _ in range(3)]
        h.ends()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return answers, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def alike(t):
    """Unknown, wrong, locked, expired, without a password: the same answers; and where postern checks by itself, about the same
    work.  (PAM's work is its modules' own; failure-delay, counted from the question on, covers it.)"""
    sh("for u in t-right t-locked t-expired t-empty; do userdel -rf $u; useradd -m $u; echo $u:secret | chpasswd; done 2>/dev/null; "
       "usermod -L t-locked && chage -E 1 t-expired && passwd -d t-empty && passwd -l t-empty", check=False)
    with open("/etc/shadow") as f:
        stored = {line.split(":")[0]: line.split(":")[1] for line in f}
    write(USERS,
          "t-right:%s:1234:1234::/srv/x::\nt-locked:!%s:1234:1234::/srv/x::\nt-empty:*:1234:1234::/srv/x::\nt-scheme:{NTLM}x:1:1::/::\n" % (
        stored["t-right"], stored["t-right"]), 0o600)
    for method in ("shadow", "users", "pam"):
        configure(failure_delay=0, authentication=method)
        times = {}
        for name in ("t-right", "nobody-there", "t-locked", "t-empty") + (("t-expired",)
                                                                          if method != "users" else ("t-scheme",)):
            answers, times[name] = processor_time(name.encode(), b"secret" if name == "t-expired" else b"wrong")
            t.equal(answers, [bytes([w.REFUSED, w.AUTH, again]) for again in (1, 1, 0)],
                    "%s, %s: answered like all" % (method, name))
        text = ", ".join("%s %.0f ms" % (name, 1000 * seconds) for name, seconds in times.items())
        if method == "pam":
            t.say("pam: " + text)
        else:
            t.ok(max(times.values()) < 3 * min(times.values()), "%s: about the same work for all" % method, text)
    configure(failure_delay=0)
    os.unlink(USERS)


def forged_lines(t):
    """A mailbox's owner who has taken the helper over has its log socket: whose lines these are is not theirs to say."""
    sh("rm -f /run/pam-forge")
    check_pam.use("forge")
    mark = journal_mark()
    with Pop().enter("alice") as pop:
        pid = check_pam.left_pid("forge")
        write("/run/pam-forge", "")
        t.ok(check_pam.ended(pid), "forged lines: sent")
        pop.must("QUIT")
    logged(mark, "^session-end ")
    lines = [e["MESSAGE"] for e in journal(mark, "")]
    t.equal(sorted({line.split(" ")[0] for line in lines}), ["helper-says", "login", "maildrop", "session-end"],
            "forged lines: no event but the allowed")
    t.ok(all('user="alice" rip=127.0.0.1 ' in line for line in lines if line.startswith("maildrop ")) and
         len([line for line in lines if line.startswith("maildrop ")]) == 3, "forged lines: notes bear the owner's name", lines)
    t.equal(len([line for line in lines if line.startswith("helper-says ")]), 3,
            "forged lines: the rest is text of the helper's")
    t.equal([e["POSTERN_USER"] for e in journal(mark, "") if e.get("POSTERN_EVENT") in ("login", "session-end")], ["alice"] * 2,
            "forged lines: login and end are alice's")
    configure(failure_delay=0)


def long_host_name(t):
    """The host name in a dot-lock has 64 characters (LP 941968: liblockfile's buffer)."""
    before = socket.gethostname()
    name = "h" * 64
    socket.sethostname(name)
    mail.make_mbox("alice", mail.MADE)
    with Pop().enter("alice") as pop:
        pop.must("DELE 1")
        pop.must("QUIT")
    t.equal(left_behind(), "", "a host name of 64 characters: locked, updated, unlocked")
    write("/var/mail/alice.lock", "%d\n%s\n" % (2 ** 31 - 1, name))
    configure(failure_delay=0, lock_timeout=0)
    answer = Pop().greet().login("alice", "secret")
    t.ok(answer[:4] in (b"+OK ", b"-ERR"),
         "a host name of 64 characters, a process number of ten digits in a foreign lock: an answer", answer)
    socket.sethostname(before)
    all_gone()
    if os.path.exists("/var/mail/alice.lock"):
        os.unlink("/var/mail/alice.lock")
    configure(failure_delay=0)


def dead_session(t):
    """kill -9 of the session at each point: the helper ends within two seconds, nothing stays."""
    mail.make_mbox("alice", mail.MADE)
    before = mail.mbox_bytes("alice")
    for what, commands in (("after USER", ["USER alice"]), ("after the login", ["USER alice", "PASS secret"]),
                           ("after DELE", ["USER alice", "PASS secret", "DELE 1"]),
                           ("after UIDL", ["USER alice", "PASS secret", "UIDL 1"])):
        with Pop().greet() as pop:
            for command in commands:
                pop.must(command)
            os.kill(by_role()["session"].pid, signal.SIGKILL)
            t.ok(all_gone(2), "session killed %s: the others end within two seconds" % what)
        t.equal(left_behind(), "", "session killed %s: nothing is left" % what)
    t.ok(mail.mbox_bytes("alice") == before, "session killed: the mailbox is whole")


def run(t):
    configure(failure_delay=0)
    all_gone()
    check_pam.build()
    mail.make_mbox("alice", mail.MADE)
    for check in (missing_descriptors, many_descriptors, callers, not_a_session, failed_drops, keeper_that_cannot_fork,
                  brute_force, alike, forged_lines, long_host_name, dead_session):
        t.section(check)
    wait_for(lambda: not left_behind())
