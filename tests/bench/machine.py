"""A copy of this machine to install servers into: an overlay over /, with name spaces of its own.

Nothing in it touches the machine: packages are unpacked into the overlay's upper layer (in memory), the network has only a
loopback of its own, and when the last process of the measuring program ends, the kernel ends all that were started in it.
The mailboxes are on a real file system, as fsync(2) costs nothing in memory.

Two halves.  The outer one (prepare, Outside) runs in the machine and fetches packages; the inner one (Machine) runs in the
name spaces.  Both as root.
"""

import contextlib
import ctypes
import fcntl
import glob
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time

CACHE = "/var/cache/postern-tests"

# The super-server of all servers that are started for each connection, and the peers.  courier-pop has a start script where
# mailutils-pop3d has its server: that one comes last.
PACKAGES = ("ucspi-tcp", "popa3d", "solid-pop3d", "dovecot-pop3d", "courier-pop", "stunnel4", "mailutils-pop3d")

SETTLE_SECONDS = 30


class Trouble(Exception):
    """Something without which there is nothing to measure."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# The outer half.


def download(package, folder):
    """Downloads a package and what it needs beyond this machine's packages.  Raises Trouble."""
    os.makedirs(folder + "/partial", exist_ok=True)
    command = ["apt-get", "install", "--download-only", "-y", "-q", "--no-install-recommends",
               "-o", "Dir::Cache::archives=" + folder, package]
    for attempt in ("once", "with new lists"):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            open(folder + "/complete", "w").close()
            return
        if attempt == "once":
            subprocess.run(["apt-get", "update", "-q"], stdin=subprocess.DEVNULL, capture_output=True)
    raise Trouble("%s cannot be downloaded: %s" % (package, (done.stderr.strip() or "?").splitlines()[-1]))


def fetch_packages():
    """{package: folder with its .deb files}, and {package: why not}.  Keeps them for the next run."""
    folders, missing = {}, {}
    for package in PACKAGES:
        folder = os.path.join(CACHE, package)
        try:
            if not os.path.exists(folder + "/complete"):
                say("downloading " + package)
                download(package, folder)
            folders[package] = folder
        except (Trouble, OSError) as why:
            missing[package] = str(why)
    return folders, missing


def cgroup_mount():
    """Where version 2 of the control groups is mounted; its cpu.stat counts what ended processes used, too."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, place, kind = line.split()[:3]
            if kind == "cgroup2" and os.access(place, os.W_OK):
                return place
    raise Trouble("no control groups (version 2) that can be written")


class Outside:
    """The folders and control groups that have to be removed when all is over."""

    def __init__(self, work):
        self.work = work
        self.cgroup = None

    def __enter__(self):
        os.makedirs(self.work)
        self.cgroup = "%s/postern-bench.%d" % (cgroup_mount(), os.getpid())
        os.mkdir(self.cgroup)
        return self

    def __exit__(self, *_):
        self.remove_cgroups()
        shutil.rmtree(self.work, ignore_errors=True)

    def remove_cgroups(self):
        """Processes that were killed a moment ago still hold theirs."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                for group in glob.glob(self.cgroup + "/*/"):
                    os.rmdir(group)
                os.rmdir(self.cgroup)
                return
            time.sleep(0.05)
        say("%s could not be removed" % self.cgroup)

    def run_inside(self, arguments):
        """Runs this program's inner half in new name spaces.  Its exit status."""
        child = subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child",
                                  "--propagation", "private", sys.executable, "-B", *arguments])
        try:
            return child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()


# The inner half.


libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind=None, flags=0, data=None):
    """mount(2)."""
    if libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, data and data.encode()) != 0:
        raise Trouble("mount %s on %s: %s" % (source, target, os.strerror(ctypes.get_errno())))


MS_BIND = 4096
MS_REC = 16384


def be_init():
    """The first process of the name space only waits for the others, for orphans too.  Returns in the second one."""
    child = os.fork()
    if child == 0:
        return
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xff)


def start_loopback():
    """SIOCSIFFLAGS, IFF_UP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))


class Group:
    """A control group: what one server and its children use."""

    def __init__(self, path):
        self.path = path
        self.resting = set()
        os.makedirs(path, exist_ok=True)

    def pids(self):
        """Its processes now."""
        with open(self.path + "/cgroup.procs", encoding="ascii") as procs:
            return {int(line) for line in procs}

    def cpu(self):
        """Seconds of processor time since it was made."""
        with open(self.path + "/cpu.stat", encoding="ascii") as stat:
            return int(stat.readline().split()[1]) / 1e6

    def rest(self):
        """What is there now is the server; what comes later belongs to sessions."""
        self.resting = self.pids()

    def settle(self):
        """Waits until the sessions' processes are gone, or (servers that keep some) nothing has been used for a while."""
        until = time.monotonic() + SETTLE_SECONDS
        used, quiet = self.cpu(), 0
        while quiet < 10 and not self.pids() <= self.resting:
            if time.monotonic() > until:
                raise Trouble("%s does not come to rest" % self.path)
            time.sleep(0.005)
            now = self.cpu()
            quiet = quiet + 1 if now == used else 0
            used = now

    def session_pids(self):
        """Processes that the server did not have when it rested."""
        return self.pids() - self.resting


def memory(pids):
    """Proportional set size of these processes in all, in kB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total


class Machine:
    """The copy.  root is where it is seen from outside; disk is on the work folder's file system."""

    def __init__(self, work, cgroup):
        self.work = work
        self.disk = work + "/disk"
        self.memory = work + "/memory"
        self.root = self.memory + "/root"
        self.cgroup = cgroup
        self.processes = []

    def build(self):
        """Mounts everything.  After this /proc shows the name space's processes."""
        for folder in (self.disk, self.memory):
            os.makedirs(folder, exist_ok=True)
        mount("proc", "/proc", "proc")
        mount("tmpfs", self.memory, "tmpfs", 0, "mode=755")
        for folder in ("upper", "layer", "root"):
            os.mkdir(self.memory + "/" + folder)
        mount("overlay", self.root, "overlay", 0,
              "lowerdir=/,upperdir=%s/upper,workdir=%s/layer" % (self.memory, self.memory))
        for folder in ("/proc", "/dev", "/sys"):
            mount(folder, self.root + folder, None, MS_BIND | MS_REC)
        for folder in ("/run", "/tmp"):
            mount("tmpfs", self.root + folder, "tmpfs", 0, "mode=1777" if folder == "/tmp" else "mode=755")
        start_loopback()

    def disk_folder(self, place):
        """Where a folder that lies on the disk is outside of the copy."""
        return self.disk + "/" + place.strip("/").replace("/", "-")

    def on_disk(self, place):
        """Makes a folder of the copy lie on the disk, empty; its path outside."""
        source = self.disk_folder(place)
        os.makedirs(source)
        os.chmod(source, 0o755)
        os.makedirs(self.root + place, exist_ok=True)
        mount(source, self.root + place, None, MS_BIND)
        return source

    def show(self, folder):
        """Makes a folder of the machine that the copy's own mounts may hide visible in the copy."""
        os.makedirs(self.root + folder, exist_ok=True)
        mount(folder, self.root + folder, None, MS_BIND)

    def unpack(self, folder):
        """Unpacks all packages in the folder, links of the merged /usr kept.  Nothing of them is run."""
        for package in sorted(glob.glob(folder + "/*.deb")):
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
                subprocess.run(["tar", "--extract", "--keep-directory-symlink", "--directory", self.root],
                               stdin=tar.stdout, check=True)
            if tar.returncode != 0:
                raise Trouble("%s cannot be unpacked" % package)

    def write(self, path, text, mode=0o644):
        """Writes a file of the copy."""
        os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
        with open(self.root + path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(self.root + path, mode)

    def append(self, path, text):
        """Appends to a file of the copy."""
        with open(self.root + path, "a", encoding="utf-8") as out:
            out.write(text)

    def enter(self, group=None):
        """What a child does before it becomes a program of the copy."""
        def change():
            if group is not None:
                with open(group.path + "/cgroup.procs", "w", encoding="ascii") as procs:
                    procs.write("0")
            os.chroot(self.root)
            os.chdir("/")
        return change

    def run(self, command, **options):
        """Runs a program in the copy to its end.  CalledProcessError when it fails."""
        return subprocess.run(command, preexec_fn=self.enter(), check=True, stdin=subprocess.DEVNULL, **options)

    def start(self, name, command, environment, group):
        """Starts a server in the copy; what it says goes into a file of the work folder."""
        with open("%s/%s.log" % (self.work, name), "ab") as log:
            process = subprocess.Popen(command, preexec_fn=self.enter(group), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment})
        self.processes.append(process)
        return process

    def stop(self):
        """Ends the servers; the kernel ends what they leave."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.processes.clear()


def wait_for_port(port, process, tls=False):
    """Until a server greets."""
    context = ssl._create_unverified_context() if tls else None
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Trouble("the server on port %d ended with status %d" % (port, process.returncode))
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as clear, \
                    (context.wrap_socket(clear) if tls else clear) as s:
                if s.recv(3) == b"+OK":
                    s.sendall(b"QUIT\r\n")
                    while s.recv(500):
                        pass
                    return
        time.sleep(0.02)
    raise Trouble("no greeting on port %d" % port)
