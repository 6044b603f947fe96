/*
 * Kills UPDATE sessions after each of their system calls in turn, and in the middle of each write; mail is appended, the
 * recovery is killed, too; then the next login has to find the mailbox as it was before or after the UPDATE, plus what
 * was appended.
 *
 *	crash_mbox [CASES [FIRST]]
 *
 * CASES random mailboxes and deletion sets, from number FIRST on.
 */
#include "tracer.h"
#include "workers.h"

#include <stdio.h>

#define CASES 48

struct counts {
	uint32_t kills, tears, nested, appended;
	uint32_t befores, afters, failures;
};

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
	struct counts *counts = w->counts;
	bool killed;

	tracer_run(&tracer, login_body, w, &killed);
	if (killed)
		count_one(&counts->nested);
}

static bool
is_right(struct worker *w, struct text late)
{
	struct counts *counts = w->counts;

	return is_before_or_after(w, late, *w->durable, &counts->befores, &counts->afters);
}

static void
mail_comes_in(struct worker *w, struct text *late, uint32_t n)
{
	struct counts *counts = w->counts;

	if (append_some(w, late, n))
		count_one(&counts->appended);
}

static bool
recovers(struct worker *w)
{
	struct text late = { NULL, 0 };
	bool well;

	mail_comes_in(w, &late, 1);
	if (random_below(&w->random, 3) == 0) {
		crash_recovery(w);
		mail_comes_in(w, &late, 2);
		if (random_below(&w->random, 2) == 0)
			crash_recovery(w);
	}
	well = login(w) && is_right(w, late);
	/* And once more: nothing may be left to do. */
	well = well && login(w) && is_right(w, late);
	free(late.p);
	return well;
}

static void
crash_once(struct worker *w, uint32_t at, bool tear)
{
	struct crash crash = { .at = at, .tear = tear, .random = &w->random };
	struct tracer tracer = { .before = decide, .arg = &crash };
	struct counts *counts = w->counts;
	bool killed;

	worker_begin(w);
	tracer_run(&tracer, update_body, w, &killed);
	count_one(tear ? &counts->tears : &counts->kills);
	if (recovers(w))
		return;
	printf("# case %u, call %u%s: the mailbox is neither as before nor as after\n", w->seed, at, tear ? ", torn" : "");
	fflush(stdout);
	count_one(&counts->failures);
}

/* --- one mailbox --- */

#define CALLS_MAX 10000

static void
crash_everywhere(struct worker *w)
{
	static unsigned char tearable[CALLS_MAX];
	struct crash crash = { .tearable = tearable, .room = CALLS_MAX, .random = &w->random };
	struct tracer tracer = { .before = decide, .arg = &crash };
	struct text found;
	uint32_t calls, i;
	bool killed;

	worker_begin(w);
	calls = tracer_run(&tracer, update_body, w, &killed);
	found = file_read(w->place.mbox);
	if (killed || !*w->durable || !text_equal(found, w->mailbox.after) || calls >= CALLS_MAX)
		bail("an UPDATE without any crash is wrong");
	free(found.p);
	for (i = 1; i <= calls; i++) {
		crash_once(w, i, false);
		if (tearable[i])
			crash_once(w, i, true);
	}
}

int
main(int argc, char **argv)
{
	uint32_t cases = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : CASES;
	uint32_t first = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
	const char *missing = tracer_missing();
	struct counts *counts = shared_memory(sizeof(*counts));
	bool ended, well;

	if (missing != NULL) {
		printf("1..0 # SKIP %s\n", missing);
		return 0;
	}
	printf("1..2\n");
	ended = workers_run("crash", crash_everywhere, counts, first, cases);
	well = ended && counts->failures == 0 && counts->kills > 0 && counts->tears > 0;
	printf("# %u mailboxes: %u crash points tried (%u after a call, %u in a write), recovery killed %u times, "
	    "%u messages appended\n", cases, counts->kills + counts->tears, counts->kills, counts->tears,
	    counts->nested, counts->appended);
	printf("%s 1 - every crash leaves the mailbox before or after\n", well ? "ok" : "not ok");
	printf("# found as before: %u, as after: %u\n", counts->befores, counts->afters);
	printf("%s 2 - both were seen\n", counts->befores > 0 && counts->afters > 0 ? "ok" : "not ok");
	return well ? 0 : 1;
}
