/* Runs as root until the file is open. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "helper/auth.h"
#include "helper/become_user.h"

/* Who may have written the file: root, or in personal mode the caller; and nobody else. */
static FILE *
open_users(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1)
		log_note(LOG_ERR, "users-file path=\"%s\" error=\"%s\"", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		log_note(LOG_ERR, "users-file path=\"%s\" error=\"not a file that only its owner can write\"", path);
	else
		return fdopen(fd, "r");
	return NULL;
}

void
auth_users(const struct attempt *attempt, struct account *account)
{
	FILE *f = open_users(attempt->settings->users_file);

	become_service(attempt->service_uid, attempt->service_gid);
	if (f != NULL)
		users_file_check(f, attempt, account);
	else
		verdict(account, VERDICT_PERMANENT, "users-file");
}
