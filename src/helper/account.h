/* Whether an account may be served. */
#ifndef HELPER_ACCOUNT_H
#define HELPER_ACCOUNT_H

#include "accounts/account.h"

/*
 * What a child that need not have been root says: its strings get an end, its numbers have to be possible.  Root and uids below
 * minimum-uid are refused, and in personal mode everybody but the caller.
 */
void account_check(const struct attempt *attempt, struct account *account);

#endif
