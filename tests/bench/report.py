"""What came out: a table for people, JSON for programs, and a plot for each group of rows."""

import json
import os
import platform
import subprocess
import sys
import time

import plot
from criteria import Figures, Missing, all_criteria, higher_is_better
from servers import MAILDIR, MBOX, Floor

# Title, and the rows: metric and unit.
ROWS = (
    ("Connections (connect, greeting, QUIT)", (
        ("conn1_per_s", "/s"), ("conn8_per_s", "/s"), ("conn1_cpu_us", "us CPU"), ("conn8_cpu_us", "us CPU"),
        ("conn_kinstr", "k instructions"), ("conn_syscalls", "calls"))),
    ("Logins (USER, PASS, STAT, QUIT on S)", (
        ("login1_per_s", "/s"), ("login8_per_s", "/s"), ("login1_cpu_us", "us CPU"), ("login8_cpu_us", "us CPU"))),
    ("Opening (PASS sent to STAT answered)", tuple(
        ("open%s_%s_ms" % (box, state), "ms")
        for box in ("S", "M", "L", "XL") for state in ("cold", "warm", "new"))),
    ("The same with QUIT, and in processor time", tuple(
        ("open%s_%s_%s" % (box, state, what), "ms" if what == "session_ms" else "ms CPU")
        for what in ("session_ms", "cpu_ms") for box in ("L", "XL") for state in ("cold", "warm", "new"))),
    ("Listing of L", (("listL_ms", "ms"), ("uidlL_ms", "ms"), ("uidlL_first_ms", "ms"))),
    ("Download", (
        ("retrM_each_msg_per_s", "/s"), ("retrM_each_MBps", "MB/s"), ("retrM_pipe_msg_per_s", "/s"), ("retrM_pipe_MBps", "MB/s"),
        ("retrBIG_MBps", "MB/s"), ("retrBIG_session_ms", "ms"), ("retrBIG_cpu_ms", "ms CPU"))),
    ("Deletion", (
        ("exp1L_quit_ms", "ms"), ("exp1L_closed_ms", "ms"), ("exp1L_cpu_ms", "ms CPU"), ("exp1XL_quit_ms", "ms"),
        ("exp1XL_closed_ms", "ms"), ("exp1XL_cpu_ms", "ms CPU"), ("expallL_dele_ms", "ms"), ("expallL_quit_ms", "ms"),
        ("expallL_closed_ms", "ms"), ("expallL_both_ms", "ms"), ("expallL_cpu_ms", "ms CPU"))),
    ("Memory (proportional set size)", (
        ("idle_pss_kB", "kB"), ("memL_pss_kB", "kB"), ("memBIG_login_pss_kB", "kB"), ("memBIG_pss_kB", "kB"),
        ("memBIG_more_kB", "kB"))),
    ("TLS", (
        ("tls_full_cpu_us", "us CPU"), ("tls_full_per_s", "/s"), ("tls_resumed_cpu_us", "us CPU"), ("tls_resumed_per_s", "/s"),
        ("tls_resumed_percent", "%"), ("tlsBIG_MBps", "MB/s"), ("tlsBIG_cpu_ms", "ms CPU"))),
)

LIMITS = (
    ("loopbackBIG_MBps", "BIG through a loopback socket, read and write", "MB/s"),
    ("convertBIG_MBps", "BIG: read, LF to CRLF and dot-stuffing, write", "MB/s"),
    ("convertM_MBps", "M: the same (short lines)", "MB/s"),
    ("scanL_ms", "L mbox: read and count with vector compares", "ms"),
    ("scanXL_ms", "XL mbox: the same", "ms"),
    ("readdirL_ms", "L Maildir: readdir", "ms"),
    ("countL_ms", "L Maildir: open, read, count, close each", "ms"),
    ("moveL_ms", "L mbox: moved down in place by one message, fsync", "ms"),
    ("moveXL_ms", "XL mbox: the same", "ms"),
    ("fsync_ms", "write of 4 KiB and fsync", "ms"),
    ("removeL_ms", "L Maildir: rm of all files", "ms"),
)

# The row's limit, where it has one in the same unit.
ROW_LIMIT = {
    "openL_cold_ms": {MBOX: "scanL_ms", MAILDIR: "countL_ms"},
    "openXL_cold_ms": {MBOX: "scanXL_ms"},
    "retrBIG_MBps": {MBOX: "convertBIG_MBps", MAILDIR: "convertBIG_MBps"},
    "retrM_pipe_MBps": {MBOX: "convertM_MBps"},
    "exp1L_quit_ms": {MBOX: "moveL_ms"},
    "exp1XL_quit_ms": {MBOX: "moveXL_ms"},
    "expallL_quit_ms": {MAILDIR: "removeL_ms"},
}

OURS = {MBOX: "postern", MAILDIR: "postern-maildir"}

# Rows of connections have no mailbox: they stand in the first table only.
CONNECTION_ROWS = 1


def facts(args, work):
    """Where and when, for whoever compares two runs."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        models = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    kind = subprocess.run(["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--target", work], capture_output=True, text=True)
    return {
        "kernel": platform.release(), "processor": models[0] if models else platform.machine(), "processors": os.cpu_count(),
        "file_system": kind.stdout.strip(), "date": time.strftime("%Y-%m-%d %H:%M:%S"), "load_before": os.getloadavg(),
        "sizes": args.sizes, "repetitions": args.reps,
    }


def cell(figures, metric, server, ours):
    """A median, and how many times better ours is."""
    if not figures.has(metric, server):
        return ""
    text = plot.number(figures.median(metric, server))
    if server == ours or not figures.has(metric, ours):
        return text
    ratio = figures.ratio(metric, ours, server)
    if not higher_is_better(metric):
        ratio = 1 / ratio if ratio else float("inf")
    return "%s (%s)" % (text, plot.number(ratio))


def limit_cell(figures, metric, kind):
    """The limit that belongs to a row."""
    name = ROW_LIMIT.get(metric, {}).get(kind)
    return plot.number(figures.median(name, "limit")) if name and figures.has(name, "limit") else ""


def judged(figures, metric, servers):
    """The criteria of a row, as text."""
    found = []
    for criterion in all_criteria():
        if criterion.metric != metric or criterion.server not in servers:
            continue
        prefix = criterion.server + ": " if criterion.server not in OURS.values() else ""
        try:
            _, bound, met = criterion.judge(figures)
            word = "**met**" if met else "**NOT MET**"
            found.append("%s%s = %s: %s" % (prefix, criterion.text, plot.number(bound), word))
        except Missing as what:
            found.append("%s%s: not measured (%s)" % (prefix, criterion.text, what))
    return "; ".join(found)


def columns(figures, found, kind):
    """The servers of a table, those with a figure only."""
    names = [s.name for s in found if s.kind == kind or kind == MBOX and (isinstance(s, Floor) or s.name == "courier")]
    known = {server for metric in figures.samples.values() for server in metric}
    return [n for n in names if n in known]


def table(figures, found, kind):
    """The lines of one table."""
    names = columns(figures, found, kind)
    ours = OURS[kind]
    lines = []
    for index, (title, rows) in enumerate(ROWS):
        if kind == MAILDIR and index < CONNECTION_ROWS:
            continue
        rows = [(m, u) for m, u in rows if any(figures.has(m, n) for n in names)]
        # courier's figures for mailboxes belong to the other table.
        shown = [n for n in names if any(figures.has(m, n) for m, _ in rows)
                 and (kind == MAILDIR or index < CONNECTION_ROWS or n != "courier")]
        if not rows or not shown:
            continue
        lines += ["", "#### %s (%s)" % (title, kind) if index >= CONNECTION_ROWS else "#### " + title, "",
                  "| row | unit | n | %s | limit | accepted when |" % " | ".join(shown),
                  "|---|---|---:|%s---:|---|" % ("---:|" * len(shown))]
        for metric, unit in rows:
            lines.append("| %s | %s | %s | %s | %s | %s |" % (
                metric, unit, counts(figures, metric, shown), " | ".join(cell(figures, metric, n, ours) for n in shown),
                limit_cell(figures, metric, kind), judged(figures, metric, shown)))
    return lines


def counts(figures, metric, names):
    """How many samples: of all alike, or from and to."""
    n = sorted({figures.count(metric, name) for name in names if figures.has(metric, name)})
    return str(n[0]) if len(n) == 1 else "%d-%d" % (n[0], n[-1])


def limits_table(figures):
    """The machine's own."""
    lines = ["", "#### Limits of this machine", "", "| what | unit | n | value |", "|---|---|---:|---:|"]
    for metric, label, unit in LIMITS:
        if figures.has(metric, "limit"):
            lines.append("| %s | %s | %d | %s |" % (label, unit, figures.count(metric, "limit"),
                                                    plot.number(figures.median(metric, "limit"))))
    return lines if len(lines) > 5 else []


def faults_list(results):
    """What servers did wrong."""
    lines = ["- %s, %s: %s" % (server, case, why) for case, servers in results.faults.items() for server, why in servers.items()]
    return ["", "#### Faults", ""] + lines if lines else []


def criteria_json(figures):
    """All of them."""
    found = []
    for criterion in all_criteria():
        entry = {"row": criterion.metric, "server": criterion.server, "accepted": criterion.text}
        try:
            entry["value"], entry["bound"], entry["met"] = criterion.judge(figures)
        except Missing as what:
            entry["missing"] = str(what)
        found.append(entry)
    return found


def plots(figures, found, folder):
    """One for each group of rows and kind."""
    for kind in (MBOX, MAILDIR):
        ours = OURS[kind]
        for index, (title, rows) in enumerate(ROWS):
            names = [n for n in columns(figures, found, kind)
                     if kind == MAILDIR or index < CONNECTION_ROWS or n != "courier"]
            drawn = [plot_row(figures, m, ours, names, kind) for m, _ in rows if figures.has(m, ours)]
            if drawn and not (kind == MAILDIR and index < CONNECTION_ROWS):
                name = "%s-%s.svg" % (kind, title.split(" (")[0].lower().replace(",", "").replace(" ", "-"))
                plot.rows(os.path.join(folder, name), "%s, %s" % (title, kind), drawn)


def plot_row(figures, metric, ours, names, kind):
    """Costs against ours: of a rate, the inverse."""
    mine = figures.median(metric, ours)

    def cost(value):
        if value <= 0 or mine <= 0:
            return 0
        return mine / value if higher_is_better(metric) else value / mine
    costs = {n: cost(figures.median(metric, n)) for n in names if figures.has(metric, n)}
    limit = ROW_LIMIT.get(metric, {}).get(kind)
    if limit and figures.has(limit, "limit"):
        costs["limit"] = cost(figures.median(limit, "limit"))
    bound = None
    for criterion in all_criteria():
        if criterion.metric == metric and criterion.server == ours:
            try:
                one = cost(criterion.judge(figures)[1])
                bound = one if bound is None else min(bound, one)
            except Missing:
                pass
    return metric, costs, bound


def finish(results, found, known, args):
    """Writes everything.  Exit status of the program."""
    figures = Figures(results)
    known["load_after"] = os.getloadavg()
    os.makedirs(args.output, exist_ok=True)
    lines = ["### postern beside other POP3 servers", "",
             ", ".join("%s %s" % (k.replace("_", " "), v) for k, v in known.items()), "",
             "Medians of n samples; in brackets how many times better postern of the same kind of maildrop is (median of the "
             "ratios of each repetition; below 1: worse).  dovecot is resident: it needs no exec for a connection, and its "
             "fast form, with login processes that serve many, is out of reach by kind for a server that is started for each."]
    lines += table(figures, found, MBOX) + table(figures, found, MAILDIR) + limits_table(figures) + faults_list(results)
    with open(os.path.join(args.output, "table.md"), "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")
    with open(os.path.join(args.output, "bench.json"), "w", encoding="utf-8") as out:
        json.dump({"facts": known, "samples": results.samples, "faults": results.faults, "criteria": criteria_json(figures)},
                  out, indent=1)
    plots(figures, found, args.output)
    print("\n".join(lines), file=sys.stdout if args.mode == "table" else sys.stderr)
    return 0
