/* Runs as root. */
#include "helper/account.h"

#include <string.h>
#include <unistd.h>

#include "common/text.h"

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
	else if (account->uid == 0 || account->gid == 0 || account->uid == (uid_t)-1 || account->gid == (gid_t)-1 ||
	    (!attempt->personal && account->uid < attempt->settings->minimum_uid))
		verdict(account, VERDICT_WRONG, "uid");
	else if (!name_possible(account->name, strlen(account->name)))
		verdict(account, VERDICT_WRONG, "name"); /* PAM may have changed it */
	if (account->mail[0] == '\0')
		strcpy(account->mail, attempt->settings->mail_location);
}
