"""What each process of a connection is and holds at each stage, from /proc; and from strace, in which order it came to be so.

Six processes: monitor and session; the helper as root; the child of it that asks PAM; the helper as the user; the lock keeper
and its watcher.  Stages: greeted, logging in (a PAM module waits), logged in.
"""

import ctypes
import glob
import grp
import os
import pwd
import re
import socket
import subprocess

import check_pam
import mail
from box import (HELPER, PAM, SERVER, Pop, all_gone, configure, journal_mark, left_behind, logged, process_status,
                 processes_at_rest, sh, wait_for)
from check_processes import NO_CAPABILITIES, socket_inodes, tcp_sockets, unix_sockets

NO_CAPABILITY = "0" * 16
UNDER_WAY = 16384  # Linux counts descriptors under way by user, and compares with this limit


def by_role():
    """The processes of the only connection there is."""
    all_of_them = {p.pid: p for p in processes_at_rest()}
    found = {}
    for p in all_of_them.values():
        above = all_of_them.get(p.parent)
        if p.exe == SERVER:
            found["session" if above else "monitor"] = p
        elif above and above.exe == SERVER:
            found["helper"] = p
        elif above and above.parent in all_of_them and all_of_them[above.parent].exe == SERVER:
            found["pam" if p.exe == PAM else "watcher"] = p
        else:
            found["keeper"] = p
    return found


def kind_of(fd, what, p):
    """A descriptor in one word: what it is for."""
    inode = socket_inodes(p).get(fd)
    if inode is not None:
        return "client" if inode in tcp_sockets() else "pair" if inode in unix_sockets(5) else "other"
    if what.startswith("/memfd:"):
        return what.split(" ")[0]
    return what.split(":")[0]


def held(p):
    return {fd: kind_of(fd, what, p) for fd, what in p.fds.items()}


def is_dumpable(p):
    """Files in /proc of a process that is not dumpable are root's, whoever it runs as."""
    return os.stat("/proc/%d/io" % p.pid).st_uid != 0


def as_user(uid, function):
    """Whether function() works for that user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            function()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def attach(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) == -1:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")


def check_untraceable(t, p, what):
    """What a debugger of the same user would do (gdb -p, gcore)."""
    for how, function in (("memory", lambda: open("/proc/%d/mem" % p.pid, "rb")),
                          ("environment", lambda: open("/proc/%d/environ" % p.pid)),
                          ("descriptors", lambda: os.listdir("/proc/%d/fd" % p.pid)), ("ptrace", lambda: attach(p.pid))):
        t.ok(not as_user(p.uids[0], function), "%s: %s is closed to its own user" % (what, how))


def limits(p):
    with open("/proc/%d/limits" % p.pid) as f:
        return {line[:26].strip(): line[26:].split()[:2] for line in f.readlines()[1:]}


def check_identity(t, p, what, uid, gid, groups, capabilities=NO_CAPABILITY):
    t.equal((p.uids, p.gids, sorted(p.groups)), ([uid] * 4, [gid] * 4, sorted(groups)), what + ": ids and groups")
    t.equal([p.status[k] for k in NO_CAPABILITIES], [capabilities, capabilities, NO_CAPABILITY, NO_CAPABILITY],
            what + ": capabilities")


def check_walls(t, p, what, seccomp, no_new_privs):
    """no_new_privs, and whether there is a filter beside those that all processes here have (systemd-nspawn's)."""
    outside = int(process_status(os.getpid())["Seccomp_filters"])
    t.equal((p.status["NoNewPrivs"], int(p.status["Seccomp_filters"]) - outside), (str(int(no_new_privs)), int(seccomp)),
            "%s: %s no_new_privs, %s filter" % (what, "" if no_new_privs else "not", "a" if seccomp else "no"))
    t.equal(limits(p)["Max core file size"], ["0", "0"], what + ": no core file")


def check_service(t, p, what, confined):
    """What monitor and session have in common."""
    postern = pwd.getpwnam("postern")
    check_identity(t, p, what, postern.pw_uid, postern.pw_gid, [postern.pw_gid])
    check_walls(t, p, what, confined, confined)
    t.ok(not is_dumpable(p), what + ": not dumpable")


def check_monitor(t, p, what, descriptors):
    check_service(t, p, what, False)
    got = held(p)
    t.equal(([got.get(n) for n in range(3)], sorted(got[fd] for fd in got if fd > 2)), (["/dev/null"] * 3, sorted(descriptors)),
            what + ": descriptors")


def check_session(t, p, what, more):
    check_service(t, p, what, True)
    have = limits(p)
    t.equal([have[k] for k in ("Max processes", "Max open files", "Max file size")],
            [["0", "0"], [str(UNDER_WAY)] * 2, ["0", "0"]], what + ": no process, no file, room for descriptors under way")
    got = held(p)
    t.equal(([got.get(n) for n in range(4)], [got[fd] for fd in sorted(got) if fd > 3]),
            (["client", "client", "/dev/null", "pair"], more), what + ": descriptors")


def bounding_set(p):
    return p.status["CapBnd"]


def greeted(t):
    with Pop().greet():
        found = by_role()
        t.equal(sorted(found), ["monitor", "session"], "greeted: monitor and session")
        check_monitor(t, found["monitor"], "greeted, monitor", ["pair"])
        check_session(t, found["session"], "greeted, session", [])
        check_untraceable(t, found["monitor"], "greeted, monitor")
        check_untraceable(t, found["session"], "greeted, session")


def logging_in(t):
    check_pam.use("wait")
    with Pop().greet() as pop:
        pop.must("USER alice")
        pop.send("PASS secret")
        check_pam.left_pid("wait")
        found = by_role()
        t.equal(sorted(found), ["helper", "monitor", "pam", "session"], "logging in: four processes")
        check_monitor(t, found["monitor"], "logging in, monitor", ["pair"])
        check_session(t, found["session"], "logging in, session", [])
        for role, session, variables, arguments in (("helper", "pair", [b"REMOTE_ADDR=127.0.0.1"], b"postern-helper\0"),
                                                    ("pam", "/dev/null", [b"PATH=/usr/bin:/bin"], b"postern-pam\0")):
            p, what = found[role], "logging in, " + ("helper as root" if role == "helper" else "the program that asks PAM")
            check_identity(t, p, what, 0, 0, [], bounding_set(p))
            check_walls(t, p, what, False, False)
            got = held(p)
            t.equal({n: got.get(n) for n in range(4)}, {0: "/dev/null", 1: "/dev/null", 2: "pair", 3: session}, what + ": 0 to 3")
            t.equal([got[fd] for fd in got if fd > 3], ["pipe"], what + ": beside them the verdict's pipe")
            with open("/proc/%d/environ" % p.pid, "rb") as f:
                t.equal(sorted(word for word in f.read().split(b"\0") if b"=" in word), variables, what + ": started with one variable")
            with open("/proc/%d/cmdline" % p.pid, "rb") as f:
                t.equal(f.read(), arguments, what + ": no name, no password in its arguments")
            t.equal((os.readlink("/proc/%d/cwd" % p.pid), p.status["Umask"]), ("/", "0077"),
                    what + ": working directory and umask")
        open(check_pam.LEFT + "go", "w").close()
        t.equal(pop.line(), check_pam.RIGHT, "logging in: and then it goes on")
    configure(failure_delay=0)


def logged_in(t):
    mail.make_mbox("alice", mail.MADE)
    mail.leave_stale_lock("alice")  # so that the keeper has work
    alice, spool = pwd.getpwnam("alice"), grp.getgrnam("mail").gr_gid
    with Pop().enter("alice") as pop:
        pop.many("UIDL")
        found = by_role()
        t.equal(sorted(found), ["helper", "keeper", "monitor", "session", "watcher"], "logged in: five processes")
        check_monitor(t, found["monitor"], "logged in, monitor", ["pair"])
        check_session(t, found["session"], "logged in, session", ["/memfd:postern-table", "/var/mail/alice"])
        p = found["helper"]
        check_identity(t, p, "logged in, helper", alice.pw_uid, alice.pw_gid, os.getgrouplist("alice", alice.pw_gid))
        got = held(p)
        t.equal({n: got.get(n) for n in range(4)}, {0: "/dev/null", 1: "/dev/null", 2: "pair", 3: "pair"},
                "logged in, helper: 0 to 3")
        t.equal({w for fd, w in got.items() if fd > 3 and not w.startswith("/var/lib/postern/alice")},
                {"pair", "/var/mail/alice", "/memfd:postern-table"},
                "logged in, helper: the keeper's socket, the mailbox, its state, the table")
        for role in ("keeper", "watcher"):
            p, what = found[role], "logged in, " + role
            check_identity(t, p, what, alice.pw_uid, spool, [])
            got = held(p)
            t.equal({n: w for n, w in got.items() if n != 3}, {0: "/dev/null", 1: "/dev/null", 2: "pair"}, what + ": 0 to 2")
            t.equal(got.get(3), "pair" if role == "keeper" else None, what + ": 3")
        for role in ("helper", "keeper", "watcher"):
            check_walls(t, found[role], "logged in, " + role, role != "watcher", True)
            t.ok(not is_dumpable(found[role]), "logged in, %s: not dumpable" % role)
            check_untraceable(t, found[role], "logged in, " + role)
        pop.must("QUIT")
    all_gone()


# strace: the order


def has_landlock():
    """Version 2 and up, from Linux 5.19 on."""
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) >= 2


class Traced:
    """A connection whose processes are traced from the start; calls: a list of lines for each of them."""

    def __init__(self, environment=None, cwd="/", script=("USER alice", "PASS secret", "STAT", "RETR 1", "DELE 1", "QUIT")):
        sh("rm -rf /run/traced && mkdir /run/traced")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname(), 60)
            theirs, _ = listener.accept()
        with theirs, open("/run/traced/out", "wb") as out:
            tracer = subprocess.Popen(["strace", "-ff", "-s", "200", "-o", "/run/traced/t", "-u", "postern"] +
                                      ["-E%s=%s" % pair for pair in (environment or {}).items()] + [SERVER],
                                      stdin=theirs, stdout=theirs, stderr=out, cwd=cwd)
        with ours, ours.makefile("rb") as f:
            self.answers = [f.readline()]
            for line in script:
                ours.sendall(line.encode() + b"\r\n")
                self.answers.append(f.readline())
                if line.startswith("RETR") and self.answers[-1].startswith(b"+OK"):
                    while f.readline() not in (b".\r\n", b""):
                        pass
        tracer.wait(60)
        self.calls = []
        for path in sorted(glob.glob("/run/traced/t.*"), key=lambda p: int(p.rsplit(".", 1)[1])):
            with open(path, errors="replace") as f:
                self.calls.append(f.read().splitlines())

    def process(self, pattern):
        """The calls of the one process that made such a call."""
        found = [calls for calls in self.calls if any(re.search(pattern, line) for line in calls)]
        return found[0] if len(found) == 1 else []


def place(calls, pattern, start=0):
    """Where the first such call stands; -1."""
    return next((n for n, line in enumerate(calls) if n >= start and re.search(pattern, line)), -1)


def in_order(calls, *patterns):
    """Whether such calls come one after the other; what is missing as text."""
    at = -1
    for pattern in patterns:
        at = place(calls, pattern, at + 1)
        if at == -1:
            return "no " + pattern
    return ""


WALLS = [r"^prctl\(PR_SET_NO_NEW_PRIVS, 1, .* = 0", r"^landlock_restrict_self\(.* = 0",
         r"^seccomp\(SECCOMP_SET_MODE_FILTER, .* = 0"]


def walls():
    return WALLS if has_landlock() else [WALLS[0], WALLS[2]]


def traced(t):
    """The acceptance of the sandbox: what was on before the first octet of the client was read."""
    if not has_landlock():
        t.skip("Landlock", "this kernel has no Landlock of version 2")
    mail.make_mbox("alice", mail.MADE)
    trace = Traced()
    t.equal([a[:3] for a in trace.answers], [b"+OK"] * 7, "strace: a session from the greeting to QUIT")
    session = trace.process(r"^read\(0, \"USER alice")
    t.equal(in_order(session, r"^close_range\(4, ", r"^prctl\(PR_SET_DUMPABLE, .* = 0", r"RLIMIT_NOFILE", r"RLIMIT_NPROC",
                     r"RLIMIT_CORE",
                     *walls(), r"^sendto\(1, \"\+OK POP3", r"^read\(0, "), "",
            "strace, session: limits, no_new_privs, Landlock, filter, then the greeting, then the first read of the client")
    t.equal(place(session[:place(session, r"^seccomp\(")], r"^(read|recv|recvfrom|recvmsg)\(0"), -1,
            "strace, session: no read before the filter")
    monitor = trace.process(r"^execve\(\"" + SERVER)
    t.equal(place(monitor, r"^(read|recv\w*|pread64|readv)\([01],|PR_SET_NO_NEW_PRIVS"), -1,
            "strace, monitor: never reads the client, never sets no_new_privs")
    check_root_phase(t, trace)
    opened = [line for calls in trace.calls for line in calls
              if re.match(r'(open|openat|stat|access)\((AT_FDCWD, )?"(?!/)', line)]
    t.equal([line for line in opened if not re.search(r'"\./\.lk|"\.", .*O_PATH|^stat\("\.",', line)], [],
            "strace: but for the lock keeper's, who works in the spool, no path is relative to a working directory")


def check_root_phase(t, trace):
    helper = trace.process(r"^execve\(\"" + HELPER)
    login = place(helper, r"^recvmsg\(3, .*secret")
    t.equal(in_order(helper[:login], r"^close_range\(4, 4294967295, 0\) += 0", r"^rt_sigaction\(SIGHUP, \{sa_handler=SIG_DFL",
                     r"^setitimer\(ITIMER_REAL",
                     r"^rt_sigprocmask\(SIG_SETMASK, \[\]", r"^umask\(077\)", r"^chdir\(\"/\"\) += 0", r"^setsid\(",
                     r"SO_PEERCRED",
                     r"^setgroups\(0, ", r"^setresgid\(0, 0, 0\) += 0", r"^setresuid\(0, 0, 0\) += 0", r"RLIMIT_CORE",
                     r"PR_SET_DUMPABLE, SUID_DUMP_DISABLE.* = 0", r"postern.conf"), "",
            "strace, helper as root: the sequence of helper/sanitize.c, before LOGIN is received")
    drop = helper[login:]
    uid = pwd.getpwnam("alice").pw_uid
    t.equal(in_order(drop, r"^setgroups\([1-9]\d*, .* = 0", r"^setresgid\((%d), \1, \1\) += 0" % uid,
                     r"^setresuid\((%d), \1, \1\) += 0" % uid,
                     r"^capset\(.*effective=0, permitted=0, inheritable=0.* = 0",
                     r"^getresuid\(\[%d\], \[%d\], \[%d\]\)" % (uid, uid, uid),
                     r"^getresgid", r"^setuid\(0\) += -1 EPERM", r"^set(re|e)?s?uid\(.*0.*\) += -1 EPERM",
                     r"^setgid\(0\) += -1 EPERM",
                     r"^prctl\(PR_SET_DUMPABLE, SUID_DUMP_DISABLE.* = 0", *walls(), r"\"/var/mail/alice\"|\"alice\""), "",
            "strace, helper: groups, gid, uid, capabilities; read back; root not to be had; dumpable off; the walls; then the mailbox")
    root = helper[:login + place(drop, r"^setresuid\(")]
    t.equal([line for line in root if "/var/mail/alice" in line and line.startswith("open")], [],
            "strace, helper as root: opens no mailbox")
    child = trace.process(r"^prctl\(PR_SET_PDEATHSIG, SIGKILL")
    t.equal([line for line in child if re.match(r"open.*(/var/mail|/home)", line)], [],
            "strace, the child that asks PAM: opens no mailbox")


# Variables of the libraries; each names a file that would be opened.
VARIABLES = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "LOCPATH", "NLSPATH", "TZ", "TZDIR", "TMPDIR",
             "MALLOC_TRACE",
             "RES_OPTIONS", "HOSTALIASES", "LOCALDOMAIN", "KRB5_CONFIG", "OPENSSL_CONF", "LDAPCONF",
             "TERMINFO", "GETCONF_DIR", "RESOLV_HOST_CONF", "HOME", "XDG_CONFIG_HOME")


def environment(t):
    """A hostile environment, and a working directory full of configuration: the helper opens nothing that it would not else."""
    hostile = "/srv/hostile"
    sh("mkdir -p %s && chmod 755 %s" % (hostile, hostile))
    for name in ("DB_CONFIG", ".pam_environment", "postern.conf", "users", "x"):
        sh("echo 'authentication = users' >%s/%s" % (hostile, name))
    variables = {name: hostile + "/x" for name in VARIABLES}
    variables.update(GLIBC_TUNABLES="glibc.malloc.mxfast=glibc.malloc.mxfast=A", MALLOC_CHECK_="3", MALLOC_PERTURB_="7",
                     SYSTEMD_LOG_LEVEL="debug",
                     POSTERN_CONF=hostile + "/postern.conf",
                     LANG="de_DE.UTF-8", LC_ALL="../../srv/hostile", PATH=hostile, IFS="/")
    opened = []
    for more, cwd in (({}, "/"), (variables, hostile)):
        mail.make_mbox("alice", mail.MADE)
        trace = Traced(more, cwd)
        t.equal(trace.answers[2][:3], b"+OK", "environment: alice logs in")
        helper = trace.process(r"^execve\(\"" + HELPER)
        opened.append({re.search(r'"([^"]*)"', line).group(1) for line in helper
                       if re.match(r"(open|openat|stat|newfstatat|access|readlink)\(", line)
                       and '"' in line})
    t.equal(sorted(p for p in opened[1] - opened[0] if not re.search(r"/(proc|var/lib/postern/alice|var/mail)\b", p)), [],
            "environment: LD_*, TZ, GCONV_PATH and all the rest: the helper opens nothing new")
    t.equal([p for p in opened[1] if p.startswith(hostile)], [], "environment: and nothing of what they name")


# A refused system call


def inject(pid, call):
    """From now on that process's `call` is getppid(2), which no filter here allows."""
    out = open("/run/inject", "wb")
    tracer = subprocess.Popen(["strace", "-q", "-p", str(pid), "-e", "trace=" + call, "-e",
                               "inject=%s:retval=0:syscall=getppid" % call],
                              stdout=out, stderr=subprocess.STDOUT)
    wait_for(lambda: process_status(pid)["TracerPid"].strip() != "0")
    return tracer


def refused_calls(t):
    for role, call, command, line in (
            ("session", "pread64", "RETR 2", r"^session-end how=sandbox .*call=getppid"),
            ("helper", "sendmsg", "UIDL", r"^maildrop .*sandbox call=getppid"),
            ("keeper", "open,openat", "QUIT", r"^maildrop .*sandbox call=getppid")):
        mail.make_mbox("alice", mail.MADE)
        mail.leave_stale_lock("alice")  # so that the keeper has work
        before = mail.mbox_bytes("alice")
        mark = journal_mark()
        with Pop().enter("alice") as pop:
            pop.must("DELE 1")
            tracer = inject(by_role()[role].pid, call)
            answer = pop.ask(command)
            if role == "session":
                t.ok(answer == b"" and pop.at_end(), "refused call, session: the connection ends without a word", answer)
            else:
                t.ok(answer.startswith(b"-ERR [SYS/TEMP] "), "refused call, %s: the client is told [SYS/TEMP]" % role, answer)
        tracer.wait(20)
        entry = logged(mark, line)
        t.ok(entry, "refused call, %s: the log names it" % role, "no line " + line)
        t.equal(left_behind(), "", "refused call, %s: nothing is left" % role)
        t.ok(mail.mbox_bytes("alice") == before, "refused call, %s: nothing is deleted" % role)


def run(t):
    configure(failure_delay=0)
    all_gone()
    check_pam.build()
    for check in (greeted, logging_in, logged_in, traced, environment, refused_calls):
        t.section(check)
    configure(failure_delay=0)
