"""Several sessions on one maildrop at once, one of which is killed: who is let in, and what is left.

Runs as root in the copy of the machine (see delivery.sh).
"""

import random
import selectors
import time

import delivery_agents
from delivery_pop import ENTERED, IN_USE, PATIENCE, ROLES, Client, Lost, Stuck, Wrong, cut_short, look_after

# One try.  It may have to wait for the end of the helper before it, and for delivery agents; nobody sits out a stale lock.
AT_ONCE = 5.0

# Single sessions after each round.
CUT_SHORT = 5

STAGES = ("login", "holding", "quit", "quit")


class Round:
    """One contest: what it was, what came of it, and what was wrong; a line of a ledger."""

    def __init__(self, user, number, stage, role):
        self.user = user
        self.number = number
        self.stage = stage
        self.role = role
        self.killed = False
        self.answers = []
        self.waited = None      # until the maildrop could be used again
        self.problems = []

    def row(self):
        return vars(self)


class Contest:
    """Plays one round: number sessions log in at the same time."""

    def __init__(self, server, user, number, dice):
        self.server = server
        self.user = user
        self.dice = dice
        self.round = Round(user.name, number, dice.choice(STAGES), dice.choice(ROLES))
        self.clients = []
        self.victim = None
        self.answered = {}      # client: (when, answer)

    def problem(self, text):
        self.round.problems.append(text)

    def kill(self, client, longest):
        client.strike(self.round.role, self.round.stage, longest)
        self.note(client)

    def note(self, client):
        if client.visit.killed:
            self.round.killed = True
            self.round.role, self.round.stage = client.visit.killed
            self.victim = client

    def knock(self):
        """All of them give their password within a moment."""
        for client in self.clients:
            client.session.name(self.user.name)
        for client in self.clients:
            client.session.password()
        if self.round.stage == "login":
            self.kill(self.dice.choice(self.clients), 0.025)

    def listen(self):
        """Notes when which answer came, until all have come."""
        limit = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            for client in self.clients:
                selector.register(client.session.sock, selectors.EVENT_READ, client)
            while len(self.answered) < len(self.clients) and time.monotonic() < limit:
                for key, _ in selector.select(1):
                    selector.unregister(key.fileobj)
                    self.answered[key.data] = (time.monotonic(), self.answer_of(key.data))
        if len(self.answered) < len(self.clients):
            self.problem("no answer to PASS for %d s" % PATIENCE)

    @staticmethod
    def answer_of(client):
        try:
            return client.session.line()
        except Lost:
            return b""

    def judge(self):
        """Exactly one may hold the maildrop at a time.  Returns the one that does."""
        inside = sorted((c for c, (_, answer) in self.answered.items() if answer == ENTERED), key=lambda c: self.answered[c][0])
        outside = [c for c, (_, answer) in self.answered.items() if answer.startswith(IN_USE)]
        self.round.answers = [len(inside), len(outside)]
        for client, (when, answer) in self.answered.items():
            if client in inside:
                client.visit.entered = when
            elif client not in outside and client is not self.victim:
                self.problem("answer to PASS: %r" % answer)
        if not inside:
            # The one that was killed may have held it, with its answer still to come.
            if self.victim is None or self.victim in outside:
                self.problem("nobody was let in: %d times [IN-USE]" % len(outside))
            return None
        # The one that was killed meanwhile has left, and another may have taken its place; which of the two answers is read first
        # is chance.
        others = [c for c in inside if c is not self.victim]
        if len(others) > 1:
            self.problem("%d sessions were let in at the same time" % len(others))
        return (others or inside)[0]

    def hold(self, client):
        """The winner's session; it may be killed on the way, or at QUIT."""
        when = self.dice.randrange(3) if self.round.stage == "holding" else None
        client.survey()
        if when == 0:
            self.kill(client, 0.002)
        mine = client.fetch(client.choose(8))
        if when == 1:
            self.kill(client, 0.002)
        client.delete(mine)
        if when == 2:
            self.kill(client, 0)
        client.visit.asked = True
        client.session.send("QUIT")
        if self.round.stage == "quit":
            client.strike_update(self.round.role)
            self.note(client)
        client.quit_answered()

    def play(self):
        self.clients = [Client(self.server, self.user, self.dice) for _ in range(self.round.number)]
        try:
            self.knock()
            self.listen()
            winner = self.judge()
        except (Lost, Wrong, Stuck) as e:
            self.problem("login: %s" % e)
            winner = None
        for client in self.clients:
            if client is not winner:
                client.session.sock.close()
        if winner is not None:
            winner.run(self.hold)
        return self.visit_again() + [c.visit for c in self.clients]

    def visit_again(self):
        """The maildrop is there for the next session at once, whoever was killed."""
        began = time.monotonic()

        def act(client):
            if client.login():
                self.round.waited = client.visit.entered - began
                client.survey()
                client.delete(client.fetch(client.choose(4)))
                client.quit()
        visit = Client(self.server, self.user, self.dice).run(act)
        if self.round.waited is None or self.round.waited > AT_ONCE:
            self.problem("not usable again at once: %s after %.3f s" % (visit.end, time.monotonic() - began))
        for client in self.clients:
            left = client.session.end()
            if left:
                self.problem("still running after the round: " + ", ".join(left))
            if client.visit.ended is None:
                client.visit.ended = time.monotonic()
        return [visit]


def contest_until(server, user, numbers, seconds, seed, visits_path, rounds_path):
    """Rounds on one maildrop for this long, and between them single sessions whose update is killed."""
    dice = random.Random("%s %s" % (seed, user.name))
    visits, rounds = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        contest = Contest(server, user, numbers[len(rounds) % len(numbers)], dice)
        visits += contest.play()
        rounds.append(contest.round)
        visits += [cut_short(server, user, dice) for _ in range(CUT_SHORT)]
    visits.append(look_after(server, user, dice))
    delivery_agents.write_ledger(visits_path, [v.row() for v in visits])
    delivery_agents.write_ledger(rounds_path, [r.row() for r in rounds])
