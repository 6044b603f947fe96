"""Logins over TCP 110: PAM, users file, shadow; what the client is told, and what the log says."""

import ctypes
import glob
import os
import shutil

import mail
from box import CONF, SOURCES, WRONG, Pop, configure, fetch_all, journal, journal_mark, logged, sh, try_login, write

USERS = "/etc/postern/users"

# syslog(3): how a wrong name or password is logged; what is the system's fault is an error.
NOTICE = "5"


def crypt(password, setting="$5$rounds=1000$saltsalt"):
    lib = ctypes.CDLL("libcrypt.so.1")
    lib.crypt.restype = ctypes.c_char_p
    return lib.crypt(password.encode(), setting.encode()).decode()


def fields(entry, *names):
    return tuple(entry.get(name) if entry else None for name in names)


def without_configuration(t):
    """An installed postern and nothing else: PAM, a Maildir that is there, else /var/mail."""
    configure()
    mark = journal_mark()
    with Pop().greet() as pop:
        t.equal(pop.ask("USER alice"), b"+OK name is welcome here\r\n", "USER is answered")
        t.equal(pop.ask("PASS secret"), b"+OK maildrop locked and ready\r\n", "alice logs in by PAM, no configuration")
        messages, agree = fetch_all(pop)
        t.equal(messages, [mail.wire(mail.quote(m)) for m in mail.MADE], "her mbox's messages are what is stored")
        t.ok(agree, "STAT and LIST say what RETR sends")
        t.equal(pop.ask("QUIT"), b"+OK POP3 server signing off\r\n", "QUIT is answered")
        t.ok(pop.at_end(), "and nothing comes after it")
    entry = logged(mark, "^login ")
    t.equal(entry and entry["MESSAGE"], 'login user="alice" rip=127.0.0.1 method=pam', "the login is logged")
    t.equal(fields(entry, "POSTERN_EVENT", "POSTERN_USER", "POSTERN_RIP", "POSTERN_METHOD", "SYSLOG_FACILITY", "PRIORITY"),
            ("login", "alice", "127.0.0.1", "pam", "2", "6"), "with a journal field for each key")
    entry = logged(mark, "^session-end ")
    octets = sum(len(mail.wire(mail.quote(m))) for m in mail.MADE)
    wanted = 'session-end how=quit user="alice" rip=127.0.0.1 retrieved=%d octets=%d deleted=0 left=%d seconds=' % (
        len(mail.MADE), octets, len(mail.MADE))
    t.ok(entry and entry["MESSAGE"].startswith(wanted), "the end of the session is logged", entry and entry["MESSAGE"])
    t.equal(fields(entry, "POSTERN_HOW", "POSTERN_RETRIEVED", "POSTERN_OCTETS", "POSTERN_LEFT"),
            ("quit", str(len(mail.MADE)), str(octets), str(len(mail.MADE))), "with its fields")
    with Pop().enter("bob") as pop:
        messages, agree = fetch_all(pop)
        t.equal(messages, [mail.wire(m) for m in mail.MADE + mail.UNFINISHED], "bob's Maildir is found and served")
        t.ok(agree, "with the octets that LIST and STAT say")


def make_bad_accounts():
    for user, options in (("locked", "-m"), ("expired", "-m"), ("empty", "-m"), ("system", "-r -m")):
        sh("useradd %s %s && echo %s:secret | chpasswd -c SHA256 -s 1000" % (options, user, user))
    sh("usermod -L locked && chage -E 1 expired && passwd -d empty")
    sh("echo root:secret | chpasswd -c SHA256 -s 1000")


def refusals(t, service, reasons):
    """One answer for all who may not log in; the log knows why, as far as the PAM stack tells."""
    configure(failure_delay=0, pam_service=service)
    for user, password, reason in (("alice", "wrong", "password"), ("nobodyatall", "secret", "unknown"),
                                   ("locked", "secret", "password"), ("expired", "secret", "expired"),
                                   ("empty", "", "password"), ("root", "secret", "uid"), ("system", "secret", "uid")):
        mark = journal_mark()
        t.equal(try_login(user, password), WRONG, "%s: %s with password %r is told what all are told" % (service, user, password))
        entry = logged(mark, "^login-failed ")
        t.equal(entry and entry["MESSAGE"],
                'login-failed reason=%s user="%s" rip=127.0.0.1' % (reasons.get(reason, reason), user), "and the log says why")
    mark = journal_mark()
    t.ok(try_login("alice", "secret").startswith(b"+OK"), "%s: alice gets in" % service)
    t.ok(logged(mark, "^session-end") and not journal(mark, "login-failed"), "and nothing is logged as failed")
    configure(failure_delay=0)


def three_tries(t):
    mark = journal_mark()
    with Pop().greet() as pop:
        t.equal([pop.login("alice", "wrong") for _ in range(3)], [WRONG] * 3, "three wrong passwords are answered alike")
        t.ok(pop.at_end(), "then the connection ends")
    t.ok(logged(mark, "^session-end how=login-failures"), "and is logged so")


def hostile_name(t):
    """A name cannot forge a line, nor a field of one."""
    mark = journal_mark()
    name = 'x"rip=192.0.2.9'
    t.equal(try_login(name, "x"), WRONG, "a name with a quotation mark is as unknown as any other")
    entry = logged(mark, "^login-failed")
    t.ok(entry and entry["MESSAGE"].endswith('user="x\\x22rip=192.0.2.9" rip=127.0.0.1'), "and is escaped in the log",
         entry and entry["MESSAGE"])


def users_file(t):
    """Accounts that the system does not know, and system names with other passwords."""
    account = "1234:1234::/srv/virtual::"
    os.makedirs("/srv/virtual", exist_ok=True)
    os.chown("/srv/virtual", 1234, 1234)
    write(USERS, "# comment\ncarol:{SHA256-CRYPT}%s:%suserdb_mail=mbox:~/inbox\ndave:%s:%smail=maildir:~/mail/%%u\n"
                 "toor:%s:0:0::/root::\n" % (crypt("carols own"), account, crypt("secret"), account, crypt("secret")), 0o600)
    mail.make_mbox("alice", mail.MADE[:2], "/srv/virtual/inbox")
    os.chown("/srv/virtual/inbox", 1234, 1234)
    for folder in ("", "/tmp", "/new", "/cur"):
        os.makedirs("/srv/virtual/mail/dave" + folder)
    write("/srv/virtual/mail/dave/new/1.M1.example", mail.MADE[0])
    sh("chown -R 1234:1234 /srv/virtual/mail")
    configure(authentication="users", failure_delay=0)
    mark = journal_mark()
    with Pop().enter("carol", "carols own") as pop:
        t.equal(fetch_all(pop), ([mail.wire(m) for m in mail.MADE[:2]], True), "carol's mbox, by users file")
        t.ok(logged(mark, '^login user="carol" rip=127.0.0.1 method=users$'), "logged with its method")
        pop.must("DELE 1")
        pop.must("QUIT")
    with Pop().enter("dave") as pop:
        t.equal(fetch_all(pop), ([mail.wire(mail.MADE[0])], True), "dave's Maildir, by users file")
    with Pop().enter("carol", "carols own") as pop:
        t.equal(fetch_all(pop), ([mail.wire(mail.MADE[1])], True), "what carol deleted is gone")
    for user, password in (("carol", "secret"), ("alice", "secret"), ("toor", "secret")):
        t.equal(try_login(user, password), WRONG, user + " does not get in")
    os.chmod(USERS, 0o666)
    mark = journal_mark()
    t.ok(try_login("carol", "carols own").startswith(b"-ERR [SYS/PERM] "), "a users file that anybody can write is refused")
    t.ok(logged(mark, "users-file"), "and the log names it")
    os.unlink(USERS)


def shadow(t):
    configure(authentication="shadow", failure_delay=0)
    mark = journal_mark()
    with Pop().enter("alice") as pop:
        t.ok(pop.must("STAT").startswith(b"+OK %d " % len(mail.MADE)), "alice by shadow")
    t.ok(logged(mark, '^login user="alice" rip=127.0.0.1 method=shadow$'), "logged with its method")
    for user in ("alice", "nobodyatall", "root", "locked", "expired", "empty"):
        t.equal(try_login(user, "" if user == "empty" else "wrong" if user == "alice" else "secret"), WRONG,
                user + " does not get in by shadow")
    sh("chmod 640 /etc/group")
    t.ok(try_login("alice").startswith(b"-ERR [SYS/TEMP] "), "groups that cannot be read are not made up")
    sh("chmod 644 /etc/group")
    t.ok(try_login("alice").startswith(b"+OK"), "and then they can be read")


def broken_settings(t):
    write(CONF, "failure-delay = 0\nno-such-key = 1\n")
    mark = journal_mark()
    t.ok(try_login("alice").startswith(b"-ERR [SYS/PERM] "), "a broken configuration refuses logins")
    entry = logged(mark, "^configuration ")
    t.ok(entry and "line=2" in entry["MESSAGE"] and "no-such-key" in entry["MESSAGE"], "and the log names line and key",
         entry and entry["MESSAGE"])
    configure(failure_delay=0)


def addresses(t):
    for host, rip in (("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")):
        mark = journal_mark()
        t.ok(try_login("alice", host=host).startswith(b"+OK"), "a login over " + host)
        entry = logged(mark, "^login ")
        t.equal(fields(entry, "POSTERN_RIP"), (rip,), "is logged as from " + rip)


def peer_reaches_pam(t):
    """pam_exec sees the client's address as PAM_RHOST."""
    write("/etc/pam.d/postern-rhost", "auth required pam_exec.so /usr/local/bin/rhost\nauth required pam_unix.so\n"
                                      "account required pam_unix.so\n")
    write("/usr/local/bin/rhost", "#!/bin/sh\necho \"$PAM_USER $PAM_RHOST $PAM_TTY $PAM_SERVICE\" >/srv/rhost\n", 0o755)
    configure(failure_delay=0, pam_service="postern-rhost")
    try_login("alice")
    with open("/srv/rhost") as f:
        t.equal(f.read(), "alice 127.0.0.1 postern postern-rhost\n", "PAM is told user, address and service")
    configure(failure_delay=0)


def fail2ban(t):
    """Every failed login of this run matches the shipped filter, once and with its address; nothing else does."""
    if shutil.which("fail2ban-regex") is None or not glob.glob("/etc/fail2ban/filter.d/common.conf"):
        t.skip("fail2ban's filter", "fail2ban is not installed")
        return
    sh("cp /usr/share/postern/postern-fail2ban.conf /etc/fail2ban/filter.d/postern.conf")
    sh("journalctl --quiet --output=short SYSLOG_IDENTIFIER=postern >/var/tmp/short")
    failed = [e["POSTERN_RIP"] for e in journal("", "login-failed") if e["PRIORITY"] == NOTICE]
    out = sh("fail2ban-regex -o ip /var/tmp/short /etc/fail2ban/filter.d/postern.conf").stdout.split()
    t.ok(len(failed) > 10, "there are failed logins to be found", failed)
    t.equal(out, failed, "fail2ban finds each failed login's address, and no other line")
    if sh("/usr/bin/python3 -c 'import systemd.journal'", check=False).returncode != 0:
        t.skip("fail2ban's journalmatch", "python3-systemd is not installed")
        return
    out = sh("fail2ban-regex systemd-journal /etc/fail2ban/filter.d/postern.conf").stdout
    t.ok("%d matched" % len(failed) in out, "and by its journalmatch the same in the journal", out)


def run(t):
    t.section(without_configuration)
    make_bad_accounts()
    sh("cp %s/src/pam/postern.pam.plain /etc/pam.d/postern-plain" % SOURCES)
    t.section(refusals, "postern-plain", {})
    # Debian's stack ends in pam_deny, which has one reason for all.
    t.section(refusals, "postern", {"unknown": "password", "expired": "password"})
    for check in (three_tries, hostile_name, users_file, shadow, broken_settings, addresses, peer_reaches_pam, fail2ban):
        t.section(check)
