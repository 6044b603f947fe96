/*
 * Kills UPDATE sessions after each of their system calls in turn, and in the middle of each write; mail comes in, the
 * recovery is killed, too; then the next login has to find the maildrop as it was before or after the UPDATE (a Maildir: with
 * any part of what was to be deleted), plus what came in.  See workers.h for the arguments.
 */
#include "tracer.h"
#include "workers.h"

#include <stdio.h>

struct crash {
	uint32_t at;			/* 0: nowhere */
	bool tear;
	uint64_t *random;
	/* What was seen on the way, for the next round. */
	unsigned char *tearable;	/* of each call */
	uint32_t room;
};

static enum trace_verdict
decide(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value)
{
	struct crash *c = arg;

	if (c->tearable != NULL && which < c->room)
		c->tearable[which] = call->writes && call->args[2] > 1;
	if (which != c->at)
		return TRACE_GO_ON;
	if (!c->tear || !call->writes || call->args[2] < 2)
		return TRACE_KILL_AFTER;
	*value = 1 + random_below(c->random, (uint32_t)call->args[2] - 1);
	return TRACE_TEAR;
}

/* --- one crash --- */

/* Logs in, and is killed. */
static void
crash_recovery(struct worker *w)
{
	struct crash crash = { .at = 1 + random_below(&w->random, 30), .tear = random_below(&w->random, 2) == 0,
		.random = &w->random };
	struct tracer tracer = { .before = decide, .arg = &crash };
	bool killed;

	tracer_run(&tracer, login_body, w, &killed);
	if (killed)
		count_one(&w->counts->nested);
}

static bool
recovers(struct worker *w)
{
	late_set late = 0;
	bool well;

	mail_comes_in(w, &late, 1);
	if (random_below(&w->random, 3) == 0) {
		crash_recovery(w);
		mail_comes_in(w, &late, 2);
		if (random_below(&w->random, 2) == 0)
			crash_recovery(w);
	}
	well = login(w) && is_right(w, late, *w->durable);
	/* And once more: nothing may be left to do. */
	well = well && login(w) && is_right(w, late, *w->durable);
	return well;
}

static void
crash_once(struct worker *w, uint32_t at, bool tear)
{
	struct crash crash = { .at = at, .tear = tear, .random = &w->random };
	struct tracer tracer = { .before = decide, .arg = &crash };
	bool killed;

	worker_begin(w);
	tracer_run(&tracer, update_body, w, &killed);
	count_one(tear ? &w->counts->tears : &w->counts->kills);
	if (recovers(w))
		return;
	printf("# case %u, call %u%s: not as before nor as after\n", w->seed, at, tear ? ", torn" : "");
	fflush(stdout);
	count_one(&w->counts->failures);
}

/* --- one mailbox --- */

#define CALLS_MAX 10000

static void
crash_everywhere(struct worker *w)
{
	static unsigned char tearable[CALLS_MAX];
	struct crash crash = { .tearable = tearable, .room = CALLS_MAX, .random = &w->random };
	struct tracer tracer = { .before = decide, .arg = &crash };
	uint32_t calls, i;
	bool killed;

	worker_begin(w);
	calls = tracer_run(&tracer, update_body, w, &killed);
	if (killed || !*w->durable || mailbox_found(&w->place, &w->mailbox, 0) != FOUND_AFTER || calls >= CALLS_MAX)
		bail("an UPDATE without any crash is wrong");
	for (i = 1; i <= calls; i++) {
		crash_once(w, i, false);
		if (tearable[i])
			crash_once(w, i, true);
	}
}

static void
tell(const struct counts *c)
{
	printf("%u crash points tried (%u after a call, %u in a write), recovery killed %u times, %u messages came in\n",
	    c->kills + c->tears, c->kills, c->tears, c->nested, c->appended);
}

static bool
tried(const struct counts *c)
{
	return c->kills > 0 && c->tears > 0 && c->nested > 0 && c->appended > 0;
}

int
main(int argc, char **argv)
{
	static const struct fault_test test = { "crash", crash_everywhere, 48, 32, tell, tried,
		"every crash leaves the maildrop before or after" };

	return fault_main(&test, argc, argv);
}
