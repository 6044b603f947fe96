/*
 * Lets each system call of an UPDATE session fail once, with each error that the file system could have for it: full
 * disk, quota, read-only, i/o error, file size limit, interruption.  If the session said that its deletions are durable,
 * they are; if not, the next login finds the mailbox as it was before or after.
 *
 *	fail_mbox [CASES [FIRST]]
 */
#include "tracer.h"
#include "workers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define CASES 4

struct counts {
	uint32_t calls, durable, befores, afters, failures;
};

struct failure {
	uint32_t at;
	int error;
	bool made;
	uint64_t number;		/* of the system call */
};

/* What the manual pages and file systems have for it. */
static bool
is_possible(const struct traced_call *call, int error)
{
	switch (call->number) {
	case SYS_pread64:
	case SYS_read:
	case SYS_fstat:
	case SYS_newfstatat:
		return error == EIO || (error == EINTR && call->number != SYS_fstat && call->number != SYS_newfstatat);
	case SYS_fcntl:
		return error == EIO || error == ENOLCK;
	case SYS_mmap:
	case SYS_memfd_create:
		return error == ENOMEM;
	case SYS_fsync:
	case SYS_fdatasync:
		return error == EIO || error == ENOSPC || error == EDQUOT;
	case SYS_write:
	case SYS_pwrite64:
		return error != ENOMEM && error != ENOLCK && error != EROFS;
	default:
		return error != EINTR && error != EFBIG && error != ENOLCK && error != ENOMEM;
	}
}

static enum trace_verdict
decide(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value)
{
	struct failure *f = arg;

	if (which != f->at || !is_possible(call, f->error))
		return TRACE_GO_ON;
	f->made = true;
	f->number = call->number;
	*value = (uint64_t)f->error;
	return TRACE_FAIL;
}

static bool
is_right(struct worker *w)
{
	struct counts *counts = w->counts;

	return is_before_or_after(w, (struct text){ NULL, 0 }, *w->durable, &counts->befores, &counts->afters);
}

static uint32_t
run(struct worker *w, struct failure *f)
{
	struct tracer tracer = { .before = decide, .arg = f, .reads = true };
	uint32_t calls;
	bool killed;

	worker_begin(w);
	calls = tracer_run(&tracer, update_body, w, &killed);
	if (killed)
		bail("the session was killed");
	return calls;
}

static void
fail_once(struct worker *w, uint32_t at, int error)
{
	struct failure f = { .at = at, .error = error };
	struct counts *counts = w->counts;
	bool well;

	run(w, &f);
	if (!f.made)
		return;
	count_one(&counts->calls);
	if (*w->durable)
		count_one(&counts->durable);
	/* What UPDATE has said is true at once; the rest may need the next login. */
	well = (!*w->durable || is_right(w)) && login(w) && is_right(w);
	if (well)
		return;
	printf("# case %u, call %u (system call %u), %s: not right%s\n", w->seed, at, (unsigned int)f.number,
	    strerror(error), *w->durable ? ", though said to be durable" : "");
	fflush(stdout);
	count_one(&counts->failures);
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
			fail_once(w, i, errors[k]);
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
	printf("1..1\n");
	ended = workers_run("fail", fail_everywhere, counts, first, cases);
	well = ended && counts->failures == 0 && counts->calls > 0 && counts->befores > 0 && counts->afters > 0;
	printf("# %u mailboxes: %u failures of system calls tried, %u of them did not keep UPDATE from its end\n", cases,
	    counts->calls, counts->durable);
	printf("# found as before: %u, as after: %u\n", counts->befores, counts->afters);
	printf("%s 1 - whatever fails, the mailbox is before or after, and what was said is true\n", well ? "ok" : "not ok");
	return well ? 0 : 1;
}
