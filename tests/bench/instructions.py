"""Instruction counts of postern itself, by valgrind's callgrind, against the figures in instructions.txt.

Counts hardly vary where times do, so that they can be judged on a machine that has other things to do.  Valgrind makes system
calls of its own, which the sandbox would end, and writes files, which the session's limits would forbid: a second build, configured with --disable-sandbox, is made from what make
distdir would release, with the compiler flags that the stored figures were made with.

Runs in personal mode, as an ordinary user; root becomes user 65534 (nobody) for it.
"""

import glob
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import tempfile

from machine import Trouble, say

NOBODY = 65534
STORED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.txt")

# How much more than the stored figure is accepted.  What varies from run to run is below one percent.
MARGIN = 0.03

RUNS = 5
MESSAGES = 100
CFLAGS = "-g -O2"

# crypt(3) by the old DES method, which costs little: it is postern that is counted.
USERS = "reader:{CRYPT}ab3Nxe3bAE.r.:::::::\n"
PASSWORD = "bench"


def build(top_build, folder):
    """The second build.  Returns the folder with its programs."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}
    steps = (
        (["make", "-C", top_build, "distdir", "distdir=" + folder + "/src"], folder),
        (["chmod", "-R", "u+w", folder + "/src"], folder),
        (["../src/configure", "--disable-sandbox", "CFLAGS=" + CFLAGS], folder + "/build"),
        (["make", "-j2"], folder + "/build"),
    )
    os.mkdir(folder + "/build")
    with open(folder + "/log", "w+b") as log:
        for command, place in steps:
            if subprocess.run(command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode:
                log.seek(0)
                say(log.read().decode("utf-8", "replace")[-3000:])
                raise Trouble("the build without a sandbox failed: " + " ".join(command))
    return folder + "/build/src"


def toolchain(top_build):
    """What the figures depend on, beside postern's sources."""
    def first_line(*command):
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]
    with open(top_build + "/Makefile", encoding="utf-8") as f:
        musl = re.search(r"^MUSL_LIBS = .*-static-pie", f.read(), re.M)
    libc = re.search(r"[0-9.]+$", first_line("ldd", "--version"))
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        vectors = "avx2" if " avx2 " in f.read() else "no-avx2"
    return "%s %s gcc-%s %s %s" % (platform.machine(), vectors, first_line("gcc", "-dumpversion"),
                                   "musl" if musl else "glibc-" + libc.group() if libc else "?", first_line("valgrind", "--version"))


class Room:
    """A folder with programs, settings and a mailbox for an ordinary user."""

    def __init__(self, folder, programs, mailgen):
        self.folder = folder
        self.uid = NOBODY if os.geteuid() == 0 else os.geteuid()
        os.chmod(folder, 0o755)
        for name in ("postern", "postern-helper"):
            shutil.copy(programs + "/" + name, folder)
        for name in ("state", "out"):
            os.mkdir(folder + "/" + name, 0o700)
        self.write("users", USERS)
        self.write("conf", "authentication = users\nusers-file = %s/users\nstate-directory = %s/state\n"
                           "mail-location = mbox:%s/mbox\n" % (folder, folder, folder))
        subprocess.run([mailgen, "mbox", folder + "/mbox", folder + "/manifest", str(MESSAGES), "4140", "text", "1"], check=True)
        for path, _, names in os.walk(folder):
            for name in [""] + names:
                os.chown(os.path.join(path, name), self.uid, self.uid)

    def write(self, name, text):
        """A file of it."""
        with open(self.folder + "/" + name, "w", encoding="ascii") as out:
            out.write(text)
        os.chmod(self.folder + "/" + name, 0o600)

    def count(self, script):
        """Instructions of all processes of a session: script is commands, with True for those with a text in the answer."""
        ours, theirs = socket.socketpair()
        options = {"user": self.uid, "group": self.uid, "extra_groups": []} if os.geteuid() == 0 else {}
        with ours, open(self.folder + "/valgrind.log", "wb") as log:
            process = subprocess.Popen(
                ["valgrind", "--quiet", "--vgdb=no", "--tool=callgrind", "--trace-children=yes",
                 "--callgrind-out-file=" + self.folder + "/out/%p", self.folder + "/postern"],
                stdin=theirs, stdout=theirs, stderr=log, cwd="/",
                env={"PATH": "/usr/bin:/bin", "POSTERN_CONF": self.folder + "/conf",
                     "POSTERN_HELPER": self.folder + "/postern-helper"}, **options)
            theirs.close()
            ours.settimeout(60)
            try:
                converse(ours, script)
            except (OSError, Trouble) as why:
                process.kill()
                with open(self.folder + "/valgrind.log", encoding="utf-8", errors="replace") as text:
                    say(text.read()[-2000:])
                raise Trouble("a session under valgrind: %s" % why) from None
            finally:
                process.wait()
        return self.take_totals()

    def take_totals(self):
        """Adds up what each process wrote, and removes it."""
        total = 0
        for path in glob.glob(self.folder + "/out/*"):
            with open(path, encoding="utf-8", errors="replace") as out:
                found = re.findall(r"^(?:totals|summary): (\d+)", out.read(), re.MULTILINE)
            total += max(map(int, found), default=0)
            os.unlink(path)
        if total == 0:
            raise Trouble("callgrind wrote no figures")
        return total


def converse(connection, script):
    """Line by line, so that it is the same each time."""
    with connection.makefile("rb") as answers:
        def take(text):
            status = answers.readline()
            if not status.startswith(b"+OK"):
                raise Trouble("answered %r" % status)
            while text and answers.readline() not in (b".\r\n", b""):
                pass
        take(False)
        for command, text in script:
            connection.sendall(command.encode() + b"\r\n")
            take(text)
        if answers.read():
            raise Trouble("more than the answers")


LOGIN = [("USER reader", False), ("PASS " + PASSWORD, False), ("STAT", False)]
QUIT = [("QUIT", False)]


def measure(room):
    """{name: instructions}: medians."""
    scripts = {"start-up": QUIT, "login": LOGIN + QUIT,
               "retr": LOGIN + [("RETR %d" % n, True) for n in range(1, MESSAGES + 1)] + QUIT}
    room.count(scripts["login"])		# leaves an index
    found = {name: statistics.median_low(room.count(script) for _ in range(RUNS)) for name, script in scripts.items()}
    found["retr"] = (found["retr"] - found["login"]) // MESSAGES
    return found


def stored():
    """(toolchain, {name: instructions}) of the file."""
    figures, tools = {}, ""
    with open(STORED, encoding="ascii") as f:
        for line in f:
            words = line.split()
            if line.startswith("toolchain "):
                tools = line.split(None, 1)[1].strip()
            elif words and not line.startswith("#"):
                figures[words[0]] = int(words[1])
    return tools, figures


HEADER = """# Instructions in user mode of a session in personal mode, counted by callgrind over all of its processes (instructions.py).
# What a process has counted when it forks stands in its child's count too.
# start-up: greeting and QUIT.  login: USER, PASS, STAT and QUIT with an index.  retr: one message of 4 KB more.
# make bench-instructions writes this file anew; say in the commit why a figure has grown.
"""


def count(args):
    """Builds and measures: {name: instructions}."""
    if shutil.which("valgrind") is None:
        raise Trouble("valgrind is missing")
    with tempfile.TemporaryDirectory(prefix="postern-bench.", dir="/tmp") as folder:
        programs = build(args.build, folder)
        os.chmod(folder, 0o755)
        os.mkdir(folder + "/room")
        return measure(Room(folder + "/room", programs, args.programs + "/mailgen"))


def store(args):
    """Writes the file anew."""
    found = count(args)
    with open(STORED, "w", encoding="ascii") as out:
        out.write(HEADER + "toolchain %s\n" % toolchain(args.build))
        out.writelines("%s %d\n" % item for item in found.items())
    say("".join("%s %d\n" % item for item in found.items()) + "written to " + STORED)


def judge(args, tap):
    """Measures, and compares with what is stored."""
    if shutil.which("valgrind") is None:
        tap.skip("instruction counts", "valgrind is missing")
        return
    tools, accepted = stored()
    here = toolchain(args.build)
    for name, value in count(args).items():
        comment = "%d instructions, stored %d" % (value, accepted[name])
        if tools != here:
            tap.skip("instructions: " + name, "%s with %s; here %s" % (comment, tools, here))
            continue
        tap.ok(value <= accepted[name] * (1 + MARGIN), "instructions: " + name, comment)
        if value < accepted[name] * (1 - MARGIN):
            tap.say("%s: the stored figure can be lowered (make bench-instructions)" % name)
