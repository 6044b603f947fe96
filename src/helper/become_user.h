/* The irreversible drop: from root to the mailbox's owner. */
#ifndef HELPER_BECOME_USER_H
#define HELPER_BECOME_USER_H

#include "accounts/account.h"

/*
 * Takes the account's ids and groups for good and proves it: all three ids of each kind, no capability, root not to be had
 * back.  Ends the process where any of it does not hold.  In a user's own run there is nothing to drop; the proof is the same.
 */
void become_user(const struct account *account);

/*
 * The same with the service user's ids, for what has to be decided but not by root: in a child of the helper, which is killed when the
 * helper ends.
 */
void become_service(uid_t uid, gid_t gid);

#endif
