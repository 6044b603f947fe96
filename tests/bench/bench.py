#!/usr/bin/env python3
"""make bench: postern beside every POP3 server that Debian has, and beside what the machine can do.

Installs the build at hand and the peers into a copy of the machine (machine.py), makes the mailboxes, measures (measure.py)
and writes what came out: a table, the criteria, JSON and plots (report.py).  Needs root, and the network until the packages
are in its cache.  Progress goes to standard error, the table to standard output.

	bench.py --programs FOLDER --build FOLDER --source FOLDER --sbindir D --pkglibexecdir D --sysconfdir D
		--localstatedir D --service-user NAME [--only GROUP]... [--reps N] [--sizes full|medium|small] [--output FOLDER]
		[--work FOLDER] [--servers NAME,NAME...] [--max-messages N] [--mode table|smoke|scale|instructions]

The Makefile gives the first eight; the others can be given in BENCH_OPTIONS.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time

import instructions
import machine
import mailboxes
import measure
import report
import scale
import servers
import smoke
from machine import Trouble, say

# Users beyond those of the table, for many sessions at once.
SCALE_USERS = 500


def options():
    """The command line."""
    parser = argparse.ArgumentParser(description="POP3 servers side by side")
    for name in ("programs", "build", "source", "sbindir", "pkglibexecdir", "sysconfdir", "localstatedir", "service-user"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--only", action="append", choices=list(measure.GROUPS), metavar="GROUP",
                        help="one group of rows: " + ", ".join(measure.GROUPS))
    parser.add_argument("--reps", type=int, default=5, help="how often everything is measured (5)")
    parser.add_argument("--sizes", choices=list(mailboxes.SIZES), default="full")
    parser.add_argument("--output", default="bench-results", help="folder for JSON and plots")
    parser.add_argument("--work", default="/var/tmp", help="folder for the mailboxes, on a real disk; about 12 GB")
    parser.add_argument("--servers", help="only these, with commas between")
    parser.add_argument("--mode", choices=("table", "smoke", "scale", "instructions"), default="table")
    parser.add_argument("--max-messages", type=int, default=1000000, help="with scale: the largest mailbox")
    parser.add_argument("--inside", nargs=2, metavar=("WORK", "CGROUP"), help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen_servers(args, service_ids, missing):
    """Those asked for, less those whose package could not be had."""
    wanted = args.servers.split(",") if args.servers else None
    found = []
    for server in servers.all_servers(service_ids, args.programs):
        if wanted is not None and server.name not in wanted:
            continue
        if server.package in missing or (not server.resident and "ucspi-tcp" in missing):
            say("%s: %s" % (server.name, missing.get(server.package) or missing["ucspi-tcp"]))
            continue
        found.append(server)
    return found


def set_up(args, work, cgroup):
    """The copy of the machine with users, mailboxes and running servers."""
    box = machine.Machine(work, cgroup)
    box.build()
    with open(work + "/packages.json", encoding="utf-8") as f:
        packages = json.load(f)
    for folder in packages["folders"].values():
        box.unpack(folder)
    paths = {name: getattr(args, name) for name in ("build", "source", "sbindir", "pkglibexecdir", "sysconfdir", "localstatedir")}
    box.show(args.programs)
    accounts = servers.Accounts(box)
    accounts.add_system(args.service_user)
    for folder in ("/home", paths["localstatedir"] + "/lib/postern"):
        box.on_disk(folder)
    os.chmod(box.disk_folder(paths["localstatedir"] + "/lib/postern"), 0o711)
    servers.install_postern(box, paths)
    names = [user for name in mailboxes.FULL for user in mailboxes.users_of(name)]
    if args.mode == "scale":
        names += ["n"] + ["s%d" % i for i in range(mailboxes.S_USERS, SCALE_USERS)]
    box.write(paths["sysconfdir"] + "/postern/users", accounts.add_readers(names), 0o600)
    box.run(["ldconfig"])
    box.run(["install", "-d", "-o", "courier", "-g", "courier", "-m", "750", "/run/courier/authdaemon"])
    boxes = mailboxes.Mailboxes(box, args.programs, mailboxes.SIZES[args.sizes], accounts,
                                0.0 if args.mode == "smoke" else mailboxes.SETTLED_SECONDS)
    found = chosen_servers(args, servers.ids_of(box, args.service_user), packages["missing"])
    return box, boxes, found, packages["missing"]


def start_servers(box, found, args, results):
    """All of them; one that does not start is a fault, and the others go on."""
    for number, server in enumerate(found):
        say("starting %s" % server.name)
        try:
            server.start(box, servers.FIRST_PORT + number, args.programs + "/nodelay.so")
        except Trouble as why:
            server.ready = False
            results.fault("start", server.name, str(why))


def run_groups(bench, args):
    """Repetition by repetition."""
    groups = args.only or list(measure.GROUPS)
    start = time.monotonic()
    for repeat in range(args.reps):
        for name in groups:
            say("repetition %d of %d, %s (%d s so far)" % (repeat + 1, args.reps, name, time.monotonic() - start))
            measure.GROUPS[name](bench, repeat)


def inside(args):
    """The inner half: as the first process of the name space, then as its child."""
    machine.be_init()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    work, cgroup = args.inside
    box, boxes, found, missing = set_up(args, work, cgroup)
    results = measure.Results()
    start_servers(box, found, args, results)
    bench = measure.Bench(box, boxes, found, measure.Client(args.programs), args.programs, results, args.mode == "smoke")
    facts = report.facts(args, work)
    if args.mode == "scale":
        status = scale.run(bench, args)
    else:
        boxes.make({s.kind for s in found if s.kind} | {servers.MBOX, servers.MAILDIR})
        run_groups(bench, args)
        status = report.finish(results, found, facts, args)
        if args.mode == "smoke":
            smoke.note_checks(results, found, missing, work + "/checks.json")
    box.stop()
    return status


def outside(args):
    """The outer half: the inner one's exit status, and the checks that it noted (smoke)."""
    if os.geteuid() != 0:
        raise Trouble("needs root, to install servers into a copy of this machine")
    for tool in ("unshare", "dpkg-deb", "apt-get", "setpriv"):
        if shutil.which(tool) is None:
            raise Trouble("%s is missing" % tool)
    work = os.path.join(os.path.abspath(args.work), "postern-bench.%d" % os.getpid())
    folders, missing = machine.fetch_packages()
    if missing and args.mode == "table" and not args.servers:
        raise Trouble("; ".join(missing.values()))
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: sys.exit(1))
    with machine.Outside(work) as out:
        with open(work + "/packages.json", "w", encoding="utf-8") as f:
            json.dump({"folders": folders, "missing": missing}, f)
        status = out.run_inside([os.path.abspath(__file__), *sys.argv[1:], "--inside", work, out.cgroup])
        if status != 0:
            show_logs(work)
        checks = []
        if os.path.exists(work + "/checks.json"):
            with open(work + "/checks.json", encoding="utf-8") as f:
                checks = json.load(f)
        return status, checks


def show_logs(work):
    """What servers said, for whoever has to find out."""
    for name in sorted(os.listdir(work)):
        path = os.path.join(work, name)
        if name.endswith(".log") and os.path.getsize(path) > 0:
            with open(path, encoding="utf-8", errors="replace") as log:
                say("--- %s\n%s" % (name, log.read()[-2000:]))


def main():
    """Exit status 0: done.  1: something could not be measured at all, or (smoke) was wrong."""
    args = options()
    args.programs = os.path.abspath(args.programs)
    args.output = os.path.abspath(args.output)
    if args.mode == "smoke":
        args.sizes, args.reps, args.servers = "small", 1, ",".join(smoke.SERVERS)
    try:
        if args.inside:
            return inside(args)
        if args.mode == "smoke":
            return smoke.run(args, lambda: outside(args))
        if args.mode == "instructions":
            instructions.store(args)
            return 0
        return outside(args)[0]
    except Trouble as why:
        say("bench: %s" % why)
        return 1


if __name__ == "__main__":
    sys.exit(main())
