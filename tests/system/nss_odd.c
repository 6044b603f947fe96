/*
 * A name service module of the system tests (check_pam.py builds and installs it): never comes back from a question for the name
 * "nss-hangs", as a directory server does that is gone, and knows no other name.
 */
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <shadow.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static enum nss_status
ask(const char *name)
{
	while (strcmp(name, "nss-hangs") == 0)
		pause();
	return NSS_STATUS_NOTFOUND;
}

enum nss_status
_nss_odd_getpwnam_r(const char *name, struct passwd *result, char *buf, size_t len, int *error)
{
	(void)result;
	(void)buf;
	(void)len;
	*error = ENOENT;
	return ask(name);
}

enum nss_status
_nss_odd_getspnam_r(const char *name, struct spwd *result, char *buf, size_t len, int *error)
{
	(void)result;
	(void)buf;
	(void)len;
	*error = ENOENT;
	return ask(name);
}
