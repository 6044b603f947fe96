/*
 * Lets each system call of an UPDATE session fail once, with each error that the file system could have for it: full
 * disk, quota, read-only, i/o error, file size limit, interruption.  If the session said that its deletions are durable,
 * they are; if not, the next login finds the maildrop as it was before or after, or a Maildir with a part of them gone.
 * So it is when UPDATE is killed, and a call of the session that recovers fails.  See workers.h for the arguments.
 */
#include "tracer.h"
#include "workers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#ifndef SYS_unlink
#define SYS_unlink SYS_unlinkat
#endif

/* Large mailboxes make many calls that are alike: of those, so many are tried with each error. */
#define CALLS_ALL 60

/* How often UPDATE is killed, and a call of the next login fails, which makes some 50 before it goes on. */
#define RECOVERIES 150
#define LOGIN_CALLS 50

struct failure {
	uint32_t at, kill;
	int error;
	bool made;
	uint64_t number;		/* of the system call */
};

static enum trace_verdict
decide(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value)
{
	struct failure *f = arg;

	if (which == f->kill)
		return TRACE_KILL_AFTER;
	if (which != f->at || !traced_can_fail(call, f->error))
		return TRACE_GO_ON;
	f->made = true;
	f->number = call->number;
	*value = (uint64_t)f->error;
	return TRACE_FAIL;
}

static uint32_t
run(struct worker *w, struct failure *f)
{
	struct tracer tracer = { .before = decide, .arg = f, .reads = true };
	uint32_t calls;
	bool killed;

	worker_begin(w);
	calls = tracer_run(&tracer, update_body, w, &killed);
	if (killed && f->kill == 0)
		bail("the session was killed");
	return calls;
}

static void
fail_once(struct worker *w, uint32_t at, int error)
{
	struct failure f = { .at = at, .error = error };
	bool well;

	run(w, &f);
	if (!f.made)
		return;
	count_one(&w->counts->calls);
	if (*w->durable)
		count_one(&w->counts->durable);
	/* What UPDATE has said is true at once; the rest may need the next login. */
	well = (!*w->durable || is_right(w, 0, true)) && login(w) && is_right(w, 0, *w->durable);
	if (well)
		return;
	printf("# case %u, call %u (system call %u), %s: not right%s\n", w->seed, at, (unsigned int)f.number,
	    strerror(error), *w->durable ? ", though said to be durable" : "");
	fflush(stdout);
	count_one(&w->counts->failures);
}

static void
fail_recovery(struct worker *w, uint32_t kill, uint32_t at)
{
	struct failure killed = { .kill = kill }, f = { .at = at, .error = EIO };
	struct tracer tracer = { .before = decide, .arg = &f, .reads = true };
	bool ignored;

	run(w, &killed);
	tracer_run(&tracer, update_body, w, &ignored);
	/* What cannot be removed is left: a stale lock under another name. */
	if (!f.made || f.number == SYS_unlink)
		return;
	count_one(&w->counts->nested);
	if (login(w) && is_right(w, 0, *w->durable))
		return;
	printf("# case %u, killed after call %u, call %u of the next session (system call %u) fails: not right\n", w->seed, kill, at,
	    (unsigned int)f.number);
	fflush(stdout);
	count_one(&w->counts->failures);
}

static void
fail_everywhere(struct worker *w)
{
	static const int errors[] = { ENOSPC, EDQUOT, EIO, EROFS, EFBIG, EINTR, ENOMEM, ENOLCK };
	struct failure none = { .at = 0 };
	uint32_t calls, i;
	size_t k;

	calls = run(w, &none);
	if (!*w->durable)
		bail("an UPDATE without any failure is wrong");
	for (i = 1; i <= calls; i++)
		for (k = 0; k < sizeof(errors) / sizeof(errors[0]); k++)
			if (random_below(&w->random, calls) < CALLS_ALL)
				fail_once(w, i, errors[k]);
	for (i = 0; i < RECOVERIES; i++)
		fail_recovery(w, 1 + random_below(&w->random, calls), 1 + random_below(&w->random, LOGIN_CALLS));
}

static void
tell(const struct counts *c)
{
	printf("%u failures of system calls tried, %u of them did not keep UPDATE from its end; %u after a kill\n", c->calls,
	    c->durable, c->nested);
}

static bool
tried(const struct counts *c)
{
	return c->calls > 0 && c->durable > 0 && c->durable < c->calls && c->nested > 0;
}

int
main(int argc, char **argv)
{
	static const struct fault_test test = { "fail", fail_everywhere, 4, 4, tell, tried,
		"whatever fails, the maildrop is before or after, and what was said is true" };

	return fault_main(&test, argc, argv);
}
