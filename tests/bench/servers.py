"""The servers that are measured: postern, the peers that Debian has, and programs that do nothing (floors).

A server is one program with one configuration, started once for the whole run; its sessions come and go.  All that are
started for each connection run under tcpserver with the same options.  Everything here happens in the copy of the machine.
"""

import os
import shutil
import time

from machine import Group, Trouble, wait_for_port

# All users have this password: crypt(3), SHA-256 with as few rounds as it takes, so that servers show and not the hash.
PASSWORD_HASH = "$5$rounds=1000$posternbench$SCftUnqXlrUmUwU3bgTuNtA5sJXc8vZ5hnJtT.IJPJ0"

FIRST_PORT = 1101
FIRST_UID = 30000

MBOX, MAILDIR = "mbox", "maildir"


class Server:
    """kind is mbox, maildir or None (a floor).  package: where it comes from (None: from here)."""

    tls = False		# True where a client has to begin with TLS
    ready = True	# False once it has been seen to fail at something basic

    def __init__(self, name, kind, package, command=(), environment=None, user=None, nodelay=False, resident=False):
        self.name = name
        self.kind = kind
        self.package = package
        self.command = list(command)
        self.environment = dict(environment or {})
        self.user = user
        self.nodelay = nodelay
        self.resident = resident	# a daemon of its own, no super-server
        self.port = 0
        self.group = None
        self.machine = None

    def prepare(self, machine):
        """Configuration and whatever else the package's scripts would have made."""

    def start(self, machine, port, nodelay_library):
        """Starts it and waits for the first greeting."""
        self.machine = machine
        self.port = port
        self.group = Group(machine.cgroup + "/" + self.name)
        self.prepare(machine)
        self.start_helpers()
        environment = dict(self.environment)
        if self.nodelay:
            environment["LD_PRELOAD"] = nodelay_library
        process = machine.start(self.name, self.daemon() if self.resident else self.super_server(), environment, self.group)
        wait_for_port(port, process, self.tls)
        self.group.settle()
        self.group.rest()

    def start_helpers(self):
        """Daemons that it needs beside itself; they are counted with it."""

    def daemon(self):
        """The command of a resident server."""
        raise NotImplementedError

    def super_server(self):
        """tcpserver: no look-ups, as many at once as anybody likes."""
        command = ["tcpserver", "-HRl0", "-c", "1000", "-b", "500"]
        if self.user is not None:
            command += ["-u", str(self.user[0]), "-g", str(self.user[1])]
        return command + ["127.0.0.1", str(self.port)] + self.command

    def select(self):
        """Called before each measurement: what servers of one package have in common is set to this one's."""

    def forget(self, user):
        """Removes what it keeps about a user outside of the maildrop, which is restored already."""


class Floor(Server):
    """Does nothing."""


# One certificate for all that speak TLS, with a P-256 key.
TLS_FOLDER = "/etc/postern-bench"
TLS_CERTIFICATE, TLS_KEY = TLS_FOLDER + "/tls.crt", TLS_FOLDER + "/tls.key"


def make_certificate(machine):
    """Readable by those that are started as the service user."""
    if os.path.exists(machine.root + TLS_KEY):
        return
    os.makedirs(machine.root + TLS_FOLDER)
    machine.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", TLS_KEY,
                 "-out", TLS_CERTIFICATE, "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=DNS:bench"],
                capture_output=True)
    machine.run(["chgrp", "postern", TLS_KEY])
    machine.run(["chmod", "640", TLS_KEY])


class TlsFloor(Floor):
    """Copies a file over TLS, and knows nothing of POP3."""

    tls = True

    def __init__(self, name, programs):
        super().__init__(name, MBOX, None)
        self.programs = programs

    def prepare(self, machine):
        make_certificate(machine)
        self.command = [self.programs + "/tlsbench", "serve", "/var/mail/big", TLS_CERTIFICATE, TLS_KEY]


class Postern(Server):
    """One installation; the settings are rewritten when another of its configurations is to be measured."""

    paths = None		# set by install_postern()
    current = None		# whose settings are in the file

    def __init__(self, name, kind, method, user):
        super().__init__(name, kind, None, user=user)
        self.method = method

    def prepare(self, machine):
        self.command = [self.paths["sbindir"] + "/postern"]
        self.select()

    def select(self):
        if Postern.current is self:
            return
        there = self.machine.root + PosternStays.socket
        if os.path.exists(there):
            os.rename(there, there + ".away")
        location = "mbox:/var/mail/%u" if self.kind == MBOX else "maildir:~/Maildir"
        self.machine.write(self.paths["sysconfdir"] + "/postern/postern.conf",
                           "mail-location = %s\nauthentication = %s\n%s" % (location, self.method, self.more_settings()))
        Postern.current = self

    def more_settings(self):
        """Lines for the settings beyond those."""
        return ""

    def forget(self, user):
        state = self.machine.root + self.paths["localstatedir"] + "/lib/postern/" + user
        shutil.rmtree(state, ignore_errors=True)


# What systemd does with postern-pam.socket.
PAM_KEEPER = """
import os, select, socket, subprocess
os.umask(0o177)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("%s")
s.listen(16)
while select.select([s], [], []):
    subprocess.call(["%s"], stdin=s)
"""


class PosternStays(Postern):
    """With a postern-pam that stays; the others find no socket, for it has another name while they are measured."""

    socket = "/run/postern-pam"

    def start_helpers(self):
        program = self.paths["pkglibexecdir"] + "/postern-pam"
        self.machine.start("postern-pam", ["python3", "-c", PAM_KEEPER % (self.socket + ".away", program)], {}, self.group)
        for _ in range(100):
            if os.path.exists(self.machine.root + self.socket + ".away"):
                return self.select()
            time.sleep(0.1)
        raise Trouble("nobody listens on " + self.socket)

    def select(self):
        super().select()
        away = self.machine.root + self.socket + ".away"
        if os.path.exists(away):
            os.rename(away, self.machine.root + self.socket)


class PosternTls(Postern):
    """On the port that begins with TLS."""

    tls = True

    def prepare(self, machine):
        make_certificate(machine)
        folder = machine.root + self.paths["localstatedir"] + "/lib/postern-tls"
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, *self.user)
        os.chmod(folder, 0o700)
        super().prepare(machine)
        self.command.append("--tls")

    def more_settings(self):
        return "tls-certificate = %s\ntls-key = %s\n" % (TLS_CERTIFICATE, TLS_KEY)


class Stunnel(Server):
    """In inetd mode: one for each connection, in front of a postern without TLS."""

    tls = True

    def __init__(self, name, user):
        super().__init__(name, MBOX, "stunnel4", ["/usr/bin/stunnel4", "/etc/stunnel/bench.conf"], user=user)
        self.behind = Postern(name, MBOX, "pam", user)

    def prepare(self, machine):
        make_certificate(machine)
        self.behind.machine = machine
        machine.write("/etc/stunnel/bench.conf", "cert = %s\nkey = %s\nexec = %s/sbin/postern\nexecArgs = postern\nsyslog = no\n"
                      "debug = 0\n" % (TLS_CERTIFICATE, TLS_KEY, os.path.dirname(Postern.paths["sbindir"])))

    def select(self):
        self.behind.select()

    def forget(self, user):
        self.behind.forget(user)


class Popa3d(Server):
    """Nothing to set."""


class Solid(Server):
    """Fails at login unless the folder of bulletins exists."""

    def prepare(self, machine):
        os.makedirs(machine.root + "/var/lib/solid-pop3d/bulletins", exist_ok=True)


class Mailutils(Server):
    """Wants a folder that its package does not make."""

    def prepare(self, machine):
        os.makedirs(machine.root + "/var/lock/subsys/mail", exist_ok=True)
        machine.write("/etc/mailutils.conf", "mailbox { mailbox-type mbox; mail-spool /var/mail; };\n")


DOVECOT = """
protocols = pop3
listen = 127.0.0.1
base_dir = /run/{name}
state_dir = /var/lib/{name}
instance_name = {name}
mail_location = {location}
mail_privileged_group = mail
default_vsz_limit = 0
ssl = no
disable_plaintext_auth = no
log_path = /dev/null
passdb {{
  driver = pam
}}
userdb {{
  driver = passwd
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  {login}
}}
"""


class Dovecot(Server):
    """Resident.  fast: its "high-performance mode" with login processes that serve many connections."""

    def __init__(self, name, kind, fast=False):
        super().__init__(name, kind, "dovecot-pop3d", resident=True)
        self.fast = fast

    def prepare(self, machine):
        location = "mbox:~/mail-dovecot:INBOX=/var/mail/%u" if self.kind == MBOX else "maildir:~/Maildir"
        login = "service_count = 0\n  process_min_avail = 2" if self.fast else ""
        os.makedirs(machine.root + "/var/lib/" + self.name, exist_ok=True)
        machine.write("/etc/%s.conf" % self.name,
                      DOVECOT.format(name=self.name, location=location, port=self.port, login=login))

    def daemon(self):
        return ["/usr/sbin/dovecot", "-F", "-c", "/etc/%s.conf" % self.name]

    def forget(self, user):
        shutil.rmtree("%s/home/%s/mail-dovecot" % (self.machine.root, user), ignore_errors=True)


class DovecotTls(Dovecot):
    """On its port that begins with TLS, and otherwise as it comes: a login process for each connection."""

    tls = True

    def prepare(self, machine):
        make_certificate(machine)
        super().prepare(machine)
        path = machine.root + "/etc/%s.conf" % self.name
        with open(path, encoding="utf-8") as f:
            text = f.read()
        text = text.replace("ssl = no", "ssl = required\nssl_cert = <%s\nssl_key = <%s" % (TLS_CERTIFICATE, TLS_KEY))
        text = text.replace("port = %d" % self.port, "port = -1").replace("port = 0", "port = %d\n    ssl = yes" % self.port)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("port = -1", "port = 0"))


class Courier(Server):
    """pop3login, then pop3d, under tcpserver in place of couriertcpd; its authentication daemon beside it."""

    def prepare(self, machine):
        folder = machine.root + "/run/courier/authdaemon"
        os.makedirs(folder, exist_ok=True)

    def start_helpers(self):
        if not os.path.exists(self.machine.root + "/run/courier/authdaemon/socket"):
            script = "set -a; . /etc/courier/authdaemonrc; exec /usr/lib/courier/courier-authlib/authdaemond"
            self.machine.start("authdaemond", ["sh", "-c", script], {}, self.group)

    def super_server(self):
        command = super().super_server()
        return ["sh", "-c", "set -a; . /etc/courier/pop3d; exec \"$@\"", "sh"] + command


def install_postern(machine, paths):
    """make install of the build at hand, into the copy."""
    machine.show(paths["build"])
    if paths["source"] != paths["build"]:
        machine.show(paths["source"])
    log = machine.work + "/install.log"
    with open(log, "wb") as out:
        done = machine.run(["make", "-C", paths["build"], "install"], stdout=out, stderr=out,
                           env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    helper = machine.root + paths["pkglibexecdir"] + "/postern-helper"
    if done.returncode != 0 or os.stat(helper).st_mode & 0o7777 != 0o4710:
        raise Trouble("make install: see %s" % log)
    Postern.paths = paths
    Postern.current = None


# Accounts that the packages' scripts would have made.
SYSTEM_USERS = ("popa3d", "spop3d", "dovecot", "dovenull", "courier")


class Accounts:
    """Users of the copy."""

    def __init__(self, machine):
        self.machine = machine
        self.next_uid = FIRST_UID
        self.uids = {}

    def add(self, name, home="/nonexistent", password="!"):
        """One user with a group of its own.  No program is run for it: there may be hundreds."""
        uid = self.next_uid
        self.next_uid += 1
        self.machine.append("/etc/passwd", "%s:x:%d:%d::%s:/bin/sh\n" % (name, uid, uid, home))
        self.machine.append("/etc/group", "%s:x:%d:\n" % (name, uid))
        self.machine.append("/etc/shadow", "%s:%s:19000:0:99999:7:::\n" % (name, password))
        self.uids[name] = uid
        return uid

    def add_readers(self, names):
        """Users with mail: in the users file too."""
        lines = []
        for name in names:
            home = "/home/" + name
            uid = self.add(name, home, PASSWORD_HASH)
            path = self.machine.root + home
            os.mkdir(path, 0o700)
            os.chown(path, uid, uid)
            lines.append("%s:%s:%d:%d::%s::\n" % (name, PASSWORD_HASH, uid, uid, home))
        return "".join(lines)

    def add_system(self, service_user):
        """What is on the machine already stays."""
        with open(self.machine.root + "/etc/passwd", encoding="utf-8") as f:
            present = {line.split(":")[0] for line in f}
        for name in SYSTEM_USERS + (service_user,):
            if name not in present:
                self.add(name)


def ids_of(machine, name):
    """uid and gid in the copy."""
    with open(machine.root + "/etc/passwd", encoding="utf-8") as f:
        for line in f:
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
    raise Trouble("no user %s" % name)


def all_servers(service_ids, floors):
    """Every server there is, in the table's order."""
    courier = ["/usr/lib/courier/courier/courierpop3login", "/usr/lib/courier/courier/courierpop3d", "Maildir"]
    tls = [PosternTls("postern-tls", MBOX, "pam", service_ids), DovecotTls("dovecot-tls", MBOX), Stunnel("stunnel", service_ids),
           TlsFloor("copy-tls", floors)]
    return [
        Postern("postern", MBOX, "pam", service_ids),
        Postern("postern-users", MBOX, "users", service_ids),
        Postern("postern-shadow", MBOX, "shadow", service_ids),
        PosternStays("postern-stays", MBOX, "pam", service_ids),
        Postern("postern-maildir", MAILDIR, "pam", service_ids),
        Popa3d("popa3d", MBOX, "popa3d", ["/usr/sbin/popa3d"]),
        Popa3d("popa3d-nodelay", MBOX, "popa3d", ["/usr/sbin/popa3d"], nodelay=True),
        Solid("solid", MBOX, "solid-pop3d", ["/usr/sbin/solid-pop3d"]),
        Solid("solid-nodelay", MBOX, "solid-pop3d", ["/usr/sbin/solid-pop3d"], nodelay=True),
        Mailutils("mailutils", MBOX, "mailutils-pop3d", ["/usr/sbin/pop3d", "--inetd"]),
        Mailutils("mailutils-nodelay", MBOX, "mailutils-pop3d", ["/usr/sbin/pop3d", "--inetd"], nodelay=True),
        Dovecot("dovecot", MBOX),
        Dovecot("dovecot-fast", MBOX, fast=True),
        Dovecot("dovecot-maildir", MAILDIR),
        Dovecot("dovecot-maildir-fast", MAILDIR, fast=True),
        Courier("courier", MAILDIR, "courier-pop", courier),
        Courier("courier-nodelay", MAILDIR, "courier-pop", courier, nodelay=True),
        Floor("floor", None, None, [floors + "/floor"]),
        Floor("floor-static", None, None, [floors + "/floor-static"]),
    ] + (tls if os.path.exists(floors + "/tlsbench") else [])
