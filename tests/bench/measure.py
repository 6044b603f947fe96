"""The measurements, in groups.  Each group takes one sample of each of its servers; the caller repeats the groups, so that
what disturbs the machine for a while disturbs all servers alike.
"""

import json
import os
import shutil
import subprocess
import time

from machine import Trouble, memory, say
from mailboxes import users_of
from servers import MAILDIR, MBOX, Floor, Popa3d, Postern, Solid

# A server that needed more than this for its sample of a case is measured twice, not more often.
CASE_SECONDS = 60

# No session of the table takes longer where all is well; those of a million messages do.
SESSION_SECONDS = 120
LONG_SESSION_SECONDS = 880

MEMORY_REPEATS = 3
IDLE_CONNECTIONS = 50


class Fault(Exception):
    """A server did not do what it was asked."""


class WrongAnswer(Fault):
    """It answered, but not what is right."""


class Results:
    """samples[metric][server]: {repetition: value}; faults[case][server]: why there is none."""

    def __init__(self):
        self.samples = {}
        self.faults = {}
        self.slow = {}			# (case, server): seconds that its last sample took
        self.tried = set()		# (case, server)
        self.wrong = set()		# servers that gave a wrong answer: they lead nowhere

    def add(self, metric, server, repeat, value):
        """One sample."""
        self.samples.setdefault(metric, {}).setdefault(server, {})[repeat] = value

    def fault(self, case, server, why):
        """No sample."""
        say("    %s: %s" % (server, why))
        self.faults.setdefault(case, {})[server] = why

    def wanted(self, case, server, repeat):
        """Whether another sample is worth its time."""
        if server in self.faults.get(case, {}):
            return False
        return repeat < 2 or self.slow.get((case, server), 0) < CASE_SECONDS


def measured(program, *arguments, seconds=SESSION_SECONDS):
    """Runs one of the measuring clients to its end; what it measured."""
    try:
        done = subprocess.run([program, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Fault("not done after %d seconds" % seconds) from None
    if done.returncode != 0:
        raise Fault(done.stderr.decode("ascii", "replace").strip() or "%s was ended by a signal" % os.path.basename(program))
    return json.loads(done.stdout)


class Client:
    """popbench, run outside of the copy, as root's other tools are; it shares only the loopback."""

    def __init__(self, programs):
        self.popbench = programs + "/popbench"

    def run(self, *arguments, seconds=SESSION_SECONDS):
        """To its end; what it measured."""
        return measured(self.popbench, *arguments, seconds=seconds)

    def held(self, *arguments):
        """Runs until it holds; a Held to let go."""
        return Held([self.popbench, *map(str, arguments)])


class Held:
    """A client that has paused, once or several times."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.wait()

    def wait(self):
        """Until it pauses."""
        line = self.process.stdout.readline()
        if line != b"held\n":
            self.process.kill()
            why = self.process.communicate()[1].decode("ascii", "replace").strip()
            raise Fault(why or "no pause but %r" % line)

    def go_on(self):
        """To the next pause."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        self.wait()

    def end(self):
        """Lets it run to its end."""
        try:
            self.process.communicate(b"", timeout=LONG_SESSION_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


class Bench:
    """What all groups work with."""

    def __init__(self, machine, boxes, servers, client, programs, results, short):
        self.machine = machine
        self.boxes = boxes
        self.servers = servers
        self.client = client
        self.programs = programs
        self.results = results
        self.short = short		# the smoke test: no more than it takes to see that it works
        self.seconds = SESSION_SECONDS

    def of(self, *names):
        """The servers of these names that run."""
        return [s for s in self.servers if s.name in names and s.ready]

    def each(self, case, repeat, servers, sample):
        """One sample of a case from each server; faults are noted and do not stop the others."""
        say("  %s" % case)
        for server in servers:
            if not self.results.wanted(case, server.name, repeat):
                continue
            start = time.monotonic()
            self.results.tried.add((case, server.name))
            try:
                server.select()
                sample(server)
            except (Fault, Trouble) as why:
                self.results.fault(case, server.name, str(why))
                if isinstance(why, WrongAnswer):
                    self.results.wrong.add(server.name)
            self.results.slow[case, server.name] = time.monotonic() - start

    def session(self, server, user, *steps):
        """One session and the processor time of all of it; .boxes.read() comes before."""
        server.group.settle()
        before = server.group.cpu()
        got = self.client.run("steps", server.port, user, *steps, seconds=self.seconds)
        server.group.settle()
        got["cpu"] = (server.group.cpu() - before) * 1e3
        return got


# Group: the machine's limits.


def machine_limit(bench, repeat, name, *arguments):
    """Runs limits; seconds and megabytes a second."""
    done = subprocess.run([bench.programs + "/limits", *arguments], check=True, capture_output=True)
    got = json.loads(done.stdout)
    bench.results.add(name + "_ms", "limit", repeat, got["seconds"] * 1e3)
    if got["bytes"] > 0:
        bench.results.add(name + "_MBps", "limit", repeat, got["bytes"] / got["seconds"] / 1e6)


def measure_limits(bench, repeat):
    """Without any server."""
    boxes = bench.boxes
    scratch = bench.machine.disk + "/scratch"
    big, middle = boxes.source(MBOX, "BIG"), boxes.source(MBOX, "M")
    machine_limit(bench, repeat, "loopbackBIG", "loopback", big)
    machine_limit(bench, repeat, "convertBIG", "convert", big)
    machine_limit(bench, repeat, "convertM", "convert", middle)
    for box in ("L", "XL"):
        machine_limit(bench, repeat, "scan" + box, "scan", boxes.source(MBOX, box))
        shutil.copyfile(boxes.source(MBOX, box), scratch)
        os.sync()
        machine_limit(bench, repeat, "move" + box, "move", scratch, str(boxes.first_message_bytes(box)))
    machine_limit(bench, repeat, "fsync", "fsync", scratch)
    os.unlink(scratch)
    for name in ("readdir", "count"):
        machine_limit(bench, repeat, name + "L", name, boxes.source(MAILDIR, "L") + "/cur")


# Group: connections, and logins on S.


def rate(bench, server, repeat, name, concurrency, *prefix):
    """Connections or logins a second, and processor time of each."""
    group = server.group
    group.settle()
    before = group.cpu()
    got = bench.client.run("rate", server.port, concurrency, 200 if bench.short else 1500, *prefix)
    group.settle()
    if got["failed"] > 0 or got["done"] == 0:
        raise Fault("%d of %d failed: %s" % (got["failed"], got["failed"] + got["done"], got["failure"]))
    bench.results.add("%s%d_per_s" % (name, concurrency), server.name, repeat, got["done"] / got["seconds"])
    bench.results.add("%s%d_cpu_us" % (name, concurrency), server.name, repeat, (group.cpu() - before) / got["done"] * 1e6)


CONNECTION_SERVERS = ("postern", "popa3d", "solid", "mailutils", "courier", "dovecot", "dovecot-fast", "floor", "floor-static")


def measure_connections(bench, repeat):
    """Connect, greeting, QUIT."""
    for concurrency in (1, 8):
        bench.each("conn%d" % concurrency, repeat, bench.of(*CONNECTION_SERVERS),
                   lambda s, c=concurrency: rate(bench, s, repeat, "conn", c))
    if repeat == 0:
        names = ("postern", "floor") if bench.short else ("postern", "popa3d", "solid", "courier", "floor", "floor-static")
        bench.each("icount", repeat, bench.of(*names), lambda s: count_instructions(bench, s))


def count_instructions(bench, server):
    """Instructions and system calls of one connection; once, as they hardly vary."""
    if os.uname().machine != "x86_64":
        raise Fault("icount steps x86-64 programs only")
    for what, name in (("instructions", "conn_kinstr"), ("calls", "conn_syscalls")):
        uid, gid = server.user or (0, 0)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        try:
            done = bench.machine.run([bench.programs + "/icount", what, str(uid), str(gid), *server.command], env=environment, capture_output=True,
                                     timeout=5 * SESSION_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as why:
            raise Fault("icount: %s %s" % (why, why.stderr)) from None
        got = json.loads(done.stdout)
        bench.results.add(name, server.name, 0, got[what] / (1000 if what == "instructions" else 1))


LOGIN_SERVERS = ("postern", "postern-stays", "postern-users", "postern-shadow", "postern-maildir", "popa3d", "solid", "mailutils",
                 "dovecot", "dovecot-fast", "courier", "dovecot-maildir", "dovecot-maildir-fast")


def measure_logins(bench, repeat):
    """USER, PASS, STAT, QUIT on S: a different user in each place."""
    def sample(server, concurrency):
        bench.boxes.restore(server, "S")
        for user in users_of("S"):
            bench.boxes.read(server, user)
            bench.session(server, user, "open", "quit")	# what it keeps is there from now on
        rate(bench, server, repeat, "login", concurrency, "s")
    for concurrency in (1, 8):
        bench.each("login%d" % concurrency, repeat, bench.of(*LOGIN_SERVERS), lambda s, c=concurrency: sample(s, c))


# Group: opening.


def open_once(bench, server, repeat, box, state, *steps):
    """One session; what it took."""
    user = users_of(box)[0]
    bench.boxes.read(server, user)
    # Whatever the server, a machine that had nothing to do for a second takes several milliseconds more for the first session (its
    # processors are halted, their caches cold).  After a delivery we have waited; so somebody else's session goes ahead.
    bench.session(server, users_of("S")[-1], "open", "quit")
    got = bench.session(server, user, "open", *steps, "quit")
    expected = bench.boxes.sizes[box][0] + (state == "new")
    if got["messages"] != expected:
        raise WrongAnswer("%d messages instead of %d" % (got["messages"], expected))
    for what, name in (("open", "ms"), ("session", "session_ms"), ("cpu", "cpu_ms")):
        bench.results.add("open%s_%s_%s" % (box, state, name), server.name, repeat, got[what])
    return got


# Who keeps an index of a Maildir does not trust times of folders that are as near as this: a file made within the same second or
# two would not show.  Mailboxes that somebody asks for again are older.
SETTLED_SECONDS = 5


def open_box(bench, server, repeat, box):
    """cold: no index; warm: the second session; new: one message was delivered since.  And the lists of L."""
    bench.boxes.restore(server, box)
    if server.kind == MAILDIR and not bench.short:
        time.sleep(SETTLED_SECONDS)
    open_once(bench, server, repeat, box, "cold")
    open_once(bench, server, repeat, box, "warm")
    bench.boxes.deliver(server, users_of(box)[0])
    open_once(bench, server, repeat, box, "new")
    if box == "L":
        # The first UIDL may have to make what later ones find.
        first = bench.session(server, "l", "open", "uidl", "quit")
        bench.results.add("uidlL_first_ms", server.name, repeat, first["uidl"])
        got = bench.session(server, "l", "open", "list", "uidl", "quit")
        bench.results.add("listL_ms", server.name, repeat, got["list"])
        bench.results.add("uidlL_ms", server.name, repeat, got["uidl"])


def measure_open(bench, repeat):
    """PASS sent to STAT answered."""
    for box in ("S", "M", "L", "XL"):
        names = ["postern", "popa3d", "solid", "mailutils", "dovecot"]
        if box in ("S", "L"):
            names += ["postern-users"]
        if box == "L":
            names += ["popa3d-nodelay", "mailutils-nodelay"]
        if box != "XL":
            names += ["postern-maildir", "courier", "dovecot-maildir"]
        if box == "L":
            names += ["courier-nodelay"]
        bench.each("open" + box, repeat, bench.of(*names), lambda s, b=box: open_box(bench, s, repeat, b))


# Group: download.


def fetch(bench, server, repeat, how, name):
    """M, one by one or pipelined, for some seconds at most."""
    step = "%s:%d" % (how, 300 if bench.short else 3000)
    bench.boxes.restore(server, "M")
    bench.boxes.read(server, "m")
    bench.session(server, "m", "open", "quit")	# an index, where there is one
    bench.boxes.read(server, "m")
    got = bench.session(server, "m", "open", step, "quit")[how]
    bench.results.add(name + "_msg_per_s", server.name, repeat, got["messages"] / got["ms"] * 1e3)
    bench.results.add(name + "_MBps", server.name, repeat, got["octets"] / got["ms"] / 1e3)


def fetch_big(bench, server, repeat):
    """One message of a gigabyte."""
    bench.boxes.restore(server, "BIG")
    bench.boxes.read(server, "big")
    bench.session(server, "big", "open", "quit")
    bench.boxes.read(server, "big")
    got = bench.session(server, "big", "open", "retr:1", "quit")
    bench.results.add("retrBIG_MBps", server.name, repeat, got["retr"]["octets"] / got["retr"]["ms"] / 1e3)
    bench.results.add("retrBIG_session_ms", server.name, repeat, got["session"])
    bench.results.add("retrBIG_cpu_ms", server.name, repeat, got["cpu"])


RETR_SERVERS = ("postern", "postern-maildir", "popa3d", "popa3d-nodelay", "solid", "solid-nodelay", "mailutils",
                "mailutils-nodelay", "dovecot", "courier", "courier-nodelay", "dovecot-maildir")


def measure_download(bench, repeat):
    """RETR."""
    servers = bench.of(*RETR_SERVERS)
    bench.each("retr_each", repeat, servers, lambda s: fetch(bench, s, repeat, "each", "retrM_each"))
    bench.each("retr_pipe", repeat, servers, lambda s: fetch(bench, s, repeat, "pipe", "retrM_pipe"))
    bench.each("retr_BIG", repeat, servers, lambda s: fetch_big(bench, s, repeat))


# Group: deletion.


def delete_first(bench, server, repeat, box):
    """DELE 1 and QUIT; then the mailbox is compared."""
    user = users_of(box)[0]
    bench.boxes.restore(server, box)
    bench.boxes.read(server, user)
    bench.session(server, user, "open", "quit")
    bench.boxes.read(server, user)
    got = bench.session(server, user, "open", "dele:1", "quit")
    for what in ("quit", "closed"):
        bench.results.add("exp1%s_%s_ms" % (box, what), server.name, repeat, got[what])
    bench.results.add("exp1%s_cpu_ms" % box, server.name, repeat, got["cpu"])
    if repeat == 0:
        check_rest(bench, server, box, user)


def check_rest(bench, server, box, user):
    """All but one message are still there, as they were.  (Dovecot and mailutils add headers of their own to an mbox.)"""
    if server.kind == MBOX and isinstance(server, (Postern, Popa3d, Solid)) and not bench.boxes.same_tail(user, box):
        raise WrongAnswer("the mailbox without its first message is not what it was")
    verify(bench, server, box, user, 1)


def delete_all(bench, server, repeat):
    """DELE of all of L, pipelined, and QUIT."""
    bench.boxes.restore(server, "L", copies=server.kind == MAILDIR)
    bench.boxes.read(server, "l")
    bench.session(server, "l", "open", "quit")
    bench.boxes.read(server, "l")
    got = bench.session(server, "l", "open", "deleall", "quit")
    for what in ("dele", "quit", "closed"):
        bench.results.add("expallL_%s_ms" % what, server.name, repeat, got[what])
    bench.results.add("expallL_both_ms", server.name, repeat, got["dele"] + got["quit"])
    bench.results.add("expallL_cpu_ms", server.name, repeat, got["cpu"])
    left = bench.session(server, "l", "open", "quit")["messages"]
    if left != 0 or server.kind == MAILDIR and bench.boxes.files(server, "l") != 0:
        raise WrongAnswer("%d messages are left of none" % left)


def measure_remove(bench, repeat):
    """
    rm of the messages of L, copied as for DELE of all, and in the same minutes: how long a disk takes to free blocks varies.  The order
    in which files are made decides which blocks of their folder and of the inodes rm goes to next, and with that a tenth of its time.
    """
    scratch = bench.machine.disk + "/scratch.maildir"
    bench.boxes.copy_maildir("L", scratch)
    start = time.monotonic()
    subprocess.run(["rm", "-r", scratch + "/cur", scratch + "/new"], check=True)
    bench.results.add("removeL_ms", "limit", repeat, (time.monotonic() - start) * 1e3)
    shutil.rmtree(scratch)


def measure_deletion(bench, repeat):
    """UPDATE."""
    mbox = ("postern", "popa3d", "popa3d-nodelay", "solid", "mailutils", "dovecot")
    maildir = ("postern-maildir", "courier", "dovecot-maildir")
    bench.each("exp1L", repeat, bench.of(*mbox, *maildir), lambda s: delete_first(bench, s, repeat, "L"))
    bench.each("exp1XL", repeat, bench.of(*mbox), lambda s: delete_first(bench, s, repeat, "XL"))
    bench.each("expallL", repeat, bench.of(*mbox, *maildir, "courier-nodelay"), lambda s: delete_all(bench, s, repeat))
    measure_remove(bench, repeat)


# Group: memory.


def hold_session(bench, server, *arguments):
    """kB at each pause of a client."""
    server.group.settle()
    server.group.rest()
    held = bench.client.held(*arguments)
    try:
        yield memory(server.group.session_pids())
        while True:
            held.go_on()
            yield memory(server.group.session_pids())
    finally:
        held.end()
        server.group.settle()


def memory_idle(bench, server, repeat):
    """A connection before its login: what each of many costs, so that what they share counts once."""
    sizes = hold_session(bench, server, "hold", server.port, IDLE_CONNECTIONS)
    bench.results.add("idle_pss_kB", server.name, repeat, next(sizes) / IDLE_CONNECTIONS)
    sizes.close()


def memory_login(bench, server, repeat):
    """A session on L after its login."""
    bench.boxes.restore(server, "L")
    bench.session(server, "l", "open", "quit")
    sizes = hold_session(bench, server, "steps", server.port, "l", "open", "hold", "drop")
    bench.results.add("memL_pss_kB", server.name, repeat, next(sizes))
    sizes.close()


def memory_big(bench, server, repeat):
    """A session on BIG: after its login, and when half of it has come."""
    bench.boxes.restore(server, "BIG")
    sizes = hold_session(bench, server, "steps", server.port, "big", "open", "hold", "half:1", "drop")
    before = next(sizes)
    during = next(sizes)
    sizes.close()
    bench.results.add("memBIG_login_pss_kB", server.name, repeat, before)
    bench.results.add("memBIG_pss_kB", server.name, repeat, during)
    bench.results.add("memBIG_more_kB", server.name, repeat, during - before)


def measure_memory(bench, repeat):
    """Proportional set size of all processes that a session has."""
    if repeat >= MEMORY_REPEATS:
        return
    names = ("postern", "postern-maildir", "popa3d", "solid", "mailutils", "dovecot", "courier", "dovecot-maildir")
    bench.each("idle", repeat, bench.of(*names, "dovecot-fast", "floor", "floor-static"),
               lambda s: memory_idle(bench, s, repeat))
    bench.each("memL", repeat, bench.of(*names), lambda s: memory_login(bench, s, repeat))
    bench.each("memBIG", repeat, bench.of(*names), lambda s: memory_big(bench, s, repeat))


# Group: TLS.


TLS_SERVERS = ("postern-tls", "dovecot-tls", "stunnel")


def tls_connections(bench, server, repeat, how):
    """Handshake, greeting, QUIT: processor time of each.  Not every server can resume."""
    server.group.settle()
    before = server.group.cpu()
    got = measured(bench.programs + "/tlsbench", "connect", server.port, 300 if bench.short else 2000, how)
    server.group.settle()
    bench.results.add("tls_%s_cpu_us" % how, server.name, repeat, (server.group.cpu() - before) / got["done"] * 1e6)
    bench.results.add("tls_%s_per_s" % how, server.name, repeat, got["done"] / got["seconds"])
    if how == "resumed":
        bench.results.add("tls_resumed_percent", server.name, repeat, 100 * got["resumed"] / got["done"])


def tls_big(bench, server, repeat):
    """One message of a gigabyte."""
    bench.boxes.restore(server, "BIG")
    bench.boxes.read(server, "big")
    server.group.settle()
    before = server.group.cpu()
    got = measured(bench.programs + "/tlsbench", "retr", server.port, "big")
    server.group.settle()
    bench.results.add("tlsBIG_MBps", server.name, repeat, got["octets"] / got["ms"] / 1e3)
    bench.results.add("tlsBIG_cpu_ms", server.name, repeat, (server.group.cpu() - before) * 1e3)


def measure_tls(bench, repeat):
    """TLS 1.3 with AES-128-GCM and a P-256 certificate, for all."""
    for how in ("full", "resumed"):
        bench.each("tls_" + how, repeat, bench.of(*TLS_SERVERS), lambda s, h=how: tls_connections(bench, s, repeat, h))
    bench.each("tls_BIG", repeat, bench.of(*TLS_SERVERS, "copy-tls"), lambda s: tls_big(bench, s, repeat))


# Group: are the answers right?


def verify(bench, server, box, user, missing):
    """Every message of a box; a Fault unless all is right."""
    got = bench.client.run("verify", server.port, user, bench.boxes.manifest(box), missing, seconds=5 * SESSION_SECONDS)
    expected = bench.boxes.sizes[box][0] - missing
    wrong = []
    if got["messages"] != expected:
        wrong.append("%d messages instead of %d" % (got["messages"], expected))
    if got["bad"]:
        wrong.append("%d messages with a wrong text" % got["bad"])
    if got["wrong_sizes"]:
        wrong.append("%d sizes of LIST that are not the octets sent" % got["wrong_sizes"])
    if got["stat_differs"]:
        wrong.append("STAT is not the sum of LIST")
    if got["lost"]:
        wrong.append("%d messages never came" % got["lost"])
    if wrong:
        raise WrongAnswer("; ".join(wrong))


def measure_answers(bench, repeat):
    """Once, not timed: the texts of all messages and their sizes."""
    if repeat > 0:
        return

    def sample(server, box):
        bench.boxes.restore(server, box)
        verify(bench, server, box, users_of(box)[0], 0)
        bench.results.add("verify%s" % box, server.name, 0, 0)
    servers = [s for s in bench.servers if s.ready and s.name not in TLS_SERVERS and not isinstance(s, Floor)]
    for box in ("S", "M", "L", "XL", "BIG"):
        bench.each("verify" + box, 0, [s for s in servers if box != "XL" or s.kind == MBOX],
                   lambda s, b=box: sample(s, b))


GROUPS = {
    "answers": measure_answers,
    "limits": measure_limits,
    "connections": measure_connections,
    "logins": measure_logins,
    "opening": measure_open,
    "download": measure_download,
    "deletion": measure_deletion,
    "memory": measure_memory,
    "tls": measure_tls,
}
