/*
 * What the session leaves for the log: numbers in a page that it shares with the monitor.  The monitor reads it once the
 * session is gone; there is nothing in it to parse, and a session taken over can lie in its own line only.
 */
#ifndef SESSION_TALLY_H
#define SESSION_TALLY_H

#include <stdint.h>

enum session_end {
	END_KILLED,		/* nothing was written: a signal */
	END_QUIT,
	END_CLOSED,		/* the client went away */
	END_IDLE,
	END_STALLED,		/* the client does not read */
	END_LOGIN_TIMEOUT,
	END_BAD_COMMANDS,
	END_LOGIN_FAILURES,
	END_REFUSED,		/* the maildrop could not be opened; the helper's line says why */
	END_UPDATE_FAILED,
	END_CHANGED,		/* the maildrop changed while a message or a list was being sent */
	END_HELPER,		/* the helper broke the conversation */
	END_TLS,		/* the tunnel could not be made; a line of postern-tls says why */
	END_SANDBOX,		/* a system call outside of the filter */
	END_ERROR,		/* our own set-up failed */
	END_COUNT
};

struct tally {
	volatile uint32_t end;
	volatile int32_t refused_call;
	volatile uint64_t retrieved;	/* messages that RETR sent whole */
	volatile uint64_t octets;	/* in them */
	volatile uint64_t deleted;	/* messages removed in UPDATE */
	volatile uint64_t left;		/* messages in the maildrop at login, and after UPDATE */
};

#endif
