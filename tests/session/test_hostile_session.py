#!/usr/bin/python3
"""A session that was taken over, played here against the real helper: whatever it sends, in any phase, the helper ends the
conversation with one line in its log, deletes nothing that was not asked for, and leaves no process and no lock.
"""

import sys

sys.dont_write_bytecode = True

import ctypes  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import time  # noqa: E402

import postern_test as pt  # noqa: E402
import wire_peer as w  # noqa: E402
from postern_test import check  # noqa: E402

MESSAGES = [b"Subject: %d\n\ntext of %d\n" % (n, n) for n in range(5)]
BOX = pt.mbox_join(MESSAGES)[0]


def new_run(folder, kind="mbox", settings=()):
    run = pt.Run(folder, settings, kind, BOX if kind == "mbox" else None)
    if kind == "maildir":
        pt.maildir_make(run.maildrop, [("new/%d.M%d.mx" % (1795000000 + n, n), m) for n, m in enumerate(MESSAGES)])
    return run


def state_of(run):
    return pt.read_file(run.maildrop) if run.kind == "mbox" else sorted(pt.maildir_read(run.maildrop).values())


def helper_of(run, **more):
    return w.Helper(run.helper, run.environment(), **more)


def opened(h):
    got = h.ask(w.login())
    check(got and got[0][:1] == bytes([w.OPENED]), "LOGIN: %s, log: %s" % (got, h.log_records()))


def check_over(run, h, before, what):
    """The helper has ended by itself, and all is as it was."""
    check(h.ends() is not None, "%s: the helper does not end" % what)
    check(h.receive() in ((b"", []), None), "%s: more answers" % what)
    broken = [r for r in h.log_records() if "session-broken" in r]
    check(len(broken) == 1, "%s: log: %s" % (what, h.records))
    check(state_of(run) == before and not run.locks_left(), "%s: the maildrop has changed, or is locked" % what)


# Before the login: root's one message


def every_type_before_login(folder):
    run = new_run(folder)
    before = state_of(run)
    for kind in [n for n in range(256) if n != w.LOGIN]:
        with helper_of(run) as h:
            h.send(w.message(kind, w.numbers(1)))
            check_over(run, h, before, "message %d before the login" % kind)


def bad_logins(folder):
    run = new_run(folder)
    before = state_of(run)
    good = w.login()
    texts = w.text(b"alice") + w.text(b"secret")
    for what, octets in (
            ("nothing but the type", b"\1"), ("cut off", good[:-1]), ("cut in the password", good[:-4]),
            ("one more octet", good + b"\0"),
            ("a second LOGIN behind", good + good), ("a mechanism of 0", w.message(w.LOGIN, texts + b"\0")),
            ("a mechanism of 255", w.message(w.LOGIN, texts + b"\xff")),
            ("a length of 4 GiB", w.message(w.LOGIN, w.numbers(0xffffffff) + b"alice")),
            ("a length of 2 GiB", w.message(w.LOGIN, w.numbers(0x7fffffff) + b"alice")),
            ("a NUL in the name", w.login(b"al\0ice")), ("a NUL in the password", w.login(b"alice", b"sec\0ret")),
            ("a name of 249", w.login(b"a" * 249)), ("a password of 512", w.login(b"alice", b"p" * 512)),
            ("a name of 4 KiB", w.login(b"a" * 4000)), ("more than WIRE_BYTES", w.login(b"a", b"p" * w.WIRE_BYTES)),
            ("100 KiB", b"\1" + b"x" * 100000)):
        with helper_of(run) as h:
            h.send(octets)
            check_over(run, h, before, "LOGIN with " + what)


def descriptors_with_login(folder):
    run = new_run(folder)
    before = state_of(run)
    with open("/dev/null") as f:
        for count in (1, 2, 3, 60):
            with helper_of(run) as h:
                h.send(w.login(), [f.fileno()] * count)
                check_over(run, h, before, "LOGIN with %d descriptors" % count)


def nothing_then_gone(folder):
    """The session leaves before LOGIN, in the middle of a flood, right after LOGIN."""
    run = new_run(folder)
    before = state_of(run)
    for sent in ([], [w.login()], [w.login(b"nobody-at-all")], [w.login(b"alice", b"wrong")] * 5):
        with helper_of(run) as h:
            for octets in sent:
                h.send(octets)
            h.sock.close()
            check(h.ends() is not None, "the helper outlives its session after %d messages" % len(sent))
            check(state_of(run) == before and not run.locks_left(), "the maildrop has changed")


def impossible_names(folder):
    """Answered like a wrong password, without a look at any file."""
    run = new_run(folder)
    for name in (b"", b"-alice", b".alice", b"a/b", b"../alice", b"/etc/passwd", b"a:b", b"a b", b"\xc3\xa4", b"al\x1bice",
                 b"a\nb",
                 b"\x7f", b"..", b"a" * 248):
        with helper_of(run) as h:
            got = h.ask(w.login(name))
            check(got[0] == w.message(w.REFUSED, bytes([w.AUTH, 1])), "name %r: %s" % (name, got))
            records = h.log_records()
            check(len(records) == 1 and records[0].startswith("5:3:") and
                  all(" " <= c <= "~" for c in records[0]), "name %r: log: %s" % (name, records))


def three_tries(folder):
    run = new_run(folder)
    with helper_of(run) as h:
        answers = [h.ask(w.login(b"alice", b"wrong"))[0] for _ in range(3)]
        check(answers == [w.message(w.REFUSED, bytes([w.AUTH, again])) for again in (1, 1, 0)], "answers: %s" % answers)
        check(h.ends() == 0, "the helper goes on after three failures")
        check(len(h.log_records()) == 3, "log: %s" % h.records)


def format_strings(folder):
    """User and password are texts, not formats."""
    run = new_run(folder)
    with helper_of(run) as h:
        got = h.ask(w.login(b"%n%s%x%1000000d", b"%n%n%n%s%s%s"))
        check(got[0] == w.message(w.REFUSED, bytes([w.AUTH, 1])), "%s" % (got,))
        check(h.log_records() == ["5:3:%n%s%x%1000000d:unknown"], "log: %s" % h.records)


# After the login


def every_type_after_login(folder, kind):
    """Types that there are not, and those that only the helper or another kind of maildrop has."""
    run = new_run(folder, kind)
    before = state_of(run)
    good = {w.UNIQUE_IDS, w.DELETED, w.READ, w.UPDATE, w.VERIFY if kind == "mbox" else w.MESSAGES}
    for number in [n for n in range(256) if n not in good]:
        with helper_of(run) as h:
            opened(h)
            h.send(w.message(number, w.login()[1:] if number == w.LOGIN else w.numbers(1, 1) if number == w.MESSAGES else b""))
            check_over(run, h, before, "message %d after the login" % number)


def malformed_after_login(folder, kind):
    run = new_run(folder, kind)
    before = state_of(run)
    count = len(MESSAGES)
    bad = [(name, w.message(number, fields)) for number, name in ((w.DELETED, "DELETED"), (w.READ, "READ")) for fields in (
        b"", w.numbers(1), w.numbers(0) + w.text(b"\1"), w.numbers(2) + w.text(b"\1"), w.numbers(9) + w.text(b"\1"),
        w.numbers(0xfffffff9) + w.text(b"\1"), w.numbers(1) + w.text(b"\0" * 2), w.numbers(1) + w.text(bytes([1 << count])),
        w.numbers(1) + w.text(b"\xff"), w.numbers(1) + w.numbers(0xffffffff), w.numbers(1) + w.text(b"\1") + b"x",
        w.numbers(1, w.WIRE_BYTES - 6) + b"\1", w.numbers(17) + w.text(b""))]
    bad += [("UPDATE", w.message(w.UPDATE, fields)) for fields in (b"", b"\0", w.numbers(count + 1), w.numbers(0xffffffff),
                                                                   w.numbers(0) + b"x", w.numbers(0, 0))]
    bad += [("an empty datagram's type", b"\0")]
    bad += [("UNIQUE_IDS", octets) for octets in (
        w.message(w.UNIQUE_IDS), w.message(w.UNIQUE_IDS, w.numbers(1)), w.unique_ids(0), w.unique_ids(count + 1, True),
        w.unique_ids(0xffffffff, True), w.unique_ids(1) + b"x", w.message(w.UNIQUE_IDS, w.numbers(1) + b"\2"),
        w.message(w.UNIQUE_IDS, b"\1\0\0"))]
    if kind == "mbox":
        bad += [("VERIFY", w.message(w.VERIFY, b"x"))]
    else:
        bad += [("MESSAGES", w.message(w.MESSAGES, f)) for f in (
            b"", w.numbers(0, 1), w.numbers(count + 1, 1), w.numbers(0xffffffff, 1), w.numbers(1), w.numbers(1, 0),
            w.numbers(1, count + 1), w.numbers(2, 0xffffffff), w.numbers(0xffffffff, 2),
            w.numbers(1, 1) + b"x", b"\1\0\0")]
    for what, octets in bad:
        with helper_of(run) as h:
            opened(h)
            h.send(octets)
            check_over(run, h, before, "%s %r" % (what, octets))


def more_at_once_than_go(folder):
    """Sixteen descriptors go with one message, and no more may be asked for."""
    run = pt.Run(folder, (), "maildir", None)
    pt.maildir_make(run.maildrop, [("new/%d.M%d.mx" % (1795000000 + n, n), MESSAGES[0]) for n in range(20)])
    before = state_of(run)
    with helper_of(run) as h:
        opened(h)
        octets, fds = h.ask(w.message(w.MESSAGES, w.numbers(3, 16)))
        check((octets, len(fds)) == (w.message(w.FILES, w.numbers(3)), 16), "16: %r, %d descriptors" % (octets, len(fds)))
        h.send(w.message(w.MESSAGES, w.numbers(3, 17)))
        check_over(run, h, before, "17 messages at once")


def descriptors_after_login(folder, kind):
    run = new_run(folder, kind)
    before = state_of(run)
    with open("/dev/null") as f:
        for octets in (w.unique_ids(1), w.message(w.UPDATE, w.numbers(0))):
            with helper_of(run) as h:
                opened(h)
                h.send(octets, [f.fileno()])
                check_over(run, h, before, "%r with a descriptor" % octets)


def requests_flood(folder, kind):
    """Requests whose answers nobody reads: the helper stops at what the kernel holds for it, does not grow, and ends when the
    session does.  Of descriptors, so many may be under way at once (the sender's limit on files, here a lower one than others of
    this user have), then messages are gone."""
    run = new_run(folder, kind)
    request = w.unique_ids(1) if kind == "mbox" else w.message(w.MESSAGES, w.numbers(1, 5))
    with helper_of(run, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))) as h:
        opened(h)
        before, most, sent = memory(h.process.pid), 0, 0
        try:
            while sent < 100000 and select.select([], [h.sock], [], 1)[1]:
                w.send(h.sock, request)
                sent += 1
                most = max(most, memory(h.process.pid) or most)
        except (ConnectionResetError, BrokenPipeError):
            check(h.ends() is not None, "the socket is closed, and the helper goes on")
        check(3 < sent < 100000 and most - before < 1024, "%d requests, grown by %d kB" % (sent, most - before))
        h.sock.close()
        check(h.ends() is not None, "the helper outlives its session")
        refused = [r for r in h.log_records() if "descriptors error=" in r]
        check(kind == "mbox" or refused, "no line about descriptors under way")


def others_under_way(folder, kind):
    """Descriptors that other sessions of the same owner have not taken yet: a login and messages do not fail for them."""
    run = new_run(folder, kind)
    with w.under_way(300):
        with helper_of(run) as h:
            opened(h)
            got = h.ask(w.message(w.VERIFY) if kind == "mbox" else w.message(w.MESSAGES, w.numbers(1, 5)))
            check(got and got[0][0] == (w.VERIFIED if kind == "mbox" else w.FILES), "%s, log: %s" % (got, h.log_records()))
        with helper_of(run, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))) as h:
            got = h.ask(w.login())
            check(got[0] == w.message(w.REFUSED, bytes([w.TEMPORARY, 0])), "LOGIN above the limit: %s" % (got,))
            check(h.ends() is not None and any("descriptors error=" in r for r in h.log_records()), "log: %s" % h.records)


def memory(pid):
    """Resident kilobytes; None when it has ended."""
    return pt.kilobytes(pt.process_status(pid), "VmRSS")


def marks_flood(folder, kind):
    """A million marks, all the same: one message is deleted, and memory stays flat."""
    run = new_run(folder, kind)
    with helper_of(run) as h:
        opened(h)
        mark = w.message(w.DELETED, w.numbers(1) + w.text(b"\2"))
        before = None
        for n in range(50000):
            w.send(h.sock, mark)
            before = memory(h.process.pid) if n == 1000 else before
        grown = memory(h.process.pid) - before
        got = h.ask(w.message(w.UPDATE, w.numbers(0)))
        check(got[0] == w.message(w.UPDATED, b"\1" + w.numbers(1, len(MESSAGES) - 1)), "UPDATE: %s" % (got,))
        check(grown < 512, "grown by %d kB" % grown)
        check(h.ends() == 0, "the helper goes on after UPDATE")
    left = pt.mbox_split(pt.read_file(run.maildrop)) if kind == "mbox" else pt.maildir_read(run.maildrop)
    check(len(left) == len(MESSAGES) - 1, "%d messages are left" % len(left))


def update_twice(folder, kind):
    run = new_run(folder, kind)
    before = state_of(run)
    with helper_of(run) as h:
        opened(h)
        h.send(w.message(w.UPDATE, w.numbers(0)))
        h.send(w.message(w.DELETED, w.numbers(1) + w.text(b"\x1f")))
        h.send(w.message(w.UPDATE, w.numbers(0)))
        got = h.receive()
        check(got and got[0][0] == w.UPDATED, "UPDATE: %s" % (got,))
        check(h.ends() is not None, "the helper goes on after UPDATE")
        check(state_of(run) == before, "what came after UPDATE was done")


def only_reading(folder, kind):
    """Every descriptor that the session is given can read the maildrop of its own user, and write nothing."""
    run = new_run(folder, kind)
    with helper_of(run) as h:
        w.send(h.sock, w.login())
        fds = w.receive(h.sock)[1]
        requests = [w.unique_ids(1)] + ([w.message(w.MESSAGES, w.numbers(2, 2))] if kind == "maildir" else [])
        for request in requests:
            w.send(h.sock, request)
            fds += w.receive(h.sock)[1]
        check(len(fds) == (3 if kind == "maildir" else 2), "%d descriptors" % len(fds))
        for fd in fds:
            try_to_write(fd)
            os.close(fd)
    check(state_of(run) == (BOX if kind == "mbox" else sorted(MESSAGES)), "the maildrop has changed")


def try_to_write(fd):
    name = os.readlink("/proc/self/fd/%d" % fd)
    for what, call in (("write", lambda: os.write(fd, b"x")), ("pwrite", lambda: os.pwrite(fd, b"x", 0)),
                       ("ftruncate", lambda: os.ftruncate(fd, 0))):
        try:
            call()
        except OSError:
            continue
        check(False, "%s into %s" % (what, name))


def killed_at_each_point(folder, kind):
    """kill -9 of the session after each message: the helper ends, no lock stays, and the maildrop is whole."""
    run = new_run(folder, kind)
    before = state_of(run)
    steps = [w.login(), w.unique_ids(1), w.message(w.DELETED, w.numbers(1) + w.text(b"\1")),
             w.message(w.READ, w.numbers(1) + w.text(b"\2"))]
    for n in range(len(steps) + 1):
        with helper_of(run) as h:
            for octets in steps[:n]:
                h.send(octets)
            h.sock.close()
            check(h.ends() is not None, "the helper outlives its session after %d messages" % n)
        check(state_of(run) == before and not run.locks_left(), "after %d messages the maildrop has changed" % n)


def gone_while_ids_come(folder, kind):
    """All unique-ids are asked for, more than the kernel holds, and the session goes away: that is an end like another."""
    numbers = range(20000)
    run = pt.Run(folder, (), kind, pt.mbox_join([b"Subject: %d\n\n" % n for n in numbers])[0] if kind == "mbox" else None)
    if kind == "maildir":
        pt.maildir_make(run.maildrop, [("new/%d.M%d.a-long-name-of-a-host.example" % (1795000000 + n, n), b"\n") for n in numbers])
    with helper_of(run) as h:
        opened(h)
        got, first = h.ask(w.unique_ids(1, True)), 1
        for _ in range(3):
            check(got[0][:5] == bytes([w.IDS]) + w.numbers(first), "not the ids from %d on: %r" % (first, got[0][:40]))
            first += len(texts_in(got[0][5:]))
            got = h.receive()
        h.sock.close()
        check(h.ends() == 0, "status %s" % h.process.returncode)
        check(h.log_records() == ["6:2:alice:users"], "log: %s" % h.records)


def texts_in(octets):
    """The texts that a message is made of."""
    found = []
    while octets:
        end = 4 + int.from_bytes(octets[:4], sys.byteorder)
        found.append(octets[4:end])
        octets = octets[end:]
    return found


# What a caller can choose: arguments, descriptors, limits, signals, environment


def arguments(folder):
    """argc 0, options, an argv[0] of 128 KiB: no argument is looked at, and only one is taken."""
    run = new_run(folder)
    for words, works in ((["-C", "/tmp/x"], False), (["postern-helper", "x"], False), (["postern-helper", ""], False),
                         (["x" * 131000], True), (["%n%s"], True), (["-"], True)):
        with helper_of(run, arguments=words) as h:
            got = h.ask(w.login())
            check((got is not None and got[0][:1] == bytes([w.OPENED])) == works, "argv %.40r...: %s" % (words, got))
            if not works:
                check(h.ends() == 1 and not h.log_records(), "status %s, log %s" % (h.process.returncode, h.records))
            check(not any("xxx" in r or "%n" in r for r in h.log_records()), "argv[0] is logged: %.80r" % h.records)


def no_argument(folder):
    """execve with argc 0 (CVE-2021-4034); Linux from 5.18 on makes an empty argument of it."""
    run = new_run(folder)
    libc = ctypes.CDLL(None)
    words = (ctypes.c_char_p * 1)(None)
    variables = [("%s=%s" % pair).encode() for pair in run.environment().items()]
    variables = (ctypes.c_char_p * (len(variables) + 1))(*variables, None)

    def before():
        libc.execve(run.helper.encode(), words, variables)

    with helper_of(run, before=before) as h:
        got = h.ask(w.login())
        h.sock.close()
        status = h.ends()
        check(status in (0, 1) and (status == 1 or got[0][0] == w.OPENED), "status %s, %s" % (status, got))
        check(all(r.startswith(("6:2:alice:", "3:")) for r in h.log_records()), "log: %s" % h.records)


def missing_descriptors(folder):
    """Each subset of 0 to 2 closed.  (What is there then, only root can see: tests/system/check_helper.py.)"""
    run = new_run(folder)
    for closed in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        with helper_of(run, before=lambda closed=closed: [os.close(fd) for fd in closed]) as h:
            opened(h)
            got = h.ask(w.message(w.UPDATE, w.numbers(0)))
            check(got[0][:2] == bytes([w.UPDATED, 1]) and h.ends() == 0,
                  "%s closed: status %s" % (closed, h.process.returncode))


def low_limits(folder):
    """Limits that the caller sets: a login works or is refused, and no mailbox is half-written."""
    kinds = (("FSIZE", 0), ("NPROC", 0), ("NOFILE", 4), ("STACK", 65536), ("AS", 16 << 20), ("CPU", 1), ("DATA", 65536),
             ("MEMLOCK", 0), ("CORE", 0))
    for name, value in kinds:
        run = new_run(folder)
        number = getattr(resource, "RLIMIT_" + name)
        with helper_of(run, before=lambda n=number, v=value: resource.setrlimit(n, (v, v))) as h:
            got = h.ask(w.login())
            if got and got[0][:1] == bytes([w.OPENED]):
                h.send(w.message(w.DELETED, w.numbers(1) + w.text(b"\1")))
                got = h.ask(w.message(w.UPDATE, w.numbers(0)))
            check(h.ends() is not None or not got, "RLIMIT_%s: the helper does not end" % name)
            done = bool(got) and got[0][:2] == bytes([w.UPDATED, 1])
        box = pt.read_file(run.maildrop)
        whole = (BOX, b"".join(pt.mbox_split(BOX)[1:]))
        check(box in whole and (not done or box == whole[1]) and not run.locks_left(), "RLIMIT_%s: the mbox is broken" % name)


def odd_signals(folder):
    """All ignored, all blocked, an alarm pending, a timer: none of it is the helper's."""
    def ignore():
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(number, signal.SIG_IGN)

    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))

    def busy(pid):
        with open("/proc/%d/stat" % pid) as f:
            return sum(int(ticks) for ticks in f.read().rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")

    # A slow machine needs its time from the fork to main().
    for before in (ignore, block, lambda: signal.alarm(3), lambda: signal.setitimer(signal.ITIMER_PROF, 0.3, 0.1)):
        run = new_run(folder)
        began = time.monotonic()
        with helper_of(run, before=before) as h:
            opened(h)
            while before not in (ignore, block) and (time.monotonic() - began < 3.2 or busy(h.process.pid) < 0.5):
                check(h.ask(w.unique_ids(1))[0][:1] == bytes([w.IDS]), "no unique-ids")
            h.send(w.message(w.DELETED, w.numbers(1) + w.text(b"\1")))
            got = h.ask(w.message(w.UPDATE, w.numbers(0)))
            check(got[0][:2] == bytes([w.UPDATED, 1]), "UPDATE: %s" % (got,))
            check(h.ends() == 0, "status %s" % h.process.returncode)


def hostile_cwd_and_umask(folder):
    """A working directory full of configuration, and umask 0: nothing there is read, and files stay their owner's."""
    run = new_run(folder)
    bad = os.path.join(run.folder, "cwd")
    os.mkdir(bad)
    for name in ("DB_CONFIG", ".pam_environment", "postern.conf", "users", ".terminfo", "gconv-modules", "core"):
        with open(os.path.join(bad, name), "w") as f:
            f.write("authentication = shadow\n")

    def before():
        os.chdir(bad)
        os.umask(0)

    with helper_of(run, before=before) as h:
        opened(h)
        h.ask(w.message(w.UPDATE, w.numbers(1)))
        h.ends()
    loose = [p for d, _, files in os.walk(run.folder + "/state") for p in [d] + [os.path.join(d, f) for f in files]
             if p != run.folder + "/state" and os.stat(p).st_mode & 0o77]
    check(not loose, "open to others: %s" % loose)


def environment_is_nothing(folder):
    """Variables that libraries look at: the helper's environment is its own when it has started."""
    run = new_run(folder)
    more = {name: "/tmp/x" for name in (
        "GCONV_PATH", "LOCPATH", "NLSPATH", "TZ", "TMPDIR", "RES_OPTIONS", "HOSTALIASES", "LOCALDOMAIN", "KRB5_CONFIG",
        "OPENSSL_CONF", "SYSTEMD_LOG_LEVEL", "MALLOC_TRACE", "HOME", "PATH", "IFS", "ENV")}
    with w.Helper(run.helper, run.environment(more)) as h:
        opened(h)
        got = h.ask(w.message(w.UPDATE, w.numbers(0)))
        check(got[0][0] == w.UPDATED, "%s" % (got,))


def main(folder, tap):
    if pt.WRAPPER:
        tap.skip("a hostile session", "the helper is started without the wrapper here")
        return
    tap.run("every message type before the login", every_type_before_login, folder)
    tap.run("LOGIN with wrong lengths, odd octets and too much", bad_logins, folder)
    tap.run("LOGIN with descriptors", descriptors_with_login, folder)
    tap.run("a session that goes away before or at the login", nothing_then_gone, folder)
    tap.run("names that can be none", impossible_names, folder)
    tap.run("three wrong passwords, then the end", three_tries, folder)
    tap.run("format strings as name and password", format_strings, folder)
    for kind in ("mbox", "maildir"):
        tap.run("every message type after the login, %s" % kind, every_type_after_login, folder, kind)
        tap.run("wrong lengths and numbers after the login, %s" % kind, malformed_after_login, folder, kind)
        tap.run("descriptors to the helper after the login, %s" % kind, descriptors_after_login, folder, kind)
        tap.run("requests whose answers nobody reads, %s" % kind, requests_flood, folder, kind)
        tap.run("descriptors of other sessions under way, %s" % kind, others_under_way, folder, kind)
        tap.run("50,000 marks, %s" % kind, marks_flood, folder, kind)
        tap.run("UPDATE twice, %s" % kind, update_twice, folder, kind)
        tap.run("what the session is given can only be read, %s" % kind, only_reading, folder, kind)
        tap.run("the session is killed after each message, %s" % kind, killed_at_each_point, folder, kind)
        tap.run("the session goes away while unique-ids come, %s" % kind, gone_while_ids_come, folder, kind)
    tap.run("more messages at once than go", more_at_once_than_go, folder)
    tap.run("arguments of the helper", arguments, folder)
    tap.run("no argument at all", no_argument, folder)
    tap.run("descriptors 0 to 2 closed at exec", missing_descriptors, folder)
    tap.run("limits that the caller sets", low_limits, folder)
    tap.run("signals ignored, blocked and pending", odd_signals, folder)
    tap.run("a hostile working directory and umask 0", hostile_cwd_and_umask, folder)
    tap.run("variables that libraries look at", environment_is_nothing, folder)


if __name__ == "__main__":
    pt.in_place(main)
