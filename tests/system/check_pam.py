"""PAM modules that misbehave: what the client is told, what is logged, and that nothing of them is left.

The module is pam_odd.c, built here; each of its ways stands in front of pam_unix in a service of its own.  All is tried twice:
in a postern-pam for each login, and in one that stays (check_pam_stays.py).
"""

import glob
import os
import pwd
import signal
import threading
import time

import check_pam_stays
import mail
from check_processes import roles
from box import (HELPER, PAM, PAM_SOCKET, SOURCES, WRONG, Pop, all_gone, configure, fetch_all, journal, journal_mark, left_behind,
                 logged, processes, sh, try_login, wait_for, write)

LEFT = "/run/pam-odd/"
TEMPORARY = b"-ERR [SYS/TEMP] "
PERMANENT = b"-ERR [SYS/PERM] "
RIGHT = b"+OK maildrop locked and ready\r\n"

# LOGIN_SECONDS (common/limits.h), and what a loaded machine may need on top.
LOGIN_SECONDS = 30
SLACK = 20


def build():
    """Installs the modules, of PAM and of the name service, beside the others."""
    folder = os.path.dirname(glob.glob("/lib/*/security/pam_unix.so")[0])
    # nodelete: its thread is still there after pam_end(3)
    sh("cc -Wall -Werror -shared -fPIC -Wl,-z,nodelete -o %s/pam_odd.so %s/tests/system/pam_odd.c -lpam" % (folder, SOURCES))
    sh("cc -Wall -Werror -shared -fPIC -o %s/../libnss_odd.so.2 %s/tests/system/nss_odd.c" % (folder, SOURCES))


def use(way):
    """The service in which the module behaves that way."""
    write("/etc/pam.d/postern-odd", "auth required pam_odd.so %s\nauth required pam_unix.so nodelay\n"
                                    "account required pam_unix.so\n" % way)
    configure(failure_delay=0, pam_service="postern-odd")
    sh("rm -rf " + LEFT)


def left_pid(what):
    """The process that a module has left, or tried to."""
    def read():
        try:
            with open(LEFT + what) as f:
                return int(f.read() or 0)
        except FileNotFoundError:
            return 0
    return wait_for(read)


def ended(pid):
    return wait_for(lambda: not os.path.exists("/proc/%d" % pid))


def login_lines(mark):
    """What the log has of a login, but for the text of modules."""
    logged(mark, "^login")
    return [e["MESSAGE"].split(' user="')[0] for e in journal(mark, "login-failed") + journal(mark, "login")]


def staying():
    return os.path.exists(PAM_SOCKET)


def refused(t, way, answer, reason):
    """One answer, one line, nothing left."""
    use(way)
    mark = journal_mark()
    got = try_login("alice")
    t.ok(got.startswith(answer), "PAM module: %s: the client is told %s" % (way, answer.decode().strip()), got)
    t.equal(left_behind(), "", "PAM module: %s: nothing is left" % way)
    logged(mark, "^session-end")
    if staying():
        reason = reason.replace("crashed", "failed")  # whose child it was is not the helper's to know
    t.equal(login_lines(mark), ["login-failed reason=" + reason], "PAM module: %s: one line says why" % way)


class Hanging(threading.Thread):
    """A login that the module lets hang; what the client sees of it."""

    def __init__(self, way, user="alice"):
        super().__init__()
        self.way, self.answer, self.seconds, self.closed = way, b"", 0, False
        if user == "alice":
            use(way)
        else:
            configure(failure_delay=0, authentication=way)
        self.pop = Pop(timeout=LOGIN_SECONDS + SLACK).greet()
        self.pop.must("USER " + user)
        self.began = time.monotonic()
        self.pop.send("PASS secret")
        self.pid = left_pid(way) if user == "alice" else 0
        if not self.pid:
            time.sleep(1)  # it has read the settings by then
        self.start()

    def run(self):
        with self.pop:
            self.answer = self.pop.line()
            self.seconds = time.monotonic() - self.began
            self.closed = self.pop.at_end()


def hanging(t):
    """A module that never comes back, and hears no signal but SIGKILL; another that stops itself; and a name service that does not
    answer."""
    mark = journal_mark()
    sh("cp /etc/nsswitch.conf /run/nsswitch && sed -i -E 's/^(passwd|shadow):.*/\\1: files odd/' /etc/nsswitch.conf")
    clients = [Hanging("hang"), Hanging("stop"), Hanging("pam", "nss-hangs")]
    for client in clients:
        client.join()
        what = "%s: %s: " % ("PAM module" if client.pid else "name service that hangs", client.way)
        t.ok(client.answer.startswith(TEMPORARY) and client.closed, what + "the client is told [SYS/TEMP]", client.answer)
        t.ok(LOGIN_SECONDS - 1 < client.seconds < LOGIN_SECONDS + SLACK, what + "after 30 seconds", client.seconds)
        if client.pid:
            t.ok(ended(client.pid), what + "it is killed")
    t.equal(left_behind(), "", "PAM module: hang, stop: nothing is left")
    t.equal(login_lines(mark), ["login-failed reason=timeout"] * len(clients), "PAM module: hang, stop: one line each says why")
    sh("cp /run/nsswitch /etc/nsswitch.conf")


def abandoned(t):
    """The session or all of them end while the module hangs: nobody waits for the 30 seconds to pass."""
    for who in ("session", "monitor", "helper"):
        use("hang")
        with Pop().greet() as pop:
            pop.must("USER alice")
            pop.send("PASS secret")
            pid = left_pid("hang")
            os.kill(roles()[who].pid, signal.SIGKILL)
            t.ok(ended(pid), "PAM module: hang, %s killed: the module is killed at once" % who)
            t.ok(wait_for(lambda: not [p for p in processes() if p.exe == HELPER]),
                 "PAM module: hang, %s killed: no helper" % who)
        t.equal(left_behind(), "", "PAM module: hang, %s killed: nothing is left" % who)


def stopped_under_way(t):
    """Somebody restarts the postern-pam that stays: who was asking is told to come again."""
    if not staying():
        return
    use("hang")
    mark = journal_mark()
    with Pop().greet() as pop:
        pop.must("USER alice")
        pop.send("PASS secret")
        pid = left_pid("hang")
        sh("systemctl stop postern-pam.service")
        t.ok(pop.line().startswith(TEMPORARY), "postern-pam.service stopped under way: the client is told [SYS/TEMP]")
    t.ok(ended(pid), "postern-pam.service stopped under way: the module is killed")
    t.equal(login_lines(mark), ["login-failed reason=failed"], "postern-pam.service stopped under way: one line says why")


def asking_for_the_account(t):
    """PAM has said yes, and the name service is slow: it is asked by nobody who is root, and not longer than somebody wants to know."""
    write("/etc/pam.d/postern-permit", "auth required pam_permit.so\naccount required pam_permit.so\n")
    configure(failure_delay=0, pam_service="postern-permit")
    sh("cp /etc/nsswitch.conf /run/nsswitch && sed -i -E 's/^(passwd|shadow):.*/\\1: files odd/' /etc/nsswitch.conf")
    postern = pwd.getpwnam("postern").pw_uid
    with Pop().greet() as pop:
        pop.must("USER nss-hangs")
        pop.send("PASS secret")
        asks = wait_for(lambda: next((p for p in processes() if p.exe == PAM and p.uids == [postern] * 4 and
                                      p.status["NoNewPrivs"] == "1"), None))
        t.ok(asks, "postern-pam asks the name service as the account postern, without a way back", processes())
        t.equal((asks.groups, {asks.status[n] for n in ("CapPrm", "CapEff")}), ([], {"0" * 16}), "with no group, no capability")
        t.ok(os.stat("/proc/%d/io" % asks.pid).st_uid == 0, "and nobody can look into it")
        os.kill(next(p.pid for p in processes() if p.exe == HELPER), signal.SIGKILL)
        t.ok(ended(asks.pid), "and it is killed when the helper is gone")
    t.equal(left_behind(), "", "nothing is left of it")
    sh("cp /run/nsswitch /etc/nsswitch.conf")


def missing(t):
    """An installation that is not complete."""
    use("print")
    sh("mv %s %s.away" % (PAM, PAM))
    mark = journal_mark()
    t.ok(try_login("alice").startswith(PERMANENT), "without postern-pam the client is told [SYS/PERM]")
    t.ok(logged(mark, '^note .*pam-program path="%s" error="No such file or directory"$' % PAM), "the log says what is missing")
    t.equal(login_lines(mark), ["login-failed reason=pam-program"], "and that nobody was let in for it")
    sh("mv %s.away %s" % (PAM, PAM))
    t.ok(try_login("alice").startswith(b"+OK"), "and with it they are")


def refusing(t):
    for way, answer, reason in (
            ("crash", TEMPORARY, "crashed"), ("exit", TEMPORARY, "failed"), ("close", TEMPORARY, "failed"),
            ("three-questions", PERMANENT, "pam-conversation"), ("ask-again", PERMANENT, "pam-conversation"),
            ("sixteen-questions", PERMANENT, "pam-conversation"), ("no-such-way", TEMPORARY, "pam-system"),
            ("kill", TEMPORARY, "crashed"), ("scribble", TEMPORARY, "failed"), ("vanish", TEMPORARY, "failed")):
        refused(t, way, answer, reason)


def children(t):
    """Children that stay: in the process group they end with the login, in a session of their own with the connection."""
    for way in ("fork", "program", "daemon"):
        use(way)
        mark = journal_mark()
        with Pop().enter("alice") as pop:
            pid = left_pid(way)
            t.ok(pid, "PAM module: %s: the module has left a child" % way)
            if way != "daemon":
                t.ok(ended(pid), "PAM module: %s: the child that stays is ended with the login" % way)
            t.ok(fetch_all(pop)[1], "PAM module: %s: the session goes on" % way)
            pop.must("QUIT")
        if way == "daemon" and staying():
            t.ok(os.path.exists("/proc/%d" % pid), "PAM module: daemon: the child is what the service keeps")
            sh("systemctl stop postern-pam.service")
        t.ok(ended(pid), "PAM module: %s: the child that stays is gone" % way)
        t.equal(left_behind(), "", "PAM module: %s: nothing is left" % way)
        t.equal(login_lines(mark), ["login"], "PAM module: %s: one line, of the login" % way)


def descriptors(t):
    use("leak")
    with Pop().enter("alice") as pop:
        held = [what for p in processes() for what in p.fds.values()]
        t.equal([w for w in held if "shadow" in w], [], "PAM module: leak: no process holds what the module opened")
        t.ok(fetch_all(pop)[1], "PAM module: leak: the session goes on")
        pop.must("QUIT")
    t.equal(left_behind(), "", "PAM module: leak: nothing is left")


def another_user(t):
    """The name that the stack ends with is the one that is served."""
    write("/etc/pam.d/postern-odd", "auth required pam_unix.so nodelay\nauth required pam_odd.so bob\n"
                                    "account required pam_unix.so\n")
    configure(failure_delay=0, pam_service="postern-odd")
    mark = journal_mark()
    with Pop().enter("alice") as pop:
        t.equal(fetch_all(pop)[0], [mail.wire(m) for m in mail.maildir_messages("bob")],
                "PAM module: bob: bob's mail is served")
        pop.must("QUIT")
    t.ok(logged(mark, '^login user="bob" '), "PAM module: bob: and the log says bob")
    for way, reason in (("path", "unknown"), ("root", "uid")):
        write("/etc/pam.d/postern-odd", "auth required pam_odd.so %s\naccount required pam_permit.so\n" % way)
        mark = journal_mark()
        t.equal(try_login("alice"), WRONG, "PAM module: %s: the client is told what all are told" % way)
        t.ok(logged(mark, "^login-failed reason=%s " % reason), "PAM module: %s: the log says why" % way)
        t.equal(left_behind(), "", "PAM module: %s: nothing is left" % way)


def printing(t):
    """What a module prints is no answer to the client, and no line of the log's own."""
    use("print")
    mark = journal_mark()
    with Pop().greet() as pop:
        pop.must("USER alice")
        answer = pop.ask("PASS secret")
        t.equal(answer, RIGHT, "PAM module: print: the client hears nothing of it")
        t.ok(fetch_all(pop)[1], "PAM module: print: the session goes on")
        pop.must("QUIT")
    entry = logged(mark, "^helper-says ")
    t.ok(entry and 'text="the module complains\\x0asession-end how=quit user=\\x22forged\\x22' in entry["MESSAGE"],
         "PAM module: print: standard error is logged in one line, escaped", entry and entry["MESSAGE"])
    logged(mark, '^session-end .*user="alice"')
    t.equal([e["POSTERN_USER"] for e in journal(mark, "session-end")], ["alice"], "PAM module: print: no line is forged")


def identity(t):
    """A module that gives up root leaves a child that can no longer become the user."""
    use("ids")
    mark = journal_mark()
    answer = try_login("alice")
    t.ok(not answer.startswith(b"+OK"), "PAM module: ids: the login is refused", answer)
    t.equal(left_behind(), "", "PAM module: ids: nothing is left")
    t.ok(logged(mark, "^(login-failed|note helper-gives-up) "), "PAM module: ids: the log says so")


MODULES = (refusing, children, descriptors, another_user, printing, identity, abandoned, stopped_under_way, asking_for_the_account,
           hanging)


def run(t):
    configure(failure_delay=0)
    all_gone()
    build()
    mail.make_mbox("alice", mail.MADE)
    t.section(check_pam_stays.begin)
    with check_pam_stays.out_of_reach():
        for check in (missing, ) + MODULES:
            t.section(check)
        t.section(check_pam_stays.has_ended)
    for check in MODULES:
        t.section(check)
    check_pam_stays.run(t)
    check_pam_stays.end()
    configure(failure_delay=0)
