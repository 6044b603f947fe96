"""make bench-scale: how postern grows, from 10 to 1,000,000 messages and from 1 to 500 sessions at once.

Each step of the way is measured several times; what counts is the median.  Growth that is worse than linear is a defect, and
the exit status says so.
"""

import json
import os
import statistics
import time

import plot
import report
from machine import memory, say
from measure import LONG_SESSION_SECONDS, Fault, hold_session
from servers import MAILDIR, MBOX

SIZES = (10, 100, 1000, 10000, 100000, 1000000)
SESSIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

# Bytes of a message: a mailbox of a million is to fit on a disk.
BYTES = 600

# A time may grow by this much more than the mailbox before it is called worse than linear; times below the floor are not
# compared, as what they begin with (a login, an fsync) hides how they grow.
TOLERANCE = 1.5
FLOOR_MS = 20

SERVERS = ("postern", "postern-maildir")


def make(bench, kind, count):
    """User n has a maildrop of so many messages."""
    boxes = bench.boxes
    boxes.sizes = {"N": (count, BYTES, "text")}
    bench.boxes.generate(kind, "N", count, BYTES, "text")


def one_size(bench, server, repeat):
    """Every operation on the maildrop of user n."""
    boxes = bench.boxes
    boxes.restore(server, "N", copies=server.kind == MAILDIR)
    found = {}
    for state in ("cold", "warm"):
        boxes.read(server, "n")
        found["open " + state] = bench.session(server, "n", "open", "quit")["open"]
    boxes.deliver(server, "n")
    boxes.read(server, "n")
    found["open new"] = bench.session(server, "n", "open", "quit")["open"]
    got = bench.session(server, "n", "open", "list", "uidl", "pipe:0", "drop")
    found.update(list=got["list"], uidl=got["uidl"], retr=got["pipe"]["ms"])
    if repeat == 0:
        sizes = hold_session(bench, server, "steps", server.port, "n", "open", "hold", "drop")
        found["memory"] = next(sizes)
        sizes.close()
    boxes.read(server, "n")
    found["dele 1, quit"] = bench.session(server, "n", "open", "dele:1", "quit")["quit"]
    boxes.read(server, "n")
    got = bench.session(server, "n", "open", "deleall", "quit")
    found.update({"dele all": got["dele"], "quit after dele all": got["quit"]})
    return found


def sizes(bench, args):
    """{server: {operation: [(messages, median ms)]}}."""
    curves = {}
    for count in SIZES:
        if count > args.max_messages:
            break
        for server in bench.of(*SERVERS):
            say("%d messages, %s" % (count, server.name))
            make(bench, server.kind, count)
            server.select()
            samples = {}
            # The long ones are not what noise disturbs.
            for repeat in range(args.reps if count <= 10000 else min(args.reps, 2)):
                for operation, value in one_size(bench, server, repeat).items():
                    samples.setdefault(operation, []).append(value)
            for operation, values in samples.items():
                curves.setdefault(server.name, {}).setdefault(operation, []).append((count, statistics.median(values)))
            bench.boxes.discard(server.kind, "N", "n")
    return curves


def sessions(bench, args):
    """{server: {what: [(sessions at once, value)]}}: processor time of a login, logins a second, memory of a session."""
    curves = {}
    for server in bench.of(*SERVERS):
        server.select()
        for user in ["s%d" % i for i in range(SESSIONS[-1])]:
            bench.boxes.restore_user(server, "S", user)
        for count in SESSIONS:
            say("%d sessions at once, %s" % (count, server.name))
            per_login, rate = [], []
            for _ in range(args.reps):
                server.group.settle()
                before = server.group.cpu()
                got = bench.client.run("rate", server.port, count, 2000, "s")
                server.group.settle()
                if got["failed"] > 0:
                    raise Fault("%d logins at once: %s" % (count, got["failure"]))
                per_login.append((server.group.cpu() - before) / got["done"] * 1e3)
                rate.append(got["done"] / got["seconds"])
            server.group.rest()
            held = bench.client.held("hold", server.port, count, "s")
            size = memory(server.group.session_pids())
            held.end()
            for what, value in (("ms CPU of a login", statistics.median(per_login)),
                                ("logins a second", statistics.median(rate)), ("kB of a session", size / count)):
                curves.setdefault(server.name, {}).setdefault(what, []).append((count, value))
    return curves


def defects(by_size, by_sessions):
    """What grows worse than linearly, as text."""
    found = []
    for server, operations in by_size.items():
        for operation, points in operations.items():
            for (n1, t1), (n2, t2) in zip(points, points[1:]):
                if operation != "memory" and t1 >= FLOOR_MS and t2 / t1 > n2 / n1 * TOLERANCE:
                    found.append("%s, %s: %s ms with %d messages, %s ms with %d" % (server, operation, plot.number(t1), n1,
                                                                                    plot.number(t2), n2))
    for server, whats in by_sessions.items():
        for what, points in whats.items():
            if what != "logins a second" and points[-1][1] > points[0][1] * TOLERANCE:
                found.append("%s, %s: %s alone, %s with %d at once" % (server, what, plot.number(points[0][1]),
                                                                      plot.number(points[-1][1]), points[-1][0]))
    return found


def print_curves(title, curves):
    """A table for each server."""
    for server, rows in curves.items():
        heads = sorted({x for points in rows.values() for x, _ in points})
        print("\n#### %s, %s\n" % (server, title))
        print("| | %s |" % " | ".join("%d" % x for x in heads))
        print("|---|%s" % ("---:|" * len(heads)))
        for name, points in rows.items():
            values = dict(points)
            print("| %s | %s |" % (name, " | ".join(plot.number(values[x]) if x in values else "" for x in heads)))


def run(bench, args):
    """Measures, draws, judges.  Exit status."""
    start = time.monotonic()
    bench.seconds = LONG_SESSION_SECONDS
    os.chown(bench.machine.on_disk("/var/mail"), 0, bench.boxes.mail_group())
    os.chmod(bench.machine.disk_folder("/var/mail"), 0o2775)
    bench.boxes.sizes = {"S": (100, 8000, "text")}
    for kind in (MBOX, MAILDIR):
        bench.boxes.generate(kind, "S", *bench.boxes.sizes["S"])
    by_sessions = sessions(bench, args)
    by_size = sizes(bench, args)
    found = defects(by_size, by_sessions)
    os.makedirs(args.output, exist_ok=True)
    with open(os.path.join(args.output, "scale.json"), "w", encoding="utf-8") as out:
        json.dump({"facts": report.facts(args, bench.machine.work), "messages": by_size, "sessions": by_sessions,
                   "defects": found}, out, indent=1)
    for server, rows in by_size.items():
        times = {k: v for k, v in rows.items() if k != "memory"}
        plot.curves(os.path.join(args.output, "scale-%s-messages.svg" % server), "%s: milliseconds" % server, "messages", times)
        plot.curves(os.path.join(args.output, "scale-%s-memory.svg" % server), "%s: kB after the login" % server, "messages",
                    {"memory": rows["memory"]})
    for server, rows in by_sessions.items():
        plot.curves(os.path.join(args.output, "scale-%s-sessions.svg" % server), server, "sessions at once", rows)
    print_curves("milliseconds (memory: kB) by messages", by_size)
    print_curves("by sessions at once", by_sessions)
    print("\n" + ("\n".join("DEFECT: worse than linear: " + line for line in found) or "Nothing grows worse than linearly."))
    say("%d s in all" % (time.monotonic() - start))
    return 1 if found else 0
