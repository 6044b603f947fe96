/*
 * Dot-locks: MAILBOX.lock, as Debian Policy 11.6, liblockfile and the delivery agents know it.
 */
#ifndef MAILDROP_DOTLOCK_H
#define MAILDROP_DOTLOCK_H

#include <stdbool.h>
#include <sys/types.h>

enum dotlock_result {
	DOTLOCK_OK,
	DOTLOCK_HELD,		/* somebody else's, and alive */
	DOTLOCK_FAILED		/* errno tells */
};

/*
 * One try, never waiting, for MAILBOX.lock; mailbox is the path of the mbox.  A stale lock (owner's pid dead, or old as
 * liblockfile judges it) is removed first.  No link is followed.
 */
enum dotlock_result dotlock_try(const char *mailbox);

/* Whether there is one, stale or not, or there may be. */
bool dotlock_exists(const char *mailbox);

/* Removes a lock that is stale, and what a kill left on the way to one: a login that needs no locks cleans up, too. */
void dotlock_clean(const char *mailbox);

/* Sets the lock's time to now, so that others do not think it stale.  0 or -1. */
int dotlock_refresh(const char *mailbox);

/* Removes our lock; never another's. */
void dotlock_remove(const char *mailbox);

/* Whether dotlock_try() made a lock that dotlock_remove() has not removed. */
bool dotlock_held(void);

#endif
