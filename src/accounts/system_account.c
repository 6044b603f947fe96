/* Runs as the service user, in postern-pam or in the child of one attempt. */
#include "accounts/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>

void
account_from_system(const char *name, struct account *account)
{
	const struct passwd *pw;
	int n = ACCOUNT_GROUPS;

	errno = 0;
	if ((pw = getpwnam(name)) == NULL) {
		if (errno == 0 || errno == ENOENT || errno == ESRCH)
			verdict(account, VERDICT_WRONG, "unknown");
		else
			verdict(account, VERDICT_TEMPORARY, "name-service");
		return;
	}
	account->uid = pw->pw_uid;
	account->gid = pw->pw_gid;
	/* The name as the system writes it: one that was typed in another letter case must not get another mailbox. */
	if (snprintf(account->name, sizeof(account->name), "%s", pw->pw_name) >= (int)sizeof(account->name) ||
	    snprintf(account->home, sizeof(account->home), "%s", pw->pw_dir) >= (int)sizeof(account->home)) {
		verdict(account, VERDICT_PERMANENT, "home-too-long");
		return;
	}
	if (getgrouplist(name, pw->pw_gid, account->groups, &n) == -1 && n <= ACCOUNT_GROUPS) {
		verdict(account, VERDICT_TEMPORARY, "name-service"); /* musl's errors; n is as it was, and there is one group */
		return;
	}
	account->groups_count = n < ACCOUNT_GROUPS ? n : ACCOUNT_GROUPS; /* of more, so many are there */
	verdict(account, VERDICT_RIGHT, "");
}
