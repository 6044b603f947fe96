/* The process that makes dot-locks in a spool that only group mail can write: maildrop/dotlock.h. */
#ifndef HELPER_LOCK_KEEPER_H
#define HELPER_LOCK_KEEPER_H

#include "helper/account.h"

/*
 * Starts it if the mbox stands in a folder of root's that a group can write and the user cannot: uid is then the user's, gid that
 * folder's.  The socket to it (close-on-exec), or -1: there is none, and none is needed.
 */
int lock_keeper_start(const struct account *account, const struct location *location);

#endif
