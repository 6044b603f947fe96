#include "session/sandbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/limits.h"

#ifdef SANDBOX

/* The most frequent first.  Each is there for: */
static const struct sock_filter calls[] = {
	FILTER_BEGIN,
	FILTER_ALLOW(sendto),		/* octets to the client */
	FILTER_ALLOW(read),		/* octets from the client */
	FILTER_ALLOW(recvfrom),		/* the same, from one that is quick */
	FILTER_ALLOW(sched_yield),	/* between two looks for them */
#ifdef SYS_poll
	FILTER_ALLOW(poll),		/* waiting for either */
#endif
	FILTER_ALLOW(ppoll),
	FILTER_ALLOW(pread64),		/* the table, the mbox, a message */
	FILTER_ALLOW(fstat),		/* whether it changed */
	FILTER_ALLOW(recvmsg),		/* the helper */
	FILTER_ALLOW(sendmsg),
	FILTER_ALLOW(close),
	FILTER_ALLOW_IF(close_range, 2, 0),	/* a Maildir's messages, those that came together at once */
	FILTER_ALLOW(shutdown),		/* the end */
	FILTER_ALLOW(write),		/* a client behind a pipe or a file */
	FILTER_ALLOW(clock_gettime),	/* where the vdso does not have it */
	FILTER_ALLOW_WITHOUT(mmap, 2, PROT_EXEC),	/* bitmaps */
	FILTER_ALLOW_IF(fcntl, 1, F_GET_SEALS),
	FILTER_ALLOW(restart_syscall),
	FILTER_ALLOW(rt_sigreturn),
	FILTER_ALLOW(exit_group),
	FILTER_END
};

static struct tally *refusals;

static void
refused(int number)
{
	refusals->refused_call = number;
	refusals->end = END_SANDBOX;
}

/* The filter below lets nothing be opened, and little comes in a message: no lower limit is needed. */
static int
limit_descriptors(void)
{
	struct rlimit have;

	if (getrlimit(RLIMIT_NOFILE, &have) == -1)
		return -1;
	return filter_limit(RLIMIT_NOFILE, have.rlim_max < DESCRIPTORS_UNDER_WAY ? have.rlim_max : DESCRIPTORS_UNDER_WAY);
}

static int
set_limits(int out)
{
	struct stat st;

	/* A script's output may be a file; nothing else is ever written. */
	if (fstat(out, &st) == 0 && !S_ISREG(st.st_mode) && filter_limit(RLIMIT_FSIZE, 0) == -1)
		return -1;
	return limit_descriptors() == -1 || filter_limit(RLIMIT_NPROC, 0) == -1 || filter_limit(RLIMIT_CORE, 0) == -1 ? -1 : 0;
}

static int
enter(struct tally *tally, int out)
{
	refusals = tally;
	if (set_limits(out) == -1 || filter_no_files() == -1)
		return -1;
	return filter_install(calls, sizeof(calls) / sizeof(calls[0]), refused);
}

#else

static int
enter(struct tally *tally, int out)
{
	(void)tally;
	(void)out;
	return 0;
}

#endif

int
sandbox_enter(struct tally *tally, int out)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		return -1;
	return enter(tally, out);
}
