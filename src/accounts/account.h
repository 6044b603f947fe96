/*
 * An attempt to log in, and the account that it is about.  This folder decides by the users file and by crypt(3) hashes; it runs in
 * the attempt's own child, or in postern-pam, as the service user: what root has opened or looked up for it is handed over.
 */
#ifndef ACCOUNTS_ACCOUNT_H
#define ACCOUNTS_ACCOUNT_H

#include <shadow.h>
#include <stdbool.h>
#include <stdio.h>
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
	uid_t service_uid;	/* who decides where root need not */
	gid_t service_gid;
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
	char mail[SETTING_BYTES];	/* its own mail-location, or empty: the settings' */
};

/* Sets verdict and reason. */
void verdict(struct account *account, enum verdict v, const char *reason);

/*
 * Fills account with what the system knows of name: ids, groups, home.  Sets the verdict to RIGHT, or WRONG when there is no such
 * name.  postern-pam asks the name service; the helper, where it is linked with musl, /etc/passwd and /etc/group.
 */
void account_from_system(const char *name, struct account *account);

/* Whether crypt(3) makes hash of password; false for a hash that is none ("*", "!", empty). */
bool password_matches(const char *password, const char *hash);

/* The users file, postern-users(5), read from its beginning: fills account and its verdict. */
void users_file_check(FILE *file, const struct attempt *attempt, struct account *account);

/*
 * The entry of shadow(5), NULL for a name that has none: password and dates.  An account that was filled from the name service
 * keeps its verdict if they are right.
 */
void shadow_check(const struct spwd *entry, const struct attempt *attempt, struct account *account);

#endif
