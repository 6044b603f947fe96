/* Runs as the authenticated user. */
#include "maildrop/location.h"

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

/* Copies len octets of text with %u filled in.  0, or -1. */
static int
expand(const char *user, const char *text, size_t len, char *out, size_t size)
{
	size_t used = strlen(out), i, user_len = strlen(user);

	for (i = 0; i < len; i++) {
		if (text[i] != '%') {
			if (used + 2 > size)
				return -1;
			out[used++] = text[i];
			continue;
		}
		if (++i == len || text[i] != 'u' || used + user_len + 1 > size)
			return -1;
		memcpy(out + used, user, user_len);
		used += user_len;
	}
	out[used] = '\0';
	return 0;
}

/* One word of the list: "mbox:PATH" or "maildir:PATH". */
static int
parse_word(const struct maildrop_owner *owner, const char *word, size_t len, struct location *location)
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
	location->path[0] = '\0';
	if (word[0] == '~') {
		if (owner->home[0] != '/' || (len > 1 && word[1] != '/') || strlen(owner->home) >= sizeof(location->path))
			return -1;
		strcpy(location->path, owner->home);
		word++;
		len--;
	}
	if (expand(owner->user, word, len, location->path, sizeof(location->path)) == -1)
		return -1;
	return location->path[0] == '/' && strstr(location->path, "/../") == NULL ? 1 : -1;
}

int
location_parse(const struct maildrop_owner *owner, unsigned index, struct location *location)
{
	const char *p = owner->mail;
	size_t len;

	for (;; index--) {
		p += strspn(p, " \t");
		len = strcspn(p, " \t");
		if (len == 0)
			return 0;
		if (index == 0)
			return parse_word(owner, p, len, location);
		p += len;
	}
}

static bool
is_there(const struct location *location)
{
	struct stat st;

	return stat(location->path, &st) == 0 && (location->kind == KIND_MAILDIR) == S_ISDIR(st.st_mode);
}

int
location_choose(const struct maildrop_owner *owner, struct location *location)
{
	unsigned i = 0;
	int found;

	while ((found = location_parse(owner, i, location)) == 1 && !is_there(location))
		i++;
	if (found == 0 && i > 0)
		found = location_parse(owner, i - 1, location);
	return found == 1 ? 0 : -1;
}
