"""The mailboxes: made once, and put back to what they were before a measurement."""

import os
import shutil
import subprocess
import time

from machine import Trouble, say
from servers import MAILDIR, MBOX

GIB = 1 << 30

# What the criteria are about.  Name: messages, bytes each, shape.
FULL = {
    "S": (100, 8000, "text"),
    "M": (5000, 4140, "text"),
    "L": (100000, 1970, "text"),
    "XL": (2000, GIB // 2000, "attachment"),
    "BIG": (1, GIB, "attachment"),
}
# A tenth of that, for a first look.
MEDIUM = {
    "S": (100, 8000, "text"),
    "M": (1000, 4140, "text"),
    "L": (10000, 1970, "text"),
    "XL": (200, GIB // 2000, "attachment"),
    "BIG": (1, GIB // 10, "attachment"),
}
# To see that all works.
SMALL = {
    "S": (20, 4000, "text"),
    "M": (300, 4140, "text"),
    "L": (2000, 1970, "text"),
    "XL": (20, 600000, "attachment"),
    "BIG": (1, 8 << 20, "attachment"),
}
SIZES = {"full": FULL, "medium": MEDIUM, "small": SMALL}

# So many users have mailbox S, that as many can log in at once; the others have one user each.
S_USERS = 8

# Servers that look at the second in which a mailbox changed are given the time they want.
SETTLED_SECONDS = 1.1


def users_of(box):
    """The users that have a mailbox of this kind."""
    return ["s%d" % i for i in range(S_USERS)] if box == "S" else [box.lower()]


class Mailboxes:
    """What is stored, as the generator made it, and the copies that servers work on."""

    def __init__(self, machine, programs, sizes, accounts, settled_seconds):
        self.machine = machine
        self.mailgen = programs + "/mailgen"
        self.limits = programs + "/limits"
        self.sizes = sizes
        self.uids = accounts.uids
        self.pristine = machine.on_disk("/srv/pristine")
        self.restored = {}		# path of an mbox: what it was like when it was restored
        self.changed = 0.0		# when something was last restored or delivered
        self.settled_seconds = settled_seconds

    # Making them.

    def make(self, kinds):
        """All mailboxes, in the formats asked for."""
        for box, (count, size, shape) in self.sizes.items():
            for kind in kinds if box != "XL" else (MBOX,):
                say("making mailbox %s, %s" % (box, kind))
                self.generate(kind, box, count, size, shape)
        os.chown(self.machine.on_disk("/var/mail"), 0, self.mail_group())
        os.chmod(self.machine.disk_folder("/var/mail"), 0o2775)
        os.sync()

    def generate(self, kind, box, count, size, shape):
        """One of them, with its manifest."""
        seed = 1 + sum(box.encode())
        subprocess.run([self.mailgen, kind, self.source(kind, box), self.manifest(box), str(count), str(size), shape,
                        str(seed)], check=True)

    def mail_group(self):
        """The gid of group mail."""
        with open(self.machine.root + "/etc/group", encoding="utf-8") as f:
            for line in f:
                if line.startswith("mail:"):
                    return int(line.split(":")[2])
        raise Trouble("no group mail")

    def source(self, kind, box):
        """The pristine copy."""
        return "%s/%s.%s" % (self.pristine, box, kind)

    def manifest(self, box):
        """For popbench verify."""
        return "%s/%s.manifest" % (self.pristine, box)

    def place(self, kind, user):
        """What the servers work on, seen from outside of the copy; not through its mounts, or no file could be linked."""
        if kind == MBOX:
            return "%s/%s" % (self.machine.disk_folder("/var/mail"), user)
        return "%s/%s/Maildir" % (self.machine.disk_folder("/home"), user)

    # Putting them back.

    def restore(self, server, box, copies=False):
        """
        Every user's maildrop of this box as it was made, the server's indexes gone.  copies: the files of a Maildir are no
        links to the pristine ones, so that removing one frees its blocks.  (Where several users have a box they are always
        copies: a file has one owner.)
        """
        for user in users_of(box):
            self.restore_user(server, box, user, copies or len(users_of(box)) > 1)

    def restore_user(self, server, box, user, copies=True):
        """The same for one user."""
        if server.kind == MBOX:
            self.restore_mbox(box, user)
        else:
            self.restore_maildir(box, user, copies)
        server.forget(user)

    def discard(self, kind, box, user):
        """Removes a box for good."""
        for path in (self.source(kind, box), self.place(kind, user), self.place(kind, user) + ".copies"):
            if os.path.lexists(path):
                remove(path)

    def restore_mbox(self, box, user):
        """Copies it, unless nothing has touched it since the last time."""
        path, source = self.place(MBOX, user), self.source(MBOX, box)
        if path in self.restored and self.restored[path] == identity(path):
            return
        if os.path.exists(path):
            os.unlink(path)
        shutil.copyfile(source, path)
        os.chown(path, self.uids[user], self.mail_group())
        os.chmod(path, 0o660)
        shutil.copystat(source, path)
        os.chmod(path, 0o660)
        os.sync()
        self.restored[path] = identity(path)
        self.changed = time.monotonic()

    def restore_maildir(self, box, user, copies):
        """Everything that is not as it was is put back; all is made anew if links are wanted for copies, or the reverse."""
        path, source = self.place("maildir", user), self.source("maildir", box)
        marker = path + ".copies"
        if os.path.exists(marker) != copies or not os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
            os.mkdir(path)
            if os.path.exists(marker):
                os.unlink(marker)
        for name in os.listdir(path):
            if name not in ("cur", "new", "tmp"):
                remove(path + "/" + name)
        for part in ("cur", "new", "tmp"):
            self.restore_folder(source + "/" + part, path + "/" + part, copies)
        own(path, self.uids[user])
        if copies:
            open(marker, "w").close()
            os.sync()

    def restore_folder(self, source, path, copies):
        """One of cur, new and tmp."""
        os.makedirs(path, exist_ok=True)
        wanted, present = set(os.listdir(source)), set(os.listdir(path))
        for name in present - wanted:
            os.unlink(path + "/" + name)
        for name in sorted(wanted - present):
            if copies:
                shutil.copy2(source + "/" + name, path + "/" + name)
            else:
                os.link(source + "/" + name, path + "/" + name)
        if wanted != present:
            self.changed = time.monotonic()

    def copy_maildir(self, box, path):
        """Another Maildir of this box, which restore() would not tell from one with copies: made in the same order, and in memory."""
        for part in ("cur", "new"):
            self.restore_folder(self.source(MAILDIR, box) + "/" + part, path + "/" + part, True)
        os.sync()
        self.settle()
        self.read_maildir(path)

    def deliver(self, server, user):
        """One more message, as the owner."""
        path = self.place(server.kind, user)
        uid = self.uids[user]
        subprocess.run([self.mailgen, "append-" + server.kind, path, "4096", "77"], check=True, user=uid, group=uid,
                       extra_groups=[])
        self.changed = time.monotonic()

    def read(self, server, user):
        """
        Waits until it has not changed for a while, and reads all of it, so that it is in memory.  In this order: of memory that was
        not touched for a second the machine below a virtual machine may have taken back what it takes to come by it.
        """
        self.settle()
        path = self.place(server.kind, user)
        if server.kind == MBOX:
            subprocess.run([self.limits, "scan", path], check=True, stdout=subprocess.DEVNULL)
        else:
            self.read_maildir(path)

    def settle(self):
        """Waits until nothing has changed for a while."""
        time.sleep(max(0.0, self.changed + self.settled_seconds - time.monotonic()))

    def read_maildir(self, path):
        """Opens and reads every file."""
        for part in ("cur", "new"):
            if os.listdir(path + "/" + part):
                subprocess.run([self.limits, "count", path + "/" + part], check=True, stdout=subprocess.DEVNULL)

    # What is left after a deletion.

    def files(self, server, user):
        """How many messages a Maildir has."""
        path = self.place(server.kind, user)
        return sum(len(os.listdir(path + "/" + part)) for part in ("cur", "new"))

    def same_tail(self, user, box):
        """Whether an mbox is the pristine one less its first message, byte for byte."""
        start = self.first_message_bytes(box)
        done = subprocess.run(["cmp", "--quiet", "--ignore-initial=%d:0" % start, self.source(MBOX, box),
                               self.place(MBOX, user)])
        return done.returncode == 0

    def first_message_bytes(self, box):
        """Where the second message begins."""
        with open(self.source(MBOX, box), "rb") as f:
            start = f.readline()
            size = len(start)
            for line in f:
                if line.startswith(b"From ") and size > len(start):
                    break
                size += len(line)
        return size


def identity(path):
    """What changes when anybody writes to a file."""
    try:
        st = os.stat(path)
    except FileNotFoundError:
        return None
    return st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def remove(path):
    """A file or a folder."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def own(path, uid):
    """Gives a Maildir to its user; links to files of the pristine copy are all of one user's boxes."""
    for folder, _, files in os.walk(path):
        os.chown(folder, uid, uid)
        os.chmod(folder, 0o700)
        for name in files:
            if os.lstat(folder + "/" + name).st_uid != uid:
                os.chown(folder + "/" + name, uid, uid)
