"""POP3S and STLS in the booted system: other people's clients with verification on, who holds what, where the key is, credentials
of systemd, and logins in clear from other machines."""

import os
import poplib
import pwd
import re
import shutil
import ssl
import subprocess

import check_clients
import mail
from box import (CONF, SERVER, Pop, all_gone, configure, drop_in, journal_mark, left_behind, logged, processes, sh, wait_for,
                 write)

HOST = "pop.example.org"
FOLDER = "/etc/postern/tls"
CERTIFICATE, KEY, ROOT, OTHER = (FOLDER + "/" + name for name in ("pop.crt", "pop.key", "root.crt", "other.crt"))
TLS = "/usr/libexec/postern/postern-tls"
TICKETS = "/var/lib/postern-tls"
ELSEWHERE = "192.0.2.1"
PLACE = check_clients.PLACE


def make_certificates(t):
    """A root, and one that it has signed; and a root of somebody else's."""
    os.makedirs(FOLDER, exist_ok=True)
    ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for name in ("root", "other"):
        sh("openssl req -x509 %s -keyout %s/%s.key -out %s/%s.crt -days 2 -subj '/CN=%s'" % (ec, FOLDER, name, FOLDER, name, name))
    sh("openssl req %s -keyout %s -out %s.csr -subj /CN=%s" % (ec, KEY, KEY, HOST))
    write(FOLDER + "/ext", "subjectAltName=DNS:%s\n" % HOST)
    sh("openssl x509 -req -in %s.csr -CA %s -CAkey %s/root.key -CAcreateserial -days 2 -extfile %s/ext -out %s" %
       (KEY, ROOT, FOLDER, FOLDER, CERTIFICATE))
    sh("chgrp postern %s && chmod 640 %s && echo '127.0.0.1 %s' >>/etc/hosts" % (KEY, KEY, HOST))
    sh("ip address add %s/32 dev lo" % ELSEWHERE)
    sh("systemctl enable --now pop3s.socket")
    t.ok(os.path.islink("/etc/systemd/system/sockets.target.wants/pop3s.socket"), "pop3s.socket is enabled")


def use(**more):
    configure(failure_delay=0, tls_certificate=CERTIFICATE, tls_key=KEY, **more)


def context(root=ROOT):
    return ssl.create_default_context(cafile=root)


class TlsPop(Pop):
    """A connection to port 995, or with STLS."""

    def __init__(self, stls=False, session=None, tls=None, **where):
        super().__init__(port=110 if stls else 995, **where)
        if stls:
            self.greet()
            self.must("STLS")
        self.file.close()
        self.sock = (tls or context()).wrap_socket(self.sock, server_hostname=HOST, session=session)
        self.file = self.sock.makefile("rb", 1 << 16)
        self.stls = stls

    def greet(self):
        return self if getattr(self, "stls", False) else super().greet()


# Clients: each takes what is stored, over TLS at once or with STLS, trusting this root; an exception when it can't.


def by_poplib(stored, stls, root):
    pop = poplib.POP3(HOST, timeout=60) if stls else poplib.POP3_SSL(HOST, context=context(root), timeout=60)
    try:
        if stls:
            pop.stls(context(root))
        pop.user("alice")
        pop.pass_("secret")
        return [b"\n".join(pop.retr(n)[1]) + b"\n" for n in range(1, len(stored) + 1)]
    finally:
        pop.close()


def by_openssl(stored, stls, root):
    """One command at a time: it has no idea of POP3."""
    words = ["openssl", "s_client", "-quiet", "-CAfile", root, "-verify_return_error", "-verify_hostname", HOST, "-servername",
             HOST, "-crlf", "-connect", HOST + (":110" if stls else ":995")] + ["-starttls", "pop3"] * stls
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(line):
        client.stdin.write(line + b"\n")
        client.stdin.flush()
        answer = client.stdout.readline()
        if not answer.startswith(b"+OK"):
            raise RuntimeError("%s: %r" % (line, answer))

    try:
        if not stls:
            client.stdout.readline()
        ask(b"USER alice")
        ask(b"PASS secret")
        messages = []
        for n in range(1, len(stored) + 1):
            ask(b"retr %d" % n)  # it takes an R in front for a wish of its own
            text = b"".join(iter(client.stdout.readline, b".\r\n"))
            messages.append(re.sub(rb"(?m)^\.", b"", text).replace(b"\r\n", b"\n"))
        ask(b"quit")
        return messages
    finally:
        client.kill()
        client.communicate()


def by_curl(stored, stls, root):
    fetched = []
    for n in range(1, len(stored) + 1):
        sh(["curl", "--silent", "--show-error", "--fail", "--output", PLACE + "/message", "--user", "alice:secret", "--cacert", root,
            "%s://%s/%d" % ("pop3" if stls else "pop3s", HOST, n)] + ["--ssl-reqd"] * stls)
        fetched.append(check_clients.read(PLACE + "/message").replace(b"\r\n", b"\n"))
    return fetched


def taken():
    return [check_clients.read("%s/%s" % (PLACE, name)) for name in sorted(os.listdir(PLACE)) if name.startswith("m0")]


def write_take():
    write(PLACE + "/take", "#!/bin/sh\nn=$(ls %s | grep -c '^m0')\ncat >%s/m0$(printf %%03d $n)\n" % (PLACE, PLACE), 0o755)


def by_fetchmail(stored, stls, root):
    write_take()
    write(PLACE + "/rc", "poll %s protocol pop3 timeout 60\nuser alice password secret is root here\noptions keep fetchall "
          "no rewrite no mimedecode mda %s/take %s sslproto \"TLS1.2+\" sslcertck sslcertfile \"%s\"\n" %
          (HOST, PLACE, "" if stls else "ssl", root), 0o600)
    sh(["fetchmail", "--silent", "--invisible", "--nosyslog", "--idfile", PLACE + "/ids", "--pidfile", PLACE + "/pid", "-f",
        PLACE + "/rc"])
    return taken()


def by_mpop(stored, stls, root):
    write_take()
    write(PLACE + "/rc", "account default\nhost %s\nport %d\nuser alice\npassword secret\ntls on\ntls_starttls %s\n"
          "tls_trust_file %s\nauth user\nkeep on\nreceived_header off\nuidls_file %s/uidls\ndelivery mda %s/take\n" %
          (HOST, 110 if stls else 995, "on" if stls else "off", root, PLACE, PLACE), 0o600)
    sh(["mpop", "--quiet", "--file=" + PLACE + "/rc"])
    return taken()


def by_getmail(stored, stls, root):
    """It has no STLS."""
    lmtp = check_clients.Lmtp()
    lmtp.start()
    write(PLACE + "/getmail/getmailrc", "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = %s\nusername = alice\n"
          "password = secret\nca_certs = %s\n[destination]\ntype = MDA_lmtp\nhost = 127.0.0.1\nport = %d\n"
          "override = alice@example.org\n[options]\nread_all = true\ndelete = false\nreceived = false\ndelivered_to = false\n"
          "verbose = 0\n" % (HOST, root, lmtp.listener.getsockname()[1]), 0o600)
    out = sh(["getmail", "--quiet", "--getmaildir", PLACE + "/getmail"], check=False).stdout
    lmtp.join(2 if root == OTHER else 10)
    if not lmtp.messages:
        raise RuntimeError(out)
    return lmtp.messages


CLIENTS = (("openssl s_client", "openssl", by_openssl), ("Python", None, by_poplib), ("curl", "curl", by_curl),
           ("fetchmail", "fetchmail", by_fetchmail), ("mpop", "mpop", by_mpop), ("getmail", "getmail", by_getmail))


def refused(fetch, stored, stls):
    """Whether a client that trusts somebody else fetches nothing; then its checking is on."""
    check_clients.fresh_place()
    try:
        return not fetch(stored, stls, OTHER)
    except Exception:  # each has its own way to say so
        return True


def clients(t):
    stored = [mail.finished(m) for m in mail.MADE]
    mail.make_mbox("alice", stored)
    for name, program, fetch in CLIENTS:
        for stls in (False, True):
            what = "%s over %s" % (name, "STLS" if stls else "POP3S")
            if program and shutil.which(program) is None:
                t.skip(what, program + " is not installed")
                continue
            if fetch is by_getmail and stls:
                continue
            check_clients.fresh_place()
            mark = journal_mark()
            fetched = fetch(stored, stls, ROOT)
            # getmail puts messages together anew, and in its own order.
            same = len(fetched) == len(stored) if fetch is by_getmail else fetched == stored
            t.ok(same, "%s: all messages, byte for byte" % what, fetched)
            t.ok(logged(mark, "^session-end how=.* tls=TLSv1.3 cipher="), "%s: with TLS 1.3" % what)
            t.ok(refused(fetch, stored, stls), "%s: not with a certificate that it does not trust" % what)
    t.equal(left_behind(), "", "clients leave nothing behind")


# Processes


def sockets(kind):
    """Inodes of the sockets of a kind ("tcp", or the number of a Unix socket's type)."""
    inodes = set()
    if kind == "tcp":
        for name in ("tcp", "tcp6"):
            with open("/proc/net/" + name) as f:
                inodes |= {int(line.split()[9]) for line in f.readlines()[1:]}
        return inodes
    with open("/proc/net/unix") as f:
        return {int(row.split()[6]) for row in f.readlines()[1:] if int(row.split()[4], 16) == kind}


def inodes(p):
    return {fd: int(what[8:-1]) for fd, what in p.fds.items() if what.startswith("socket")}


def roles():
    """The processes before a login."""
    servers = [p for p in processes() if p.exe == SERVER]
    found = {"tls": next(p for p in processes() if p.exe == TLS)}
    for p in servers:
        found["session" if p.parent in [q.pid for q in servers] else "monitor"] = p
    return found


def memory_has(pid, patterns):
    """Whether a process's memory holds any of the octet strings."""
    with open("/proc/%d/maps" % pid) as f:
        spans = [line.split()[0].split("-") for line in f if line.split()[1].startswith("r") and "[vv" not in line]
    with open("/proc/%d/mem" % pid, "rb", 0) as mem:
        for start, end in spans:
            try:
                mem.seek(int(start, 16))
                octets = mem.read(int(end, 16) - int(start, 16))
            except OSError:
                continue
            if any(p in octets for p in patterns):
                return True
    return False


def secrets_of_key():
    """The private number as OpenSSL's text has it, in both orders of octets; and the file's own text."""
    text = sh("openssl pkey -in %s -noout -text" % KEY).stdout
    number = bytes.fromhex(re.search(r"priv:\n([0-9a-f:\s]+)pub:", text).group(1).replace(":", "").replace(" ", "").replace("\n", ""))
    number = number[-32:]
    with open(KEY, "rb") as f:
        line = f.read().split(b"\n")[1][8:40]
    return number, number[::-1], line


def check_holds(t, when):
    found = roles()
    postern = pwd.getpwnam("postern")
    tls, session, monitor = (found[name] for name in ("tls", "session", "monitor"))
    t.equal((tls.uids, tls.gids), ([postern.pw_uid] * 4, [postern.pw_gid] * 4), "postern-tls %s: user and group" % when)
    t.equal((tls.status["NoNewPrivs"], tls.status["Seccomp"], tls.status["CapEff"], tls.status["CapPrm"]),
            ("1", "2", "0" * 16, "0" * 16), "postern-tls %s: no_new_privs, seccomp, no capabilities" % when)
    t.equal([fd for fd, i in inodes(tls).items() if i in sockets("tcp")], [4, 5], "postern-tls %s: the client" % when)
    t.equal([w for w in tls.fds.values() if w.startswith("/") and w != "/dev/null"], [], "postern-tls %s: no file" % when)
    t.equal(sorted(tls.fds), [0, 1, 2, 3, 4, 5], "postern-tls %s: no other descriptor" % when)
    for name, p in (("session", session), ("monitor", monitor)):
        t.equal([fd for fd, i in inodes(p).items() if i in sockets("tcp")], [], "%s %s: not the client" % (name, when))
    t.equal(sorted(session.fds), [2, 3, 4], "session %s: /dev/null, helper and tunnel" % when)
    t.ok(inodes(session)[4] in sockets(1), "session %s: the tunnel is a stream" % when)
    return found


def who_holds_what(t):
    key = secrets_of_key()
    for stls in (False, True):
        when = "with STLS" if stls else "on port 995"
        with Pop(port=110 if stls else 995) as raw:
            if stls:
                raw.greet()
                raw.must("STLS")
            wait_for(lambda: [p for p in processes() if p.exe == TLS and 5 in p.fds])
            found = check_holds(t, when + ", before the handshake")
            t.ok(memory_has(found["tls"].pid, key), "postern-tls %s, before the handshake: has the key" % when)
            for name in ("session", "monitor"):
                t.ok(not memory_has(found[name].pid, key), "%s %s, before the handshake: has not the key" % (name, when))
        all_gone()
        with TlsPop(stls) as pop:
            pop.greet()
            pop.must("CAPA")
            found = check_holds(t, when)
            for name in ("session", "monitor", "tls"):
                t.ok(not memory_has(found[name].pid, key), "%s %s: has not the key" % (name, when))
            pop.rest()
            pop.must("USER alice")
            t.ok(not any(memory_has(found[name].pid, [b"USER alice"]) for name in ("monitor", "tls")),
                 "%s: no process but the session keeps what the client said" % when)
            pop.must("QUIT")
        all_gone()


# Tickets, credentials, logins in clear


def tickets(t):
    shutil.rmtree(TICKETS)
    sh("systemd-tmpfiles --create postern.conf")
    status = os.stat(TICKETS)
    t.equal((oct(status.st_mode & 0o7777), status.st_uid), ("0o700", pwd.getpwnam("postern").pw_uid),
            "tmpfiles.d makes the folder of the ticket secret, for the service user alone")
    tls = context()
    mark = journal_mark()
    with TlsPop(tls=tls).enter("alice") as pop:
        pop.must("QUIT")
        session = pop.sock.session
    status = os.stat(TICKETS + "/ticket-secret")
    t.equal((oct(status.st_mode & 0o7777), status.st_uid), ("0o600", pwd.getpwnam("postern").pw_uid), "the first connection makes it")
    with TlsPop(tls=tls, session=session).enter("alice") as pop:
        t.ok(pop.sock.session_reused, "the second resumes")
        pop.must("QUIT")
    t.ok(logged(mark, "^session-end how=quit .* resumed=yes"), "which the log says")
    entry = logged(mark, "^session-end how=quit .* resumed=yes")
    t.equal((entry.get("POSTERN_TLS"), entry.get("POSTERN_RESUMED"), entry.get("POSTERN_SNI")), ("TLSv1.3", "yes", HOST),
            "in fields of its own too")


def with_credentials(t):
    """The key is root's alone, as ACME clients leave it: systemd hands it over."""
    sh("mkdir -p /etc/acme/live && cp %s %s /etc/acme/live && chmod 700 /etc/acme/live && chmod 600 /etc/acme/live/*" % (CERTIFICATE, KEY))
    configure(failure_delay=0, tls_certificate="tls.crt", tls_key="tls.key")
    text = "[Service]\nLoadCredential=tls.crt:/etc/acme/live/pop.crt\nLoadCredential=tls.key:/etc/acme/live/pop.key\n"
    os.makedirs("/run/systemd/system/pop3s@.service.d", exist_ok=True)
    write("/run/systemd/system/pop3s@.service.d/credentials.conf", text)
    mark = journal_mark()
    with drop_in(text):
        for stls in (False, True):
            with TlsPop(stls).enter("alice") as pop:
                pop.must("STAT")
                pop.must("QUIT")
                t.ok(True, "LoadCredential=: a session over %s" % ("STLS" if stls else "POP3S"))
            all_gone()
    os.unlink("/run/systemd/system/pop3s@.service.d/credentials.conf")
    sh("systemctl daemon-reload")
    t.ok(not logged(mark, "^tls ", 0.5), "LoadCredential=: and no complaint")
    mark = journal_mark()
    with Pop(port=995) as pop:
        t.equal(pop.file.read(), b"\x15\x03\x01\0\2\2\x50", "without it port 995 refuses in its own language")
    t.ok(logged(mark, '^tls-unavailable .*file="tls.crt" .*LoadCredential='), "and the log says why")


def key_for_everybody(t):
    use()
    sh("chmod 644 " + KEY)
    mark = journal_mark()
    with Pop() as pop:
        pop.greet()
        t.equal(pop.ask("STLS"), b"-ERR TLS is not available\r\n", "a key that everybody can read: STLS is refused")
        t.ok(pop.login("alice", "secret").startswith(b"+OK"), "and the clear-text service goes on")
    t.ok(logged(mark, '^tls .*file="%s" error="the key can be read or written by everybody' % KEY), "the log says why")
    sh("chgrp users %s && chmod 640 %s && chown postern %s" % (KEY, KEY, KEY))
    mark = journal_mark()
    with Pop() as pop:
        pop.greet()
        t.equal(pop.ask("STLS"), b"-ERR TLS is not available\r\n", "a key that a foreign group can read: STLS is refused")
    t.ok(logged(mark, '^tls .*file="%s" error="the key can be read or written by a group' % KEY), "the log says why")
    sh("chown root:postern %s" % KEY)


def logins_in_clear(t):
    """Here and from elsewhere, by the socket's own address."""
    use()
    refusal = b"-ERR no login on a connection that is not encrypted\r\n"
    with Pop(host=ELSEWHERE, source=ELSEWHERE) as pop:
        pop.greet()
        t.equal(pop.ask("USER alice"), refusal, "auto: no login in clear from another machine")
        lines = pop.many("CAPA").split(b"\r\n")
        t.ok(b"STLS" in lines and b"USER" not in lines and b"SASL PLAIN" not in lines, "auto: nor is it offered", lines)
    with Pop() as pop:
        t.ok(pop.enter("alice"), "auto: from here")
    use(cleartext_login="always")
    with Pop(host=ELSEWHERE, source=ELSEWHERE) as pop:
        t.ok(pop.enter("alice"), "always: from another machine")
    use()


def stopped(t):
    """systemctl stop: the client hears the end of TLS, not a broken connection."""
    before = mail.mbox_bytes("alice")
    with TlsPop().enter("alice") as pop:
        pop.must("DELE 1")
        sh("systemctl stop 'pop3s@*'")
        t.ok(pop.at_end(), "systemctl stop: the connection ends")
    t.ok(all_gone(), "systemctl stop: no process is left", processes())
    t.ok(mail.mbox_bytes("alice") == before, "systemctl stop: nothing is deleted")


def run(t):
    if not os.path.exists(TLS):
        t.skip("TLS", "built without it")
        return
    t.section(make_certificates)
    use()
    for check in (clients, who_holds_what, tickets, with_credentials, key_for_everybody, logins_in_clear, stopped):
        t.section(check)
    sh("systemctl disable --now pop3s.socket")
    if os.path.exists(CONF):
        os.unlink(CONF)
