"""make bench-smoke: does the benchmark work, are the answers right, and has postern grown?  No time is judged.

Prints TAP, so that a test driver can read it.  Exit status 0: nothing failed.
"""

import json
import os

import instructions
from machine import Trouble

# Enough to try each kind of measurement on each kind of server.
SERVERS = ("postern", "postern-stays", "postern-users", "postern-shadow", "postern-maildir", "popa3d", "popa3d-nodelay",
           "dovecot", "dovecot-maildir", "courier", "postern-tls", "dovecot-tls", "stunnel", "copy-tls", "floor", "floor-static")


class Tap:
    """Numbered results on standard output."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def ok(self, good, name, comment=""):
        """One check."""
        self.count += 1
        self.failed += not good
        print("%s %d - %s" % ("ok" if good else "not ok", self.count, name), flush=True)
        self.say(comment)

    def skip(self, name, why):
        """One that cannot be made here."""
        self.count += 1
        print("ok %d - %s # SKIP %s" % (self.count, name, why), flush=True)

    def say(self, text):
        """A comment."""
        for line in text.splitlines():
            print("# " + line, flush=True)

    def end(self):
        """The plan, and the program's exit status."""
        print("1..%d" % self.count, flush=True)
        return 1 if self.failed else 0


def note_checks(results, found, missing, path):
    """The inner half's part: every case of every server, for the outer half to print."""
    checks = []
    for server in found:
        why = results.faults.get("start", {}).get(server.name)
        checks.append([why is None, "%s: starts" % server.name, why or ""])
    for case, name in sorted(results.tried):
        why = results.faults.get(case, {}).get(name)
        checks.append([why is None, "%s: %s" % (name, case), why or ""])
    checks += [[None, package, why] for package, why in missing.items()]
    with open(path, "w", encoding="utf-8") as out:
        json.dump(checks, out)


def run(args, measure_in_copy):
    """measure_in_copy(): runs the inner half and returns (its exit status, the checks that it noted)."""
    tap = Tap()
    try:
        instructions.judge(args, tap)
    except Trouble as why:
        tap.ok(False, "instruction counts", str(why))
    if os.geteuid() != 0:
        tap.skip("servers side by side", "not root")
        return tap.end()
    try:
        status, checks = measure_in_copy()
        for good, name, comment in checks:
            if good is None:
                tap.skip(name, comment)
            else:
                tap.ok(good, name, comment)
        tap.ok(status == 0 and checks, "servers side by side", "" if status == 0 else "ended with status %d" % status)
    except Trouble as why:
        tap.ok(False, "servers side by side", str(why))
    return tap.end()
