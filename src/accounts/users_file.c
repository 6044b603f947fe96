/* Runs as the service user, in the child of one attempt.  postern-users(5) has the format, Dovecot's passwd-file. */
#include "accounts/account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "common/number.h"

enum { F_NAME, F_PASSWORD, F_UID, F_GID, F_GECOS, F_HOME, F_SHELL, F_EXTRA, F_COUNT };

/* Cuts the line at its colons; the last field keeps the rest, as paths in it may have some. */
static void
split(char *line, char *fields[F_COUNT])
{
	static char empty[1];
	int i;

	line[strcspn(line, "\n")] = '\0';
	for (i = 0; i < F_COUNT; i++)
		fields[i] = line == NULL ? empty : i < F_EXTRA ? strsep(&line, ":") : line;
}

/* The crypt(3) hash behind an optional {SCHEME}; NULL for a scheme that crypt does not do. */
static const char *
hash_of(const char *password)
{
	static const char *const schemes[] = { "{CRYPT}", "{SHA512-CRYPT}", "{SHA256-CRYPT}", "{BLF-CRYPT}", "{MD5-CRYPT}" };
	size_t i;

	if (password[0] != '{')
		return password;
	for (i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncasecmp(password, schemes[i], strlen(schemes[i])) == 0)
			return password + strlen(schemes[i]);
	return NULL;
}

/* "userdb_mail=..." or "mail=..." among the extra fields; they are separated by spaces. */
static void
take_mail(char *extra, char *mail)
{
	char *word;

	while ((word = strsep(&extra, " \t")) != NULL) {
		if (strncmp(word, "userdb_", 7) == 0)
			word += 7;
		if (strncmp(word, "mail=", 5) == 0 && strlen(word + 5) < SETTING_BYTES)
			strcpy(mail, word + 5);
	}
}

/* A uid or gid; in personal mode it may be left out.  0 or -1. */
static int
take_id(const char *field, bool personal, unsigned own, unsigned *id)
{
	uint64_t value;

	if (field[0] == '\0' && personal) {
		*id = own;
		return 0;
	}
	if (number_parse(field, strlen(field), &value) == -1 || value >= (uint32_t)-1)
		return -1;
	*id = (unsigned)value;
	return 0;
}

static void
fill_account(const struct attempt *attempt, char *fields[F_COUNT], struct account *account)
{
	if (take_id(fields[F_UID], attempt->personal, getuid(), &account->uid) == -1 ||
	    take_id(fields[F_GID], attempt->personal, getgid(), &account->gid) == -1 ||
	    strlen(fields[F_HOME]) >= sizeof(account->home)) {
		log_note(LOG_ERR, "users-file path=\"%s\" error=\"bad uid, gid or home of the user that logs in\"",
		    attempt->settings->users_file);
		verdict(account, VERDICT_PERMANENT, "users-file");
		return;
	}
	strcpy(account->name, fields[F_NAME]);
	strcpy(account->home, fields[F_HOME]);
	account->groups[0] = account->gid;
	account->groups_count = 1;
	take_mail(fields[F_EXTRA], account->mail);
	verdict(account, VERDICT_RIGHT, "");
}

static void
check_entry(const struct attempt *attempt, char *fields[F_COUNT], struct account *account)
{
	const char *hash = hash_of(fields[F_PASSWORD]);

	if (hash == NULL) {
		/* To the client it is a wrong password: another answer would tell that the name exists. */
		log_note(LOG_ERR, "users-file path=\"%s\" error=\"password scheme that crypt(3) does not know\"",
		    attempt->settings->users_file);
		password_matches(attempt->password, "");
		verdict(account, VERDICT_WRONG, "scheme");
	} else if (password_matches(attempt->password, hash)) {
		fill_account(attempt, fields, account);
	} else {
		verdict(account, VERDICT_WRONG, "password");
	}
}

void
users_file_check(FILE *file, const struct attempt *attempt, struct account *account)
{
	char *line = NULL, *fields[F_COUNT], *likeness = NULL;
	const char *hash;
	size_t size = 0;

	while (account->verdict == 0 && getline(&line, &size, file) != -1) {
		if (line[0] == '#')
			continue;
		split(line, fields);
		if (strcmp(fields[F_NAME], attempt->name) == 0)
			check_entry(attempt, fields, account);
		else if (likeness == NULL && (hash = hash_of(fields[F_PASSWORD])) != NULL && hash[0] == '$')
			likeness = strdup(hash);
	}
	if (ferror(file))
		verdict(account, VERDICT_TEMPORARY, "users-file");
	/* A name that is not there costs what a wrong password costs: the same hash as another entry's. */
	if (account->verdict == 0) {
		password_matches(attempt->password, likeness != NULL ? likeness : "");
		verdict(account, VERDICT_WRONG, "unknown");
	}
	free(line);
	free(likeness);
}
