/*
 * The locks of an mbox, as every other program on the machine knows them: fcntl on the whole file and the dot-lock.
 *
 * Half of those programs take the dot-lock first, the other half fcntl (Debian Policy 11.6 allows either if nobody waits).
 * So neither is ever waited for while the other is held: both are tried, and on a miss both are given back for a random
 * moment.  The fcntl lock belongs to the open file (F_OFD_SETLK): it excludes POSIX locks, and closing some other
 * descriptor of the file does not lose it.  It covers the whole file, since procmail locks from its end on.
 *
 * Where the spool lets us make no dot-lock and there is no lock keeper (a sticky folder, or one that is not ours), fcntl
 * has to do, as it does for popa3d, and the log says so; a dot-lock of somebody else is still respected there.
 */
#ifndef MAILDROP_MBOX_LOCK_H
#define MAILDROP_MBOX_LOCK_H

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "maildrop/maildrop.h"

struct mbox_lock {
	const struct maildrop_plan *plan;
	int fd;				/* O_RDWR, locked; -1: there is no mbox, and nothing is locked */
	struct stat st;			/* of fd, when it was locked */
	bool dotlock;
	struct timespec refreshed;	/* CLOCK_MONOTONIC */
};

/*
 * Opens and locks plan->path, for plan->lock_timeout seconds at most; busy is what a miss is called then.  The file at
 * that path is the one locked, and it is regular, ours and has one name; all else is refused and logged.
 */
enum md_result mbox_lock(struct mbox_lock *lock, const struct maildrop_plan *plan, enum md_result busy);

/* Keeps others from thinking the dot-lock stale: to be called at least once a minute while it is held. */
void mbox_lock_refresh(struct mbox_lock *lock);

/* Gives both up and closes fd. */
void mbox_unlock(struct mbox_lock *lock);

/*
 * For who only reads: the fcntl lock alone, shared and tried once, on a descriptor of mbox_open_reader(); then a look for the dot-lock.
 * False: somebody holds one of them, or that cannot be told.  Dovecot reads like this (mbox_read_locks), and Debian's programs take
 * fcntl whatever else they take; those that do not (mailutils) are found out afterwards.
 */
bool mbox_lock_shared(const struct maildrop_plan *plan, int fd);
void mbox_unlock_shared(int fd);

/*
 * To be asked under that lock after reading: whether nobody holds the dot-lock, and then the file is still the one at that path and as in
 * st, which was so before mbox_lock_shared().  In this order: who gives the dot-lock up before we look has changed the file by then.
 */
bool mbox_left_alone(const struct maildrop_plan *plan, int fd, const struct stat *st);

/*
 * Opens plan->path O_RDONLY, checked in the same way but not locked; *fd is -1 when there is none.  This is the
 * descriptor that the session gets.
 */
enum md_result mbox_open_reader(const struct maildrop_plan *plan, int *fd, struct stat *st);

/* A note: what happened to the mbox, and errno unless error is 0. */
void mbox_note(int priority, const struct maildrop_plan *plan, const char *what, int error);

#endif
