"""The units' directives: that each restriction is in force, and that what breaks the helper is explained in the log."""

import contextlib
import os
import re
import socket
import struct

import mail
from box import (HELPER, SERVER, SOURCES, Pop, all_gone, drop_in, fetch_all, journal_mark, left_behind, logged, processes, sh,
                 try_login, units, write)

# Each implies no_new_privs for a service with User= in systemd before 255.
BREAKING = ("NoNewPrivileges=yes", "DynamicUser=yes", "LockPersonality=yes", "MemoryDenyWriteExecute=yes",
            "PrivateDevices=yes", "ProtectClock=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "RestrictAddressFamilies=AF_UNIX",
            "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native",
            "SystemCallFilter=~@mount", "SystemCallLog=ptrace")

PER_SOURCE = 32
CAPABILITIES = {"SETUID": 7, "SETGID": 6, "CHOWN": 0, "SYS_RESOURCE": 24, "KILL": 5, "DAC_OVERRIDE": 1, "AUDIT_WRITE": 29}


def monitor():
    """The first process of the only session there is."""
    return next(p for p in processes() if p.exe == SERVER and p.parent == 1)


def inside(pid, command):
    """Runs a command with that process's view of the file system."""
    return sh(["nsenter", "--mount", "--target=%d" % pid, "sh", "-c", command], check=False)


def in_force(t):
    with Pop().enter("alice") as pop:
        m = monitor()
        with open("/proc/1/status") as f:
            machine = int(re.search(r"^CapBnd:\s+(\w+)", f.read(), re.M).group(1), 16)
        t.equal(int(m.status["CapBnd"], 16), machine & sum(1 << n for n in CAPABILITIES.values()),
                "CapabilityBoundingSet: of these seven those that the machine has, and no other")
        t.equal(m.status["Umask"], "0077", "UMask")
        with open("/proc/%d/limits" % m.pid) as f:
            t.ok(re.search(r"Max core file size +0 +0 ", f.read()), "LimitCORE")
        for space in ("mnt", "ipc"):
            t.ok(os.readlink("/proc/%d/ns/%s" % (m.pid, space)) != os.readlink("/proc/1/ns/" + space),
                 "the session has its own %s namespace" % space)
        t.ok(inside(m.pid, "touch /usr/x /etc/x 2>&1; ls /usr/x /etc/x").returncode != 0, "ProtectSystem: /usr, /etc read-only")
        t.equal(inside(m.pid, "ls -A /tmp /var/tmp").stdout.split(), ["/tmp:", "/var/tmp:"], "PrivateTmp: empty ones")
        t.ok(inside(m.pid, "mkdir /sys/fs/cgroup/x 2>&1").returncode != 0, "ProtectControlGroups")
        with open("/proc/%d/mountinfo" % m.pid) as f:
            proc = [line for line in f if " /proc " in line][-1]
        t.ok("subset=pid" in proc and "hidepid=" in proc, "ProcSubset, ProtectProc", proc)
        name = units("pop3@*")[0][0]
        shown = sh(["systemctl", "show", name, "-p", "TasksMax,MemoryMax,DevicePolicy,KeyringMode,RemoveIPC,CollectMode,"
                    "RuntimeMaxUSec,TimeoutStopUSec"]).stdout.split("\n")
        for line in ("TasksMax=16", "MemoryMax=2147483648", "DevicePolicy=closed", "KeyringMode=private", "RemoveIPC=yes",
                     "CollectMode=inactive-or-failed", "RuntimeMaxUSec=12h", "TimeoutStopUSec=30s"):
            t.ok(line in shown, line, shown)
        pop.must("QUIT")


def refused_for(t, what, pattern):
    mark = journal_mark()
    answer = try_login("alice")
    t.ok(answer.startswith(b"-ERR [SYS/PERM] "), what + ": logins are refused for good", answer)
    entry = logged(mark, pattern)
    t.ok(entry, what + ": the log says why")


def no_new_privs(t):
    """Alone, as the manual warns; systemctl show calls all of them NoNewPrivileges=no."""
    if int(sh("systemctl --version").stdout.split()[1]) >= 255:
        t.skip("directives that imply no_new_privs", "from systemd 255 on they do not")
        return
    for directive in BREAKING:
        with drop_in("[Service]\n%s\n" % directive):
            refused_for(t, directive, "^note .*no_new_privs")


@contextlib.contextmanager
def changed(change, back):
    """The system changed by a shell command, for as long as it lasts."""
    sh(change)
    try:
        yield
    finally:
        sh(back)


def without_setuid(t):
    folder = os.path.dirname(HELPER)
    with changed("mount --bind {0} {0} && mount -o remount,bind,nosuid {0}".format(folder), "umount " + folder):
        refused_for(t, "a nosuid mount", "^note .*nosuid")
    with changed("chmod 755 " + HELPER, "chmod 4710 " + HELPER):
        refused_for(t, "a helper that is not setuid", "^note .*not setuid")
    with changed("mv {0} {0}.away".format(HELPER), "mv {0}.away {0}".format(HELPER)):
        refused_for(t, "a missing helper", "^helper-failed .*" + HELPER)
    with drop_in("[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_CHOWN\n"):
        refused_for(t, "a bounding set without setuid", "^note .*capabilities")
    t.ok(try_login("alice").startswith(b"+OK"), "and when all is mended, alice gets in")


def strict_sessions(t):
    mail.make_mbox("alice", mail.MADE)
    mail.make_maildir("bob", mail.MADE)
    for user in ("alice", "bob"):
        with Pop().enter(user) as pop:
            t.equal(fetch_all(pop), ([mail.wire(m) for m in mail.MADE], True), "strict drop-in: %s's messages" % user)
            pid = monitor().pid
            t.equal(inside(pid, "for d in / /usr /etc /var /srv /run/x; do touch $d/x && echo $d; done 2>/dev/null").stdout, "",
                    "strict drop-in: nothing but mail can be written")
            t.ok(os.readlink("/proc/%d/ns/net" % pid) != os.readlink("/proc/1/ns/net"), "strict drop-in: no network")
            pop.must("DELE 1")
            pop.must("QUIT")
        all_gone()
    with Pop().enter("alice") as pop:
        t.equal(fetch_all(pop)[0], [mail.wire(m) for m in mail.MADE[1:]], "strict drop-in: what alice deleted is gone")
    t.equal(mail.maildir_messages("bob"), mail.MADE[1:], "strict drop-in: what bob deleted is gone")


def exposure():
    """The figure of systemd-analyze security."""
    line = sh("systemd-analyze security --no-pager pop3@x.service", check=False).stdout.splitlines()[-1]
    return re.search(r"Overall exposure level for \S+: ([\d.]+)", line).group(1)


def figures_of_the_manual():
    """Shipped, strict, and the version of systemd that they are of: SECURITY in postern(8)."""
    with open(SOURCES + "/man/postern.8") as f:
        m = re.search(r"calls the shipped service\n\.Em ([\d.]+)\n.*\n\.Em ([\d.]+)\n\(systemd (\d+);", f.read())
    return m.groups()


def check_exposure(t, what, got, wanted, of_version):
    version = sh("systemctl --version").stdout.split()[1]
    if version != of_version:
        t.skip("systemd-analyze security, %s: the manual's figure" % what,
               "the manual's is of systemd %s, this is %s and says %s" % (of_version, version, got))
    else:
        t.equal(got, wanted, "systemd-analyze security, %s: the manual's figure" % what)


def strict(t):
    """The drop-in for machines whose accounts and mail are local."""
    shipped, tight, version = figures_of_the_manual()
    check_exposure(t, "as shipped", exposure(), shipped, version)
    with open("/usr/share/postern/pop3-strict.conf") as f:
        text = f.read()
    with drop_in(text):
        check_exposure(t, "strict", exposure(), tight, version)
        strict_sessions(t)


def listen_fds(t):
    """A unit without StandardInput=socket: the connection is descriptor 3."""
    write("/run/systemd/system/fd.socket", "[Socket]\nListenStream=1110\nAccept=yes\n")
    write("/run/systemd/system/fd@.service", "[Unit]\nCollectMode=inactive-or-failed\n[Service]\nUser=postern\n"
                                             "ExecStart=-/usr/sbin/postern\n")
    sh("systemctl daemon-reload && systemctl start fd.socket")
    mark = journal_mark()
    with Pop(port=1110).enter("alice") as pop:
        t.ok(fetch_all(pop)[1], "LISTEN_FDS=1: a session")
        t.equal(pop.ask("QUIT"), b"+OK POP3 server signing off\r\n", "LISTEN_FDS=1: to its end")
    t.ok(logged(mark, '^login user="alice" rip=127.0.0.1 '), "LISTEN_FDS=1: with the client's address")
    sh("systemctl stop fd.socket")
    t.ok(all_gone(), "LISTEN_FDS=1: nothing is left")


def gone_at_once(t):
    """Clients that connect and leave, politely and not, in a burst beyond systemd's default trigger limit."""
    for n in range(300):
        s = socket.create_connection(("127.0.0.1", 110), 10, ("127.0.0.%d" % (40 + n % 100), 0))
        if n % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    t.equal(left_behind(), "", "300 clients that leave at once leave nothing behind")
    t.equal(units("pop3.socket"), [("pop3.socket", "active")], "and the socket listens on")
    t.ok(try_login("alice").startswith(b"+OK"), "and serves")


def per_source(t):
    clients = [Pop(source="127.0.0.7").greet() for _ in range(PER_SOURCE)]
    with Pop(source="127.0.0.7") as one_more:
        t.ok(one_more.at_end(), "connection %d of one address is closed" % (PER_SOURCE + 1))
    with Pop(source="127.0.0.8") as other:
        t.ok(other.greet() and other.login("alice", "secret").startswith(b"+OK"), "another address is served meanwhile")
    for client in clients:
        client.close()
    t.ok(all_gone(), "and they end")
    left_behind()
    t.ok(try_login("alice", source="127.0.0.7").startswith(b"+OK"), "then the first address is served again")


def no_failed_units(t):
    out = sh("systemctl list-units --failed --plain --no-legend --no-pager").stdout
    t.equal([line for line in out.splitlines() if "pop3" in line or "fd@" in line], [], "no unit is left failed")


def run(t):
    for check in (in_force, no_new_privs, without_setuid, strict, listen_fds, gone_at_once, per_source, no_failed_units):
        t.section(check)
