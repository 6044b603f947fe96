"""POP3 sessions that fetch and delete, hang up, or have one of their processes killed; and what each of them saw.

Runs as root in the copy of the machine (see delivery.sh).  A session is started as inetd starts it, with a socket as its
descriptors 0 and 1, so that its processes are known.
"""

import os
import re
import select
import signal
import socket
import subprocess
import time

import delivery_mail

STATE = "/var/lib/postern"
PASSWORD = "secret"
ENTERED = b"+OK maildrop locked and ready\r\n"
SIGNING_OFF = b"+OK POP3 server signing off\r\n"
IN_USE = b"-ERR [IN-USE]"
ROLES = ("session", "helper", "helper", "monitor", "keeper", "keeper", "watcher")

# The longest that anything may take: a helper waits 30 s for the locks of a busy mailbox.
PATIENCE = 60

# Kills after QUIT come within this time; nearly all updates end before it, if they need not wait for a lock.
LONGEST_UPDATE = 0.030

# How long a journal is there.
LONGEST_MOVE = 0.002


class Lost(Exception):
    """The server closed the connection, which it may do when it was killed or the mailbox changed."""


class Wrong(Exception):
    """An answer that it must not give, unless one of its processes was killed."""


class Stuck(Exception):
    """No answer at all."""


def read_proc(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as f:
            return f.read()
    except OSError:
        return b""


def children(pid):
    return [int(word) for word in read_proc(pid, "task/%d/children" % pid).split()]


def is_helper(pid):
    return read_proc(pid, "comm").strip() == b"postern-helper"


def alive(pid):
    """Zombies of killed parents are for process 1 to bury."""
    state = re.search(rb"(?m)^State:\t(.)", read_proc(pid, "status"))
    return state is not None and state.group(1) not in b"ZX"


class Session:
    """One connection and its processes."""

    def __init__(self, server):
        ours, its = socket.socketpair()
        self.sock = ours
        self.sock.settimeout(PATIENCE)
        self.monitor = subprocess.Popen([server], stdin=its, stdout=its, stderr=subprocess.DEVNULL, cwd="/")
        its.close()
        self.buffer = b""
        self.known = {"monitor": self.monitor.pid}

    # The processes.

    def look(self):
        """Finds those that have been started by now."""
        for child in children(self.monitor.pid):
            if not is_helper(child):
                self.known["session"] = child
            else:
                self.known["helper"] = child
                self.look_for_keeper(child)
        return self.known

    def look_for_keeper(self, helper):
        """The helper's child waits for the end of its own child, the lock keeper."""
        for watcher in children(helper):
            for keeper in children(watcher):
                self.known["watcher"], self.known["keeper"] = watcher, keeper

    def kill(self, role):
        """Kills it with signal 9; returns what was killed, None if there is none.  Where there is no keeper, it is the helper's
        turn."""
        known = self.look()
        if role in ("keeper", "watcher") and role not in known:
            role = "helper"
        pid = known.get(role)
        if pid is None or not alive(pid):
            return None
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return role

    def end(self, seconds=PATIENCE):
        """Closes the connection; returns the roles whose processes do not end within this time."""
        self.look()
        self.sock.close()
        limit = time.monotonic() + seconds
        while True:
            self.monitor.poll()
            left = sorted(role for role, pid in self.known.items() if alive(pid))
            if not left or time.monotonic() > limit:
                return left
            time.sleep(0.005)

    # Lines and answers.

    def answered(self):
        """Whether there is something to read."""
        return bool(select.select([self.sock], [], [], 0)[0])

    def fill(self):
        try:
            more = self.sock.recv(1 << 18)
        except ConnectionResetError:
            more = b""
        except socket.timeout:
            raise Stuck("no answer for %d s" % PATIENCE) from None
        if not more:
            raise Lost("connection closed")
        self.buffer += more

    def send(self, *commands):
        try:
            self.sock.sendall(b"".join(c.encode() + b"\r\n" for c in commands))
        except (BrokenPipeError, ConnectionResetError):
            raise Lost("connection closed") from None

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line + b"\r\n"

    def rest(self):
        """A multi-line answer after its first line: un-stuffed, without the final dot."""
        searched = 0
        while not self.buffer.startswith(b".\r\n"):
            at = self.buffer.find(b"\r\n.\r\n", searched)
            if at != -1:
                text, self.buffer = self.buffer[:at + 2], self.buffer[at + 5:]
                return re.sub(rb"(?m)^\.", b"", text)
            searched = max(0, len(self.buffer) - 4)
            self.fill()
        self.buffer = self.buffer[3:]
        return b""

    def ask(self, command):
        self.send(command)
        return self.line()

    def must(self, command):
        answer = self.ask(command)
        if not answer.startswith(b"+OK"):
            raise Wrong("%s: %r" % (command, answer))
        return answer

    def many(self, command):
        self.must(command)
        return self.rest()

    def name(self, user):
        """Up to the password."""
        greeting = self.line()
        if greeting != b"+OK POP3 server ready\r\n":
            raise Wrong("greeting: %r" % greeting)
        self.must("USER " + user)

    def password(self):
        """Its answer is still to be read."""
        self.send("PASS " + PASSWORD)


class Visit:
    """What one session did and saw: one line of a ledger."""

    def __init__(self, user):
        self.user = user
        self.began = time.monotonic()
        self.entered = None     # when the login succeeded
        self.ended = None
        self.end = "not let in"
        self.listed = []        # unique-ids at login
        self.fetched = {}       # serial: unique-id, of whole messages
        self.deleted = []       # serials marked as deleted
        self.acknowledged = False   # +OK to QUIT: they are gone
        self.asked = False      # QUIT was sent: they may be gone
        self.killed = None
        self.problems = []

    def row(self):
        return vars(self)


class Client:
    """Does one visit.  The mailbox may change underneath only if others than postern remove mail from it (changes)."""

    def __init__(self, server, user, dice, changes=False):
        self.session = Session(server)
        self.visit = Visit(user.name)
        self.user = user
        self.dice = dice
        self.changes = changes
        self.sizes = []
        self.ids = []

    def problem(self, text):
        self.visit.problems.append(text)

    def login(self):
        """Whether it was let in."""
        self.session.name(self.user.name)
        self.session.password()
        return self.judge_login(self.session.line())

    def judge_login(self, answer):
        if answer == ENTERED:
            self.visit.entered = time.monotonic()
            return True
        self.visit.end = answer.decode(errors="replace").strip()
        if not answer.startswith(IN_USE) and self.visit.killed is None:
            self.problem("login: " + self.visit.end)
        return False

    def survey(self):
        """STAT, LIST and UIDL, which have to agree."""
        number, octets = (int(word) for word in self.session.must("STAT").split()[1:3])
        listing = [line.split() for line in self.session.many("LIST").splitlines()]
        ids = [line.split() for line in self.session.many("UIDL").splitlines()]
        self.sizes = [int(size) for _, size in listing]
        self.ids = [one.decode("latin-1") for _, one in ids]
        self.visit.listed = self.ids
        numbers = [b"%d" % (n + 1) for n in range(number)]
        if [n for n, _ in listing] != numbers or [n for n, _ in ids] != numbers or sum(self.sizes) != octets:
            self.problem("STAT, LIST and UIDL disagree: %d messages, %d and %d lines" % (number, len(listing), len(ids)))
        if len(set(self.ids)) != len(self.ids):
            self.problem("the same unique-id twice")

    def choose(self, most=40):
        """Message-numbers to fetch: all, the first, the last, some, every other."""
        everything = range(1, len(self.ids) + 1)
        some = self.dice.randint(1, most)
        way = self.dice.choice(["first", "last", "some", "other"])
        if len(everything) <= some or way == "first":
            return list(everything[:some])
        if way == "last":
            return list(everything[-some:])
        if way == "other":
            return list(everything[::2][:some])
        return sorted(self.dice.sample(everything, some))

    def fetch(self, numbers):
        """RETR, one by one or all at once.  Returns the numbers that a client may delete: whole, and not for mutt."""
        at_once = self.dice.random() < 0.5
        if at_once:
            self.session.send(*("RETR %d" % n for n in numbers))
        mine = []
        for n in numbers:
            if not at_once:
                self.session.send("RETR %d" % n)
            answer = self.session.line()
            if not answer.startswith(b"+OK"):
                if not self.changes and self.visit.killed is None:
                    self.problem("RETR %d: %r" % (n, answer))
                continue
            if self.whole(n, self.session.rest()):
                mine.append(n)
        return mine

    def whole(self, n, octets):
        """Judges a message that came with its final dot.  True if it is one for us to delete."""
        found = delivery_mail.examine(octets.replace(b"\r\n", b"\n"))
        if len(octets) != self.sizes[n - 1]:
            self.problem("message %d (%s): %d octets, LIST says %d" % (n, found.serial, len(octets), self.sizes[n - 1]))
        if not found.whole:
            self.problem("message %d (%s, %s) is not what was sent: %r ... %r" % (
                n, found.serial, self.ids[n - 1], octets[:300], octets[-100:]))
        if found.serial is None:
            return False
        if found.serial in self.visit.fetched:
            self.problem("%s is in the mailbox twice: %s and %s" % (
                found.serial, self.visit.fetched[found.serial], self.ids[n - 1]))
        self.visit.fetched[found.serial] = self.ids[n - 1]
        return found.whole and not found.purger

    def delete(self, numbers):
        serials = {unique: serial for serial, unique in self.visit.fetched.items()}
        for n in numbers:
            self.session.must("DELE %d" % n)
            self.visit.deleted.append(serials[self.ids[n - 1]])

    def quit(self):
        self.visit.asked = True
        self.session.send("QUIT")
        self.quit_answered()

    def quit_answered(self):
        answer = self.session.line()
        self.visit.end = answer.decode(errors="replace").strip()
        self.visit.acknowledged = answer == SIGNING_OFF
        expected = self.visit.killed is not None or self.changes and answer.startswith(b"-ERR [SYS/TEMP]")
        if not self.visit.acknowledged and not expected:
            self.problem("QUIT: " + self.visit.end)

    def strike(self, role, stage, longest):
        """Kills one of its processes, some time within the next longest seconds."""
        time.sleep(self.dice.random() * longest)
        killed = self.session.kill(role)
        if killed:
            self.visit.killed = [killed, stage]

    def strike_update(self, role):
        """After QUIT: kills it while a journal is there.  Some time within an update where there is none (for a Maildir, or
        where only the end of an mbox goes), and sometimes else."""
        if self.user.kind == "maildir" or self.dice.random() < 0.2:
            self.strike(role, "quit", LONGEST_UPDATE)
            return
        journal = "%s/%s/journal" % (STATE, self.user.name)
        end = time.monotonic() + PATIENCE
        while not os.path.exists(journal) and not self.session.answered() and time.monotonic() < end:
            time.sleep(0.0001)
        if os.path.exists(journal):
            self.strike(role, "update", LONGEST_MOVE)
        else:
            self.strike(role, "quit", 0)

    def leave(self):
        """Ends the visit in one of the ways in which sessions end."""
        way = self.dice.random()
        if way < 0.75:
            self.quit()
        elif way < 0.9:
            self.visit.end = "hung up"
        else:
            self.visit.asked = True
            self.session.send("QUIT")
            self.visit.end = "hung up after QUIT"

    def work(self):
        """What is between login and QUIT."""
        self.survey()
        mine = self.fetch(self.choose())
        if self.dice.random() < 0.2:
            time.sleep(self.dice.random())
        if self.dice.random() < 0.85:
            self.delete(mine)
        if self.dice.random() < 0.1:
            self.session.must("RSET")
            self.visit.deleted = []

    def run(self, act):
        """Does act(self), and gives an account of it whatever happens."""
        try:
            act(self)
        except Lost as e:
            self.lost(str(e))
        except Wrong as e:
            self.visit.end = str(e)
            if self.visit.killed is None and not (self.changes and "[SYS/TEMP]" in str(e)):
                self.problem(str(e))
        except Stuck as e:
            self.visit.end = str(e)
            self.problem(str(e))
        left = self.session.end()
        if left:
            self.problem("still running %d s after the connection was closed: %s" % (PATIENCE, ", ".join(left)))
        self.visit.ended = time.monotonic()
        return self.visit

    def lost(self, why):
        self.visit.end = why
        if self.visit.killed is None and not (self.changes and self.visit.entered is not None):
            self.problem(why)


def visit(server, user, dice):
    """A session that nobody kills."""
    def act(client):
        if client.login():
            client.work()
            client.leave()
    return Client(server, user, dice, changes=user.mutt or user.rewriters).run(act)


def struck_visit(server, user, dice):
    """A session one of whose processes is killed: at login, in the middle, or after QUIT, when it is removing messages."""
    stage = dice.choice(["login", "middle", "quit", "quit", "quit"])
    role = dice.choice(ROLES)

    def act(client):
        client.session.name(user.name)
        client.session.password()
        if stage == "login":
            client.strike(role, stage, 0.015)
        if not client.judge_login(client.session.line()):
            return
        client.work()
        if stage == "middle":
            client.strike(role, stage, 0)
        client.visit.asked = True
        client.session.send("QUIT")
        if stage == "quit":
            client.strike_update(role)
        client.quit_answered()
    return Client(server, user, dice, changes=user.mutt or user.rewriters).run(act)


def cut_short(server, user, dice):
    """A short session whose update is killed: some messages near the start go, so that all the rest has to be moved."""
    role = dice.choice(ROLES)

    def act(client):
        if not client.login():
            return
        client.survey()
        numbers = list(range(1, min(12, len(client.ids)) + 1))
        client.delete(client.fetch(sorted(dice.sample(numbers, min(2, len(numbers))))))
        client.visit.asked = True
        client.session.send("QUIT")
        client.strike_update(role)
        client.quit_answered()
    return Client(server, user, dice).run(act)


def look_after(server, user, dice):
    """A session that changes nothing, but puts in order what those before have left."""
    def act(client):
        if client.login():
            client.survey()
            client.quit()
    return Client(server, user, dice, changes=user.mutt or user.rewriters).run(act)
