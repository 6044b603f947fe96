/* Runs as the service user, in the child of one attempt.  shadow(5) and crypt(3), for systems without PAM. */
#include "accounts/account.h"

#include <crypt.h>
#include <stdlib.h>
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

/* A name that is not there costs what a wrong password costs, by the method that passwd(1) would use. */
static void
pretend(const char *password)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	struct crypt_data *data = calloc(1, sizeof(*data));

	if (data != NULL && crypt_gensalt_rn(NULL, 0, NULL, 0, setting, sizeof(setting)) != NULL)
		crypt_r(password, setting, data);
	free(data);
}

void
shadow_check(const struct spwd *entry, const struct attempt *attempt, struct account *account)
{
	const char *why;

	if (entry == NULL || strlen(entry->sp_pwdp) < 13) {
		pretend(attempt->password);
		verdict(account, VERDICT_WRONG, entry == NULL ? "unknown" : "locked");
	} else if (!password_matches(attempt->password, entry->sp_pwdp)) {
		verdict(account, VERDICT_WRONG, entry->sp_pwdp[0] == '!' || entry->sp_pwdp[0] == '*' ? "locked" : "password");
	} else if ((why = lapsed(entry)) != NULL) {
		verdict(account, VERDICT_WRONG, why);
	}
}
