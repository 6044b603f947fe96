"""Clients that want to wear the service out: silent ones by the hundred, slow ones, floods from one address, a message of a
gibibyte for a client that takes a kilobyte a second.  Memory stays flat, others are served, and nothing stays behind.

(Floods within one connection - cancelled AUTH, lines without end, a million commands - are in tests/session/test_limits.py.)
"""

import os
import pwd
import re
import resource
import select
import socket
import threading
import time

import mail
from box import (Pop, all_gone, configure, journal, journal_mark, left_behind, logged, processes, proportional_set_size, sh,
                 try_login,
                 units, wait_for, write)

SOCKET_DROP_IN = "/run/systemd/system/pop3.socket.d/siege.conf"
SILENT = 500
SILENT_KILOBYTES = 300
GIBIBYTE = 1 << 30


def limits(text):
    """The socket unit with these limits; without, as shipped."""
    if text:
        write(SOCKET_DROP_IN, "[Socket]\n" + text)
    else:
        os.unlink(SOCKET_DROP_IN)
    sh("systemctl daemon-reload && systemctl restart pop3.socket")


def served(t, what):
    """Somebody else, meanwhile."""
    with Pop(source="127.0.0.200", timeout=60).enter("bob") as pop:
        t.equal(pop.many("RETR 1"), mail.wire(mail.MADE[0]), what + ": another client is served")
        pop.must("QUIT")


def peaks():
    """Peak resident kilobytes of each process."""
    found = {}
    for p in processes():
        found[p.pid] = int(re.match(r"\s*(\d+)", p.status["VmHWM"]).group(1))
    return found


def silent(t):
    """500 connections that never say anything (login-timeout, which ends them, is seen below: slow)."""
    limits("MaxConnections=%d\nMaxConnectionsPerSource=%d\n" % (2 * SILENT, SILENT))
    configure(failure_delay=0, login_timeout=120)
    mark = journal_mark()
    clients = []
    for n in range(SILENT):
        clients.append(Pop(source="127.0.1.%d" % (1 + n % 20), timeout=60))
    for client in clients:
        client.greet()
    pids = [p.pid for p in processes()]
    size = proportional_set_size(pids) / len(clients)
    t.ok(size < SILENT_KILOBYTES, "%d silent connections: %d processes, %.0f kB each" % (SILENT, len(pids), size))
    served(t, "%d silent connections" % SILENT)
    for client in clients:
        client.close()
    t.ok(all_gone(60), "%d silent connections: their processes end with them" % SILENT)
    t.equal(left_behind(), "", "%d silent connections: nothing is left" % SILENT)
    ends = [e["POSTERN_HOW"] for e in journal(mark, "session-end") if e["POSTERN_RIP"].startswith("127.0.1.")]
    t.equal((len(ends), set(ends)), (SILENT, {"closed"}), "%d silent connections: one line each" % SILENT)
    limits("")
    configure(failure_delay=0)


def flood(t):
    """1500 connections from one address, as fast as they go: the limit closes them, the socket stays, others get in."""
    stop = threading.Event()
    opened = []

    def attack():
        while not stop.is_set() and len(opened) < 1500:
            try:
                opened.append(socket.create_connection(("127.0.0.1", 110), 10, ("127.0.0.7", 0)))
            except OSError:
                time.sleep(0.01)
    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for thread in attackers:
        thread.start()
    while any(thread.is_alive() for thread in attackers):
        served(t, "flood, %d connections so far" % len(opened))
        time.sleep(0.5)
    stop.set()
    sessions = [p for p in processes() if p.parent == 1]
    t.ok(len(sessions) <= 32, "flood: one address has at most 32 sessions", len(sessions))
    for s in opened:
        s.close()
    t.equal(left_behind(), "", "flood: nothing is left")
    t.equal(units("pop3.socket"), [("pop3.socket", "active")], "flood: the socket listens on")
    t.ok(try_login("bob", source="127.0.0.7").startswith(b"+OK"), "flood: and the address itself is served again")


def never_reads():
    """Logged in, asks for megabytes, takes none of them."""
    pop = Pop(source="127.0.0.21", timeout=60).enter("alice")
    for _ in range(100):
        pop.send("RETR 7")
    return pop


def slow(t):
    """One octet a second; never reading; never writing: idle-timeout ends each, whatever it does."""
    configure(failure_delay=0, idle_timeout=5, login_timeout=8)
    mail.make_mbox("alice", mail.MADE[:6] + [mail.HEAD + b"\n" + b"a long line of text\n" * 300000])
    mark = journal_mark()
    dripping = [Pop(source="127.0.0.22", timeout=60).greet() for _ in range(10)]
    mute = [Pop(source="127.0.0.23", timeout=60).greet() for _ in range(10)]
    deaf = never_reads()
    before = peaks()
    for _ in range(5):
        for pop in dripping:
            try:
                pop.sock.sendall(b"N")
            except OSError:
                pass
        time.sleep(1)
    served(t, "slow clients")
    grown = max(now - before[pid] for pid, now in peaks().items() if pid in before)
    t.ok(grown < 1024, "slow clients: no process grows", "%d kB" % grown)
    t.ok(wait_for(lambda: not processes(), 60), "slow clients: all come to their end")
    for pop in dripping + mute + [deaf]:
        pop.close()
    t.equal(left_behind(), "", "slow clients: nothing is left")
    ends = {rip: {e["POSTERN_HOW"] for e in journal(mark, "session-end") if e["POSTERN_RIP"] == rip} for rip in
            ("127.0.0.21", "127.0.0.22", "127.0.0.23")}
    t.equal(ends, {"127.0.0.21": {"stalled"}, "127.0.0.22": {"login-timeout"}, "127.0.0.23": {"login-timeout"}},
            "slow clients: the log says which was which")
    configure(failure_delay=0)


def gibibyte(t):
    """A message of 1 GiB, nearly all of it a hole in the file, and a client that takes 1 kB a second."""
    path = "/var/mail/alice"
    with open(path, "wb") as f:
        f.write(b"From x@example.net Fri Nov 21 09:55:06 1997\nSubject: large\n\n")
        f.truncate(GIBIBYTE)
        f.seek(GIBIBYTE)
        f.write(b"\nend\n\n")
    os.chown(path, pwd.getpwnam("alice").pw_uid, -1)
    os.chmod(path, 0o660)
    mark = journal_mark()
    with Pop(source="127.0.0.24", timeout=120) as pop:
        pop.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pop.enter("alice")
        octets = int(pop.must("STAT").split()[2])
        t.ok(GIBIBYTE - 100 < octets < GIBIBYTE + 100, "1 GiB: STAT says so", octets)
        pop.send("RETR 1")
        select.select([pop.sock], [], [], 60)
        before, got = peaks(), 0
        for _ in range(8):
            got += len(pop.sock.recv(1024))
            time.sleep(1)
        after = peaks()
        t.ok(got > 1024 and set(before) == set(after), "1 GiB at 1 kB/s: the session goes on", (before, after))
        t.ok(max(after[pid] - before[pid] for pid in before) < 512, "1 GiB at 1 kB/s: no process grows", (before, after))
        t.ok(max(after.values()) < 8000, "1 GiB at 1 kB/s: none is large", after)
        served(t, "1 GiB at 1 kB/s")
    t.ok(all_gone(), "1 GiB at 1 kB/s: they end with the client")
    t.ok(logged(mark, '^session-end how=closed user="alice"'), "1 GiB at 1 kB/s: the log says so")
    t.equal(left_behind(), "", "1 GiB at 1 kB/s: nothing is left")
    with Pop(timeout=120).enter("alice") as pop:
        pop.must("RETR 1")
        size, end = 0, b""
        while end != b"\r\n.\r\n" and (piece := pop.file.read1(1 << 20)):
            size += len(piece)
            end = (end + piece)[-5:]
        after = peaks()
        t.ok(size == octets + 3 and max(after.values()) < 8000, "1 GiB at full speed: all of it, and no process is large",
             (size, after))
    all_gone()
    os.unlink(path)


def run(t):
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    configure(failure_delay=0)
    mail.make_mbox("alice", mail.MADE)
    mail.make_maildir("bob", mail.MADE)
    all_gone()
    for check in (silent, flood, slow, gibibyte):
        t.section(check)
    mail.make_mbox("alice", mail.MADE)
