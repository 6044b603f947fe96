"""What the system tests have in common: TAP, a POP3 client that hides nothing, the journal, and /proc.

Runs as root in the booted copy of the machine (see run.sh).
"""

import collections
import contextlib
import json
import os
import re
import socket
import subprocess
import time
import traceback

SPOOL = "/var/mail"
STATE = "/var/lib/postern"
CONF = "/etc/postern/postern.conf"
HELPER = "/usr/libexec/postern/postern-helper"
PAM = "/usr/libexec/postern/postern-pam"
PAM_SOCKET = "/run/postern-pam"
SERVER = "/usr/sbin/postern"
SOURCES = "/postern/src"
BUILD = "/postern/build"
PACKAGES = "/postern/packages"
DROP_INS = "/run/systemd/system/pop3@.service.d"
PORT = 110

# The service's answers to a login that is not to be.
WRONG = b"-ERR [AUTH] invalid password\r\n"


class Tap:
    """Numbered results, written where run.sh reads them."""

    def __init__(self, path):
        self.out = open(path, "w", buffering=1)
        self.count = 0
        self.failed = 0

    def ok(self, good, name, why=""):
        """Reports one check; why is printed when it failed."""
        self.count += 1
        self.failed += not good
        print("%s %d - %s" % ("ok" if good else "not ok", self.count, name), file=self.out)
        if not good and why != "":
            self.say(why)
        return good

    def equal(self, got, wanted, name):
        """A check that two values are the same."""
        return self.ok(got == wanted, name, "got    %s\nwanted %s" % (shorten(got), shorten(wanted)))

    def skip(self, name, why):
        self.count += 1
        print("ok %d - %s # SKIP %s" % (self.count, name, why), file=self.out)

    def say(self, text):
        for line in str(text).splitlines():
            print("# " + line, file=self.out)

    def section(self, run, *args):
        """Runs a function of checks.  What it raises is a failed check, and the journal of that time is shown."""
        mark, failed, began = journal_mark(), self.failed, time.monotonic()
        try:
            run(self, *args)
        except Exception:  # whatever it is, the next section still has something to tell
            self.ok(False, run.__module__ + "." + run.__name__ + " runs to its end", traceback.format_exc())
        if self.failed > failed:
            self.say("\n".join(e.get("MESSAGE", "") for e in journal(mark)[-25:]))
        self.say("%s.%s: %.1f s" % (run.__module__, run.__name__, time.monotonic() - began))

    def end(self):
        print("1..%d" % self.count, file=self.out)


def shorten(value):
    text = repr(value)
    return text if len(text) < 600 else text[:400] + " ... " + text[-150:]


def sh(command, check=True, **more):
    """Runs a shell command line, or a list, for two minutes at most; returns its result with text output."""
    r = subprocess.run(command, shell=isinstance(command, str), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, errors="replace", timeout=120, **more)
    if check and r.returncode != 0:
        raise RuntimeError("%s: status %d\n%s" % (command, r.returncode, r.stdout))
    return r


def write(path, text, mode=0o644):
    """Makes a file with these rights, and its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w" if isinstance(text, str) else "wb") as f:
        f.write(text)
    os.chmod(path, mode)


def wait_for(condition, seconds=10, step=0.05):
    """The first true value of condition(), or its last one."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


# --- POP3 ---

class Pop:
    """A connection; answers come as the octets that were sent."""

    def __init__(self, host="127.0.0.1", port=PORT, source=None, timeout=30):
        self.sock = socket.create_connection((host, port), timeout, (source, 0) if source else None)
        self.file = self.sock.makefile("rb", 1 << 16)
        self.sent = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def line(self):
        return self.file.readline()

    def send(self, command):
        self.sock.sendall(command.encode("latin-1") + b"\r\n")

    def ask(self, command):
        self.send(command)
        return self.line()

    def must(self, command):
        """An answer that has to be +OK."""
        answer = self.ask(command)
        if not answer.startswith(b"+OK"):
            raise RuntimeError("%s: %r" % (command, answer))
        return answer

    def rest(self):
        """The rest of a multi-line answer: byte-stuffing undone, without the final dot.  None if the dot did not come."""
        lines = []
        while True:
            line = self.line()
            if line == b".\r\n":
                return b"".join(lines)
            if not line.endswith(b"\r\n"):
                return None
            lines.append(line[1:] if line.startswith(b".") else line)

    def many(self, command):
        self.must(command)
        return self.rest()

    def greet(self):
        greeting = self.line()
        if greeting != b"+OK POP3 server ready\r\n":
            raise RuntimeError("greeting: %r" % greeting)
        return self

    def login(self, user, password):
        """The answer to PASS."""
        self.must("USER " + user)
        return self.ask("PASS " + password)

    def enter(self, user, password="secret"):
        """Greeting and login, which has to succeed."""
        self.greet()
        answer = self.login(user, password)
        if answer != b"+OK maildrop locked and ready\r\n":
            raise RuntimeError("login of %s: %r" % (user, answer))
        return self

    def at_end(self):
        """Whether the server closes without a word."""
        try:
            return self.file.read() == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def fetch_all(pop):
    """The messages, un-stuffed, and whether STAT and LIST say the same as RETR."""
    number, octets = map(int, pop.must("STAT").split()[1:3])
    listing = [tuple(map(int, line.split())) for line in pop.many("LIST").splitlines()]
    messages = [pop.many("RETR %d" % n) for n in range(1, number + 1)]
    agree = listing == [(n + 1, len(m)) for n, m in enumerate(messages)] and octets == sum(map(len, messages))
    return messages, agree


def try_login(user, password="secret", **where):
    """One connection, one login; the answer to PASS."""
    with Pop(**where).greet() as pop:
        return pop.login(user, password)


# --- the journal ---

def journal_mark():
    """A place in the journal; what is logged later comes after it."""
    sh("journalctl --sync")
    out = sh("journalctl --quiet --lines=1 --show-cursor --output=cat", check=False).stdout
    return out.rsplit("-- cursor: ", 1)[1].strip() if "-- cursor: " in out else ""


def journal(mark="", event=None):
    """
    The entries after mark, oldest first, each a dictionary of its fields: all of them, or postern's of one event ("" for any
    event).  Chosen here: journalctl's matches and --after-cursor together leave out the first that matches.
    """
    after = ["--after-cursor=" + mark] if mark else []
    out = sh(["journalctl", "--quiet", "--output=json", "--all"] + after, check=False).stdout
    entries = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if event is None:
        return entries
    return [e for e in entries if e.get("SYSLOG_IDENTIFIER") == "postern" and event in ("", e["MESSAGE"].split(" ")[0])]


def logged(mark, pattern, seconds=5):
    """The first of postern's entries after mark whose text matches, waiting for it; None if there is none."""
    def find():
        return next((e for e in journal(mark, "") if re.search(pattern, e["MESSAGE"])), None)
    return wait_for(find, seconds, 0.1)


# --- /proc ---

Process = collections.namedtuple("Process", "pid parent exe uids gids groups status fds")


def process_status(pid):
    """The fields of /proc/PID/status."""
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def open_files(folder):
    """A process's descriptors and what they are.  One that it closes while we look is left out."""
    fds = {}
    for n in os.listdir(folder + "fd"):
        with contextlib.suppress(FileNotFoundError):
            fds[int(n)] = os.readlink(folder + "fd/" + n)
    return fds


def read_process(pid):
    """What /proc knows of a process; None when it is gone, or no program of ours."""
    folder = "/proc/%d/" % pid
    try:
        exe = os.readlink(folder + "exe")
        if not os.path.basename(exe).startswith("postern"):
            return None
        status = process_status(pid)
        fds = open_files(folder)
    except OSError:
        return None
    if status["State"].startswith("Z"):
        return None
    ids = {key: [int(n) for n in status[key].split()] for key in ("Uid", "Gid", "Groups")}
    return Process(pid, int(status["PPid"]), exe, ids["Uid"], ids["Gid"], ids["Groups"], status, fds)


def stays(p):
    """Whether this is the postern-pam that stays (postern-pam.socket), which systemd has started; not one of its children."""
    return p.exe == PAM and p.parent == 1 and p.fds.get(0, "").startswith("socket:")


def processes():
    """All processes of postern and its programs, but for the one that stays."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [p for p in found if p is not None and not stays(p)]


def processes_at_rest(seconds=10):
    """processes(), once none of them runs and none holds other files than a moment ago: an answer may be there before its sender
    has put everything away."""
    seen = []

    def settled():
        seen.append(processes())
        return (len(seen) > 1 and all(p.status["State"][0] not in "RD" for p in seen[-1]) and
                [(p.pid, p.fds) for p in seen[-1]] == [(p.pid, p.fds) for p in seen[-2]])
    if not wait_for(settled, seconds):
        raise RuntimeError("processes that do not come to rest: %s" % seen[-1])
    return seen[-1]


def all_gone(seconds=10):
    """Whether none of them is left, after a while."""
    return wait_for(lambda: not processes(), seconds)


def proportional_set_size(pids, field="Pss"):
    """PSS of these processes together, in kB; or another field of smaps_rollup."""
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            total += int(re.search(r"^%s:\s+(\d+)" % field, f.read(), re.M).group(1))
    return total


# --- units ---

def units(pattern):
    """The loaded units of that name, as (name, active state)."""
    out = sh(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "--full", pattern]).stdout
    return [(line.split()[0], line.split()[2]) for line in out.splitlines() if line.strip()]


def left_behind():
    """What sessions may not leave: processes, units, lock files.  As text; empty if there is nothing."""
    all_gone()
    wait_for(lambda: not units("pop3*@*"))
    lines = ["process %d %s" % (p.pid, p.exe) for p in processes()]
    lines += ["unit %s %s" % u for u in units("pop3*@*")]
    lines += ["file " + name for name in os.listdir(SPOOL) if name.endswith(".lock") or name.startswith(".")]
    return "\n".join(lines)


@contextlib.contextmanager
def drop_in(text):
    """The service with these lines added, for as long as it lasts."""
    path = os.path.join(DROP_INS, "test.conf")
    write(path, text)
    sh("systemctl daemon-reload")
    try:
        yield
    finally:
        os.unlink(path)
        sh("systemctl daemon-reload")


def configure(**settings):
    """Writes postern.conf; without settings, removes it."""
    if settings:
        write(CONF, "".join("%s = %s\n" % (key.replace("_", "-"), value) for key, value in settings.items()))
    elif os.path.exists(CONF):
        os.unlink(CONF)
