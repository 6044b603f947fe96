/*
 * The monitor: the process that inetd or systemd started, once the session has the client.  It never reads a client octet.
 * It starts the helper and postern-tls when the session first speaks to them, writes the log, and reaps.
 */
#ifndef SESSION_MONITOR_H
#define SESSION_MONITOR_H

#include <signal.h>
#include <sys/types.h>

#include "common/settings.h"
#include "session/peer.h"
#include "session/program.h"
#include "session/tally.h"

struct monitor {
	pid_t session;
	const struct tally *tally;
	const struct settings *settings;
	sigset_t unblocked;		/* the mask to wait with: SIGTERM is blocked from before the fork on */
	struct program helper, tls;	/* only their ends of the pairs have to be set */
	char peer[PEER_BYTES];
};

/* Returns when session, helper and postern-tls are gone and the line about them is written. */
void monitor_run(struct monitor *m);

#endif
