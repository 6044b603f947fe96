"""make install, as root into this system, as root and as nobody elsewhere; make uninstall."""

import os
import pwd
import stat

from box import BUILD, DROP_INS, HELPER, SOURCES, STATE, sh, write

UNITS = "/usr/lib/systemd/system/"
LEFT = "left to do"


def rights(path):
    """Owner, group and mode, as ls has them."""
    return sh(["stat", "-c", "%U:%G %a", path], check=False).stdout.strip()


def make(target, *settings, user=None):
    command = ["make", "-s", "-C", BUILD, target] + list(settings)
    return sh(["setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups"] + command if user else command)


def in_a_stage(t):
    """DESTDIR: a package is being made, and its machine is another one."""
    out = make("install", "DESTDIR=/tmp/stage").stdout
    t.equal(rights("/tmp/stage" + HELPER), "root:root 755", "DESTDIR: the helper is not made setuid")
    t.ok("postern" not in [p.pw_name for p in pwd.getpwall()], "DESTDIR: no account is made")
    t.ok(LEFT in out and "chmod 4710 " + HELPER in out and "useradd" in out and STATE in out,
         "DESTDIR: says what is left to do", out)
    t.ok(os.path.exists("/tmp/stage/etc/pam.d/postern"), "DESTDIR: the PAM file is there")
    make("uninstall", "DESTDIR=/tmp/stage")
    t.equal(sh("find /tmp/stage ! -type d").stdout, "", "DESTDIR: uninstall leaves no file")


def as_nobody(t):
    sh("install -d -o nobody /tmp/mine")
    out = make("install", "prefix=/tmp/mine", "sysconfdir=/tmp/mine/etc", "localstatedir=/tmp/mine/var",
               "systemdsystemunitdir=/tmp/mine/units", user="65534").stdout
    t.equal(rights("/tmp/mine/libexec/postern/postern-helper").split()[1:], ["755"], "an ordinary user: not setuid")
    t.ok(LEFT in out, "an ordinary user: says what is left to do", out)
    t.ok("PAM reads /etc/pam.d only" in out, "a PAM file where PAM does not look: says so", out)


def as_root(t):
    make("install")
    t.equal(rights(HELPER), "root:postern 4710", "the helper is root:postern 4710")
    t.equal(rights(STATE), "root:root 711", "the state folder is root's, 711")
    account = pwd.getpwnam("postern")
    t.ok(0 < account.pw_uid < 1000 and account.pw_shell.endswith("nologin"), "a system account was made", account)
    with open("/etc/pam.d/postern") as f:
        text = f.read()
    t.ok(("@include common-auth" in text) == os.path.exists("/etc/pam.d/common-auth"),
         "the PAM file is the one for this system", text)
    for path in ("/usr/sbin/postern", UNITS + "pop3.socket", UNITS + "pop3@.service", "/usr/lib/sysusers.d/postern.conf",
                 "/usr/lib/tmpfiles.d/postern.conf", "/usr/share/postern/postern-fail2ban.conf",
                 "/usr/share/man/man8/postern.8"):
        t.ok(os.path.isfile(path) and not os.stat(path).st_mode & (stat.S_IWGRP | stat.S_IWOTH), path + " is there")


def again(t):
    """A second installation over a system in use."""
    write("/etc/pam.d/postern", "auth required pam_unix.so\naccount required pam_unix.so\n# mine\n")
    make("install")
    with open("/etc/pam.d/postern") as f:
        t.ok("# mine" in f.read(), "installing again keeps a changed PAM file")
    make("uninstall")
    t.ok(os.path.exists("/etc/pam.d/postern") and not os.path.exists(HELPER), "uninstall keeps a changed PAM file")
    os.unlink("/etc/pam.d/postern")
    make("install")
    t.equal(rights(HELPER), "root:postern 4710", "installed again")


def configuration_of_systemd(t):
    """What the shipped files say, as systemd's own tools see it."""
    out = sh("systemd-analyze verify --recursive-errors=no " + " ".join(
        UNITS + name for name in ("pop3.socket", "pop3@.service", "pop3s.socket", "pop3s@.service", "postern-pam.socket",
                                  "postern-pam.service")), check=False)
    t.equal((out.returncode, out.stdout), (0, ""), "systemd-analyze verify has nothing to say")
    strict = DROP_INS + "/strict.conf"
    os.makedirs(DROP_INS)
    sh(["cp", "/usr/share/postern/pop3-strict.conf", strict])
    out = sh("systemd-analyze verify --recursive-errors=no %spop3@.service" % UNITS, check=False)
    t.equal((out.returncode, out.stdout), (0, ""), "nor with the strict drop-in")
    os.unlink(strict)
    os.rmdir(STATE)
    sh("systemd-tmpfiles --create postern.conf")
    t.equal(rights(STATE), "root:root 711", "tmpfiles.d makes the state folder")
    sh("userdel postern")
    sh("systemd-sysusers postern.conf")
    make("install")
    t.equal(rights(HELPER), "root:postern 4710", "sysusers.d makes the account, and installing again finds it")
    t.ok(os.path.exists(SOURCES + "/src/pam/postern.pam.plain"), "a PAM file for systems without common-auth is shipped")


def run(t):
    for check in (in_a_stage, as_nobody, as_root, again, configuration_of_systemd):
        t.section(check)
