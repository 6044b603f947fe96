/* Whether an account may be served, and where its mail is. */
#ifndef HELPER_ACCOUNT_H
#define HELPER_ACCOUNT_H

#include "common/wire.h"
#include "helper/auth.h"

/* Fills account from the name service: ids, groups, home.  Sets the verdict to RIGHT, or WRONG when there is no such name. */
void account_from_system(const char *name, struct account *account);

/* Root and uids below minimum-uid are refused, and in personal mode everybody but the caller. */
void account_check(const struct attempt *attempt, struct account *account);

struct location {
	enum maildrop_kind kind;
	bool in_home;		/* "~": the user's to lay links in */
	char path[PATH_BYTES];
};

/*
 * Location number index (from 0) of the list in account->mail, "~" and %u filled in.  1, or 0 when there are no more, or -1 when
 * it is not as postern.conf(5) wants it.
 */
int account_location(const struct account *account, unsigned index, struct location *location);

/* As the user: the first location that exists, else the last of the list.  Its index. */
unsigned char account_choose_location(const struct account *account);

#endif
