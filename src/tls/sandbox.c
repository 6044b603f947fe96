/* Runs as the service user. */
#include "tls/sandbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/logrecord.h"

#ifdef SANDBOX

/* 0 to 3, and the client's two. */
#define DESCRIPTORS 6

/* A handshake takes a few hundred kilobytes; OpenSSL's own limits on what a client may send keep it there. */
#define DATA_BYTES (64 << 20)

/* The most frequent first.  Each is there for: */
static const struct sock_filter calls[] = {
	FILTER_BEGIN,
	FILTER_ALLOW(recvfrom),		/* the session */
	FILTER_ALLOW(write),		/* the client */
	FILTER_ALLOW(read),
#ifdef SYS_poll
	FILTER_ALLOW(poll),
#endif
	FILTER_ALLOW(ppoll),
	FILTER_ALLOW(sendto),		/* the session, the log */
	FILTER_ALLOW(clock_gettime),
	FILTER_ALLOW(recvmsg),		/* the client's descriptors */
	FILTER_ALLOW_IF(fcntl, 1, F_SETFL),
	FILTER_ALLOW(close),
	FILTER_ALLOW(shutdown),
	/* OpenSSL: random numbers, memory, whether it was forked, locks */
	FILTER_ALLOW(getrandom),
	FILTER_ALLOW(brk),
	FILTER_ALLOW_WITHOUT(mmap, 2, PROT_EXEC),
	FILTER_ALLOW(munmap),
	FILTER_ALLOW_WITHOUT(mprotect, 2, PROT_EXEC),
	FILTER_ALLOW(mremap),
	FILTER_ALLOW(madvise),
	FILTER_ALLOW(getpid),
	FILTER_ALLOW(futex),
#ifdef SYS_time
	FILTER_ALLOW(time),		/* where the vdso does not have it */
#endif
	FILTER_ALLOW(gettimeofday),
	FILTER_ALLOW(restart_syscall),
	FILTER_ALLOW(rt_sigreturn),
	FILTER_ALLOW(exit_group),
	FILTER_END
};

static void
refused(int number)
{
	log_note(LOG_ERR, "sandbox call=%s", syscall_name(number));
}

static int
enter(void)
{
	if (filter_limit(RLIMIT_FSIZE, 0) == -1 || filter_limit(RLIMIT_NOFILE, DESCRIPTORS) == -1 ||
	    filter_limit(RLIMIT_NPROC, 0) == -1 || filter_limit(RLIMIT_DATA, DATA_BYTES) == -1 || filter_no_files() == -1)
		return -1;
	return filter_install(calls, sizeof(calls) / sizeof(calls[0]), refused);
}

#else

static int
enter(void)
{
	return 0;
}

#endif

int
tls_sandbox(void)
{
	return enter();
}
