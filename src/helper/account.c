/* Runs as root; account_choose_location() as the user. */
#include "helper/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/text.h"

void
account_from_system(const char *name, struct account *account)
{
	const struct passwd *pw;
	int n = ACCOUNT_GROUPS;

	errno = 0;
	if ((pw = getpwnam(name)) == NULL) {
		if (errno == 0 || errno == ENOENT || errno == ESRCH)
			verdict(account, VERDICT_WRONG, "unknown");
		else
			verdict(account, VERDICT_TEMPORARY, "name-service");
		return;
	}
	account->uid = pw->pw_uid;
	account->gid = pw->pw_gid;
	/* The name as the system writes it: one that was typed in another letter case must not get another mailbox. */
	if (snprintf(account->name, sizeof(account->name), "%s", pw->pw_name) >= (int)sizeof(account->name) ||
	    snprintf(account->home, sizeof(account->home), "%s", pw->pw_dir) >= (int)sizeof(account->home)) {
		verdict(account, VERDICT_PERMANENT, "home-too-long");
		return;
	}
	if (getgrouplist(name, pw->pw_gid, account->groups, &n) == -1)
		n = ACCOUNT_GROUPS; /* filled as far as it goes */
	account->groups_count = n;
	verdict(account, VERDICT_RIGHT, "");
}

void
account_check(const struct attempt *attempt, struct account *account)
{
	if (attempt->personal && (account->uid != getuid() || account->gid != getgid()))
		verdict(account, VERDICT_WRONG, "not-own-uid");
	else if (account->uid == 0 || account->gid == 0 || account->uid == (uid_t)-1 || account->gid == (gid_t)-1)
		verdict(account, VERDICT_WRONG, "uid");
	else if (!attempt->personal && account->uid < attempt->settings->minimum_uid)
		verdict(account, VERDICT_WRONG, "uid");
	else if (!name_possible(account->name, strlen(account->name)))
		verdict(account, VERDICT_WRONG, "name"); /* PAM may have changed it */
	if (account->mail[0] == '\0')
		strcpy(account->mail, attempt->settings->mail_location);
}

/* Copies len octets of text with %u filled in.  0, or -1. */
static int
expand(const struct account *account, const char *text, size_t len, char *out, size_t size)
{
	size_t used = strlen(out), i, name_len = strlen(account->name);

	for (i = 0; i < len; i++) {
		if (text[i] != '%') {
			if (used + 2 > size)
				return -1;
			out[used++] = text[i];
			continue;
		}
		if (++i == len || text[i] != 'u' || used + name_len + 1 > size)
			return -1;
		memcpy(out + used, account->name, name_len);
		used += name_len;
	}
	out[used] = '\0';
	return 0;
}

/* One word of the list: "mbox:PATH" or "maildir:PATH". */
static int
parse_location(const struct account *account, const char *word, size_t len, struct location *location)
{
	if (len > 5 && strncmp(word, "mbox:", 5) == 0) {
		location->kind = KIND_MBOX;
		word += 5;
		len -= 5;
	} else if (len > 8 && strncmp(word, "maildir:", 8) == 0) {
		location->kind = KIND_MAILDIR;
		word += 8;
		len -= 8;
	} else {
		return -1;
	}
	if (memchr(word, ':', len) != NULL)
		return -1; /* Dovecot's options: to ignore them could mean to serve an empty maildrop */
	location->in_home = word[0] == '~';
	location->path[0] = '\0';
	if (location->in_home) {
		if (account->home[0] != '/' || (len > 1 && word[1] != '/'))
			return -1;
		strcpy(location->path, account->home);
		word++;
		len--;
	}
	if (expand(account, word, len, location->path, sizeof(location->path)) == -1)
		return -1;
	return location->path[0] == '/' && strstr(location->path, "/../") == NULL ? 1 : -1;
}

int
account_location(const struct account *account, unsigned index, struct location *location)
{
	const char *p = account->mail;
	size_t len;

	for (;; index--) {
		p += strspn(p, " \t");
		len = strcspn(p, " \t");
		if (len == 0)
			return 0;
		if (index == 0)
			return parse_location(account, p, len, location);
		p += len;
	}
}

unsigned char
account_choose_location(const struct account *account)
{
	struct location location;
	struct stat st;
	unsigned char i, last = 0;

	for (i = 0; account_location(account, i, &location) == 1; last = i++)
		if (stat(location.path, &st) == 0 && (location.kind == KIND_MAILDIR) == S_ISDIR(st.st_mode))
			return i;
	return last;
}
