"""inetd, xinetd and tcpserver, each with the very lines of postern(8)."""

import os
import re
import shutil
import signal
import socket
import subprocess

import mail
from box import (CONF, PACKAGES, PORT, SOURCES, Pop, all_gone, configure, fetch_all, journal_mark, left_behind, logged, sh,
                 try_login, wait_for, write)

INETDS = (("openbsd-inetd", "usr/sbin/inetd", ["-d"]), ("inetutils-inetd", "usr/sbin/inetutils-inetd", ["-d"]))


def manual():
    """The page as text, for its examples."""
    with open(SOURCES + "/man/postern.8") as f:
        return f.read()


def listening():
    try:
        with Pop() as pop:
            return pop.line() is not None
    except ConnectionRefusedError:
        return False


class Daemon:
    """A super-server in the foreground, as from a boot script: no variable of systemd's reaches what it starts."""

    def __init__(self, command):
        self.output = open("/var/tmp/daemon", "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, cwd="/",
                                        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, start_new_session=True)

    def __enter__(self):
        if not wait_for(listening):
            self.output.seek(0)
            raise RuntimeError("nothing listens: %s" % self.output.read())
        all_gone()
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        self.output.close()


def sessions(t, name):
    """A whole session, to the octet: nothing on descriptor 2, the client's too under inetd, gets in between."""
    configure(failure_delay=0)
    mark = journal_mark()
    for user in ("alice", "bob"):
        with Pop().enter(user) as pop:
            t.equal(fetch_all(pop), ([mail.wire(m) for m in mail.MADE], True), "%s: %s's messages" % (name, user))
            t.equal(pop.ask("QUIT"), b"+OK POP3 server signing off\r\n", "%s: %s's QUIT" % (name, user))
            t.ok(pop.at_end(), "%s: and nothing comes after it" % name)
        t.ok(logged(mark, '^login user="%s" rip=127.0.0.1 method=pam$' % user), "%s: %s's login is logged" % (name, user))
        t.ok(logged(mark, '^session-end how=quit user="%s" rip=127.0.0.1 ' % user), "%s: and its end" % name)
    with Pop().greet() as pop:
        t.equal([pop.login("alice", "wrong"), pop.login("nobodyatall", "x")], [b"-ERR [AUTH] invalid password\r\n"] * 2,
                "%s: a wrong password" % name)
    write(CONF, "nonsense\n")
    with Pop() as pop:
        pop.sock.sendall(b"USER alice\r\nPASS secret\r\n")
        lines = pop.file.read().split(b"\r\n")
        t.ok(len(lines) == 4 and lines[2].startswith(b"-ERR [SYS/PERM] ") and lines[3] == b"",
             "%s: of a broken configuration the client sees its refusal only" % name, lines)
    t.ok(logged(mark, "^configuration .*postern.conf"), "%s: and the log says why" % name)
    configure(failure_delay=0)
    t.equal(left_behind(), "", "%s: nothing is left" % name)


def inetd(t, package, program, options):
    path = os.path.join(PACKAGES, package, program)
    if not os.path.exists(path):
        t.skip(package, "the package could not be downloaded")
        return
    if "not found" in sh(["ldd", path]).stdout:
        t.skip(package, "a library it needs is not installed: " + sh("ldd %s | grep 'not found'" % path).stdout.strip())
        return
    line = re.search(r"^pop3[ \t]+stream[ \t]+tcp[ \t].*$", manual(), re.M).group(0)
    write("/etc/inetd-test.conf", line + "\n")
    with Daemon([path] + options + ["/etc/inetd-test.conf"]):
        sessions(t, package)
    write("/etc/inetd-test.conf", line + " an-argument\n")
    with Daemon([path] + options + ["/etc/inetd-test.conf"]):
        with Pop() as pop:
            t.equal(pop.file.read(), b"", package + ": a program that cannot start says nothing to the client")


def xinetd(t):
    path = os.path.join(PACKAGES, "xinetd", "usr/sbin/xinetd")
    if not os.path.exists(path):
        t.skip("xinetd", "the package could not be downloaded")
        return
    entry = re.search(r"^service pop3\n\{\n.*?^\}", manual(), re.M | re.S).group(0)
    write("/etc/xinetd-test.conf", "defaults\n{\n}\n" + entry.replace("\\(en", "-") + "\n")
    with Daemon([path, "-dontfork", "-f", "/etc/xinetd-test.conf", "-pidfile", "/var/tmp/xinetd.pid"]):
        sessions(t, "xinetd")


def tcpserver(t):
    if shutil.which("tcpserver") is None:
        t.skip("tcpserver", "ucspi-tcp is not installed")
        return
    command = re.search(r"^tcpserver -.*?/usr/sbin/postern$", manual(), re.M | re.S).group(0)
    command = command.replace("\\e", "\\").replace("\\\\", "\\")
    with Daemon(["sh", "-c", "exec " + command]):
        sessions(t, "tcpserver")


def said_to_syslogd(kind):
    """What a session that only says QUIT says to a syslogd of this kind in the place of journald, which has no part in it."""
    place, server = "/var/tmp/log", socket.socket(socket.AF_UNIX, kind)
    if os.path.lexists(place):
        os.unlink(place)
    server.bind(place)
    os.chmod(place, 0o666)
    if kind == socket.SOCK_STREAM:
        server.listen()
    server.settimeout(30)
    sh("unshare --mount sh -c 'mount --bind %s /run/systemd/journal/dev-log && echo QUIT | env -i setpriv --reuid=postern "
       "--regid=postern --clear-groups /usr/sbin/postern'" % place)
    with server:
        if kind == socket.SOCK_DGRAM:
            return server.recv(10000)
        with server.accept()[0] as connection:
            return connection.makefile("rb").read()


def syslogds(t):
    """Each has a clock of its own, so no time is said; a stream's messages end with a NUL."""
    line = rb"<22>postern\[[0-9]+\]: session-end how=quit user=\"\" rip=local retrieved=0 octets=0 deleted=0 left=0 seconds=[0-9]+"
    for name, kind, end in (("datagrams", socket.SOCK_DGRAM, b""), ("a stream", socket.SOCK_STREAM, b"\0")):
        said = said_to_syslogd(kind)
        t.ok(re.fullmatch(line + end, said), "a syslogd that takes %s" % name, said)


def run(t):
    sh("systemctl stop pop3.socket")
    all_gone()
    mail.make_mbox("alice", mail.MADE)
    mail.make_maildir("bob", mail.MADE)
    for inetd_of_many in INETDS:
        t.section(inetd, *inetd_of_many)
    t.section(xinetd)
    t.section(tcpserver)
    t.section(syslogds)
    sh("systemctl start pop3.socket")
    t.ok(wait_for(listening) and try_login("alice", port=PORT).startswith(b"+OK"), "systemd listens again")
