/* Runs as root until what the system knows of the name is read. */
#include "helper/account.h"
#include "helper/auth.h"
#include "helper/become_user.h"

void
auth_shadow(const struct attempt *attempt, struct account *account)
{
	const struct spwd *entry = getspnam(attempt->name);

	account_from_system(attempt->name, account);
	become_service(attempt);
	shadow_check(entry, attempt, account);
}
