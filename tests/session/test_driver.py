#!/usr/bin/python3
"""The tests' own tools: transcripts that are wrong have to fail, and the naive model says what was worked out by hand."""

import sys

sys.dont_write_bytecode = True

import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

import postern_test as pt  # noqa: E402
from postern_test import check  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))

GOOD = """# given: three.mbox
# logged in: alice
# left: without 1
C: DELE 1
S: +OK*
C: QUIT
S: +OK*
S: <close>
L: session-end how=quit user="alice" * deleted=1 left=2 *
"""

# What is wrong, by which replacement of a text in the good one.
WRONG = (
    ("another reply", "C: DELE 1\nS: +OK*", "C: DELE 1\nS: +OK message delete"),
    ("-ERR instead of +OK", "C: DELE 1\nS: +OK*", "C: DELE 1\nS: -ERR*"),
    ("a line too few", "C: DELE 1\nS: +OK*", "C: DELE 1"),
    ("a line too many", "C: QUIT", "S: +OK*\nC: QUIT"),
    ("no close", "C: QUIT\nS: +OK*\nS: <close>", "C: NOOP\nS: +OK*\nC: <hang up>"),
    ("a close too early", "S: <close>", "S: <close after 1 s>"),
    ("more left than said", "left: without 1", "left: without 1 2"),
    ("less left than said", "left: without 1", "left: all"),
    ("a maildrop that is not untouched", "left: without 1", "left: untouched"),
    ("two names for the same text", "C: DELE 1", "C: UIDL 2\nS: +OK 2 <a>\nC: UIDL 2\nS: +OK 2 <b>\nC: DELE 1"),
    ("a name for two texts", "C: DELE 1", "C: UIDL 2\nS: +OK 2 <a>\nC: UIDL 3\nS: +OK 3 <a>\nC: DELE 1"),
    ("a capability that is not there", "C: DELE 1", "C: CAPA\nS: +OK*\nS| TOP\nS| XYZZY\nS: ...\nS: .\nC: DELE 1"),
    ("lines up to one that does not come", "C: DELE 1", "C: CAPA\nS: +OK*\nS: ...\nS: XYZZY\nC: DELE 1"),
    ("another line in the log", "deleted=1", "deleted=2"),
    ("a line more in the log", "L: session-end", 'L: login user="bob" *\nL: session-end'),
    ("another mailbox", "three.mbox", "vector.mbox without 2 3"),
)

# Transcripts that cannot be read must not pass for want of something to check.
UNREADABLE = (
    ("a line of neither side", "C: QUIT", "X: QUIT"),
    ("no end", "S: <close>\n", ""),
    ("an unknown user", "logged in: alice", "logged in: mallory"),
    ("an unknown escape", "C: QUIT", "C: QU\\qIT"),
    ("a message that is not there", "without 1", "without 9"),
    ("ways without a reason", "# left", "# run: lines\n# left"),
    ("an unknown way", "# left", "# run: sideways (because)\n# left"),
)


def play(folder, transcript, **more):
    path = os.path.join(folder, "tried.pop")
    with open(path, "w") as f:
        f.write(transcript)
    done = subprocess.run([sys.executable, os.path.join(HERE, "popscript.py"), path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=dict(os.environ, **more))
    return done.returncode, done.stdout


def good(folder):
    status, output = play(folder, GOOD)
    check(status == 0 and "not ok" not in output and re.search(r"^1\.\.[1-9]", output, re.M), output)


def wrong(folder, old, new):
    check(old in GOOD, "nothing to replace")
    # One way is enough to see it, and an answer that does not come need not be waited for long.
    only = "# run: lines (to be quick)\n# over: pipes (to be quick)\n"
    status, output = play(folder, only + GOOD.replace(old, new), PATIENCE="20" if pt.WRAPPER else "2")
    points = re.findall(r"^(not )?ok ", output, re.M)
    check(status != 0 and points and all(points), "did not fail:\n" + output)


def unreadable(folder, old, new):
    check(old in GOOD, "nothing to replace")
    status, output = play(folder, GOOD.replace(old, new))
    check(status != 0 and output.startswith("Bail out!") and "BadTranscript" in output and "ok " not in output,
          "was not refused:\n" + output)


def model():
    check(pt.wire_form(b"a\n.\r\n\rb\r") == b"a\r\n.\r\n\rb\r\r\n", "wire_form")
    check(pt.wire_form(b"") == b"" and pt.wire_form(b"\n") == b"\r\n", "wire_form of nothing")
    check(pt.stuffed(b".\r\na\r\n..\r\n\r.\r\n") == b"..\r\na\r\n...\r\n\r.\r\n", "stuffed")
    check(pt.unstuffed(b"..\r\na\r\n...\r\n\r.\r\n") == b".\r\na\r\n..\r\n\r.\r\n", "unstuffed")
    check(pt.top_of(b"h\nh\n\n1\n2", 1) == b"h\nh\n\n1\n", "top_of")
    check(pt.top_of(b"h\nh", 1) == b"h\nh" and pt.top_of(b"\n1\n2\n", 0) == b"\n", "top_of without a header or a body")
    check(pt.quote_from(b"From a\n\nFrom b\nFrom c\n") == b">From a\n\n>From b\nFrom c\n", "quote_from")
    box, stored = pt.mbox_join([b"a\n\nFrom x", b"", b"b\n\n"])
    check(stored == [b"a\n\n>From x\n", b"", b"b\n\n"], "mbox_join")
    check(pt.mbox_messages(box) == stored and b"".join(pt.mbox_split(box)) == box, "mbox_messages")


def main():
    tap = pt.Tap()
    folder = tempfile.mkdtemp(prefix="postern-")
    try:
        tap.run("the model", model)
        tap.run("a good transcript passes", good, folder)
        for name, old, new in WRONG:
            tap.run("fails: " + name, wrong, folder, old, new)
        for name, old, new in UNREADABLE:
            tap.run("is refused: " + name, unreadable, folder, old, new)
    finally:
        shutil.rmtree(folder)
    return tap.end()


if __name__ == "__main__":
    sys.exit(main())
