/*
 * postern.conf(5).  Read by the session program (as the service user, before its sandbox) and by the helper (as root).
 * The syntax is inih's: "name = value", '#' and ';' start comments.
 */
#ifndef COMMON_SETTINGS_H
#define COMMON_SETTINGS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/limits.h"

enum auth_method { AUTH_PAM, AUTH_USERS, AUTH_SHADOW };
enum tls_version { TLS_1_2, TLS_1_3 };
enum cleartext_login { CLEARTEXT_AUTO, CLEARTEXT_ALWAYS, CLEARTEXT_NEVER };

/* inih's lines have at most 200 bytes. */
#define SETTING_BYTES 200

struct settings {
	char mail_location[SETTING_BYTES];	/* "mbox:PATH" and "maildir:PATH", separated by spaces; ~ and %u */
	char spool[SETTING_BYTES];		/* the folder of mboxes that root and a group can write to */
	enum auth_method authentication;
	char pam_service[SETTING_BYTES];
	char users_file[SETTING_BYTES];
	char state_directory[SETTING_BYTES];
	unsigned long minimum_uid;
	unsigned long login_timeout;		/* seconds */
	unsigned long idle_timeout;		/* seconds */
	unsigned long failure_delay;		/* seconds */
	unsigned long lock_timeout;		/* seconds */
	enum cleartext_login cleartext_login;
	char tls_certificate[SETTING_BYTES];	/* files, separated by spaces (common/tls_files.h); empty: no TLS */
	char tls_key[SETTING_BYTES];
	enum tls_version tls_minimum_version;
	char tls_ticket_secret[SETTING_BYTES];
};

/*
 * The path to read: SYSCONFDIR/postern/postern.conf.  A process that is not setuid and not root may be sent to another
 * with POSTERN_CONF; that is how the demonstration and the unprivileged tests run.
 */
const char *settings_path(void);

/*
 * Fills settings with the defaults and what path says; a file that is not there says nothing.  owned_by_root: refuse a
 * file that anybody but root can write.  0, or -1 with one line in error: file, line, key and what is wrong.
 */
int settings_read(struct settings *settings, const char *path, bool owned_by_root, char *error, size_t size);

#endif
