#!/usr/bin/python3
"""Ways in which postern is started and stopped: from files, with descriptors missing or too many, with odd signals, as systemd
passes a socket, from where the peer's address comes, and what is left when a process of a session is killed.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check, readable  # noqa: E402

MESSAGES = [b"Subject: one\n\nfirst\n", b"Subject: two\n\n.second\n"]
BOX, STORED = pt.mbox_join(MESSAGES)


def new_run(folder, settings=()):
    return pt.Run(folder, settings, box=BOX)


# Files


def from_files(folder, script, stdout):
    """Exit status and output of postern <script >output."""
    run = new_run(folder)
    names = run.folder + "/script", run.folder + "/output"
    with open(names[0], "wb") as f:
        f.write(script)
    with open(names[0], "rb") as f, open(names[1], "wb" if stdout == "file" else "ab") as g, open(run.log, "ab") as log:
        status = subprocess.run(run.command(), stdin=f, stdout=g, stderr=log, env=run.environment(),
                                cwd="/", timeout=pt.PATIENCE).returncode
    check(status == 0, "exit status %d: %s" % (status, run.log_lines()))
    return run, pt.read_file(names[1])


def script_and_output(folder, stdout):
    run, output = from_files(folder, b"USER alice\nPASS secret\nSTAT\nRETR 2\nDELE 1\nQUIT\n", stdout)
    wire = pt.wire_form(STORED[1])
    check(output == b"+OK POP3 server ready\r\n+OK name is welcome here\r\n+OK maildrop locked and ready\r\n+OK 2 %d\r\n"
          b"+OK message follows\r\n%s.\r\n+OK message deleted\r\n+OK POP3 server signing off\r\n"
          % (sum(len(pt.wire_form(text)) for text in STORED), pt.stuffed(wire)), "output: " + readable(output, 1000))
    check(pt.read_file(run.maildrop) == b"".join(pt.mbox_split(BOX)[1:]), "the mbox is not as it should be left")


def script_without_quit(folder):
    run, output = from_files(folder, b"USER alice\nPASS secret\nDELE 1\nQUIT", "file")
    check(output.endswith(b"+OK message deleted\r\n"), "output: " + readable(output))
    run.check_untouched()


def large_output(folder):
    """More than fits into any buffer, into a file: RLIMIT_FSIZE must not be in the way."""
    script = b"USER alice\nPASS secret\n" + b"RETR 1\n" * 50000 + b"QUIT\n"
    run, output = from_files(folder, script, "file")
    check(output.count(b"\r\n.\r\n") == 50000, "%d messages in %d octets" % (output.count(b"\r\n.\r\n"), len(output)))
    run.check_untouched()


def no_input(folder):
    run = new_run(folder)
    done = subprocess.run(run.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=run.environment(),
                          stderr=subprocess.DEVNULL, cwd="/", timeout=pt.PATIENCE)
    check(done.returncode == 0 and done.stdout == pt.GREETING + b"\r\n", "%s" % done)


def arguments(folder):
    run = new_run(folder)
    for argument in ("-h", "--version", "x", ""):
        done = subprocess.run(run.command() + [argument], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=run.environment(), cwd="/", timeout=pt.PATIENCE)
        check(done.returncode == 2 and done.stdout == b"" and b"postern(8)" in done.stderr, "%s" % done)


def arguments_from_inetd(folder):
    """An inetd.conf line with a word too many: the client must not read the complaint as a reply."""
    run = new_run(folder)
    ours, theirs = socket.socketpair()
    status = subprocess.run(run.command() + ["x"], stdin=theirs, stdout=theirs, stderr=theirs,
                            env=run.environment(), cwd="/", timeout=pt.PATIENCE).returncode
    theirs.close()
    with ours:
        octets = ours.recv(1000)
    check(status == 2 and octets == b"", "exit status %d, to the client: %s" % (status, readable(octets)))


# Descriptors and signals


def session_with(folder, before, transport="socketpair"):
    run = new_run(folder)
    with pt.Session(run, transport, before) as c:
        c.log_in()
        check(c.ask_multi(b"RETR 2") == pt.stuffed(pt.wire_form(STORED[1])), "RETR 2: another text")
        c.expect(b"DELE 1", b"+OK")
        c.quit()
    check(pt.read_file(run.maildrop) == b"".join(pt.mbox_split(BOX)[1:]), "the mbox is not as it should be left")
    run.log_lines()


def shell(redirections):
    return ["sh", "-c", 'exec "$@" ' + redirections, "sh"]


def many_descriptors(folder):
    session_with(folder, ["sh", "-c", "for fd in 3 4 5 6 7 8 9; do eval exec $fd'<'/dev/null; done; exec \"$@\"", "sh"])


def non_blocking(folder, transport):
    """A super-server may have it so for its own use; a client that is slow is not gone for that."""
    run = new_run(folder)
    script = "import os, sys; os.set_blocking(0, False); os.execvp(sys.argv[1], sys.argv[1:])"
    with pt.Session(run, transport, [sys.executable, "-c", script]) as c:
        c.log_in()
        for _ in range(3):
            time.sleep(0.2)
            c.expect(b"STAT", b"+OK 2 ")
        c.quit()
    run.check_untouched()


def client_missing(folder, redirections):
    """Without a client there is nothing to do, and it must not be waited for."""
    run = new_run(folder)
    done = subprocess.run(shell(redirections) + run.command(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=run.environment(), cwd="/",
                          timeout=pt.PATIENCE)
    check(done.returncode in (0, 1), "%s" % done)
    run.check_untouched()


def listen_fds(folder):
    """systemd's LISTEN_FDS=1: the client is on descriptor 3."""
    run = new_run(folder)
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 </dev/null >/dev/null'
    with pt.Session(run, "TCP", ["sh", "-c", script, "sh"]) as c:
        c.log_in()
        c.expect(b"STAT", b"+OK 2 ")
        c.quit()
    run.check_untouched()
    check(" rip=127.0.0.1 " in run.log_of("session-end")[0], "log: %s" % run.log_lines())


def listen_fds_of_another(folder):
    """The same variables in the environment of a program further up are not for us."""
    run = new_run(folder)
    with pt.Session(run, "socketpair", more={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as c:
        c.log_in()
        c.quit()


def listen_fds_listening(folder):
    """A socket unit without Accept=yes passes what listens: no session, and nothing is taken from it."""
    run = new_run(folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&%d' % listener.fileno()
        done = subprocess.run(["sh", "-c", script, "sh"] + run.command(), env=run.environment(), close_fds=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=pt.PATIENCE, check=False)
    check((done.returncode, done.stdout) == (1, b""), "exit status and output: %s %s" % (done.returncode, done.stdout))


# The peer


def peer(folder, transport, more, wanted):
    run = new_run(folder)
    with pt.Session(run, transport, more=more) as c:
        c.log_in()
        c.quit()
    for event in ("login", "session-end"):
        lines = run.log_of(event)
        check(len(lines) == 1 and " rip=%s " % wanted in lines[0] + " ", "log: %s" % lines)


class FromHost(pt.Connection):
    """A session for a connection that comes from `host` to a listener for both protocols, as one ListenStream=110 makes it."""

    host = None

    def _connect(self):
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
            ours = socket.create_connection((self.host, listener.getsockname()[1]))
            return ours, listener.accept()[0]


def peer_v6(folder, host, wanted):
    run = new_run(folder)
    FromHost.host = host
    c = FromHost(run, "TCP")
    try:
        c.log_in()
        c.quit()
    except BaseException:
        c.abandon()
        raise
    lines = run.log_of("login")
    check(len(lines) == 1 and " rip=%s " % wanted in lines[0], "log: %s" % lines)


# Kills


def members(c):
    """Process ids of monitor, session and helper."""
    monitor = c.process.pid
    names = {}
    for pid in pt.descendants(monitor):
        with open("/proc/%d/comm" % pid) as f:
            names[f.read().strip()] = pid
    check(set(names) == {"postern", "postern-helper"}, "processes: %s" % names)
    return monitor, names["postern"], names["postern-helper"]


def read_to_end(c):
    lines = []
    while True:
        line = c.read_line()
        if line is None:
            return lines
        lines.append(line)


def wait_for_all(c):
    c.hang_up()
    c.wait_all()


def killed(folder, which, number, how):
    """DELE is said, then a process dies: nothing is deleted, nothing is left running, and the next session starts."""
    run = new_run(folder)
    with pt.Session(run) as c:
        c.log_in()
        c.expect(b"DELE 1", b"+OK")
        os.kill(members(c)[which], number)
        if which != 2:
            lines = read_to_end(c) if which == 1 or number == signal.SIGTERM else []
            check(not lines, "came: %s" % lines)
        else:
            got = c.ask(b"QUIT")
            check(got is None or got.startswith(b"-ERR [SYS/TEMP] "), "QUIT: %s" % readable(got or b""))
        wait_for_all(c)
    run.check_untouched()
    if how is not None:
        lines = run.log_of("session-end")
        check(len(lines) == 1 and " how=%s " % how in lines[0], "log: %s" % run.log_lines())
    with pt.Session(run) as c:
        c.log_in()
        c.expect(b"STAT", b"+OK 2 ")
        c.quit()


def stopped(folder):
    """The helper is the mailbox's owner, who can stop it: the session does not wait for ever, nor does its monitor."""
    run = new_run(folder, {"idle-timeout": "1", "lock-timeout": "0"})
    with pt.Session(run) as c:
        c.log_in()
        c.expect(b"DELE 1", b"+OK")
        helper = members(c)[2]
        os.kill(helper, signal.SIGSTOP)
        c.expect(b"QUIT", b"-ERR [SYS/TEMP] ")
        check(c.read_line() is None, "more after QUIT")
        c.hang_up()
        try:
            c.process.wait(pt.PATIENCE)
        except subprocess.TimeoutExpired:
            check(False, "the session is gone, and its monitor still waits for the helper")
        os.kill(helper, signal.SIGKILL)
        c.wait_all()
    run.check_untouched()


def main(folder, tap):
    tap.run("a script in a file, the answers into a file", script_and_output, folder, "file")
    tap.run("a script in a file, the answers behind what is in a file", script_and_output, folder, "append")
    tap.run("a script that ends without the last QUIT's line end", script_without_quit, folder)
    tap.run("a script whose answers are large", large_output, folder)
    tap.run("an empty script", no_input, folder)
    tap.run("arguments are refused", arguments, folder)
    tap.run("arguments are refused without a word when descriptor 2 is the client", arguments_from_inetd, folder)
    if pt.WRAPPER:
        tap.skip("descriptor 2 is closed", "a wrapper may open a file of its own there")
    else:
        tap.run("descriptor 2 is closed", session_with, folder, shell("2>&-"))
    tap.run("descriptors 3 to 9 are open", many_descriptors, folder)
    for transport in ("pipes", "socketpair", "TCP"):
        tap.run("descriptor 0 does not block, over " + transport, non_blocking, folder, transport)
    tap.run("SIGCHLD is ignored", session_with, folder, ["env", "--ignore-signal=CHLD"])
    tap.run("SIGPIPE is at its default", session_with, folder, ["env", "--default-signal=PIPE"])
    tap.run("all signals are ignored", session_with, folder, ["env", "--ignore-signal"])
    tap.run("all signals are blocked", session_with, folder, ["env", "--block-signal"])
    for redirections in ("<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"):
        tap.run("no client: " + redirections, client_missing, folder, redirections)
    tap.run("LISTEN_FDS=1", listen_fds, folder)
    tap.run("LISTEN_FDS=1 of another process", listen_fds_of_another, folder)
    tap.run("LISTEN_FDS=1 that listens", listen_fds_listening, folder)
    peers(folder, tap)
    kills(folder, tap)


def peers(folder, tap):
    for transport, more, wanted in (
            ("TCP", {}, "127.0.0.1"), ("TCP", {"REMOTE_ADDR": "192.0.2.1"}, "127.0.0.1"),
            ("socketpair", {}, "local"), ("pipes", {"REMOTE_ADDR": "192.0.2.1"}, "192.0.2.1"),
            ("pipes", {"TCPREMOTEIP": "192.0.2.2"}, "192.0.2.2"), ("pipes", {"REMOTE_ADDR": "2001:db8::1"}, "2001:db8::1"),
            ("pipes", {"REMOTE_ADDR": "::ffff:192.0.2.3"}, "192.0.2.3"),
            ("pipes", {"REMOTE_ADDR": "2001:DB8:0::1"}, "2001:db8::1"),
            ("pipes", {"REMOTE_ADDR": 'x" user="root\n'}, "local"), ("pipes", {"REMOTE_ADDR": "a" * 5000}, "local")):
        said = ", ".join("%s=%s" % (key, readable(value.encode(), 40)) for key, value in more.items()) or "nothing"
        tap.run("peer over %s, %s in the environment: %s" % (transport, said, wanted), peer, folder, transport, more, wanted)
    if not socket.has_dualstack_ipv6():
        tap.skip("peer over IPv6", "no IPv6 here")
        return
    tap.run("peer of an IPv4 connection to an IPv6 socket", peer_v6, folder, "127.0.0.1", "127.0.0.1")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as e:
        tap.skip("peer over IPv6", "no ::1 here: %s" % e)
    else:
        tap.run("peer over IPv6", peer_v6, folder, "::1", "::1")


def kills(folder, tap):
    names = ("monitor", "session", "helper")
    for which, number, how in ((0, signal.SIGTERM, "terminated"), (1, signal.SIGTERM, "terminated"), (0, signal.SIGKILL, None),
                               (1, signal.SIGKILL, "killed"), (2, signal.SIGKILL, "helper-failed"),
                               (2, signal.SIGTERM, "helper-failed")):
        name = "the %s gets %s after DELE" % (names[which], signal.Signals(number).name)
        if pt.WRAPPER:
            tap.skip(name, "under a wrapper the processes have other names")
        else:
            tap.run(name, killed, folder, which, number, how)
    if pt.WRAPPER:
        tap.skip("the helper is stopped", "under a wrapper the processes have other names")
    else:
        tap.run("the helper is stopped", stopped, folder)


if __name__ == "__main__":
    pt.in_place(main)
