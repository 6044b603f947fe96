/*
 * Kills UPDATE sessions after each of their system calls in turn, and in the middle of each write; mail is appended, the
 * recovery is killed, too; then the next login has to find the mailbox as it was before or after the UPDATE, plus what
 * was appended.
 *
 *	crash_mbox [CASES [FIRST]]
 *
 * CASES random mailboxes and deletion sets, from number FIRST on.
 */
#include "mailbox.h"
#include "tracer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A login waits some milliseconds for the clock of the file system, so there is room for many at once. */
#define WORKERS 16

#define CASES 48

/* Written by the workers, read by all. */
struct counts {
	uint32_t kills, tears, nested, appended;
	uint32_t befores, afters, failures;
	uint32_t next;			/* case */
};

struct worker {
	struct place place;
	struct counts *counts;
	volatile bool *durable;		/* UPDATE has said so; shared with the child */
	uint64_t random;
	uint32_t seed;
	struct mailbox mailbox;
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

static volatile bool *durable_flag;

static void
say_durable(void)
{
	*durable_flag = true;
}

/* A child's log is of no interest; its lock waits must not hang the test. */
static void
be_quiet(void)
{
	int fd = open("/dev/null", O_WRONLY);

	if (getenv("CRASH_LOG") == NULL)
		dup2(fd, STDERR_FILENO);
	alarm(60);
}

static void
update_body(void *arg)
{
	struct worker *w = arg;

	be_quiet();
	session_update(&w->place, &w->mailbox, say_durable);
}

static void
login_body(void *arg)
{
	struct worker *w = arg;
	bool well;

	be_quiet();
	well = session_login(&w->place);
	fflush(stdout);
	_exit(well ? 0 : 1);
}

/* --- one crash --- */

static void
append_some(struct worker *w, struct text *late, uint32_t n)
{
	struct text message;

	if (random_below(&w->random, 2) == 0)
		return;
	message = late_message(n);
	file_append(w->place.mbox, message);
	text_append(late, message.p, message.len);
	free(message.p);
	__atomic_add_fetch(&w->counts->appended, 1, __ATOMIC_RELAXED);
}

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
		__atomic_add_fetch(&w->counts->nested, 1, __ATOMIC_RELAXED);
}

/* In a child, like every login: the locks belong to processes. */
static bool
login(struct worker *w)
{
	pid_t child = fork();
	int status;

	if (child == -1)
		bail("fork");
	if (child == 0)
		login_body(w);
	if (waitpid(child, &status, 0) == -1)
		bail("waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool
is_either(struct worker *w, struct text late)
{
	struct text found = file_read(w->place.mbox), before = { NULL, 0 }, after = { NULL, 0 };
	bool is_before, is_after;

	text_append(&before, w->mailbox.before.p, w->mailbox.before.len);
	text_append(&before, late.p, late.len);
	text_append(&after, w->mailbox.after.p, w->mailbox.after.len);
	text_append(&after, late.p, late.len);
	is_before = text_equal(found, before) && !*w->durable;
	is_after = text_equal(found, after);
	__atomic_add_fetch(is_after ? &w->counts->afters : &w->counts->befores, 1, __ATOMIC_RELAXED);
	free(found.p);
	free(before.p);
	free(after.p);
	return is_before || is_after;
}

static bool
recovers(struct worker *w)
{
	struct text late = { NULL, 0 };
	bool well;

	text_append(&late, "", 0);
	append_some(w, &late, 1);
	if (random_below(&w->random, 3) == 0) {
		crash_recovery(w);
		append_some(w, &late, 2);
		if (random_below(&w->random, 2) == 0)
			crash_recovery(w);
	}
	well = login(w) && is_either(w, late);
	/* And once more: nothing may be left to do. */
	well = well && login(w) && is_either(w, late);
	free(late.p);
	return well;
}

static void
begin(struct worker *w)
{
	place_clear(&w->place);
	file_write(w->place.mbox, w->mailbox.before);
	*w->durable = false;
}

static void
crash_once(struct worker *w, uint32_t at, bool tear)
{
	struct crash crash = { .at = at, .tear = tear, .random = &w->random };
	struct tracer tracer = { .before = decide, .arg = &crash };
	bool killed;

	begin(w);
	tracer_run(&tracer, update_body, w, &killed);
	__atomic_add_fetch(tear ? &w->counts->tears : &w->counts->kills, 1, __ATOMIC_RELAXED);
	if (recovers(w))
		return;
	printf("# case %u, call %u%s: the mailbox is neither as before nor as after\n", w->seed, at, tear ? ", torn" : "");
	fflush(stdout);
	__atomic_add_fetch(&w->counts->failures, 1, __ATOMIC_RELAXED);
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

	mailbox_make(&w->mailbox, w->seed);
	w->random = w->seed * 7919u + 12345u;
	begin(w);
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
	mailbox_free(&w->mailbox);
}

static void
work(struct counts *counts, uint32_t end)
{
	struct worker w = { .counts = counts };

	w.durable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w.durable == MAP_FAILED)
		bail("mmap");
	durable_flag = w.durable;
	place_make(&w.place, "crash");
	while ((w.seed = __atomic_fetch_add(&counts->next, 1, __ATOMIC_RELAXED)) < end)
		crash_everywhere(&w);
	place_remove(&w.place);
	fflush(stdout);
	_exit(0);
}

static bool
run_workers(struct counts *counts, uint32_t first, uint32_t end)
{
	bool well = true;
	int status, i;
	pid_t child;

	fflush(stdout);
	counts->next = first;
	for (i = 0; i < WORKERS; i++) {
		if ((child = fork()) == -1)
			bail("fork");
		if (child == 0)
			work(counts, end);
	}
	while (wait(&status) > 0)
		well = well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	return well;
}

int
main(int argc, char **argv)
{
	uint32_t cases = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : CASES;
	uint32_t first = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
	const char *missing = tracer_missing();
	struct counts *counts;
	bool ended, well;

	if (missing != NULL) {
		printf("1..0 # SKIP %s\n", missing);
		return 0;
	}
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		bail("mmap");
	printf("1..2\n");
	ended = run_workers(counts, first, first + cases);
	well = ended && counts->failures == 0 && counts->kills > 0 && counts->tears > 0;
	printf("# %u mailboxes: %u crash points tried (%u after a call, %u in a write), recovery killed %u times, "
	    "%u messages appended\n", cases, counts->kills + counts->tears, counts->kills, counts->tears,
	    counts->nested, counts->appended);
	printf("%s 1 - every crash leaves the mailbox before or after\n", well ? "ok" : "not ok");
	printf("# found as before: %u, as after: %u\n", counts->befores, counts->afters);
	printf("%s 2 - both were seen\n", counts->befores > 0 && counts->afters > 0 ? "ok" : "not ok");
	return well ? 0 : 1;
}
