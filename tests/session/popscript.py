#!/usr/bin/python3
"""Runs a .pop transcript against postern: popscript.py FILE.pop

A transcript is a dialogue, with comments in front of it that say what is given.

    # dele-rset-dele.pop: RSET takes the mark back, and DELE can set it again.
    # given: three.mbox
    # logged in: alice
    # left: without 1
    C: DELE 1
    S: +OK*

Lines of the dialogue:
    C: TEXT         the client sends TEXT and CRLF
    C- TEXT         the client sends TEXT and nothing behind it
    C: <close>      the client ends its side, and still reads
    C: <hang up>    the client goes away
    S: PATTERN      the server's next line; '*' stands for anything, <NAME> for what the first <NAME> of the transcript
                    stood for (two NAMEs never stand for the same)
    S: ...          any lines, up to one that matches the next S: line
    S| PATTERN      one of several lines in any order: all the S| lines that follow one another
    S: <close>      the server closes the connection; <close after N s>: not before N seconds without input
    ---             the next session on the same maildrop
    2C: 2S:         a second session beside the first; it starts with its first line
    L: PATTERN      the log's next line, of those that L: lines are about; they stand at the end
TEXT and PATTERN know \\r \\n \\t \\0 \\\\ \\* \\xHH and \\{COUNT TEXT}, TEXT so many times.  The greeting, and USER and PASS with
"logged in", are not written down; they are sent and checked like the rest.

Comments that say what is given:
    # given: FILE [without NUMBERS]     an mbox of the folder data; it is tried as an mbox, and its messages in a Maildir
    # given: FILE as NAME NAME ...      the same in a Maildir, under these names ("new/1.a cur/2.b:2,S")
    # given: nothing                    no mailbox is there (the default)
    # kind: mbox | maildir              only as this
    # logged in: NAME
    # left: untouched                   at the end the maildrop is to the octet and the name what it was (the default)
    # left: all | without NUMBERS       these messages are; those of a Maildir may have other flags and be in cur/
    # left: as NAME NAME ...            these names are in the Maildir, with the texts they had
    # set: KEY = VALUE                  in postern.conf
    # run: WAY ... (REASON)             only in these ways, of: lines octets packet hang-up
    # over: TRANSPORT ... (REASON)      only over these, of: pipes socketpair TCP inetd TLS STLS

Each is run over pipes, a socketpair and TCP, sent line by line (each answer awaited), octet by octet, and all in one packet;
once more with descriptors 0, 1 and 2 as inetd gives them, over TLS, and after STLS; and with the client gone after every
line, which must leave all as it was.  Where programs are slow (FEWER=1, and under a WRAPPER, which has no TLS) pipes,
socketpair and TCP take turns in the ways, inetd's descriptors are left out, and the client is gone after the last line only.
"""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import re  # noqa: E402
import time  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import Failure, check, readable  # noqa: E402

WAYS = ("lines", "octets", "packet", "hang-up")
DIRECTIVES = ("given", "kind", "logged in", "left", "set", "run", "over")
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\", "*": b"*"}


# When the mailboxes were written, in seconds since 1970: Nov 23 2026.
DELIVERED = 1795428000


class BadTranscript(Exception):
    pass


# Reading a transcript


def tokens(text):
    """The text as (is literal, octets or special) pairs: escapes resolved, '*' and <NAME> kept apart."""
    place = 0
    pattern = re.compile(r"\\\{(\d+) ((?:[^}\\]|\\.)*)\}|\\x([0-9a-f]{2})|\\(.)|(\*)|<([a-z]+\d*)>|(.)", re.S)
    while place < len(text):
        m = pattern.match(text, place)
        place = m.end()
        count, repeated, octet, escape, star, name, plain = m.groups()
        if count is not None:
            yield True, b"".join(literal(repeated)) * int(count)
        elif octet is not None:
            yield True, bytes([int(octet, 16)])
        elif escape is not None:
            if escape not in ESCAPES:
                raise BadTranscript("unknown escape \\" + escape)
            yield True, ESCAPES[escape]
        elif star is not None:
            yield False, "*"
        elif name is not None:
            yield False, name
        else:
            yield True, plain.encode()


def literal(text):
    for is_literal, what in tokens(text):
        yield what if is_literal else (b"*" if what == "*" else b"<%s>" % what.encode())


class Pattern:
    def __init__(self, text):
        self.text = text
        self.parts = list(tokens(text))

    def match(self, line, names):
        """Whether the line matches; fills names with what new <NAME>s stand for."""
        source, fresh = b"", []
        for is_literal, what in self.parts:
            if is_literal:
                source += re.escape(what)
            elif what == "*":
                source += b".*"
            elif what in names:
                source += re.escape(names[what])
            else:
                source += b"([\x21-\x7e]{1,70})"
                fresh.append(what)
        m = re.fullmatch(source, line, re.S)
        if m is None or len(set(m.groups()) | set(names.values())) < len(fresh) + len(names):
            return False
        names.update(zip(fresh, m.groups()))
        return True


class Step:
    """who: '' or '2'; what: send, finish, hang up, expect, expect anything, expect any order, close."""

    def __init__(self, who, what, value=None):
        self.who, self.what, self.value = who, what, value


def parse_line(line):
    m = re.fullmatch(r"(2?)([CS])([:|-])(?: (.*))?", line, re.S)
    if m is None:
        raise BadTranscript("not a line of a transcript: " + line)
    who, side, sign, text = m.group(1), m.group(2), m.group(3), m.group(4) or ""
    if side == "C" and sign != "|":
        if text == "<close>":
            return Step(who, "finish")
        if text == "<hang up>":
            return Step(who, "hang up")
        return Step(who, "send", b"".join(literal(text)) + (b"\r\n" if sign == ":" else b""))
    if side == "S" and sign != "-":
        close = re.fullmatch(r"<close(?: after (\d+) s)?>", text)
        if close is not None:
            return Step(who, "close", int(close.group(1) or 0))
        if text == "...":
            return Step(who, "expect anything")
        return Step(who, "expect" if sign == ":" else "expect any order", Pattern(text))
    raise BadTranscript("not a line of a transcript: " + line)


def gather(steps):
    """One step for the S| lines that follow one another."""
    gathered = []
    for step in steps:
        if step.what == "expect any order":
            if gathered and gathered[-1].what == step.what and gathered[-1].who == step.who:
                gathered[-1].value.append(step.value)
                continue
            step.value = [step.value]
        gathered.append(step)
    return gathered


class Transcript:
    def __init__(self, path, data):
        self.data = data
        self.given, self.kind, self.user, self.left = "nothing", None, None, "untouched"
        self.settings, self.ways, self.over = {}, WAYS, pt.TRANSPORTS
        self.sessions, self.log = [[]], []
        with open(path, encoding="utf-8", newline="\n") as f:
            lines = f.read().split("\n")
        self._header(lines)
        for line in lines:
            if line.startswith("L: "):
                self.log.append(Pattern(line[3:]))
            elif line == "---":
                self.sessions.append([])
            elif line and not line.startswith("#"):
                self.sessions[-1].append(parse_line(line))
        self._check_ends()
        self._check_left()
        preface = [Step("", "expect", Pattern(pt.GREETING.decode()))]
        if self.user is not None:
            preface += self._login("")
        self.sessions = [gather(preface + s) for s in self.sessions]

    def _login(self, who):
        password = pt.PASSWORDS[self.user][0]
        return [Step(who, "send", b"USER %s\r\n" % self.user.encode()),
                Step(who, "expect", Pattern("+OK name is welcome here")),
                Step(who, "send", b"PASS %s\r\n" % password),
                Step(who, "expect", Pattern("+OK maildrop locked and ready"))]

    def _check_ends(self):
        for session in self.sessions:
            for who in {s.who for s in session}:
                last = [s for s in session if s.who == who][-1]
                if last.what not in ("close", "hang up"):
                    raise BadTranscript("a session that does not end in S: <close> or C: <hang up>")

    def _check_left(self):
        word, *rest = self.left.split()
        known = {str(n) for n in range(1, len(self._pieces(self.given.split(" as ")[0])) + 1)}
        if not (word == "without" and rest and set(rest) <= known or word == "as" or self.left in ("all", "untouched")):
            raise BadTranscript("left: " + self.left)

    def _header(self, lines):
        for line in lines:
            m = re.match(r"# (%s): (.*)" % "|".join(DIRECTIVES), line)
            if m is not None:
                getattr(self, "_take_" + m.group(1).replace(" ", "_"))(m.group(2).strip())

    def _take_given(self, value):
        self.given = value

    def _take_kind(self, value):
        if value not in ("mbox", "maildir"):
            raise BadTranscript("kind: " + value)
        self.kind = value

    def _take_logged_in(self, value):
        if value not in pt.PASSWORDS:
            raise BadTranscript("no such user: " + value)
        self.user = value

    def _take_left(self, value):
        self.left = value

    def _take_set(self, value):
        key, equals, text = value.partition(" = ")
        if not equals:
            raise BadTranscript("set: " + value)
        self.settings[key] = text

    def _words(self, value, known):
        words = re.sub(r"\(.*\)", "", value).split()
        if not words or not set(words) <= set(known) or "(" not in value:
            raise BadTranscript("words of %s and the reason in brackets, not: %s" % (known, value))
        return tuple(words)

    def _take_run(self, value):
        self.ways = self._words(value, WAYS)

    def _take_over(self, value):
        self.over = self._words(value, pt.TRANSPORTS)

    # The maildrop

    def _pieces(self, spec):
        """The mbox pieces of 'FILE [without NUMBERS]'."""
        if spec == "nothing":
            return []
        name, _, gone = spec.partition(" without ")
        pieces = pt.mbox_split(pt.read_file(os.path.join(self.data, name)))
        numbers = {int(n) for n in gone.split()}
        if not numbers <= set(range(1, len(pieces) + 1)):
            raise BadTranscript("no such message: " + spec)
        return [p for n, p in enumerate(pieces, 1) if n not in numbers]

    def kinds(self):
        if self.kind is not None:
            return [self.kind]
        return ["maildir"] if " as " in self.given else ["mbox", "maildir"]

    def _names(self, count):
        if " as " in self.given:
            return self.given.split(" as ")[1].split()
        return ["new/17951%05d.M%dP7.mx.example.net" % (n, n) for n in range(1, count + 1)]

    def give(self, run):
        """Makes the maildrop.  Returns what it looks like."""
        if self.given == "nothing":
            return None
        if run.kind == "mbox":
            with open(run.maildrop, "wb") as f:
                whole = pt.read_file(os.path.join(self.data, self.given.split()[0]))
                f.write(b"".join(self._pieces(self.given)) if " without " in self.given else whole)
            # One that was written just now makes each login wait until the file's times can tell a later write.
            os.utime(run.maildrop, (DELIVERED, DELIVERED))
        else:
            messages = pt.mbox_messages(b"".join(self._pieces(self.given.split(" as ")[0])))
            pt.maildir_make(run.maildrop, list(zip(self._names(len(messages)), messages)))
        return self.now(run)

    def now(self, run):
        if not os.path.lexists(run.maildrop):
            return None
        return pt.read_file(run.maildrop) if run.kind == "mbox" else pt.maildir_read(run.maildrop)

    def check_left(self, run, before):
        """What the transcript says about the end."""
        now = self.now(run)
        if self.left == "untouched":
            check(now == before, "the maildrop is not as it was given: " + difference(before, now))
        elif self.left == "all" or self.left.startswith("without "):
            gone = {int(n) for n in self.left.split()[1:]}
            if run.kind == "mbox":
                rest = b"".join(p for n, p in enumerate(pt.mbox_split(before), 1) if n not in gone)
                check(now == rest, "the mbox is not as it should be left: " + difference(rest, now))
            else:
                texts = [text for n, (_, text) in enumerate(by_time(before), 1) if n not in gone]
                check([text for _, text in by_time(now)] == texts, "the Maildir is not as it should be left: %s" % sorted(now))
        else:
            check(sorted(now) == sorted(self.left.split()[1:]), "the Maildir holds %s" % sorted(now))
            texts = {base(name): text for name, text in before.items()}
            check(all(texts[base(name)] == text for name, text in now.items()), "a message of the Maildir has changed")
        check(not run.locks_left(), "left behind: %s" % run.locks_left())


def base(name):
    return name.split("/")[1].split(":")[0]


def by_time(maildir):
    return sorted(maildir.items(), key=lambda item: (int(base(item[0]).split(".")[0]), base(item[0])))


def difference(wanted, got):
    if isinstance(wanted, dict) and isinstance(got, dict):
        return "%s instead of %s" % (sorted(got), sorted(wanted))
    return "%s instead of %s" % tuple("nothing" if x is None else readable(x, 600) for x in (got, wanted))


# Playing a transcript


class Player:
    """One session of a transcript, over one transport, in one way."""

    def __init__(self, run, transport, way, names):
        self.run, self.transport, self.way, self.names = run, transport, way, names
        self.open = {}
        self.done = []
        self.skipping = False  # S: ...
        self.last_input = time.monotonic()

    def connection(self, who):
        if who not in self.open:
            self.open[who] = pt.Connection(self.run, self.transport)
            if who == "2":
                self._expect(self.open[who], Pattern(pt.GREETING.decode()))
        return self.open[who]

    def play(self, steps):
        try:
            if self.way == "packet":
                self._send_packet(steps)
            for step in steps:
                self._step(self.connection(step.who), step)
            for c in list(self.open.values()):
                c.end()
        except (Failure, OSError) as e:
            raise self.failure(e)

    def failure(self, why):
        """Ends what is still open, and tells all there is to know."""
        for c in self.open.values():
            c.abandon()
        ends = [c.status for c in self.open.values()]  # -9 where it had to be killed
        return Failure("%s\nafter:\n%s\nexit status: %s\nlog:\n%s" % (why, "\n".join(self.done[-8:]), ends, self.run.log_tail()))

    def _send_packet(self, steps):
        c = self.connection("")
        c.send(b"".join(s.value for s in steps if s.what == "send"))
        if any(s.what == "finish" for s in steps):
            c.finish_sending()
        self.last_input = time.monotonic()

    def _step(self, c, step):
        if step.what == "send":
            self.done.append("C: " + readable(step.value))
            if self.way == "octets":
                c.send_octets(step.value)
            elif self.way != "packet":
                c.send(step.value)
            self.last_input = time.monotonic()
        elif step.what == "finish":
            if self.way != "packet":
                c.finish_sending()
        elif step.what == "expect anything":
            self.skipping = True
        elif step.what == "expect":
            self._expect(c, step.value)
        elif step.what == "expect any order":
            self._expect_any_order(c, list(step.value))
        elif step.what == "close":
            self._expect_close(c, step.value)
            c.end()
            del self.open[step.who]

    def _read(self, c, wanted):
        line = c.read_line()
        self.done.append("S: " + ("<close>" if line is None else readable(line)))
        check(line is not None, "the server closes instead of: " + wanted)
        return line

    def _expect(self, c, pattern):
        line = self._read(c, pattern.text)
        while self.skipping and not pattern.match(line, self.names):
            line = self._read(c, pattern.text)
        self.skipping = False
        check(pattern.match(line, self.names), "expected: %s\ngot:      %s" % (pattern.text, readable(line)))

    def _expect_any_order(self, c, patterns):
        while patterns:
            line = self._read(c, "one of %s" % [p.text for p in patterns])
            found = [p for p in patterns if p.match(line, self.names)]
            check(found, "expected one of: %s\ngot: %s" % ([p.text for p in patterns], readable(line)))
            patterns.remove(found[0])

    def _expect_close(self, c, seconds):
        line = c.read_line()
        check(line is None, "expected: <close>\ngot:      " + readable(line or b""))
        waited = time.monotonic() - self.last_input
        # A tenth for clocks that are not ours.
        check(seconds == 0 or waited > seconds * 0.9, "closed after %.2f s" % waited)
        check(seconds == 0 or waited < seconds + pt.PATIENCE / 2, "closed only after %.2f s" % waited)


class Playing:
    def __init__(self, folder, transcript):
        self.folder, self.transcript = folder, transcript
        self.without_tls = pt.WRAPPER or pt.tls_missing(folder) is not None

    def _run(self, kind):
        run = pt.Run(self.folder, self.transcript.settings, kind)
        return run, self.transcript.give(run)

    def whole(self, kind, transport, way):
        t = self.transcript
        run, before = self._run(kind)
        names = {}
        for steps in t.sessions:
            Player(run, transport, way, names).play(steps)
        t.check_left(run, before)
        self._check_log(run, transport, names)
        run.remove()

    def _check_log(self, run, transport, names):
        if transport == "inetd":
            return  # descriptor 2 is the client; the log went to syslog
        lines = run.log_lines()
        events = {p.text.split(" ")[0] for p in self.transcript.log}
        about = [line for line in lines if line.split(" ")[0] in events]
        for i, pattern in enumerate(self.transcript.log):
            got = about[i] if i < len(about) else "nothing more"
            check(pattern.match(got.encode(), names), "log, expected: %s\ngot: %s" % (pattern.text, got))
        check(len(about) <= len(self.transcript.log), "log, unexpected: %s" % about[len(self.transcript.log):])

    # The client goes away

    def cuts(self):
        """Places in the first session behind a line of the client, up to where it may end by itself."""
        found = []
        for i, step in enumerate(self.transcript.sessions[0]):
            if step.what in ("finish", "hang up", "close") or step.what == "send" and re.match(rb"(?i)quit", step.value):
                break
            if step.what == "send":
                found.append(i)
        return found[-1:] if pt.FEWER else found

    def hanging_up(self, kind, read_answers):
        for n, cut in enumerate(self.cuts()):
            run, before = self._run(kind)
            steps = self.transcript.sessions[0]
            end = cut + 1
            while read_answers and end < len(steps) and steps[end].what.startswith("expect"):
                end += 1
            sent = readable(steps[cut].value)
            over = [t for t in self.transcript.over if not (self.without_tls and t in pt.TLS_TRANSPORTS)]
            p = Player(run, over[n % len(over)], "lines", {})
            try:
                self._go_away(p, steps[:end], read_answers)
                now = self.transcript.now(run)
                check(now == before, "the maildrop has changed: " + difference(before, now))
                check(not run.locks_left(), "left behind: %s" % run.locks_left())
                run.log_lines()
                if self.transcript.user is not None:
                    with pt.Session(run) as c:
                        c.log_in(self.transcript.user)
                        c.quit()
            except (Failure, OSError) as e:
                raise p.failure("gone after %s, over %s: %s" % (sent, p.transport, e))
            run.remove()

    def _go_away(self, player, steps, read_answers):
        c = player.connection("")
        if read_answers:
            for step in steps:
                player._step(c, step)
        else:
            c.send(b"".join(s.value for s in steps if s.what == "send"))
        c.end()


def combinations(transcript):
    """(kind, transport, way) for the whole dialogues."""
    ways = [w for w in transcript.ways if w != "hang-up"]
    plain = [t for t in transcript.over if t not in ("inetd",) + pt.TLS_TRANSPORTS]
    found = []
    for kind in transcript.kinds():
        if pt.FEWER and plain:
            count = max(len(plain), len(ways)) if kind == transcript.kinds()[0] else 1
            found += [(kind, plain[i % len(plain)], ways[i % len(ways)]) for i in range(count)]
            continue
        found += [(kind, transport, way) for transport in plain for way in ways]
        if "inetd" in transcript.over:
            found.append((kind, "inetd", ways[-1]))
    for transport, kind, way in (("TLS", transcript.kinds()[0], ways[0]), ("STLS", transcript.kinds()[-1], ways[-1])):
        if transport in transcript.over and not pt.WRAPPER:
            found.append((kind, transport, way))
    return found


HOW = {"lines": "line by line", "octets": "octet by octet", "packet": "in one packet"}


def main(folder, tap):
    transcript = Transcript(os.path.join(folder, os.path.basename(sys.argv[1])), os.path.join(folder, "data"))
    playing = Playing(folder, transcript)
    missing = pt.tls_missing(folder)
    for kind, transport, way in combinations(transcript):
        if missing and transport in pt.TLS_TRANSPORTS:
            tap.skip("%s, %s" % (kind, transport), missing)
            continue
        tap.run("%s, %s, %s" % (kind, transport, HOW[way]), playing.whole, kind, transport, way)
    if "hang-up" in transcript.ways and playing.cuts():
        count = len(playing.cuts())
        for kind in transcript.kinds():
            tap.run("%s, gone after a line and its answer (each of %d)" % (kind, count), playing.hanging_up, kind, True)
            if not pt.FEWER:
                tap.run("%s, gone after a line with all answers unread (each of %d)" % (kind, count),
                        playing.hanging_up, kind, False)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: popscript.py FILE.pop")
    here = os.path.dirname(os.path.abspath(__file__))
    pt.in_place(main, [os.path.abspath(sys.argv[1]), os.path.join(here, "data")])
