/*
 * The monitor: the process that inetd or systemd started, once the session has the client.  It never reads a client octet.
 * It starts the helper when the session first speaks to it, writes the log, and reaps.
 */
#ifndef SESSION_MONITOR_H
#define SESSION_MONITOR_H

#include <signal.h>
#include <sys/types.h>

#include "session/peer.h"
#include "session/tally.h"

struct monitor {
	pid_t session;
	const struct tally *tally;
	unsigned long patience;		/* seconds for the helper to end once the session is gone: its owner can stop it */
	sigset_t unblocked;		/* the mask to wait with: SIGTERM is blocked from before the fork on */
	int helper_end;			/* the helper's end of the pair: readable when the session has written to it */
	char peer[PEER_BYTES];
};

/* Returns when session and helper are gone and the line about them is written. */
void monitor_run(struct monitor *m);

#endif
