"""Where every message went: the ledgers of agents, sessions and mutt against what is in the mailboxes in the end.

A message has arrived when it was fetched whole in a session whose QUIT was answered with +OK (then it is nowhere else, and no
later session sees it), or when it is still in the mailbox, or when mutt has it.  A QUIT without an answer may have removed
what was marked, or may not have.
"""

import collections
import os

import delivery_agents
import delivery_mail

# How many of a kind are told in full.
TOLD = 8


class Fate:
    """All that is known of one serial."""

    def __init__(self):
        self.sent = None        # the agent's line
        self.gone = []          # visits that were told that it is removed
        self.maybe = []         # visits that asked for it, and got no answer
        self.stays = 0          # copies in the mailbox in the end
        self.saved = 0          # whole copies that mutt has made
        self.ids = []           # the unique-ids under which it was seen


class Account:
    """One user's books; the lists are of texts, and empty if all is well."""

    def __init__(self, user):
        self.user = user
        self.fates = collections.defaultdict(Fate)
        self.lost = []
        self.twice = []
        self.strange = []
        self.came_back = []
        self.new_ids = []
        self.problems = []

    def add_sent(self, rows):
        for row in rows:
            if row["user"] == self.user.name:
                self.fates[row["serial"]].sent = row

    def add_visits(self, rows):
        visits = [v for v in rows if v["user"] == self.user.name]
        for v in visits:
            self.problems += ["%s (killed: %s; end: %s)" % (p, v["killed"], v["end"]) for p in v["problems"]]
            for serial, unique in v["fetched"].items():
                self.fates[serial].ids.append(unique)
            for serial in v["deleted"] if v["asked"] else []:
                fate = self.fates[serial]
                (fate.gone if v["acknowledged"] else fate.maybe).append(v)
        self.look_for_returns(visits)

    def look_for_returns(self, visits):
        """A unique-id that is listed after its message was removed."""
        removed = {}
        for v in sorted(visits, key=lambda v: v["ended"]):
            if v["acknowledged"]:
                removed.update({v["fetched"][serial]: (v["ended"], serial) for serial in v["deleted"]})
        for v in visits:
            for unique in v["listed"]:
                when, serial = removed.get(unique, (None, None))
                if when is not None and v["began"] > when:
                    self.came_back.append("%s (%s): removed, and listed %.3f s later" % (serial, unique, v["entered"] - when))

    def add_mailbox(self):
        for message in mailbox_messages(self.user):
            found = delivery_mail.examine(message)
            if found.whole and found.serial in self.fates:
                self.fates[found.serial].stays += 1
            else:
                self.strange.append("not as it was sent: serial %s, %d bytes, %r ... %r" % (
                    found.serial, len(message), message[:200], message[-100:]))
        for message in delivery_agents.purged(self.user) if self.user.mutt else []:
            found = delivery_mail.examine(message)
            if found.whole:
                self.fates[found.serial].saved += 1

    def judge(self):
        for serial, fate in sorted(self.fates.items()):
            if fate.sent is None:
                self.strange.append("%s was fetched, and nobody has sent it" % serial)
            elif fate.sent["purger"]:
                self.judge_purged(serial, fate)
            else:
                self.judge_fetched(serial, fate)
            if len(set(fate.ids)) > 1:
                self.new_ids.append("%s: %s" % (serial, ", ".join(sorted(set(fate.ids)))))
        return self

    def judge_fetched(self, serial, fate):
        places = len(fate.gone) + fate.stays
        if places > 1:
            self.twice.append("%s: removed %d times, %d in the mailbox, unique-ids %s" % (
                serial, len(fate.gone), fate.stays, sorted(set(fate.ids))))
        elif places == 0 and fate.sent["taken"] and not fate.maybe:
            self.lost.append("%s: fetched %d times, never removed by a session" % (serial, len(fate.ids)))

    def judge_purged(self, serial, fate):
        """mutt copies first and purges then, and does both again if the mailbox has changed between the two."""
        if fate.stays > 1 or fate.gone:
            self.twice.append("%s, for mutt: %d in the mailbox, removed by %d sessions" % (serial, fate.stays, len(fate.gone)))
        elif fate.stays + fate.saved == 0 and fate.sent["taken"]:
            self.lost.append("%s, for mutt: neither in the mailbox nor copied by mutt" % serial)

    def count(self, what):
        return sum(bool(what(fate)) for fate in self.fates.values())


def maildir_messages(path):
    messages = []
    for folder in ("new", "cur"):
        for name in sorted(os.listdir(os.path.join(path, folder))):
            with open(os.path.join(path, folder, name), "rb") as f:
                messages.append(f.read())
    return messages


def mailbox_messages(user):
    """What is stored, read as the file system has it."""
    path = delivery_agents.mailbox_of(user)
    if user.kind == "maildir":
        return maildir_messages(path)
    with open(path, "rb") as f:
        return delivery_mail.split_mbox(f.read())


def settle(user, sent, visits):
    """The user's books, closed."""
    account = Account(user)
    account.add_sent(sent)
    account.add_visits(visits)
    account.add_mailbox()
    return account.judge()


def tell(texts):
    """For a failed check: the first of them."""
    more = ["and %d more" % (len(texts) - TOLD)] if len(texts) > TOLD else []
    return "\n".join(texts[:TOLD] + more)


def gather(accounts, what):
    """All users' texts of one list, with their names."""
    return ["%s: %s" % (a.user.name, text) for a in accounts for text in getattr(a, what)]
