"""Common parts of the protocol tests: TAP, a place to run in, maildrops, connections, and a naive model of the answers.

Run by the tests beside it, in personal mode (POSTERN_CONF, POSTERN_HELPER).  As root everything runs as uid 65534, on
copies of the programs in a folder that this uid can reach: the programs do not look at these variables for root.

TLS: "TLS" is a connection as to port 995, "STLS" one that begins in clear; certificates are made by openssl(1) when first needed.

Environment: top_builddir (where the programs are); PATIENCE, the seconds that an answer may take; FEWER, for transcripts in
fewer ways (popscript.py); WRAPPER, a command that is put in front of postern.  "{run}" in it becomes a folder in which files
called wrapper.* must be empty in the end, as in
"valgrind -q --vgdb=no --trace-children=yes --error-exitcode=99 --log-file={run}/wrapper.%p" (configure --disable-sandbox for that).
"""

import ctypes
import encodings.idna  # noqa: F401  (all modules are loaded before root is given up; see become_nobody)
import fcntl
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

NOBODY = 65534
WRAPPER = shlex.split(os.environ.get("WRAPPER", ""))
FEWER = bool(WRAPPER or os.environ.get("FEWER"))

# On a busy machine, that is; programs under a wrapper are up to a hundred times slower.
PATIENCE = int(os.environ.get("PATIENCE", 120 if WRAPPER else 20))

GREETING = b"+OK POP3 server ready"

# Passwords and their crypt(3) hashes, made once: SHA-512 with the fewest rounds, as the hash is not what is tested.
PASSWORDS = {
    "alice": (b"secret", "{SHA512-CRYPT}$6$rounds=1000$posterntests$X.hvSNmF6fP91uPzeIjjRywWFv.fZdKyzlEVEc8b4KD59tS6F6m4"
              "m89/xQ1nzje8j6W8BHVhov.QUof26iMia/"),
    "bob": (b" two  words ", "$6$rounds=1000$posterntests$ylpE9sqVBXqHc5nUxVPjcsV7GWu0876OdmOQdQ3PlOx2n0z5.mgp08I/JJWJi1r"
            "TcZKu3cB5XyxhHKIsduWsR."),
    "carol@example.org": (b"secret", "{MD5-CRYPT}$1$postern$veiqegGviTJ/WwaXyBmWK1"),
    "dave": (b"p" * 246, "{CRYPT}$6$rounds=1000$posterntests$KdqcjiSDff6XiZPARpQ.1A6J4Agx0rTQzQ9I8Cg/STzl6HcXmMTsVJF6Si1"
             "wOCqZ3KSMIblaIzLbu0AmqRtaM0"),
    "erin": (b"q" * 511, "$6$rounds=1000$posterntests$lsAxKG8Homo3mWfyIH9twl7vb.5XioIoyTAmQuk4e8Ug8PwLVnGw8QGIQKw8YcxqF7"
             "Flyu9buqIXYQqYSOeam1"),
}


class Failure(Exception):
    """A check that did not hold, or an answer that did not come."""


def check(condition, text):
    if not condition:
        raise Failure(text)


# TAP


class Tap:
    """Test points on standard output.  A test point that raises anything has failed."""

    def __init__(self):
        self.count = self.failed = 0

    def _point(self, ok, name):
        self.count += 1
        print("%s %d - %s" % ("ok" if ok else "not ok", self.count, name), flush=True)

    def note(self, text):
        for line in text.splitlines():
            print("# " + line, flush=True)

    def run(self, name, function, *arguments):
        try:
            function(*arguments)
        except Exception as e:
            self.failed += 1
            self._point(False, name)
            self.note(str(e) if isinstance(e, (Failure, OSError)) else traceback.format_exc())
        else:
            self._point(True, name)

    def skip(self, name, reason):
        self._point(True, "%s # SKIP %s" % (name, reason))

    def end(self):
        print("1..%d" % self.count, flush=True)
        return 1 if self.failed else 0


def readable(octets, limit=160):
    text = octets.decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else text[:limit] + "... (%d octets)" % len(octets)


# The place: a temporary folder, as a user who is not root


def programs():
    top = os.path.abspath(os.environ.get("top_builddir", "."))
    return [os.path.join(top, "src", name) for name in ("postern", "postern-helper", "postern-tls")
            if name != "postern-tls" or os.path.exists(os.path.join(top, "src", name))]


def become_nobody():
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def adopt_orphans():
    """Processes of a session that outlive its first one become ours, so that leftovers can be seen and waited for."""
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_child_subreaper = 36
    if libc.prctl(pr_set_child_subreaper, 1, 0, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def in_place(main, files=()):
    """Runs main(folder, tap) in a child that is not root, with the programs and the folders or files named in `files`
    copied into the folder, and removes the folder afterwards, whatever happened.  Exits with the status of the tests."""
    missing = [p for p in programs() if not os.access(p, os.X_OK)]
    if missing:
        print("Bail out!  not built: " + " ".join(missing))
        sys.exit(1)
    folder = tempfile.mkdtemp(prefix="postern-")
    pid = 0
    try:
        os.chmod(folder, 0o755)
        for source in programs():
            shutil.copy(source, folder)
            os.chmod(os.path.join(folder, os.path.basename(source)), 0o755)
        for source in files:
            copy = os.path.join(folder, os.path.basename(source))
            if os.path.isdir(source):
                shutil.copytree(source, copy)
            else:
                shutil.copy(source, copy)
            make_readable(copy)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = child(main, folder)
            finally:
                os._exit(status)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
        status = os.waitpid(pid, 0)[1]
    except KeyboardInterrupt:
        status = 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(os.waitstatus_to_exitcode(status) and 1)


def make_readable(path):
    """Copies keep the modes of a source tree that may be read-only, or closed to others."""
    for name in [path] + [os.path.join(d, f) for d, ds, fs in os.walk(path) for f in ds + fs]:
        os.chmod(name, 0o755 if os.path.isdir(name) else 0o644)


def child(main, folder):
    tap = Tap()
    try:
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            become_nobody()
        os.chdir("/")
        adopt_orphans()
        main(folder, tap)
        return tap.end()
    except BaseException:
        print("Bail out!  " + traceback.format_exc().replace("\n", "\n# "), flush=True)
        return 1


# TLS


def tls_missing(folder):
    """Why nothing over TLS can be tested here; None if it can."""
    if not os.path.exists(os.path.join(folder, "postern-tls")):
        return "built without TLS"
    return None if shutil.which("openssl") else "openssl is missing (Debian package: openssl)"


def openssl(*words):
    done = subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=PATIENCE)
    check(done.returncode == 0, "openssl %s: %s" % (" ".join(words), done.stdout.decode(errors="replace")))
    return done.stdout


def make_pair(folder, name, names=("localhost",), kind=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), days=2):
    """A self-signed certificate for these names, folder/NAME.crt and NAME.key."""
    certificate, key = (os.path.join(folder, name + end) for end in (".crt", ".key"))
    openssl("req", "-x509", "-newkey", *kind, "-nodes", "-keyout", key, "-out", certificate, "-days", str(days),
            "-subj", "/CN=" + names[0], "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in names))
    os.chmod(key, 0o600)
    return certificate, key


def common_pair(folder):
    """The one that all transcripts of a run share."""
    if not os.path.exists(os.path.join(folder, "common.key")):
        make_pair(folder, "common")
    return os.path.join(folder, "common.crt"), os.path.join(folder, "common.key")


def client_context(certificate):
    """A client that trusts this certificate alone, and looks at the name."""
    return ssl.create_default_context(cafile=certificate)


class Run:
    """A folder with settings, users file, state and one maildrop, for one or several sessions."""

    serial = 0

    def __init__(self, folder, settings=(), kind="mbox", box=None):
        """box: the octets of the mbox; None if there is none yet."""
        Run.serial += 1
        self.program = os.path.join(folder, "postern")
        self.helper = os.path.join(folder, "postern-helper")
        self.tls = os.path.join(folder, "postern-tls")
        self.place = folder
        self.folder = os.path.join(folder, "run%d" % Run.serial)
        self.kind = kind
        self.maildrop = os.path.join(self.folder, kind)
        self.conf = os.path.join(self.folder, "postern.conf")
        self.log = os.path.join(self.folder, "log")
        os.mkdir(self.folder)
        os.mkdir(os.path.join(self.folder, "state"))
        self.write_users()
        self.write_settings(settings)
        self.box = box
        if box is not None:
            with open(self.maildrop, "wb") as f:
                f.write(box)

    def check_untouched(self):
        check(read_file(self.maildrop) == self.box, "the mbox has changed")
        check(not self.locks_left(), "left behind: %s" % self.locks_left())

    def write_users(self):
        with open(os.path.join(self.folder, "users"), "w") as f:
            f.write("# made by the tests\n")
            for name, (_, stored) in PASSWORDS.items():
                f.write("%s:%s:::A user of the tests:%s:/bin/false:userdb_mail=%s:%s\n"
                        % (name, stored, self.folder, self.kind, self.maildrop))

    def write_settings(self, changes=()):
        settings = {"authentication": "users", "users-file": self.folder + "/users",
                    "state-directory": self.folder + "/state", "minimum-uid": "1", "failure-delay": "0",
                    "lock-timeout": "2"}
        settings.update(changes)
        self.settings = settings
        with open(self.conf, "w") as f:
            for item in settings.items():
                f.write("%s = %s\n" % item)

    def use_tls(self, **more):
        """Adds the certificate that all share to the settings, if they name none."""
        if "tls-certificate" in self.settings:
            return
        certificate, key = common_pair(self.place)
        self.write_settings({**self.settings, "tls-certificate": certificate, "tls-key": key,
                             "tls-ticket-secret": self.folder + "/tickets/secret", **more})

    def environment(self, more=()):
        # HOME and the like are not for the programs; sanitizers and valgrind have their options in the environment.
        kept = {k: v for k, v in os.environ.items() if re.match(r"(PATH|TMPDIR|[A-Z]*SAN_OPTIONS|VALGRIND_.*)$", k)}
        kept.update(POSTERN_CONF=self.conf, POSTERN_HELPER=self.helper, POSTERN_TLS=self.tls)
        kept.update(more)
        return kept

    def command(self):
        return [word.replace("{run}", self.folder) for word in WRAPPER] + [self.program]

    def check_wrapper(self):
        for name in sorted(os.listdir(self.folder)):
            if name.startswith("wrapper."):
                text = read_file(os.path.join(self.folder, name))
                check(text == b"", "the wrapper says: " + text.decode(errors="backslashreplace"))

    def log_lines(self):
        """The lines of the log without their beginning, 'postern[PID]: '.  Anything else on standard error (a sanitizer,
        valgrind, a library) is a failure; the helper's standard error is the log, where such text is a line of its own."""
        self.check_wrapper()
        lines = []
        with open(self.log, errors="backslashreplace") as f:
            for line in f.read().splitlines():
                m = re.match(r"postern\[\d+\]: (.*)", line)
                check(m is not None and not m.group(1).startswith(("helper-says ", "tls-says ")), "on standard error: " + line)
                lines.append(m.group(1))
        return lines

    def log_of(self, event):
        return [line for line in self.log_lines() if line.startswith(event + " ")]

    def log_tail(self):
        """The end of the log and what a wrapper says, for the report of a failure."""
        with open(self.log, errors="backslashreplace") as f:
            said = f.readlines()[-5:]
        for name in sorted(os.listdir(self.folder)):
            if name.startswith("wrapper."):
                with open(os.path.join(self.folder, name), errors="backslashreplace") as f:
                    said += ["%s: %s" % (name, line) for line in f]
        return "".join(said)

    def locks_left(self):
        return [name for name in os.listdir(self.folder) if name.endswith(".lock")]

    def remove(self):
        self.check_wrapper()
        shutil.rmtree(self.folder)


# Maildrops


FROM_LINE = b"From %s Mon Nov 23 10:%02d:%02d 2026\n"


def mbox_split(text):
    """An mbox of the tests, whose bodies hold no line that looks like a From_ line, as the pieces that begin with one."""
    return [b"From " + piece for piece in re.split(rb"(?:\A|(?<=\n\n))From ", text)[1:]]


def mbox_messages(text):
    """What the messages of such an mbox are: no From_ line, not the one empty line behind."""
    return [re.sub(rb"(?<=\n)\n\Z", b"", piece.split(b"\n", 1)[1]) if piece.split(b"\n", 1)[1] != b"\n" else b""
            for piece in mbox_split(text)]


def quote_from(text):
    """The mboxo rule where it is needed: '>' before a 'From ' that follows an empty line, or begins the message."""
    text = re.sub(rb"(?m)^(\r*\n)From ", rb"\1>From ", text)
    return b">" + text if text.startswith(b"From ") else text


def mbox_join(messages):
    """Writes an mbox as a delivery agent does.  Returns it, and the messages as they are stored in it."""
    box, stored = [], []
    for i, text in enumerate(messages):
        text = quote_from(text)
        if text and not text.endswith(b"\n"):
            text += b"\n"
        box.append(FROM_LINE % (b"sender@example.org", i // 60 % 60, i % 60) + text + b"\n")
        stored.append(text)
    return b"".join(box), stored


def maildir_make(path, messages):
    """messages: (name with its folder in front, text) pairs."""
    for sub in ("tmp", "new", "cur"):
        os.makedirs(os.path.join(path, sub))
    for name, text in messages:
        with open(os.path.join(path, name), "wb") as f:
            f.write(text)


def maildir_read(path):
    """{name with folder: text}."""
    found = {}
    for sub in ("new", "cur"):
        for name in os.listdir(os.path.join(path, sub)):
            with open(os.path.join(path, sub, name), "rb") as f:
                found[sub + "/" + name] = f.read()
    return found


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


# The model: what RFC 1939 makes of a stored message


def wire_form(text):
    """As RETR sends it, before byte-stuffing: every line ends in CRLF.  Lines end at LF; a CR before it is there already."""
    lines = text.split(b"\n")
    last = lines.pop()
    whole = [line + b"\n" if line.endswith(b"\r") else line + b"\r\n" for line in lines]
    return b"".join(whole) + (last + b"\r\n" if last else b"")


def stuffed(octets):
    return b"".join(b"." + line if line.startswith(b".") else line for line in lf_lines(octets))


def lf_lines(octets):
    """Lines with their LF; bytes.splitlines() would also break at a bare CR."""
    lines = octets.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def unstuffed(octets):
    return b"".join(line[1:] if line.startswith(b".") else line for line in lf_lines(octets))


def top_of(text, count):
    """The stored lines that TOP n count is about: header, empty line, count lines of the body."""
    kept, in_body = [], False
    for line in lf_lines(text):
        if in_body:
            if count == 0:
                break
            count -= 1
        elif line in (b"\n", b"\r\n"):
            in_body = True
        kept.append(line)
    return b"".join(kept)


# Connections


SIOCOUTQ = 0x5411
TLS_TRANSPORTS = ("TLS", "STLS")
TRANSPORTS = ("pipes", "socketpair", "TCP", "inetd") + TLS_TRANSPORTS


class Connection:
    """One session: a postern process and our end of what it calls the client.

    transport: "pipes", "socketpair" and "TCP" on descriptors 0 and 1; "inetd" is TCP on 0, 1 and 2; "TLS" and "STLS" are TCP
    with a handshake at once, or after STLS.  Then the greeting is still to be read.
    before: words of a command in front of postern; more: variables for its environment; context: the client's, for TLS;
    handshake: whether it is made at once."""

    listener = None
    live = 0  # sessions whose end was not waited for yet

    def __init__(self, run, transport="socketpair", before=(), more=(), context=None, handshake=True):
        self.run = run
        self.tls = None
        self.truncated = False
        if transport in TLS_TRANSPORTS:
            run.use_tls()
        self.transport = transport
        self.pending = bytearray()
        self.eof = False
        theirs = self._open(transport)
        with open(run.log, "ab") as log:
            self.process = subprocess.Popen(
                list(before) + run.command() + ["--tls"] * (transport == "TLS"), stdin=theirs[0], stdout=theirs[1],
                stderr=theirs[1] if transport == "inetd" else log, env=run.environment(more), cwd="/")
        Connection.live += 1
        for fd in set(theirs):
            os.close(fd)
        os.set_blocking(self.fd_in, False)
        os.set_blocking(self.fd_out, False)
        if transport in TLS_TRANSPORTS and handshake:
            self.start_tls(context or client_context(run.settings["tls-certificate"].split()[0]))

    def _open(self, transport):
        self.socket = None
        if transport == "pipes":
            their_in, self.fd_out = os.pipe()
            self.fd_in, their_out = os.pipe()
            return their_in, their_out
        if transport == "socketpair":
            self.socket, other = socket.socketpair()
        else:
            self.socket, other = self._connect()
        self.fd_in = self.fd_out = self.socket.fileno()
        theirs = other.detach()
        return theirs, theirs

    @classmethod
    def _connect(cls):
        if cls.listener is None:
            cls.listener = socket.create_server(("127.0.0.1", 0))
        ours = socket.create_connection(cls.listener.getsockname())
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ours, cls.listener.accept()[0]

    # TLS

    def start_tls(self, context, name="localhost", session=None):
        """The handshake, after STLS if that is the transport.  The greeting that came before is put back."""
        greeting = b""
        if self.transport == "STLS":
            greeting = self.read_line() + b"\r\n"
            self.expect(b"STLS", b"+OK begin TLS")
            check(not self.pending, "more in clear behind the answer to STLS: " + readable(self.pending))
        self.handshake(context, name, session)
        self.pending += greeting

    def handshake(self, context, name="localhost", session=None):
        self.from_server, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self.from_server, self.to_server, server_hostname=name, session=session)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send_raw(self.to_server.read())
                check(self.wait_input(deadline - time.monotonic()), "the handshake does not go on")
                check(not self.eof, "the server closes during the handshake")
                self.from_server.write(self._take(len(self.pending)))
        self.tls = tls
        self._send_raw(self.to_server.read())
        self._decrypt(b"")

    def _decrypt(self, octets):
        """What came: octets of TLS, b"" for nothing new."""
        self.from_server.write(octets)
        try:
            while not self.eof:
                text = self.tls.read(1 << 16)
                self.pending += text
                self.eof = self.eof or text == b""
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof = True

    # Sending

    def send(self, octets):
        """All of it, reading what comes in the meantime: a server that answers as it reads would wait for us."""
        if self.tls is not None and octets:
            self.tls.write(octets)
            octets = self.to_server.read()
        self._send_raw(octets)

    def _send_raw(self, octets):
        view = memoryview(octets)
        deadline = time.monotonic() + PATIENCE
        while view:
            ready = select.select([] if self.eof else [self.fd_in], [self.fd_out], [], deadline - time.monotonic())
            check(ready[0] or ready[1], "the server takes no more input; %d octets are left" % len(view))
            if ready[0]:
                self._receive()
            if ready[1]:
                try:
                    view = view[os.write(self.fd_out, view):]
                    deadline = time.monotonic() + PATIENCE
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    return

    def send_octets(self, octets):
        """One octet at a time; the next when the server has taken the last, where the transport lets us see that."""
        for i in range(len(octets)):
            self.send(octets[i:i + 1])
            self._wait_until_taken()

    def _wait_until_taken(self):
        if self.transport not in ("pipes", "socketpair"):
            return
        request = termios.FIONREAD if self.transport == "pipes" else SIOCOUTQ
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if struct.unpack("i", fcntl.ioctl(self.fd_out, request, b"\0\0\0\0"))[0] == 0:
                return
            if self.process.poll() is not None:
                return
            time.sleep(0.00002)

    def finish_sending(self):
        if self.tls is not None:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                self._send_raw(self.to_server.read())
        elif self.transport == "pipes":
            os.close(self.fd_out)
            self.fd_out = -1
        else:
            self.socket.shutdown(socket.SHUT_WR)

    def hang_up(self):
        if self.transport != "pipes":
            self.socket.close()
            return
        os.close(self.fd_in)
        if self.fd_out != -1:
            os.close(self.fd_out)

    # Receiving

    def _receive(self):
        try:
            octets = os.read(self.fd_in, 1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            octets = b""
        if self.tls is None:
            self.pending += octets
            self.eof = self.eof or octets == b""
        elif octets:
            self._decrypt(octets)
        else:
            self.truncated = self.truncated or not self.eof  # no close_notify has come
            self.eof = True

    def wait_input(self, seconds):
        """Waits for octets or the end.  False when nothing came."""
        if not select.select([self.fd_in], [], [], max(0, seconds))[0]:
            return False
        self._receive()
        return True

    def read_line(self):
        """The next line without its CRLF, or None at the end.  A line that does not end in CRLF is a failure."""
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self.pending and not self.eof:
            check(self.wait_input(deadline - time.monotonic()), "no answer within %d s; so far: %s"
                  % (PATIENCE, readable(self.pending)))
        if b"\n" not in self.pending:
            check(not self.truncated, "the server ends without close_notify")
            check(not self.pending, "the connection ends within a line: " + readable(self.pending))
            return None
        line = self._take(self.pending.index(b"\n") + 1)[:-1]
        check(line.endswith(b"\r"), "a reply line without CR: " + readable(line))
        return line[:-1]

    def _take(self, count):
        octets = bytes(self.pending[:count])
        del self.pending[:count]
        return octets

    def read_multi(self):
        """The octets of a multi-line answer after its first line, still stuffed, without the final dot."""
        deadline = time.monotonic() + PATIENCE
        looked = 0
        while True:
            if self.pending.startswith(b".\r\n"):
                self._take(3)
                return b""
            end = self.pending.find(b"\r\n.\r\n", looked)
            if end != -1:
                return self._take(end + 5)[:-3]
            check(not self.eof, "the connection ends before the final dot")
            looked = max(0, len(self.pending) - 4)
            check(self.wait_input(deadline - time.monotonic()), "no final dot within %d s" % PATIENCE)

    def ask(self, line):
        self.send(line + b"\r\n")
        return self.read_line()

    def expect(self, line, answer):
        got = self.ask(line)
        check(got is not None and got.startswith(answer), "%s: got %s" % (readable(line), readable(got or b"<close>")))
        return got

    def ask_multi(self, line):
        self.expect(line, b"+OK")
        return self.read_multi()

    def log_in(self, user="alice"):
        got = self.read_line()
        check(got == GREETING, "greeting: " + readable(got or b"<close>"))
        self.expect(b"USER " + user.encode(), b"+OK")
        self.expect(b"PASS " + PASSWORDS[user][0], b"+OK")

    def quit(self):
        self.expect(b"QUIT", b"+OK")
        got = self.read_line()
        check(got is None, "after QUIT: " + readable(got or b""))
        self.end()

    # The end

    def end(self):
        """Hangs up and waits until the session's first process is gone, and with the last session every other one."""
        self.hang_up()
        status = self.wait_all()
        check(status == 0, "exit status %d" % status)

    def wait_all(self):
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure("postern (process %d) does not end" % self.process.pid)
        Connection.live -= 1
        if Connection.live > 0:
            return status
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.001)
            except ChildProcessError:
                return status
        raise Failure("processes are left of the session: %s" % descendants(os.getpid()))

    def abandon(self):
        """After a failure: no process may disturb the next test.  One that is about to end by itself has time to say why."""
        if self.eof:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            self.hang_up()
        except OSError:
            pass
        self.status = self.process.wait()
        Connection.live = 0
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass

    def processes(self):
        return [self.process.pid] + descendants(self.process.pid)


def descendants(pid):
    """Process ids below pid, from /proc."""
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name) as f:
                parents[int(name)] = int(f.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    found, look = [], [pid]
    while look:
        parent = look.pop()
        children = [p for p, above in parents.items() if above == parent]
        found += children
        look += children
    return found


def process_status(pid):
    """The fields of /proc/PID/status; none when the process is gone."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return {}


def kilobytes(status, field):
    """Of such a field as "VmHWM"; None when there is none, as for a process that has ended."""
    return int(status[field].split()[0]) if field in status else None


class Session:
    """with Session(...) as c: a connection that leaves no process behind when a check fails."""

    def __init__(self, run, transport="socketpair", before=(), more=(), context=None, handshake=True):
        self.connection = Connection(run, transport, before, more, context, handshake)

    def __enter__(self):
        return self.connection

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.connection.abandon()


def chance():
    """Random numbers that are the same in every run."""
    return random.Random(1225)
