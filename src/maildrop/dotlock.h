/*
 * Dot-locks: MAILBOX.lock, as Debian Policy 11.6, liblockfile and the delivery agents know it.
 *
 * In a spool that only group mail can write (Debian's /var/mail, 2775 root:mail) the user cannot make one.  Then the
 * helper, still root, forks a lock keeper (uid: the user, gid: mail) that knows one path and two verbs; it holds the
 * lock for as long as the pipe to it is open, so a helper that is killed leaves no lock behind.
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
 * One try, never waiting, for MAILBOX.lock; mailbox is an absolute path.  A stale lock (owner's pid dead, or old as
 * liblockfile judges it) is removed first.  No link is followed.
 */
enum dotlock_result dotlock_try(const char *mailbox);

/* Removes a lock that is stale, and does nothing else: a login that needs no locks cleans up after a crash, too. */
void dotlock_clean(const char *mailbox);

/* Sets the lock's time to now, so that others do not think it stale.  0 or -1. */
int dotlock_refresh(const char *mailbox);

/* Removes our lock; never another's. */
void dotlock_remove(const char *mailbox);

/* The lock keeper's side: answers 'l' (try) and 'u' (unlock) on sock until it closes; then removes what it holds. */
void dotlock_keep(int sock, const char *mailbox);

/* The helper's side of the keeper: as dotlock_try() and dotlock_remove(). */
enum dotlock_result keeper_try(int sock);
void keeper_remove(int sock);

#endif
