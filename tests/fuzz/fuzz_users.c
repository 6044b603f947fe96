/* The users file, as it may have been made by hand; and what becomes of its mail field. */
#include "fuzz.h"

#include <string.h>
#include <unistd.h>

#include "helper/account.h"
#include "maildrop/location.h"

/* password.c's, without the minutes that a costly hash would take: half of all passwords are right. */
bool
password_matches(const char *password, const char *hash)
{
	return (strlen(hash) + strlen(password)) % 2 == 0;
}

void
verdict(struct account *account, enum verdict v, const char *reason)
{
	account->verdict = v;
	strncpy(account->reason, reason, sizeof(account->reason) - 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings settings = { .mail_location = "mbox:/var/mail/%u", .minimum_uid = 1000 };
	static struct account account;
	static struct location location;
	struct attempt attempt = { .settings = &settings, .personal = true, .peer = "local", .name = "alice", .password = "x" };
	struct maildrop_owner owner;
	FILE *file;
	unsigned i;

	FUZZ_CHECK((file = fopen(fuzz_file("users", data, size), "r")) != NULL);
	memset(&account, 0, sizeof(account));
	users_file_check(file, &attempt, &account);
	fclose(file);
	FUZZ_CHECK(account.verdict >= VERDICT_WRONG && account.verdict <= VERDICT_RIGHT);
	if (account.verdict != VERDICT_RIGHT)
		return 0;
	account_check(&attempt, &account);
	FUZZ_CHECK(account.mail[0] != '\0' && account.groups_count == 1);
	owner = (struct maildrop_owner){ .user = account.name, .home = account.home, .mail = account.mail };
	for (i = 0; i < 8; i++)
		if (location_parse(&owner, i, &location) == 1)
			FUZZ_CHECK(location.path[0] == '/' && strlen(location.path) < PATH_BYTES);
	return 0;
}
