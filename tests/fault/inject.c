/*
 * Stands in the place of postern-helper in a session of its own user: runs the real one, and lets one of its system calls on
 * files fail, or none.  What to do is in the file POSTERN_CONF.fault:
 *
 *	HELPER AT ERRNO FSIZE
 *
 * the real helper's path; which call, counted from the reading of the settings on (0: none); with what; and the limit on the
 * size of files, or -1.  In the end POSTERN_CONF.done says how many calls there were, and the number of the call that failed
 * (-1: none did, for instance because the call at that place has no such error).
 */
#include "mailbox.h"
#include "tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	const char *settings;
	char helper[400];
	unsigned int at;
	int error;
	long long fsize;
	uint32_t calls;
	int failed;
} fault = { .failed = -1 };

static void
run_helper(void *arg)
{
	char *argv[] = { arg, NULL };
	struct rlimit limit = { (rlim_t)fault.fsize, (rlim_t)fault.fsize };

	if (fault.fsize >= 0 && setrlimit(RLIMIT_FSIZE, &limit) == -1)
		_exit(127);
	execv(fault.helper, argv);
	_exit(127);
}

static enum trace_verdict
decide(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value)
{
	(void)arg;
	if (which == 1) { /* only the helper's own end may keep the session and the log open */
		close(STDERR_FILENO);
		close(STDERR_FILENO + 1);
	}
	fault.calls = which;
	if (which != fault.at || !traced_can_fail(call, fault.error))
		return TRACE_GO_ON;
	fault.failed = (int)call->number;
	*value = (uint64_t)fault.error;
	return TRACE_FAIL;
}

static void
read_fault(void)
{
	char path[512];
	FILE *f;

	if ((fault.settings = getenv("POSTERN_CONF")) == NULL)
		exit(127);
	snprintf(path, sizeof(path), "%s.fault", fault.settings);
	if ((f = fopen(path, "r")) == NULL ||
	    fscanf(f, "%399s %u %d %lld", fault.helper, &fault.at, &fault.error, &fault.fsize) != 4)
		exit(127);
	fclose(f);
}

static void
write_done(void)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s.done", fault.settings);
	if ((f = fopen(path, "w")) == NULL)
		exit(127);
	fprintf(f, "%u %d\n", (unsigned int)fault.calls, fault.failed);
	fclose(f);
}

int
main(int argc, char **argv)
{
	/* What comes before is the loader, the libraries, and the descriptors and signals (src/helper/sanitize.c). */
	struct tracer tracer = { .before = decide, .from = SYS_setsid, .reads = true };
	bool killed;

	(void)argc;
	read_fault();
	tracer_run(&tracer, run_helper, argv[0], &killed);
	write_done();
	return 0;
}
