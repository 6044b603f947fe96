"""The messages between session and helper (src/common/wire.h), for tests that play one of the two against the other.
"""

import array
import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess

LOGIN, MESSAGES, VERIFY, UNIQUE_IDS, DELETED, READ, UPDATE = range(1, 8)
REFUSED, OPENED, FILES, GONE, VERIFIED, IDS, UPDATED = range(64, 71)
MBOX, MAILDIR = 1, 2
AUTH, TEMPORARY, PERMANENT, IN_USE = 1, 2, 3, 4
WIRE_BYTES = 32768


def text(octets):
    return struct.pack("=I", len(octets)) + octets


def numbers(*values):
    return struct.pack("=%dI" % len(values), *values)


def message(kind, fields=b""):
    return bytes([kind]) + fields


def login(name=b"alice", password=b"secret", mechanism=1):
    return message(LOGIN, text(name) + text(password) + bytes([mechanism]))


def unique_ids(first, all_behind=False):
    return message(UNIQUE_IDS, numbers(first) + bytes([all_behind]))


def opened(kind, count, last=0, state=(0, 0, 0, 0, 0), octets=0):
    return message(OPENED, bytes([kind]) + numbers(count, last) + struct.pack("=Q", octets) +
                   (struct.pack("=5Q", *state) if kind == MBOX else b""))


def send(sock, octets, fds=()):
    """One datagram, with descriptors."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
    sock.sendmsg([octets], ancillary)


def receive(sock, seconds=20):
    """(octets, descriptors) of the next datagram; (b"", []) when the peer is gone; None when nothing comes in time."""
    if not select.select([sock], [], [], seconds)[0]:
        return None
    try:
        octets, ancillary, _, _ = sock.recvmsg(1 << 17, socket.CMSG_SPACE(64 * 4), socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return receive(sock, seconds)
    fds = array.array("i")
    for level, kind, octets_of_fds in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(octets_of_fds[:len(octets_of_fds) - len(octets_of_fds) % fds.itemsize])
    return octets, list(fds)


@contextlib.contextmanager
def under_way(count):
    """So many descriptors are under way, sent and never taken: Linux counts them by user, and each sender compares the sum with
    its own RLIMIT_NOFILE (unix(7), ETOOMANYREFS)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for sent in range(0, count, 60):
            send(ours, b"x", [ours.fileno()] * min(60, count - sent))
        yield


class Helper:
    """A real helper, started as the monitor starts it: its socket is descriptor 3, its log descriptor 2.

    arguments, environment, before (runs between fork and exec): what a hostile caller may choose."""

    def __init__(self, path, environment, arguments=("postern-helper",), before=None, sock=None, wrapper=()):
        self.sock, theirs = sock if sock else socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log, log = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def prepare():
            mine = os.dup(log.fileno()), fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 10)
            os.dup2(mine[0], 2)
            os.dup2(mine[1], 3)
            if before:
                before()

        self.process = subprocess.Popen(list(wrapper) + list(arguments), executable=None if wrapper else path, env=environment,
                                        cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=prepare,
                                        close_fds=False)
        theirs.close()
        log.close()
        self.records = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        if self.process.poll() is None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.log.close()

    def send(self, octets, fds=()):
        """False when it is gone already."""
        try:
            send(self.sock, octets, fds)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def ask(self, octets, fds=()):
        self.send(octets, fds)
        return self.receive()

    def receive(self, seconds=20):
        got = receive(self.sock, seconds)
        for fd in got[1] if got else ():
            os.close(fd)
        return got

    def log_records(self):
        """What it has logged so far: datagrams as text."""
        while select.select([self.log], [], [], 0)[0]:
            octets = self.log.recv(1 << 16)
            if not octets:
                break
            self.records.append(octets.decode(errors="backslashreplace"))
        return self.records

    def ends(self, seconds=20):
        """Its exit status; None when it does not end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


STAND_IN = """#!/usr/bin/python3 -IBS
import array, os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(%r)
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3, 2]).tobytes())])
os.closerange(2, 4)
s.recv(1)
"""


class FakeHelper:
    """The place of the helper, for a test that wants to be it: a program that hands its two sockets over to us, and ends when
    we are through.  path is what POSTERN_HELPER has to name."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "stand-in")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path + ".socket")
        self.listener.listen()
        self.listener.settimeout(20)
        self.connection = self.sock = self.log = None
        with open(self.path, "w") as f:
            f.write(STAND_IN % (self.path + ".socket"))
        os.chmod(self.path, 0o755)

    def take(self):
        """Waits until the monitor has started it, and gives back the first message with its descriptors."""
        self.connection, _ = self.listener.accept()
        fds = receive(self.connection)[1]
        self.sock, self.log = (socket.socket(fileno=fd) for fd in fds)
        return receive(self.sock)

    def close(self):
        for s in (self.sock, self.log, self.connection, self.listener):
            if s is not None:
                s.close()


SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def memfd(octets, seals=SEALED, size=None):
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, octets)
    if size is not None:
        os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def table(*records):
    """Records of common/table.h: offset, bytes, octets, fingerprint."""
    return b"".join(struct.pack("=4Q", *r) for r in records)
