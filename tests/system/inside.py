"""Runs the system tests in the booted copy of the machine that run.sh makes; writes /postern/tap.

	inside.py [NAME...]	only these, as check_stages
"""

import os
import sys

import check_clients
import check_helper
import check_inetd
import check_install
import check_load
import check_login
import check_pam
import check_prepared
import check_processes
import check_secrets
import check_siege
import check_stages
import check_tls
import check_units
import mail
from box import Tap, sh

USERS = ("alice", "bob")
CHECKS = (check_login, check_pam, check_processes, check_stages, check_secrets, check_helper, check_prepared, check_clients, check_load,
          check_siege, check_inetd, check_units, check_tls)


def make_users():
    """alice has an mbox in the spool, bob a Maildir; passwords are hashed cheaply."""
    for user in USERS:
        sh("userdel %s" % user, check=False)
        sh("useradd -m %s && echo %s:secret | chpasswd -c SHA256 -s 1000" % (user, user))
    mail.make_mbox("alice", mail.MADE)
    mail.make_maildir("bob", mail.MADE + mail.UNFINISHED)


def enable(t):
    sh("systemctl daemon-reload")
    sh("systemctl enable --now pop3.socket")
    t.ok(os.path.islink("/etc/systemd/system/sockets.target.wants/pop3.socket"), "pop3.socket is enabled")


def main(names):
    t = Tap("/postern/tap")
    sh("userdel postern", check=False)
    sh("groupdel postern", check=False)
    if names:
        t.section(check_install.as_root)
    else:
        check_install.run(t)
    t.section(lambda tap: make_users())
    t.section(enable)
    for checks in CHECKS:
        if not names or checks.__name__ in names:
            t.section(checks.run)
    t.end()


if __name__ == "__main__":
    main(sys.argv[1:])
