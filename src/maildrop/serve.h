/*
 * The helper's second phase: what runs as the mailbox's owner.  This and maildrop/keeper.h are all of this folder that
 * src/helper may include.
 */
#ifndef MAILDROP_SERVE_H
#define MAILDROP_SERVE_H

#include "common/wire.h"

/* Whose mail, and what the settings say of it. */
struct maildrop_owner {
	const char *user;		/* the account's name, printable (name_possible()) */
	const char *home;
	const char *mail;		/* mail-location as postern.conf(5) has it */
	const char *state_directory;	/* user's state folder is in it */
	unsigned long lock_timeout;	/* seconds to try for the mbox's locks */
};

/* What that comes to, once the user has looked. */
struct maildrop_plan {
	const char *user;		/* the account's name, printable (name_possible()) */
	enum maildrop_kind kind;
	const char *path;		/* absolute: the mbox file or the Maildir */
	const char *state;		/* mbox: the state folder, absolute; it may not exist yet if we may make it */
	int keeper;			/* socket of the lock keeper (maildrop/keeper.h), or -1: make dot-locks ourselves */
	unsigned long lock_timeout;
};

/*
 * Runs as the authenticated user.  Opens the maildrop, answers the login (WIRE_OPENED or WIRE_REFUSED), then the
 * session's requests, until UPDATE or until the session goes away; one that goes away has not said QUIT, and nothing
 * is removed (RFC 1939, section 6).  The reason of every refusal goes to the log.  keeper: the socket of a lock keeper that may be
 * there, or -1.  Returns the exit status.
 */
int maildrop_serve(int session, const struct maildrop_owner *owner, int keeper);

#endif
