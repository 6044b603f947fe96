/* Runs as root. */
#include "helper/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/text.h"

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
	if (getgrouplist(name, pw->pw_gid, account->groups, &n) == -1)
		n = ACCOUNT_GROUPS; /* filled as far as it goes */
	account->groups_count = n;
	verdict(account, VERDICT_RIGHT, "");
}

void
account_check(const struct attempt *attempt, struct account *account)
{
	account->name[NAME_OCTETS] = account->home[PATH_BYTES - 1] = account->mail[SETTING_BYTES - 1] = '\0';
	account->reason[sizeof(account->reason) - 1] = '\0';
	if (account->verdict < VERDICT_WRONG || account->verdict > VERDICT_RIGHT || account->groups_count < 0 ||
	    account->groups_count > ACCOUNT_GROUPS)
		verdict(account, VERDICT_TEMPORARY, "failed");
	if (account->verdict != VERDICT_RIGHT)
		return;
	if (attempt->personal && (account->uid != getuid() || account->gid != getgid()))
		verdict(account, VERDICT_WRONG, "not-own-uid");
	else if (account->uid == 0 || account->gid == 0 || account->uid == (uid_t)-1 || account->gid == (gid_t)-1)
		verdict(account, VERDICT_WRONG, "uid");
	else if (!attempt->personal && account->uid < attempt->settings->minimum_uid)
		verdict(account, VERDICT_WRONG, "uid");
	else if (!name_possible(account->name, strlen(account->name)))
		verdict(account, VERDICT_WRONG, "name"); /* PAM may have changed it */
	if (account->mail[0] == '\0')
		strcpy(account->mail, attempt->settings->mail_location);
}
