/* The process that makes dot-locks in a spool that only group mail can write: maildrop/keeper.h. */
#ifndef HELPER_LOCK_KEEPER_H
#define HELPER_LOCK_KEEPER_H

#include "accounts/account.h"
#include "maildrop/serve.h"

/*
 * Starts it when an mbox is among the account's mail locations and only root and a group may write to the spool: uid is then the
 * user's, gid the spool's, and nothing of root is left.  The socket to it (close-on-exec), or -1: there is none.
 */
int lock_keeper_start(const struct account *account, const struct maildrop_owner *owner, const char *spool);

#endif
