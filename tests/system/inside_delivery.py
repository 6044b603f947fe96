"""The delivery tests: all delivery agents and mutt on mailboxes from which POP3 sessions fetch and delete, and several
sessions on one maildrop, while processes are killed.  Runs as root in the copy of the machine (see delivery.sh).

Longer runs, by environment:
POSTERN_DELIVERY_SECONDS    how long mail is delivered; the second test takes half of it (default 60)
POSTERN_DELIVERY_MESSAGES   how many messages each agent delivers in this time, if it can (default 800)
POSTERN_DELIVERY_CLIENTS    how many POP3 sessions there are at a time (default 10)
POSTERN_DELIVERY_SEED       for the same messages and choices again; what runs at the same time is never the same again
POSTERN_DELIVERY_EVIDENCE   a folder for the ledgers, the log and the mailboxes, if something failed
"""

import collections
import fcntl
import grp
import multiprocessing
import os
import pwd
import random
import re
import shutil
import socket
import sys
import time
import traceback

import delivery_account
import delivery_agents
import delivery_contest
import delivery_mail
import delivery_pop
from box import Tap, all_gone, processes, sh, write
from delivery_pop import STATE

HERE = "/postern"
LEDGERS = HERE + "/ledgers"
EVIDENCE = HERE + "/evidence"
LOG = HERE + "/log"
USERS_FILE = "/etc/postern-users"
SECRET = "$1$postern$veiqegGviTJ/WwaXyBmWK1"  # delivery_pop.PASSWORD; cheap, for there are many logins
FIRST = 120

# Six messages of this size, which no client deletes, lie in each mbox whose updates are killed: moving them takes some
# milliseconds, else hardly any kill would come in the middle of it.
BALLAST = 2 << 20

# What may stay in the state folders and in Maildirs between two sessions.
KEPT = {"index", "session.lock", "last", ".postern-index", ".postern-lock"}


class User:
    """An account and how it is treated.  struck: sessions are killed; mutt purges; rewriters: dovecot-lda moves what is there;
    quiet: no POP3 session ever, which tells whether the agents lose mail by themselves."""

    def __init__(self, name, kind, struck=False, mutt=False, rewriters=False, quiet=False, first=FIRST):
        self.name = name
        self.kind = kind
        self.struck = struck
        self.mutt = mutt
        self.rewriters = rewriters
        self.quiet = quiet
        self.first = first
        self.home = "/home/" + name
        self.uid = self.gid = 0
        self.inode = 0
        self.purged = set()     # in mutt's process: what it was told to purge


# Where a helper is killed while it moves messages, an mbox has one of them twice until the next login: programs that only
# append do no harm then, but those that rewrite the mbox would (postern-maildrop(7)).  So it is the one or the other.
DELIVERED = [
    User("ada", "mbox", struck=True),
    User("bea", "mbox", struck=True),
    User("bob", "mbox", struck=True),
    User("cyd", "mbox", mutt=True, rewriters=True),
    User("dot", "mbox", mutt=True, rewriters=True),
    User("eve", "mbox", mutt=True, rewriters=True, quiet=True),
    User("fay", "maildir", struck=True),
    User("gil", "maildir", mutt=True, rewriters=True),
    User("hal", "maildir", mutt=True, rewriters=True, quiet=True),
]
CONTESTED = [User(name, "mbox", struck=True, first=300) for name in ("ivy", "jon", "kim", "liz")]
CONTESTED += [User(name, "maildir", struck=True, first=300) for name in ("max", "nan")]


def environment():
    """What delivery.sh was given."""
    with open(HERE + "/environment") as f:
        given = dict(line.rstrip("\n").split("=", 1) for line in f)
    return {"seconds": int(given.get("POSTERN_DELIVERY_SECONDS", 60)),
            "messages": int(given.get("POSTERN_DELIVERY_MESSAGES", 800)),
            "clients": int(given.get("POSTERN_DELIVERY_CLIENTS", 10)),
            "seed": given.get("POSTERN_DELIVERY_SEED", str(time.time_ns()))}


def folders():
    with open(HERE + "/folders") as f:
        return dict(line.rstrip("\n").split("=", 1) for line in f)


# --- setting up ---

def collect_log(ready):
    """Takes the place of syslogd; each line with the time that the ledgers go by."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.path.lexists("/dev/log"):
        os.unlink("/dev/log")
    log.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    ready.set()
    with open(LOG, "wb", buffering=0) as f:
        while True:
            line = log.recv(65536).rstrip(b"\0\n")
            f.write(b"%.3f %s\n" % (time.monotonic(), line))


def set_up_server(where):
    """The rights that `make install` gives as root, and the settings."""
    service = where["service_user"]
    delivery_agents.make_account(service)
    shutil.chown(where["helper"], "root", service)
    os.chmod(where["helper"], 0o4710)
    os.makedirs(STATE, mode=0o711)
    os.chmod(STATE, 0o711)
    write(where["settings"], "authentication = users\nusers-file = %s\nstate-directory = %s\nminimum-uid = 1000\n"
          "mail-location = maildir:~/Maildir mbox:/var/mail/%%u\ncleartext-login = always\n" % (USERS_FILE, STATE))


def set_up_user(user, seed):
    sh(["useradd", "--create-home", "--user-group", "--shell", "/bin/sh", user.name])
    account = pwd.getpwnam(user.name)
    user.uid, user.gid = account.pw_uid, account.pw_gid
    dice = random.Random("%s %s" % (seed, user.name))
    messages, rows = [], []
    for n in range(user.first):
        serial = "first-%s-%04d" % (user.name, n)
        ballast = BALLAST if user.struck and user.kind == "mbox" and n % (user.first // 6) == 0 else 0
        purger = ballast > 0 or user.mutt and dice.random() < 0.1
        messages.append(delivery_mail.make(serial, user.name, purger, dice, ballast))
        rows.append(vars(delivery_agents.Sent("first", user.name, serial, purger, True, "")))
    delivery_agents.write_ledger("%s/sent-first-%s" % (LEDGERS, user.name), rows)
    (fill_mbox if user.kind == "mbox" else fill_maildir)(user, messages)
    delivery_agents.set_up_user(user)


def fill_mbox(user, messages):
    """A mailbox in the spool with Debian's rights."""
    path = delivery_agents.mailbox_of(user)
    quoted = (delivery_mail.quote(message) for message in messages)
    write(path, b"".join(b"From mary@example.net Fri Nov 21 09:55:06 1997\n" + q + b"\n" for q in quoted), 0o660)
    os.chown(path, user.uid, grp.getgrnam("mail").gr_gid)
    os.chmod(path, 0o660)
    user.inode = os.stat(path).st_ino


def fill_maildir(user, messages):
    path = delivery_agents.mailbox_of(user)
    for folder in ("", "/tmp", "/cur", "/new"):
        os.mkdir(path + folder, 0o700)
        os.chown(path + folder, user.uid, user.gid)
    for n, message in enumerate(messages):
        name = "%s/new/%d.M%dP1.first" % (path, 880000000 + n, n)
        write(name, message, 0o600)
        os.chown(name, user.uid, user.gid)


def set_up(where, seed):
    os.mkdir(LEDGERS)
    ready = multiprocessing.Event()
    multiprocessing.Process(target=collect_log, args=(ready,), daemon=True).start()
    ready.wait(10)
    set_up_server(where)
    delivery_agents.set_up()
    lines = []
    for user in DELIVERED + CONTESTED:
        set_up_user(user, seed)
        lines.append("%s:%s:%d:%d::%s::\n" % (user.name, SECRET, user.uid, user.gid, user.home))
    write(USERS_FILE, "".join(lines), 0o600)


# --- the first test: delivery while sessions delete ---

def fetch_until(server, users, stopped, seed, path):
    """One client after the other, until told to stop."""
    dice = random.Random(seed)
    visits = []
    while not stopped.is_set():
        user = dice.choice(users)
        visit = delivery_pop.struck_visit if user.struck and dice.random() < 0.5 else delivery_pop.visit
        visits.append(visit(server, user, dice))
    delivery_agents.write_ledger(path, [v.row() for v in visits])


def start(target, *args):
    process = multiprocessing.Process(target=target, args=args)
    process.start()
    return process


def start_deliveries(users, agents, count, seconds, seed, name):
    return [start(delivery_agents.Deliveries(agent, users, count, seconds, seed).run,
                  "%s/sent-%s-%s" % (LEDGERS, name, agent.name)) for agent in agents]


def deliver_and_fetch(tap, server, given):
    """Returns when all that was taken is delivered, and no session runs any more."""
    stopped = multiprocessing.Event()
    fetched = [u for u in DELIVERED if not u.quiet]
    clients = [start(fetch_until, server, fetched, stopped, "%s %d" % (given["seed"], n), "%s/visits-%d" % (LEDGERS, n))
               for n in range(given["clients"])]
    clients.append(start(delivery_agents.purge_until, [u for u in DELIVERED if u.mutt], stopped, LEDGERS + "/mutt"))
    for process in start_deliveries(DELIVERED, delivery_agents.AGENTS, given["messages"], given["seconds"], given["seed"], "1"):
        process.join()
    left = delivery_agents.empty_queues(60)
    stopped.set()
    for process in clients:
        process.join()
    dice = random.Random(given["seed"])
    last = [delivery_pop.look_after(server, user, dice) for user in fetched]
    delivery_agents.write_ledger(LEDGERS + "/visits-last", [v.row() for v in last])
    check_queues(tap, left, "mailboxes")
    tap.equal([p.exitcode for p in clients], [0] * len(clients), "the clients and mutt's loop come to their end")


def check_queues(tap, left, what):
    tap.ok(left == 0, what + ": exim and postfix have delivered all that they had taken",
           "%d messages are still queued; those are counted as lost below, and are not\n%s" % (
               left, delivery_account.tell(delivery_agents.reasons())))


def tell_counts(tap, sent, visits):
    """What was done; checks that all of it was really tried."""
    taken = collections.Counter(s["agent"] for s in sent if s["taken"])
    refused = collections.Counter(s["agent"] for s in sent if not s["taken"])
    entered = [v for v in visits if v["entered"] is not None]
    killed = killed_in(visits)
    there = taken.pop("first")
    tap.say("messages delivered: %d (%s), beside %d that were there" % (sum(taken.values()), counts(taken), there))
    if refused:
        tap.say("refused by agents, so not counted: " + counts(refused))
    tap.say("POP3 sessions: %d, %d let in; they ended: %s" % (len(visits), len(entered), counts(collections.Counter(
        v["end"] for v in visits))))
    tap.say("messages removed by an acknowledged QUIT: %d; by one without an answer: at most %d" % (
        sum(len(v["deleted"]) for v in visits if v["acknowledged"]),
        sum(len(v["deleted"]) for v in visits if v["asked"] and not v["acknowledged"])))
    tap.say("processes killed: %d (%s)" % (sum(killed.values()), counts(killed)))
    return taken, entered, killed


def killed_in(visits):
    return collections.Counter("%s at %s" % tuple(v["killed"]) for v in visits if v["killed"])


def counts(counter):
    return ", ".join("%d %s" % (n, key) for key, n in sorted(counter.items())) or "none"


def check_books(tap, users, sent, visits, what):
    """The heart of it, one check for each promise; without sessions there are fewer."""
    books = [delivery_account.settle(user, sent, visits) for user in users]
    promises = [("lost", "no message is lost"), ("twice", "none is there or removed twice"),
                ("strange", "all in the mailboxes are byte for byte what was sent")]
    if visits:
        promises += [("came_back", "none comes back after it was removed"), ("new_ids", "unique-ids stay what they were"),
                     ("problems", "every answer is right")]
    for promise, kept in promises:
        found = delivery_account.gather(books, promise)
        tap.ok(not found, what + ": " + kept, delivery_account.tell(found))
    tap.say("%s: %s" % (what, ", ".join("%d %s" % (sum(b.count(f) for b in books), name) for name, f in FATES)))


FATES = [
    ("sent", lambda f: f.sent),
    ("removed by clients", lambda f: f.gone),
    ("perhaps removed by clients", lambda f: f.maybe and not f.gone and not f.stays),
    ("still there", lambda f: f.stays),
    ("copied and purged by mutt", lambda f: f.saved),
]


def check_delivery(tap, server, given):
    deliver_and_fetch(tap, server, given)
    sent = delivery_agents.read_ledgers(LEDGERS + "/sent-1-*") + delivery_agents.read_ledgers(LEDGERS + "/sent-first-*")
    visits = delivery_agents.read_ledgers(LEDGERS + "/visits-*")
    taken, entered, killed = tell_counts(tap, sent, visits)
    tap.ok(all(taken[a.name] for a in delivery_agents.AGENTS), "all agents delivered")
    tap.ok(entered and killed, "sessions were let in, and some were killed")
    mutt = delivery_agents.read_ledgers(LEDGERS + "/mutt")
    ended = sum(m["ended"] for m in mutt)
    tap.ok(ended, "mutt purged: %d times; stopped because it waited too long for a lock: %d times" % (ended, len(mutt) - ended))
    check_books(tap, [u for u in DELIVERED if u.quiet], sent, [], "mailboxes without POP3")
    for kind in ("mbox", "maildir"):
        check_books(tap, [u for u in DELIVERED if u.kind == kind and not u.quiet], sent, visits, kind)


# --- the second test: several sessions on one maildrop ---

def check_contests(tap, server, given):
    seconds = given["seconds"] / 2
    agents = [a for a in delivery_agents.AGENTS if not a.rewrites]
    deliveries = start_deliveries(CONTESTED, agents, given["messages"] / 8, seconds, given["seed"], "2")
    players = [start(delivery_contest.contest_until, server, user, (2, 4, 8), seconds, given["seed"],
                     "%s/contest-%s" % (LEDGERS, user.name), "%s/rounds-%s" % (LEDGERS, user.name)) for user in CONTESTED]
    for process in deliveries:
        process.join()
    left = delivery_agents.empty_queues(60)
    for process in players:
        process.join()
    check_queues(tap, left, "contests")
    tap.equal([p.exitcode for p in players], [0] * len(players), "contests: the players come to their end")
    rounds = delivery_agents.read_ledgers(LEDGERS + "/rounds-*")
    check_rounds(tap, rounds)
    sent = delivery_agents.read_ledgers(LEDGERS + "/sent-2-*") + delivery_agents.read_ledgers(LEDGERS + "/sent-first-*")
    visits = delivery_agents.read_ledgers(LEDGERS + "/contest-*")
    killed = killed_in(visits)
    tap.say("contests: %d sessions in all, %d processes killed (%s)" % (len(visits), sum(killed.values()), counts(killed)))
    check_books(tap, CONTESTED, sent, visits, "contests")


def check_rounds(tap, rounds):
    for number in (2, 4, 8):
        these = [r for r in rounds if r["number"] == number]
        found = ["%s, %s killed at %s: %s" % (r["user"], r["role"], r["stage"], p) for r in these for p in r["problems"]]
        what = "%d sessions at once: one has the maildrop, the others [IN-USE], and then it is free" % number
        tap.ok(these and not found, what, delivery_account.tell(found))
    killed = collections.Counter("%s at %s" % (r["role"], r["stage"]) for r in rounds if r["killed"])
    tap.say("contests: %s" % counts(collections.Counter("rounds of %d" % r["number"] for r in rounds)))
    tap.say("contests: %d rounds, in which %d processes were killed (%s)" % (len(rounds), sum(killed.values()), counts(killed)))
    waited = [r["waited"] for r in rounds if r["waited"] is not None]
    tap.say("contests: the next session was let in after %.3f s at most" % max(waited, default=0))
    tap.ok(killed, "contests: processes were killed")


# --- what is left ---

def held_locks():
    """The files that somebody holds a lock on: mailboxes, and postern's own."""
    held = []
    for path in ["/var/mail/" + name for name in os.listdir("/var/mail")] + own_files():
        with open(path, "rb+") as f:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path)
    return held


def own_files():
    """What postern keeps: its state, and its files in Maildirs."""
    tops = [u.home + "/Maildir/" for u in DELIVERED + CONTESTED if u.kind == "maildir"]
    return ([os.path.join(folder, name) for folder, _, names in os.walk(STATE) for name in names] +
            [top + name for top in tops for name in os.listdir(top) if name.startswith(".postern")])


def left_files():
    """Lock files, journals and temporary files, wherever postern makes some.  (mutt_dotlock, when it is stopped, leaves files of
    names like USER.HOST.PID.)"""
    found = ["/var/mail/" + name for name in os.listdir("/var/mail") if name.endswith(".lock") or name.startswith(".")]
    return found + [path for path in own_files() if os.path.basename(path) not in KEPT]


def left_by_keepers(files):
    """The names that a dot-lock has before it is a lock: a lock keeper that is killed in that moment leaves one, for nobody
    else may remove it, and nobody is kept out by it."""
    return [path for path in files if path.startswith("/var/mail/.lk")]


def spool_changes():
    """Mailboxes that are not the same files with the same rights as before."""
    changed = []
    for user in DELIVERED + CONTESTED:
        if user.kind == "mbox":
            st = os.lstat(delivery_agents.mailbox_of(user))
            now = (st.st_ino, st.st_mode & 0o7777, st.st_uid, st.st_gid)
            if now != (user.inode, 0o660, user.uid, grp.getgrnam("mail").gr_gid):
                changed.append("%s: inode %d, mode %o, owner %d:%d; it was inode %d" % (user.name, *now, user.inode))
    return changed


def alarming_log_lines():
    """What postern may not have to say, whoever is killed."""
    words = (b"sandbox", b"strange", b"start-failed", b"helper-says", b"signal 11", b"signal 6", b"signal=11", b"signal=6")
    with open(LOG, "rb") as f:
        return [line.decode(errors="replace").rstrip() for line in f if b"postern" in line and any(w in line for w in words)]


def recoveries():
    """How often a login found the journal of an update that was cut short, and went on with it, or dropped it."""
    with open(LOG, "rb") as f:
        return collections.Counter(m.group().decode() for m in re.finditer(rb"journal-(recovered|dropped)", f.read()))


def check_left(tap):
    all_gone()
    found = recoveries()
    tap.say("updates that the next login found cut short: " + counts(found))
    tap.ok(found["journal-recovered"], "some update was killed half-way, and completed by the next login")
    tap.equal(["%d %s" % (p.pid, p.exe) for p in processes()], [], "no process of postern is left")
    files = left_files()
    visits = delivery_agents.read_ledgers(LEDGERS + "/visits-*") + delivery_agents.read_ledgers(LEDGERS + "/contest-*")
    keepers = sum(bool(v["killed"]) and v["killed"][0] == "keeper" for v in visits)
    excused = left_by_keepers(files)
    tap.say("names for a lock to be that killed keepers have left: %d" % len(excused))
    tap.equal([path for path in files if path not in excused], [], "no lock file, journal or temporary file is left")
    tap.ok(len(excused) <= keepers, "no more such names than keepers were killed", "%d of %d" % (len(excused), keepers))
    tap.equal(held_locks(), [], "nobody holds a lock on a mailbox or a file of postern's")
    changed = spool_changes()
    tap.ok(not changed, "mailboxes in the spool are the same files, with the same owner and rights", "\n".join(changed))
    alarming = alarming_log_lines()
    tap.ok(not alarming, "nothing alarming in the log", delivery_account.tell(alarming))


def save_evidence():
    os.makedirs(EVIDENCE)
    sh("cp -R %s %s /var/mail %s %s" % (LEDGERS, LOG, STATE, EVIDENCE), check=False)
    for user in DELIVERED + CONTESTED:
        sh("cp -R %s %s/home-%s" % (user.home, EVIDENCE, user.name), check=False)


def section(tap, run, *args):
    """A function of checks.  What it raises is a failed check."""
    began = time.monotonic()
    try:
        run(tap, *args)
    except Exception:  # whatever it is, the next section still has something to tell
        tap.ok(False, run.__name__ + " runs to its end", traceback.format_exc())
    tap.say("%s: %.1f s" % (run.__name__, time.monotonic() - began))


def main():
    given, where = environment(), folders()
    tap = Tap(HERE + "/tap")
    tap.say("seed %s, %d s, %d messages by each agent, %d clients" % (
        given["seed"], given["seconds"], given["messages"], given["clients"]))
    began = time.monotonic()
    set_up(where, given["seed"])
    tap.say("set up after %.1f s" % (time.monotonic() - began))
    section(tap, check_delivery, where["server"], given)
    section(tap, check_contests, where["server"], given)
    delivery_agents.stop()
    section(tap, check_left)
    tap.say("all of it: %.1f s" % (time.monotonic() - began))
    if tap.failed:
        save_evidence()
    tap.end()


if __name__ == "__main__":
    sys.exit(main())
