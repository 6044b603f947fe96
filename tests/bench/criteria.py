"""What the table must show.  Each criterion compares one row of a server of ours with a peer's or a limit, in the same run."""

import statistics

PEERS = {
    "mbox": ("popa3d", "popa3d-nodelay", "solid", "solid-nodelay", "mailutils", "mailutils-nodelay", "dovecot"),
    "maildir": ("courier", "courier-nodelay", "dovecot-maildir"),
}

# Started for each connection; a resident daemon such as Dovecot's is out of reach by kind.
PER_CONNECTION = ("popa3d", "solid", "mailutils", "courier")


class Missing(Exception):
    """A figure that a criterion needs was not measured."""


def higher_is_better(metric):
    """Rates are; times, sizes and counts are not."""
    return metric.endswith(("_per_s", "_MBps"))


class Figures:
    """The samples, asked in ratios."""

    def __init__(self, results):
        self.samples = results.samples
        self.wrong = results.wrong

    def of(self, metric, server):
        """{repetition: value}."""
        found = self.samples.get(metric, {}).get(server)
        if not found:
            raise Missing("%s of %s" % (metric, server))
        return found

    def median(self, metric, server):
        """Of one server's samples."""
        return statistics.median(self.of(metric, server).values())

    def count(self, metric, server):
        """How many samples."""
        return len(self.samples.get(metric, {}).get(server, ()))

    def has(self, metric, server):
        """Whether it was measured."""
        return self.count(metric, server) > 0

    def combined(self, function, *asked):
        """The median of a function of the samples that belong to the same repetition."""
        columns = [self.of(metric, server) for metric, server in asked]
        both = set(columns[0]).intersection(*columns[1:])
        if not both:
            raise Missing(" beside ".join("%s of %s" % a for a in asked))
        return statistics.median(function(*(c[r] for c in columns)) for r in both)

    def ratio(self, metric, ours, peer, other=None):
        """The median of paired ratios, ours to the peer's."""
        return self.combined(lambda a, b: a / b if b else float("inf"), (metric, ours), (other or metric, peer))

    def best(self, metric, servers):
        """The best of these servers that gave right answers."""
        known = [s for s in servers if self.has(metric, s) and s not in self.wrong]
        if not known:
            raise Missing("%s of any peer" % metric)
        choose = max if higher_is_better(metric) else min
        return choose(known, key=lambda s: self.median(metric, s))


class Criterion:
    """
    metric and server: the row and column that it judges.  bound: a function of the figures that returns the accepted
    value, in the metric's unit, paired by ratios where it is a multiple of another server's figure.
    """

    def __init__(self, metric, server, text, bound, strict=False):
        self.metric = metric
        self.server = server
        self.text = text
        self.bound = bound
        self.strict = strict		# to be equal is not enough

    def judge(self, figures):
        """(our value, the accepted one, met or not); Missing."""
        value = figures.median(self.metric, self.server)
        bound = self.bound(figures)
        if higher_is_better(self.metric):
            met = value > bound if self.strict else value >= bound
        else:
            met = value < bound if self.strict else value <= bound
        return value, bound, met


def times(factor, metric, ours, peer, other=None):
    """factor times the peer's figure, by the paired ratio."""
    def bound(figures):
        return figures.median(metric, ours) / figures.ratio(metric, ours, peer, other) * factor
    return bound


def times_best(factor, metric, ours, servers):
    """factor times the best of these."""
    def bound(figures):
        return times(factor, metric, ours, figures.best(metric, servers))(figures)
    return bound


def constant(value):
    """A fixed one."""
    return lambda figures: value


def scan_and_login(box, ours):
    """One and a half passes over the mailbox, and the login on S."""
    return lambda figures: figures.combined(lambda scan, login: 1.5 * scan + login,
                                            ("scan%s_ms" % box, "limit"), ("openS_warm_ms", ours))


def connection_criteria():
    """Connect, greeting, QUIT."""
    return [
        Criterion("conn1_cpu_us", "postern", "1.5 x an empty dynamic program", times(1.5, "conn1_cpu_us", "postern", "floor")),
        Criterion("conn_syscalls", "postern", "below popa3d", times(1, "conn_syscalls", "postern", "popa3d"), True),
        Criterion("conn_kinstr", "postern", "below popa3d", times(1, "conn_kinstr", "postern", "popa3d"), True),
        Criterion("conn8_per_s", "postern", "more than any server started per connection",
                  times_best(1, "conn8_per_s", "postern", PER_CONNECTION), True),
    ]


def login_criteria():
    """USER, PASS, STAT, QUIT on S."""
    found = []
    for at_once in (1, 8):
        cpu, rate = "login%d_cpu_us" % at_once, "login%d_per_s" % at_once
        for ours in ("postern", "postern-stays"):
            found.append(Criterion(cpu, ours, "at most popa3d's, same PAM stack", times(1, cpu, ours, "popa3d")))
            found.append(Criterion(rate, ours, "more than popa3d, same PAM stack", times(1, rate, ours, "popa3d"), True))
        for ours in ("postern-users", "postern-shadow"):
            found.append(Criterion(cpu, ours, "0.6 x popa3d with PAM", times(0.6, cpu, ours, "popa3d")))
    return found


def opening_criteria():
    """PASS to STAT."""
    found = []
    for box in ("XL", "L"):
        found.append(Criterion("open%s_cold_ms" % box, "postern", "1.5 x one vector pass + login on S",
                               scan_and_login(box, "postern")))
    for state in ("warm", "new"):
        found.append(Criterion("openXL_%s_ms" % state, "postern", "login on S + 30 %",
                               times(1.3, "openXL_%s_ms" % state, "postern", "postern", "openS_warm_ms")))
        found.append(Criterion("openL_%s_ms" % state, "postern", "login on S + 10 ms",
                               lambda figures: figures.median("openS_warm_ms", "postern") + 10))
        metric = "openL_%s_ms" % state
        found.append(Criterion(metric, "postern-maildir", "a third of Dovecot's",
                               times(1 / 3, metric, "postern-maildir", "dovecot-maildir")))
    found.append(Criterion("openL_cold_ms", "postern-maildir", "1.3 x open, read and count of every file",
                           times(1.3, "openL_cold_ms", "postern-maildir", "limit", "countL_ms")))
    return found


def transfer_criteria():
    """LIST, UIDL, RETR."""
    found = []
    for ours, kind in (("postern", "mbox"), ("postern-maildir", "maildir")):
        for metric in ("listL_ms", "uidlL_ms"):
            found.append(Criterion(metric, ours, "half of the best peer's", times_best(0.5, metric, ours, PEERS[kind])))
        for metric, factor in (("retrM_each_msg_per_s", 1.5), ("retrM_pipe_msg_per_s", 2.5)):
            found.append(Criterion(metric, ours, "%g x the best peer" % factor, times_best(factor, metric, ours, PEERS[kind])))
        found.append(Criterion("retrBIG_MBps", ours, "80 % of read, convert, write",
                               times(0.8, "retrBIG_MBps", ours, "limit", "convertBIG_MBps")))
    return found


def deletion_criteria():
    """DELE and QUIT."""
    found = []
    for box in ("XL", "L"):
        metric = "exp1%s_quit_ms" % box
        found.append(Criterion(metric, "postern", "1.2 x popa3d's, which is not crash-safe", times(1.2, metric, "postern", "popa3d")))
    found.append(Criterion("exp1XL_quit_ms", "postern", "2 x the plain move in place + fsync",
                           times(2, "exp1XL_quit_ms", "postern", "limit", "moveXL_ms")))
    found.append(Criterion("expallL_quit_ms", "postern", "a quarter of popa3d's", times(0.25, "expallL_quit_ms", "postern", "popa3d")))
    found.append(Criterion("expallL_both_ms", "postern", "a quarter of popa3d's with TCP_NODELAY",
                           times(0.25, "expallL_both_ms", "postern", "popa3d-nodelay")))
    for ours, peer in (("postern", "dovecot"), ("postern-maildir", "dovecot-maildir")):
        found.append(Criterion("expallL_dele_ms", ours, "0.6 x Dovecot's", times(0.6, "expallL_dele_ms", ours, peer)))
    found.append(Criterion("expallL_quit_ms", "postern-maildir", "rm of the same files",
                           times(1, "expallL_quit_ms", "postern-maildir", "limit", "removeL_ms")))
    return found


def memory_criteria():
    """Proportional set size."""
    found = [Criterion("idle_pss_kB", "postern", "180 kB", constant(180))]
    for ours in ("postern", "postern-maildir"):
        found.append(Criterion("memL_pss_kB", ours, "7 MB", constant(7000)))
        found.append(Criterion("memBIG_more_kB", ours, "600 kB more than after the login", constant(600)))
    return found


def tls_criteria():
    """Connections, and a message of a gigabyte."""
    found = [Criterion("tls_%s_cpu_us" % how, "postern-tls", "less than " + peer,
                       times(1, "tls_%s_cpu_us" % how, "postern-tls", peer), True)
             for how in ("full", "resumed") for peer in ("dovecot-tls", "stunnel")]
    found.append(Criterion("tlsBIG_MBps", "postern-tls", "80 % of plain copying over TLS",
                           times(0.8, "tlsBIG_MBps", "postern-tls", "copy-tls")))
    for peer in ("dovecot-tls", "stunnel"):
        found.append(Criterion("tlsBIG_MBps", "postern-tls", "more than " + peer,
                               times(1, "tlsBIG_MBps", "postern-tls", peer), True))
    return found


def all_criteria():
    """In the table's order."""
    return (connection_criteria() + login_criteria() + opening_criteria() + transfer_criteria() + deletion_criteria()
            + memory_criteria() + tls_criteria())
