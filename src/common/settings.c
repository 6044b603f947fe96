#include "common/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/number.h"
#include "common/text.h"

/* A configuration has a dozen lines; its comments may make that many more. */
#define FILE_BYTES 65536

enum kind { TEXT, TLS_TEXT, PATH, NUMBER, WORD };

static const char *const auth_words[] = { "pam", "users", "shadow", NULL };
static const char *const tls_words[] = { "1.2", "1.3", NULL };
static const char *const cleartext_words[] = { "auto", "always", "never", NULL };

static const struct key {
	const char *name;
	size_t offset;
	enum kind kind;
	const char *const *words;
	unsigned long min, max;
	const char *normal;
} keys[] = {
#define KEY(field) #field, offsetof(struct settings, field)
	{ KEY(mail_location), TEXT, NULL, 0, 0, "maildir:~/Maildir mbox:/var/mail/%u" },
#ifdef HAVE_PAM
	{ KEY(authentication), WORD, auth_words, 0, 0, "pam" },
#else
	{ KEY(authentication), WORD, auth_words, 0, 0, "shadow" },
#endif
	{ KEY(spool), PATH, NULL, 0, 0, "/var/mail" },
	{ KEY(pam_service), TEXT, NULL, 0, 0, "postern" },
	{ KEY(users_file), PATH, NULL, 0, 0, SYSCONFDIR "/postern/users" },
	{ KEY(state_directory), PATH, NULL, 0, 0, STATEDIR },
	{ KEY(minimum_uid), NUMBER, NULL, 1, 4294967294UL, "1000" },
	{ KEY(login_timeout), NUMBER, NULL, 1, 3600, "60" },
	{ KEY(idle_timeout), NUMBER, NULL, 1, 86400, "600" },
	{ KEY(failure_delay), NUMBER, NULL, 0, 20, "3" },
	{ KEY(lock_timeout), NUMBER, NULL, 0, 300, "30" },
	{ KEY(cleartext_login), WORD, cleartext_words, 0, 0, "auto" },
	{ KEY(tls_certificate), TLS_TEXT, NULL, 0, 0, "" },
	{ KEY(tls_key), TLS_TEXT, NULL, 0, 0, "" },
	{ KEY(tls_minimum_version), WORD, tls_words, 0, 0, "1.2" },
	{ KEY(tls_ticket_secret), PATH, NULL, 0, 0, STATEDIR "-tls/ticket-secret" },
#undef KEY
};

struct reading {
	struct settings *settings;
	const char *path;
	char *error;
	size_t size;
	bool seen[sizeof(keys) / sizeof(keys[0])];
};

const char *
settings_path(void)
{
	const char *named = NULL;

	if (getuid() != 0 && geteuid() == getuid() && getegid() == getgid())
		named = secure_getenv("POSTERN_CONF");
	return named != NULL ? named : SYSCONFDIR "/postern/postern.conf";
}

/* In the file a name is written with '-'. */
static bool
same_name(const char *field, const char *written)
{
	for (; *field != '\0'; field++, written++)
		if (*written != (*field == '_' ? '-' : *field))
			return false;
	return *written == '\0';
}

/* NULL, or what is wrong with the value. */
static const char *
assign(const struct key *key, struct settings *settings, const char *value)
{
	void *field = (char *)settings + key->offset;
	uint64_t number;
	int i;

	switch (key->kind) {
	case NUMBER:
		if (number_parse(value, strlen(value), &number) == -1)
			return "not a number";
		if (number < key->min || number > key->max)
			return "number out of range";
		*(unsigned long *)field = (unsigned long)number;
		return NULL;
	case WORD:
		for (i = 0; key->words[i] != NULL; i++)
			if (strcmp(key->words[i], value) == 0) {
				*(int *)field = i;	/* the enums are in the order of their words */
				return NULL;
			}
		return "unknown word";
	case TLS_TEXT:
#ifndef HAVE_TLS
		return "this program was built without TLS";
#endif
		break;
	case PATH:
		if (value[0] != '/')
			return "not an absolute path";
		__attribute__((fallthrough));
	case TEXT:
		break;
	}
	if (value[0] == '\0')
		return "no value";
	if (strlen(value) >= SETTING_BYTES)
		return "too long";
	strcpy(field, value);
	return NULL;
}

static int
handle(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	const char *wrong = "unknown key";
	char escaped[256];
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!same_name(keys[i].name, name))
			continue;
		wrong = r->seen[i] ? "given twice" : value == NULL ? "no value" : assign(&keys[i], r->settings, value);
		r->seen[i] = true;
		break;
	}
	(void)section;
	if (wrong == NULL)
		return 1;
	snprintf(r->error, r->size, "key=\"%s\" error=\"%s\"",
	    text_escape(escaped, sizeof(escaped), name, strlen(name)), wrong);
	return 0;
}

/* One line for inih at a time: so its number is known, and no line continues another.  0 or -1. */
static int
parse_line(struct reading *r, const char *text, size_t len)
{
	char line[SETTING_BYTES];

	if (len >= sizeof(line) - 2) {
		snprintf(r->error, r->size, "error=\"line too long\"");
		return -1;
	}
	memcpy(line, text, len);
	line[len] = '\0';
	if (line[strspn(line, " \t")] == '[') {
		snprintf(r->error, r->size, "error=\"there are no sections\"");
		return -1;
	}
	return ini_parse_string(line, handle, r) == 0 ? 0 : -1;
}

static int
parse(struct reading *r, const char *text)
{
	char what[300];
	size_t len;
	int line;

	for (line = 1; *text != '\0'; line++, text += len + (text[len] != '\0')) {
		len = strcspn(text, "\n");
		if (parse_line(r, text, len) == 0)
			continue;
		snprintf(what, sizeof(what), "%.290s", r->error[0] != '\0' ? r->error : "error=\"not name = value\"");
		snprintf(r->error, r->size, "file=%s line=%d %s", r->path, line, what);
		return -1;
	}
	return 0;
}

static int
bad_file(struct reading *r, const char *why)
{
	snprintf(r->error, r->size, "file=%s error=\"%s\"", r->path, why);
	return -1;
}

static int
read_file(struct reading *r, int fd, bool owned_by_root)
{
	static char text[FILE_BYTES + 1];
	struct stat st;

	if (fstat(fd, &st) == -1)
		return bad_file(r, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return bad_file(r, "not a regular file");
	if (owned_by_root && (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0))
		return bad_file(r, "must be owned by root and writable by nobody else");
	if (st.st_size > FILE_BYTES)
		return bad_file(r, "too long");
	if (st.st_size > 0 && pread_full(fd, text, (size_t)st.st_size, 0) != IO_DONE)
		return bad_file(r, "cannot be read");
	text[st.st_size] = '\0';
	if (strlen(text) != (size_t)st.st_size)
		return bad_file(r, "has a NUL");
	return parse(r, text);
}

int
settings_read(struct settings *settings, const char *path, bool owned_by_root, char *error, size_t size)
{
	struct reading r = { .settings = settings, .path = path, .error = error, .size = size };
	size_t i;
	int fd, result;

	error[0] = '\0';
	memset(settings, 0, sizeof(*settings));
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		assign(&keys[i], settings, keys[i].normal);
	if ((fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) == -1)
		return errno == ENOENT ? 0 : bad_file(&r, strerror(errno));
	result = read_file(&r, fd, owned_by_root);
	close(fd);
	return result;
}
