/* Runs as the service user, in the child of one attempt.  shadow(5) and crypt(3), for systems without PAM. */
#include "accounts/account.h"

#include <string.h>
#include <time.h>

/* What PAM's account management would ask: shadow(5).  NULL, or the reason word. */
static const char *
lapsed(const struct spwd *sp)
{
	long today = (long)(time(NULL) / 86400);

	if (sp->sp_expire > 0 && today >= sp->sp_expire)
		return "expired";
	if (sp->sp_lstchg == 0)
		return "password-expired";
	if (sp->sp_lstchg > 0 && sp->sp_max >= 0 && sp->sp_max < 99999 && today > sp->sp_lstchg + sp->sp_max)
		return "password-expired";
	return NULL;
}

static const char *
refusal(const struct spwd *entry)
{
	if (entry == NULL)
		return "unknown";
	if (strlen(entry->sp_pwdp) < 13 || entry->sp_pwdp[0] == '!' || entry->sp_pwdp[0] == '*')
		return "locked";
	return "password";
}

void
shadow_check(const struct spwd *entry, const struct attempt *attempt, struct account *account)
{
	const char *why;

	if (!password_matches(attempt->password, entry != NULL ? entry->sp_pwdp : ""))
		verdict(account, VERDICT_WRONG, refusal(entry));
	else if ((why = lapsed(entry)) != NULL)
		verdict(account, VERDICT_WRONG, why);
}
