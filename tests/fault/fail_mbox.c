/*
 * Lets each system call of an UPDATE session fail once, with each error that the file system could have for it: full
 * disk, quota, read-only, i/o error, file size limit, interruption.  If the session said that its deletions are durable,
 * they are; if not, the next login finds the mailbox as it was before or after.
 *
 *	fail_mbox [CASES [FIRST]]
 */
#include "mailbox.h"
#include "tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 16
#define CASES 6

struct counts {
	uint32_t calls, durable, befores, afters, failures;
	uint32_t next;			/* case */
};

struct worker {
	struct place place;
	struct counts *counts;
	volatile bool *durable;
	uint32_t seed;
	struct mailbox mailbox;
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

static volatile bool *durable_flag;

static void
say_durable(void)
{
	*durable_flag = true;
}

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

static bool
login(struct worker *w)
{
	pid_t child = fork();
	int status;
	bool well;

	if (child == -1)
		bail("fork");
	if (child == 0) {
		be_quiet();
		well = session_login(&w->place);
		fflush(stdout);
		_exit(well ? 0 : 1);
	}
	if (waitpid(child, &status, 0) == -1)
		bail("waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool
is_right(struct worker *w)
{
	struct text found = file_read(w->place.mbox);
	bool before = text_equal(found, w->mailbox.before), after = text_equal(found, w->mailbox.after);

	free(found.p);
	__atomic_add_fetch(after ? &w->counts->afters : &w->counts->befores, 1, __ATOMIC_RELAXED);
	return after || (before && !*w->durable);
}

static uint32_t
run(struct worker *w, struct failure *f)
{
	struct tracer tracer = { .before = decide, .arg = f, .reads = true };
	uint32_t calls;
	bool killed;

	place_clear(&w->place);
	file_write(w->place.mbox, w->mailbox.before);
	*w->durable = false;
	calls = tracer_run(&tracer, update_body, w, &killed);
	if (killed)
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
	__atomic_add_fetch(&w->counts->calls, 1, __ATOMIC_RELAXED);
	if (*w->durable)
		__atomic_add_fetch(&w->counts->durable, 1, __ATOMIC_RELAXED);
	/* What UPDATE has said is true at once; the rest may need the next login. */
	well = (!*w->durable || is_right(w)) && login(w) && is_right(w);
	if (well)
		return;
	printf("# case %u, call %u (system call %u), %s: not right%s\n", w->seed, at, (unsigned int)f.number,
	    strerror(error), *w->durable ? ", though said to be durable" : "");
	fflush(stdout);
	__atomic_add_fetch(&w->counts->failures, 1, __ATOMIC_RELAXED);
}

static void
fail_everywhere(struct worker *w)
{
	static const int errors[] = { ENOSPC, EDQUOT, EIO, EROFS, EFBIG, EINTR, ENOMEM, ENOLCK };
	struct failure none = { .at = 0 };
	uint32_t calls, i;
	size_t k;

	mailbox_make(&w->mailbox, w->seed);
	calls = run(w, &none);
	if (!*w->durable)
		bail("an UPDATE without any failure is wrong");
	for (i = 1; i <= calls; i++)
		for (k = 0; k < sizeof(errors) / sizeof(errors[0]); k++)
			fail_once(w, i, errors[k]);
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
	place_make(&w.place, "fail");
	while ((w.seed = __atomic_fetch_add(&counts->next, 1, __ATOMIC_RELAXED)) < end)
		fail_everywhere(&w);
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
	printf("1..1\n");
	ended = run_workers(counts, first, first + cases);
	well = ended && counts->failures == 0 && counts->calls > 0 && counts->befores > 0 && counts->afters > 0;
	printf("# %u mailboxes: %u failures of system calls tried, %u of them did not keep UPDATE from its end\n", cases,
	    counts->calls, counts->durable);
	printf("# found as before: %u, as after: %u\n", counts->befores, counts->afters);
	printf("%s 1 - whatever fails, the mailbox is before or after, and what was said is true\n", well ? "ok" : "not ok");
	return well ? 0 : 1;
}
