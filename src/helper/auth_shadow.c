/* Runs as root until the entry is read. */
#include "helper/auth.h"
#include "helper/become_user.h"

void
auth_shadow(const struct attempt *attempt, struct account *account)
{
	static char text[4096];
	struct spwd room, *entry = NULL;
	int error = getspnam_r(attempt->name, &room, text, sizeof(text), &entry);

	become_service(attempt->service_uid, attempt->service_gid);
	account_from_system(attempt->name, account);
	if (error != 0)
		verdict(account, VERDICT_TEMPORARY, "name-service");
	else
		shadow_check(entry, attempt, account);
}
