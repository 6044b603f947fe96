/*
 * Is it their password?  Asked in a child of the helper that lives for one attempt: what PAM's modules load, leave open, leave
 * in memory or never come back from goes with it.
 */
#ifndef HELPER_AUTH_H
#define HELPER_AUTH_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/limits.h"
#include "common/settings.h"

/* An account may be in more groups; which mailbox it can open does not depend on the others. */
#define ACCOUNT_GROUPS 64

enum verdict {
	VERDICT_WRONG = 1,	/* name, password or account: the client is told no more */
	VERDICT_TEMPORARY,
	VERDICT_PERMANENT,
	VERDICT_RIGHT
};

struct attempt {
	const struct settings *settings;
	bool personal;		/* only the caller's own uid */
	const char *peer;	/* numeric address, or "local" */
	char name[NAME_OCTETS + 1];
	char password[PASSWORD_OCTETS + 1];
};

struct account {
	enum verdict verdict;
	char reason[40];	/* one word for the log, when it is not VERDICT_RIGHT */
	char name[NAME_OCTETS + 1];
	uid_t uid;
	gid_t gid;
	int groups_count;
	gid_t groups[ACCOUNT_GROUPS];
	char home[PATH_BYTES];
	char mail[SETTING_BYTES];	/* its own mail-location, or the settings' */
};

/*
 * One attempt with a time limit of LOGIN_SECONDS.  location: which of the account's mail locations (account.h) is the one.  Ends
 * the process when the session goes away meanwhile.
 */
void authenticate(struct attempt *attempt, struct account *account, unsigned char *location);

/* The three ways; each fills account (name, ids, home, mail) and its verdict.  In the child, as root. */
void auth_pam(const struct attempt *attempt, struct account *account);
void auth_users(const struct attempt *attempt, struct account *account);
void auth_shadow(const struct attempt *attempt, struct account *account);

/* Sets verdict and reason. */
void verdict(struct account *account, enum verdict v, const char *reason);

/* Whether crypt(3) makes hash of password; false for a hash that is none ("*", "!", empty). */
bool password_matches(const char *password, const char *hash);

#endif
