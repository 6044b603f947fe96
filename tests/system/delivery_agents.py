"""The delivery agents, each as Debian sets it up and called as a mail system calls it, and mutt, which purges.

Runs as root in the copy of the machine (see delivery.sh), where their packages are unpacked but not configured.  Locks and
formats are the packages' own; only the pauses after a lock that was not free are shorter (procmail's 8 s, maildrop's 5 s,
Exim's 3 s), so that thousands of messages fit into a minute or two.

Not here: GNU mailutils' mda (once mail.local), version 3.15.  It writes X-IMAPbase: into the first message after it has
removed its dot-lock, and holds no fcntl lock at all (seen with strace): whoever removes mail in that moment has these 53
octets in the middle of another message, and nobody can prevent it.
"""

import glob
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import threading
import time

import delivery_mail
from box import sh, wait_for, write

SENDER = "mary@example.net"
HOST = "box.example.org"
SECONDS_PER_MAIL = 120

# Local delivery as in exim4-config's 30_exim4-config_mail_spool and 30_exim4-config_maildir_home.
EXIM = """
primary_hostname = %(host)s
qualify_domain = %(host)s
log_file_path = syslog
syslog_timestamp = false
trusted_users = root
never_users =
keep_environment =
local_interfaces =
disable_ipv6
begin routers
with_maildir:
  driver = accept
  check_local_user
  require_files = $local_part_data:+$home/Maildir
  transport = maildir_home
spool:
  driver = accept
  check_local_user
  transport = mail_spool
begin transports
mail_spool:
  driver = appendfile
  file = /var/mail/$local_part_data
  delivery_date_add
  envelope_to_add
  return_path_add
  group = mail
  mode = 0660
  mode_fail_narrower = false
  lock_retries = 30
  lock_interval = 1s
maildir_home:
  driver = appendfile
  directory = $home/Maildir
  delivery_date_add
  envelope_to_add
  return_path_add
  maildir_format
  directory_mode = 0700
  mode = 0600
  mode_fail_narrower = false
begin retry
* * F,1h,1s
""" % {"host": HOST}

POSTFIX = """
compatibility_level = 3.6
myhostname = %(host)s
mydestination = $myhostname
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
biff = no
mailbox_size_limit = 0
soft_bounce = yes
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 2s
""" % {"host": HOST}

# Debian's Dovecot takes the fcntl lock first, and waits for the dot-lock with it; procmail and maildrop take the dot-lock
# first, and wait for the fcntl lock with it: on a busy mbox they wait for each other for minutes (seen here, without any
# POP3 session).  Hence upstream's order.
DOVECOT = """
mail_location = %%s
mbox_write_locks = dotlock fcntl
log_path = syslog
postmaster_address = postmaster@%(host)s
hostname = %(host)s
ssl = no
""" % {"host": HOST}

MUTT = """
set mbox_type=mbox folder=~ delete=yes quit=yes move=no wait_key=no sleep_time=0 beep=no timeout=1
set confirmappend=no confirmcreate=no save_empty=yes record=""
"""

# X: copies what is meant for mutt, if there is any.  Subjects are what mutt has in its memory: all else it reads from the
# mailbox, without a lock and where it was when mutt opened it.
MUTT_MACRO = """macro index X "<tag-pattern>~s 'for mutt$'<enter><tag-prefix-cond><copy-message>~/purged<enter><end-cond>"
"""

# So many at a time: the pattern is one line of keys.
PURGED_AT_ONCE = 20


class Agent:
    """command(user) is what to run with the message on descriptor 0.  share: of the messages that each agent delivers."""

    def __init__(self, name, command, share=1.0, rewrites=False):
        self.name = name
        self.command = command
        self.share = share
        self.rewrites = rewrites    # dovecot-lda numbers all messages of an mbox, and moves them for that


def as_user(user, command):
    """As Postfix or Exim would pipe to it, but with group mail, since dovecot-lda cannot make a dot-lock otherwise."""
    return ["setpriv", "--reuid=" + user.name, "--regid=" + user.name, "--groups=mail", "env", "-i", "USER=" + user.name,
            "HOME=" + user.home, "PATH=/usr/bin:/bin"] + command


AGENTS = [
    Agent("procmail", lambda u: ["procmail", "-f", SENDER, "-d", u.name]),
    Agent("maildrop", lambda u: ["maildrop", "-f", SENDER, "-d", u.name]),
    Agent("exim", lambda u: ["exim4", "-odi", "-oi", "-f", SENDER, u.name + "@" + HOST]),
    Agent("postfix", lambda u: ["sendmail", "-i", "-f", SENDER, u.name + "@" + HOST]),
    # It waits half a second for the mbox's mtime to change, with all locks held, each time.
    Agent("dovecot", lambda u: as_user(u, ["/usr/lib/dovecot/dovecot-lda", "-c", "/etc/dovecot/%s.conf" % u.kind,
                                           "-f", SENDER]), 0.1, True),
]


# --- setting up ---

def make_account(name):
    sh(["groupadd", "--system", "--force", name])
    if sh(["getent", "passwd", name], check=False).returncode != 0:
        sh(["useradd", "--system", "--gid", name, "--home-dir", "/", "--shell", "/usr/sbin/nologin", name])


def set_up():
    """Configures all agents and starts Postfix."""
    for name in ("Debian-exim", "postfix", "dovecot", "dovenull", "courier"):
        make_account(name)
    sh(["groupadd", "--system", "--force", "postdrop"])
    for folder in ("/var/spool/exim4", "/run/exim4"):
        sh(["install", "-d", "-o", "Debian-exim", "-g", "Debian-exim", "-m", "750", folder])
    write("/etc/mailname", HOST + "\n")
    write("/etc/exim4/exim4.conf", EXIM)
    write("/etc/procmailrc", "LOCKSLEEP=1\n")
    write("/etc/maildroprc", "LOCKSLEEP=1\n")
    write("/etc/dovecot/mbox.conf", DOVECOT % "mbox:~/mail:INBOX=/var/mail/%u")
    write("/etc/dovecot/maildir.conf", DOVECOT % "maildir:~/Maildir")
    write("/etc/delivery.muttrc", MUTT + MUTT_MACRO)
    set_up_postfix()


def set_up_postfix():
    with open("/usr/share/postfix/master.cf.dist") as f:
        services = [line for line in f if not line.startswith(("smtp      inet", "#"))]
    write("/etc/postfix/master.cf", "".join(services))
    write("/etc/postfix/main.cf", POSTFIX)
    write("/etc/postfix/main.cf.proto", "")
    write("/etc/postfix/master.cf.proto", "")
    sh(["cp", "/usr/share/postfix/dynamicmaps.cf", "/usr/share/postfix/makedefs.out", "/etc/postfix"])
    sh("postfix set-permissions && postfix start")


def set_up_user(user):
    """Tells the agents about a Maildir; a mailbox in the spool is what they expect."""
    if user.kind != "maildir":
        return
    write(user.home + "/.forward", user.home + "/Maildir/\n")
    write(user.home + "/.procmailrc", "DEFAULT=$HOME/Maildir/\n")
    write(user.home + "/.mailfilter", "DEFAULT=\"$HOME/Maildir\"\n", 0o600)
    for name in (".forward", ".procmailrc", ".mailfilter"):
        os.chown(user.home + "/" + name, user.uid, user.gid)


# --- delivering ---

class Sent:
    """What an agent was given: one line of its ledger."""

    def __init__(self, agent, user, serial, purger, taken, why, began=0.0):
        self.agent = agent
        self.user = user
        self.serial = serial
        self.purger = purger
        self.taken = taken    # it said that it has the message; otherwise the message may be there or not, but not twice
        self.why = why
        self.began = began
        self.ended = time.monotonic()


def deliver(agent, user, serial, purger, dice):
    """One message through one agent."""
    command = agent.command(user)
    began = time.monotonic()
    try:
        r = subprocess.run(command, input=delivery_mail.make(serial, user.name, purger, dice), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=SECONDS_PER_MAIL, cwd="/")
        taken, why = r.returncode == 0, "status %d %s" % (r.returncode, r.stdout.decode(errors="replace").strip())
    except subprocess.TimeoutExpired:
        taken, why = False, "not done after %d s" % SECONDS_PER_MAIL
    return Sent(agent.name, user.name, serial, purger, taken, "" if taken else why, began)


class Deliveries:
    """One agent's share, spread over the time that there is: several at a time, for most of the time they wait for locks.
    Where dovecot-lda and mutt hold the locks most of the time, less is delivered."""

    def __init__(self, agent, users, count, seconds, seed):
        self.agent = agent
        self.users = [u for u in users if not agent.rewrites or u.rewriters]
        self.count = max(1, int(count * agent.share))
        self.seconds = seconds
        self.seed = seed
        self.next = 0
        self.lock = threading.Lock()
        self.sent = []

    def turn(self):
        with self.lock:
            self.next += 1
            return self.next if self.next <= self.count else None

    def work(self, began):
        while True:
            n = self.turn()
            if n is None or time.monotonic() > began + self.seconds:
                return
            time.sleep(max(0, began + self.seconds * 0.95 * n / self.count - time.monotonic()))
            dice = random.Random("%s %s %d" % (self.seed, self.agent.name, n))
            user = dice.choices(self.users, [1 if u.kind == "mbox" and u.rewriters else 3 for u in self.users])[0]
            purger = user.mutt and dice.random() < 0.2
            self.sent.append(deliver(self.agent, user, "%s-%06d" % (self.agent.name, n), purger, dice))

    def run(self, path):
        """All of it; the ledger goes to path."""
        began = time.monotonic()
        threads = [threading.Thread(target=self.work, args=(began,)) for _ in range(1 if self.agent.rewrites else 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        write_ledger(path, [vars(s) for s in self.sent])


def write_ledger(path, rows):
    with open(path, "w") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")


def read_ledgers(pattern):
    rows = []
    for path in sorted(glob.glob(pattern)):
        with open(path) as f:
            rows += [json.loads(line) for line in f]
    return rows


def queued():
    """How many messages Exim and Postfix still have."""
    exim = int(sh(["exim4", "-bpc"]).stdout.strip() or 0)
    return exim + sum(line.startswith("{") for line in sh(["postqueue", "-j"]).stdout.splitlines())


def reasons():
    """Why messages are still in Postfix' queue."""
    lines = sh(["postqueue", "-j"]).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return ["%s: %s" % (r["address"], r.get("delay_reason", "not tried yet")) for m in messages for r in m["recipients"]]


def empty_queues(seconds):
    """Has them try again until nothing is left.  Returns what is."""
    def left():
        sh(["exim4", "-qff"], check=False)
        sh(["postqueue", "-f"], check=False)
        return queued() == 0
    wait_for(left, seconds, 0.5)
    return queued()


def stop():
    sh("postfix stop", check=False)


# --- mutt ---

def mailbox_of(user):
    return "/var/mail/" + user.name if user.kind == "mbox" else user.home + "/Maildir"


def run_mutt(user, keys, seconds=90):
    """Opens the mailbox and types these keys.  Returns whether mutt came to its end."""
    command = ["setpriv", "--reuid=" + user.name, "--regid=" + user.name, "--clear-groups", "env", "-i", "HOME=" + user.home,
               "USER=" + user.name, "TERM=vt100", "PATH=/usr/bin:/bin", "mutt", "-n", "-F", "/etc/delivery.muttrc",
               "-f", mailbox_of(user)]
    ours, its = pty.openpty()
    mutt = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=user.home, start_new_session=True)
    os.close(its)
    attend(mutt, ours, keys.encode(), time.monotonic() + seconds)
    try:
        mutt.wait(1)
        return mutt.returncode == 0
    except subprocess.TimeoutExpired:
        os.killpg(mutt.pid, signal.SIGTERM)
        mutt.wait()
        return False
    finally:
        os.close(ours)


def attend(mutt, terminal, keys, end):
    """Types the keys when mutt shows the mailbox.  When it did not get a dot-lock for five seconds it asks whether to remove
    another's, with yes as the default: never.  Then it has changed nothing, and is told to quit again, or has opened the
    mailbox for reading only, which its status line shows as -%-."""
    seen, typed = b"", False
    while mutt.poll() is None and time.monotonic() < end:
        try:
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 65536)
            elif typed:
                os.write(terminal, b"q")
            if b"remove lock" in seen:
                os.write(terminal, b"n")
                seen = b""
            elif re.search(rb"-Mutt: [/~=]", seen) and not typed:
                os.write(terminal, b"q" if b"-%-Mutt:" in seen else keys)
                typed = True
        except OSError:  # EIO: it has closed its side
            return


def purge(user):
    """Has mutt copy what is meant for it, and then purge what it has whole copies of: one that it copied while the mailbox
    changed is made of pieces.  Returns whether mutt came to its end."""
    if not run_mutt(user, "Xq"):
        return False
    found = [delivery_mail.examine(message) for message in purged(user)]
    serials = sorted({f.serial for f in found if f.whole} - user.purged)[:PURGED_AT_ONCE]
    user.purged.update(serials)
    return not serials or run_mutt(user, "D~s '(%s) for mutt$'\r$q" % "|".join(serials))


def purge_until(users, stopped, path):
    """mutt on each of these mailboxes in turn, until told to stop."""
    rows = []
    while not stopped.is_set():
        for user in users:
            rows.append({"user": user.name, "ended": purge(user)})
            if stopped.wait(0.3):
                break
    write_ledger(path, rows)


def purged(user):
    """What mutt has copied before it purged."""
    try:
        with open(user.home + "/purged", "rb") as f:
            return delivery_mail.split_mbox(f.read())
    except FileNotFoundError:
        return []
