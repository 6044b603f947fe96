/* What the helper does before it reads anything: all that a process inherits, and who started it. */
#ifndef HELPER_SANITIZE_H
#define HELPER_SANITIZE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/limits.h"

/* The monitor puts the pair's end here and the log on descriptor 2; there is nothing else. */
#define SESSION_SOCKET 3

struct start {
	bool personal;			/* not setuid: serves its caller only */
	char settings[PATH_BYTES];	/* which postern.conf(5) */
	char peer[64];			/* the client's numeric address, or "local" */
	uid_t service_uid;		/* the service user; in personal mode the caller */
	gid_t service_gid;
};

/*
 * The inherited state is replaced, item by item, and the caller is checked.  What does not hold ends the process with a line in
 * the log and, where the session can hear it, [SYS/PERM].
 */
void sanitize(int argc, struct start *start);

/* Refuses every login of this connection and ends: why goes to the log. */
void give_up(const char *why, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
