#include "accounts/account.h"

void
verdict(struct account *account, enum verdict v, const char *reason)
{
	account->verdict = v;
	snprintf(account->reason, sizeof(account->reason), "%s", reason);
}
