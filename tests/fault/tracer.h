/*
 * Runs a function, or the program that it turns into, in a child and stops at its system calls, with ptrace(2): the code under
 * test knows nothing of it.
 */
#ifndef FAULT_TRACER_H
#define FAULT_TRACER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A system call that changes files or waits for the disk. */
struct traced_call {
	uint64_t number;	/* of the system call */
	uint64_t args[6];
	int64_t result;		/* after it */
	bool writes;		/* write, pwrite64: args[2] is a length that can be shortened */
};

/* What to do with a call that is about to be made. */
enum trace_verdict {
	TRACE_GO_ON,
	TRACE_KILL_AFTER,	/* SIGKILL when it has been made */
	TRACE_TEAR,		/* the same, and only *value bytes of it are written */
	TRACE_FAIL		/* it is not made, and fails with errno *value */
};

struct tracer {
	/* Before the call; which counts from 1. */
	enum trace_verdict (*before)(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value);
	/* After it; may be NULL. */
	void (*after)(void *arg, pid_t child, const struct traced_call *call);
	void *arg;
	uint64_t from;		/* nothing is stopped at before the first system call of this number, if not 0 */
	bool reads;		/* stop at calls that only look at files, too */
};

/* Null, or why this machine or these rights do not allow it. */
const char *tracer_missing(void);

/*
 * Forks and runs body(arg) there under tracer.  Returns how many calls were made.  *killed: it did not come to its
 * end.  Processes that the child starts are not traced.
 */
uint32_t tracer_run(const struct tracer *tracer, void (*body)(void *arg), void *body_arg, bool *killed);

/* Whether the call may fail with that errno: what manual pages and file systems have for it. */
bool traced_can_fail(const struct traced_call *call, int error);

/* Copies len bytes of the child's memory. */
void traced_read(pid_t child, uint64_t address, void *to, size_t len);

/* A path there, which ends with NUL; one that is longer is cut. */
#define TRACED_PATH 512
void traced_path(pid_t child, uint64_t address, char path[TRACED_PATH]);

/* What a descriptor of the child leads to, as /proc shows it; an empty text for none. */
void traced_fd(pid_t child, uint64_t fd, char path[TRACED_PATH]);

#endif
