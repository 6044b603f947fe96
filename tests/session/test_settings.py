#!/usr/bin/python3
"""A broken configuration: the client gets [SYS/PERM] (RFC 3206), and the log names file, line, key and what is wrong.

Clients keep their passwords on [SYS/PERM]; nothing is served by settings that nobody meant.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check, readable  # noqa: E402

BOX = pt.FROM_LINE % (b"sender@example.org", 0, 0) + b"Subject: x\n\ny\n\n"

# (what, lines put in front of the good settings, the line that is wrong, what the log says of it)
BROKEN = (
    ("an unknown key", "mail-locatoin = mbox:/x\n", 1, 'key="mail-locatoin" error="unknown key"'),
    ("an unknown key further down", "# comment\n\n; another\nno-such-key = 1\n", 4, 'key="no-such-key" error="unknown key"'),
    ("a key written with '_'", "idle_timeout = 600\n", 1, 'key="idle_timeout" error="unknown key"'),
    ("a line that is no setting", "idle-timeout\n", 1, 'error="not name = value"'),
    ("a section", "[session]\nidle-timeout = 600\n", 1, 'error="there are no sections"'),
    ("a number that is none", "idle-timeout = ten\n", 1, 'key="idle-timeout" error="not a number"'),
    ("a negative number", "idle-timeout = -1\n", 1, 'key="idle-timeout" error="not a number"'),
    ("a number with a unit", "idle-timeout = 10 min\n", 1, 'key="idle-timeout" error="not a number"'),
    ("a number that is too small", "idle-timeout = 0\n", 1, 'key="idle-timeout" error="number out of range"'),
    ("a number that is too large", "failure-delay = 21\n", 1, 'key="failure-delay" error="number out of range"'),
    ("a number that would wrap", "idle-timeout = 18446744073709551617\n", 1, 'key="idle-timeout" error="number out of range"'),
    ("no value", "pam-service =\n", 1, 'key="pam-service" error="no value"'),
    ("a number without digits", "idle-timeout =\n", 1, 'key="idle-timeout" error="not a number"'),
    ("an unknown word", "cleartext-login = sometimes\n", 1, 'key="cleartext-login" error="unknown word"'),
    ("a word in capitals", "cleartext-login = Always\n", 1, 'key="cleartext-login" error="unknown word"'),
    ("a relative path", "users-file = users\n", 1, 'key="users-file" error="not an absolute path"'),
    ("a key given twice", "idle-timeout = 600\nidle-timeout = 600\n", 2, 'key="idle-timeout" error="given twice"'),
    ("a line that is too long", "pam-service = " + "x" * 300 + "\n", 1, 'error="line too long"'),
    ("a comment that is too long", "# ok\n# " + "x" * 300 + "\n", 2, 'error="line too long"'),
    ("a key with control characters", "idle\x1b[31m-timeout = 1\n", 1, 'key="idle\\x1b[31m-timeout" error="unknown key"'),
)

# The whole file, and what the log says of it
BROKEN_FILES = (
    ("a NUL", b"idle-timeout = 600\n\0\n", 'error="has a NUL"'),
    ("70,000 octets", b"# comment\n" * 7000, 'error="too long"'),
    ("garbage", bytes(range(1, 256)), 'error="'),
)


def new_run(folder):
    return pt.Run(folder, box=BOX)


def expect_refusal(run, c):
    got = c.read_line()
    check(got == pt.GREETING, "greeting: %s" % got)
    c.expect(b"CAPA", b"+OK")
    c.read_multi()
    c.expect(b"USER alice", b"+OK")
    got = c.ask(b"PASS secret")
    check(got is not None and got.startswith(b"-ERR [SYS/PERM] "), "PASS: %s" % readable(got or b"<close>"))
    check(c.read_line() is None, "more after [SYS/PERM]")
    c.end()
    check(pt.read_file(run.maildrop) == BOX, "the mbox has changed")


def expect_logged(run, wanted):
    lines = run.log_lines()
    about = [line for line in lines if line.startswith("configuration ")]
    check(len(about) == 1, "%d lines about the configuration: %s" % (len(about), lines))
    check(about[0] == wanted or wanted.endswith('="') and about[0].startswith(wanted),
          "log: %s\ninstead of: %s" % (about[0], wanted))
    check([line for line in lines if line.startswith("session-end how=refused ")], "no line of the session's end: %s" % lines)


def broken_lines(folder, lines, number, what):
    run = new_run(folder)
    good = pt.read_file(run.conf).decode()
    with open(run.conf, "w") as f:
        f.write(lines + good)
    with pt.Session(run) as c:
        expect_refusal(run, c)
    expect_logged(run, "configuration rip=local file=%s line=%d %s" % (run.conf, number, what))


def broken_file(folder, octets, what):
    run = new_run(folder)
    with open(run.conf, "wb") as f:
        f.write(octets)
    with pt.Session(run) as c:
        expect_refusal(run, c)
    lines = [line for line in run.log_lines() if line.startswith("configuration ")]
    check(len(lines) == 1 and "file=" + run.conf in lines[0] and what in lines[0], "log: %s" % lines)


def no_regular_file(folder):
    run = new_run(folder)
    os.remove(run.conf)
    os.mkdir(run.conf)
    with pt.Session(run) as c:
        expect_refusal(run, c)
    expect_logged(run, 'configuration rip=local file=%s error="not a regular file"' % run.conf)


def fifo(folder):
    run = new_run(folder)
    os.remove(run.conf)
    os.mkfifo(run.conf)
    with pt.Session(run) as c:
        expect_refusal(run, c)
    expect_logged(run, 'configuration rip=local file=%s error="not a regular file"' % run.conf)


def unreadable(folder):
    run = new_run(folder)
    os.chmod(run.conf, 0)
    with pt.Session(run) as c:
        expect_refusal(run, c)
    expect_logged(run, 'configuration rip=local file=%s error="Permission denied"' % run.conf)


def by_auth(folder):
    """AUTH is refused like PASS."""
    run = new_run(folder)
    with open(run.conf, "a") as f:
        f.write("no-such-key = 1\n")
    with pt.Session(run) as c:
        c.read_line()
        got = c.ask(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==")
        check(got is not None and got.startswith(b"-ERR [SYS/PERM] "), "AUTH: %s" % readable(got or b"<close>"))
        c.end()


def good_forms(folder):
    """Comments, empty lines, spaces, no final newline: all this is no error."""
    run = new_run(folder)
    good = pt.read_file(run.conf).decode()
    text = "; a comment\n\n   \n# another\n" + good.replace(" = ", "=") + "idle-timeout    =   600   ; behind it"
    with open(run.conf, "w") as f:
        f.write(text)
    with pt.Session(run) as c:
        c.log_in()
        c.quit()
    check(not [line for line in run.log_lines() if line.startswith("configuration")], "log: %s" % run.log_lines())


def crlf(folder):
    """A file that was edited elsewhere and has CRLF line ends."""
    run = new_run(folder)
    with open(run.conf, "rb+") as f:
        good = f.read()
        f.seek(0)
        f.write(good.replace(b"\n", b"\r\n"))
    with pt.Session(run) as c:
        c.log_in()
        c.quit()


def users_file(folder, change, reason, reply=None):
    """What is wrong with the users file is not the client's fault either; but one entry must not look unlike another."""
    run = new_run(folder)
    change(run.folder + "/users")
    with pt.Session(run) as c:
        if reply is None:
            expect_refusal(run, c)
        else:
            c.read_line()
            c.expect(b"USER alice", b"+OK")
            c.expect(b"PASS secret", reply)
            c.end()
    lines = run.log_lines()
    check([line for line in lines if 'path="%s/users"' % run.folder in line], "the log does not name the file: %s" % lines)
    check([line for line in lines if line.startswith('login-failed reason=%s user="alice"' % reason)], "log: %s" % lines)


def no_helper(folder):
    """The helper cannot be started: refused, and the log says why."""
    run = new_run(folder)
    run.helper = run.folder + "/no-such-helper"
    with pt.Session(run) as c:
        c.read_line()
        c.expect(b"USER alice", b"+OK")
        got = c.ask(b"PASS secret")
        check(got is not None and got.startswith(b"-ERR [SYS/PERM]"), "PASS: %s" % readable(got or b"<close>"))
        check(c.read_line() is None, "more after it")
        c.end()
    lines = [line for line in run.log_lines() if line.startswith("helper-failed ")]
    check(len(lines) == 1 and run.helper in lines[0] and "No such file" in lines[0], "log: %s" % run.log_lines())


def main(folder, tap):
    for what, lines, number, log in BROKEN:
        tap.run(what, broken_lines, folder, lines, number, log)
    for what, octets, log in BROKEN_FILES:
        tap.run("a file with " + what, broken_file, folder, octets, log)
    tap.run("a folder instead of a file", no_regular_file, folder)
    tap.run("a FIFO instead of a file", fifo, folder)
    tap.run("a file that may not be read", unreadable, folder)
    tap.run("AUTH is refused as well", by_auth, folder)
    tap.run("forms that are good", good_forms, folder)
    tap.run("CRLF line ends are good", crlf, folder)
    tap.run("no users file", users_file, folder, os.remove, "users-file")
    tap.run("a users file that others may write", users_file, folder, lambda p: os.chmod(p, 0o666), "users-file")
    tap.run("a users file with an unknown scheme", users_file, folder, unknown_scheme, "scheme",
            b"-ERR [AUTH] invalid password")
    if pt.WRAPPER:
        tap.skip("no helper", "a wrapper may make a fork of the vfork that tells why the helper does not start")
    else:
        tap.run("no helper", no_helper, folder)


def unknown_scheme(path):
    text = pt.read_file(path).replace(b"{SHA512-CRYPT}", b"{PLAIN-MD5}")
    with open(path, "wb") as f:
        f.write(text)


if __name__ == "__main__":
    pt.in_place(main)
