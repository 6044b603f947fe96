/* Runs as root until the entry is read. */
#include "helper/auth.h"
#include "helper/become_user.h"

void
auth_shadow(const struct attempt *attempt, struct account *account)
{
	const struct spwd *entry = getspnam(attempt->name);

	become_service(attempt);
	account_from_system(attempt->name, account);
	shadow_check(entry, attempt, account);
}
