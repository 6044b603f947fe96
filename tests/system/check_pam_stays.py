"""The postern-pam that stays (postern-pam.socket): who may ask it, and that each login is served whatever becomes of it.

check_pam.py has the modules, which it tries with it and without.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

from box import PAM_SOCKET, Pop, configure, drop_in, journal, journal_mark, logged, sh, try_login, units, wait_for, write

# WIRE_ATTEMPT (common/wire.h), which has no fields
ATTEMPT = bytes([96])

# ATTEMPTS_AT_ONCE (pam/stay.c)
AT_ONCE = 32

UNITS = "postern-pam.socket postern-pam.service"
DROP_IN = "/etc/systemd/system/postern-pam.service.d/test.conf"
CONNECT = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect('%s'); " % PAM_SOCKET


def resident():
    """Its process, 0 if there is none."""
    return int(sh("systemctl show -P MainPID postern-pam.service").stdout)


def as_service_user(python):
    return sh(["setpriv", "--reuid", "postern", "--clear-groups", "python3", "-c", python], check=False).stdout


def served(t, what, refuses="", stays=True):
    """A login that has to succeed, what the postern-pam that stays has against answering it itself, and whether one stays then."""
    mark = journal_mark()
    answer = try_login("alice")
    t.ok(answer.startswith(b"+OK"), what + ": a login is served", answer)
    logged(mark, "^session-end")
    sh("journalctl --sync")
    said = [e["MESSAGE"] for e in journal(mark, "note") if " pam-refuses " in e["MESSAGE"]]
    t.equal(said, ['note pam-refuses error="%s"' % refuses] if refuses else [], what + ": what the log says of one that stays")
    t.equal(bool(resident()), stays, what + ": " + ("one stays then" if stays else "none stays"))


@contextlib.contextmanager
def changed(text):
    """The service with these lines added, started anew."""
    write(DROP_IN, text)
    restart()
    try:
        yield
    finally:
        shutil.rmtree(os.path.dirname(DROP_IN))
        restart()


def tasks():
    """What the service consists of."""
    with open("/proc/%d/task/%d/children" % (resident(), resident())) as f:
        return [resident()] + f.read().split()


def restart():
    sh("systemctl daemon-reload; systemctl stop %s; systemctl reset-failed %s; systemctl start postern-pam.socket" % (UNITS, UNITS),
       check=False)


def begin(t):
    sh("systemctl start postern-pam.socket")
    t.ok(not resident(), "postern-pam.socket: started, nobody stays before somebody asks")
    served(t, "postern-pam.socket started")
    with open("/proc/%d/maps" % resident()) as f:
        t.ok("pam_unix.so" in f.read(), "it has PAM's modules loaded")


@contextlib.contextmanager
def out_of_reach():
    """While it lasts, no helper finds the socket, and whoever listens there hears nobody."""
    os.rename(PAM_SOCKET, PAM_SOCKET + ".away")
    try:
        yield
    finally:
        os.rename(PAM_SOCKET + ".away", PAM_SOCKET)


def many(t):
    """Logins by the thousand, two at a time: none is lost.  (One in 2,500 was, when the signal that ends an attempt came with it.)"""
    session = "printf 'USER %s\\r\\nPASS secret\\r\\nQUIT\\r\\n' | /usr/sbin/postern"
    runs = [subprocess.Popen(["sh", "-c", "for n in $(seq 2500); do %s; done | grep -c '^+OK maildrop locked'" % (session % user)],
                             stdout=subprocess.PIPE, text=True) for user in ("alice", "bob")]
    t.equal([r.communicate()[0] for r in runs], ["2500\n"] * 2, "5000 logins: all of them are served")


def has_ended(t):
    """Nobody has asked for a minute, after one in which somebody had and after which it started itself anew."""
    t.ok(wait_for(lambda: not resident(), 150), "with nobody to ask for a minute, it ends")
    began, ended = (int(sh("systemctl show -P %s postern-pam.service" % what).stdout)
                    for what in ("ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic"))
    t.ok(110 < (ended - began) / 1e6, "and not after the minute in which somebody had", (ended - began) / 1e6)
    t.ok("failed" not in dict(units("postern-pam.*")).values(), "without a failed unit")


def answer_to(request, fds):
    """What one that stays says to a helper after its version, of which it tells before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(10)
        s.connect(PAM_SOCKET)
        if len(s.recv(100)) < 6:
            raise RuntimeError("it does not tell its version")
        socket.send_fds(s, [request], fds)
        try:
            return s.recv(100)
        except ConnectionResetError:
            return b""


def for_root_alone(t):
    """Nobody else can ask; and who is root and says nonsense, or nothing, gets no answer and holds nobody up."""
    t.equal(os.stat(PAM_SOCKET).st_mode & 0o7777, 0o600, "postern-pam.socket: for root alone")
    t.ok("PermissionError" in as_service_user(CONNECT), "postern-pam.socket: the service user cannot connect")
    mark = journal_mark()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(PAM_SOCKET)
        for request in (b"", b"x", bytes(100000), ATTEMPT):
            t.equal(answer_to(request, []), b"", "postern-pam.socket: %d octets that are no attempt end the connection" % len(request))
        served(t, "postern-pam.socket: while somebody is connected and says nothing")
    t.ok(logged(mark, '^note pam-refuses error="the caller has no attempt'), "the log says so")
    os.chmod(PAM_SOCKET, 0o666)
    t.equal(as_service_user(CONNECT), "", "postern-pam.socket: with its mode loosened, the service user can connect")
    out = as_service_user(CONNECT + "s.settimeout(10); s.send(b'x'); s.recv(1)")
    t.ok("ConnectionResetError" in out or "BrokenPipeError" in out, "postern-pam.socket: and is hung up on, unread", out)
    t.ok(logged(mark, '^note pam-refuses error="the caller is not root"'), "the log says so")
    os.chmod(PAM_SOCKET, 0o600)


def somebody_elses(t):
    """The helper tells a password to nobody but root: without that, it starts its own."""
    sh("systemctl stop " + UNITS)
    t.ok(not os.path.exists(PAM_SOCKET), "postern-pam.socket: stopped, its path is gone")
    fake = subprocess.Popen(["python3", "-c", "import os, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                             "s.bind('%s')\nos.setuid(65534)\ns.listen(8)\nprint('ready', flush=True)\n"
                             "c = s.accept()[0]\nprint(len(c.recv(100000)), flush=True)\n" % PAM_SOCKET],
                            stdout=subprocess.PIPE, text=True)
    fake.stdout.readline()
    served(t, "a socket of nobody's", stays=False)
    t.equal(fake.stdout.readline(), "0\n", "a socket of nobody's: is told nothing")
    fake.wait()
    os.unlink(PAM_SOCKET)
    sh("systemctl start postern-pam.socket")


def ended_by_others(t):
    restart()
    for what in ("systemctl stop postern-pam.service", "systemctl kill -s KILL postern-pam.service"):
        served(t, "before " + what)
        sh(what)
        t.ok(wait_for(lambda: not resident()), what + ": none stays")
        served(t, "after " + what)


def stopped(t):
    """Frozen, it takes no attempt: nobody waits for more than a moment."""
    pid = resident()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    served(t, "stopped by a signal")
    t.ok(2.5 < time.monotonic() - began < 15, "stopped by a signal: after three seconds", time.monotonic() - began)
    mark = journal_mark()
    os.kill(pid, signal.SIGCONT)
    t.ok(logged(mark, '^note pam-refuses error="the caller has no attempt'), "going on, it finds that nobody is there any more")
    served(t, "going on")


def login_with(*says):
    """A login while somebody listens there who is root and says that.  What a helper has given away to it, and the client's answer."""
    sh("systemctl stop " + UNITS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s, Pop().greet() as pop:
        s.bind(PAM_SOCKET)
        s.listen(8)
        s.settimeout(30)
        pop.must("USER alice")
        pop.send("PASS secret")
        with s.accept()[0] as connection:
            for message in says:
                connection.send(message)
            request, fds, _, _ = socket.recv_fds(connection, 100000, 8) if says else (b"", [], 0, 0)
            for fd in fds:
                os.close(fd)
        os.unlink(PAM_SOCKET)
        answer = pop.line()
    restart()
    return request, len(fds), answer


def another_version(t):
    """The package was upgraded a moment ago: the new helper asks the postern-pam that was started before, and the other way round."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(10)
        s.connect(PAM_SOCKET)
        ready = s.recv(100)
    request, number, answer = login_with(ready)
    t.equal((request, number), (ATTEMPT, 3), "version %r: a helper hands over three descriptors, and nothing beside them" % ready)
    t.ok(answer.startswith(b"-ERR [SYS/TEMP] "), "to one who takes them and ends: the client is told [SYS/TEMP]", answer)
    for what in (ready[:-1], ready[:-1] + b"x", ready + b"x", b"x" + ready[1:], ready[:1], b""):
        request, number, answer = login_with(what)
        t.equal((request, number), (b"", 0), "%r: it hands over none" % what)
        t.ok(answer.startswith(b"+OK"), "%r: a login is served" % what, answer)
    t.ok(login_with()[2].startswith(b"+OK"), "hung up on: a login is served")


def too_many(t):
    """As many as it takes at once, who have not said yet what they want."""
    restart()
    served(t, "before many others")
    with contextlib.ExitStack() as stack:
        for _ in range(AT_ONCE):
            s = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            s.connect(PAM_SOCKET)
        t.ok(wait_for(lambda: len(tasks()) == 1 + AT_ONCE), "%d attempts are under way" % AT_ONCE, tasks())
        served(t, "%d attempts under way" % AT_ONCE, "too many are asking")
    t.ok(wait_for(lambda: len(tasks()) == 1), "and they end with their connections", tasks())
    served(t, "%d attempts that have ended" % AT_ONCE)


def cannot_start(t):
    """It fails, each time after a while; no login waits for it, and systemd gives it up."""
    mark = journal_mark()
    with changed("[Service]\nExecStart=\nExecStart=sh -c 'sleep 2.2; exit 1'\n"):
        for n in (1, 2):
            t.ok(try_login("alice").startswith(b"+OK"), "a postern-pam that cannot start: login %d is served" % n)
        t.ok(wait_for(lambda: not os.path.exists(PAM_SOCKET), 60), "a postern-pam that cannot start: systemd gives the socket up")
        t.ok(("postern-pam.socket", "failed") in units("postern-pam.*"), "and says so", units("postern-pam.*"))
    t.equal(logged(mark, "^login-failed", 1), None, "and no login has failed")


def strict(t):
    """The strict drop-in, in both places: there is nothing in it that keeps one from asking the other."""
    with open("/usr/share/postern/pop3-strict.conf") as f:
        text = f.read()
    with drop_in(text), changed(text):
        served(t, "strict drop-in")
        t.ok(os.readlink("/proc/%d/ns/net" % resident()) != os.readlink("/proc/1/ns/net"), "strict drop-in: no network for PAM")


def no_more_processes(t):
    """As where TasksMax= is reached; by other means, for not every machine that tests has what that takes."""
    with changed("[Service]\nSystemCallFilter=~clone clone3 fork vfork\nSystemCallErrorNumber=EAGAIN\n"):
        served(t, "no process to be had", "Resource temporarily unavailable")


def threads(t):
    """A module that starts a thread when it is loaded: it would not have it after a fork."""
    with open("/etc/pam.d/postern") as f:
        before = f.read()
    write("/etc/pam.d/postern", "auth required pam_odd.so print\n" + before)
    write("/run/pam-odd-thread", "")
    restart()
    mark = journal_mark()
    t.ok(try_login("alice").startswith(b"+OK"), "a module that starts a thread: a login is served")
    t.ok(logged(mark, '^note pam-ends error="a module has started threads'), "a module that starts a thread: the log says so")
    t.ok(wait_for(lambda: not os.path.exists(PAM_SOCKET)), "a module that starts a thread: it does not stay")
    os.unlink("/run/pam-odd-thread")
    write("/etc/pam.d/postern", before)
    restart()


def run(t):
    configure(failure_delay=0)
    for check in (many, for_root_alone, somebody_elses, ended_by_others, stopped, another_version, too_many, cannot_start,
                  strict, no_more_processes, threads):
        t.section(check)


def end():
    sh("systemctl stop " + UNITS)
