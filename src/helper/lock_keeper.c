/* Starts as root; the keeper itself runs as the user, with the spool's group. */
#include "helper/lock_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/become_user.h"
#include "helper/sanitize.h"
#include "maildrop/dotlock.h"
#include "maildrop/sandbox.h"

/* Whether nobody but root could have laid any part of the path (which is cut up in passing and put together again). */
static bool
path_is_roots(char *path)
{
	char *slash = path;
	struct stat st;
	bool good = true;

	while (good && (slash = strchr(slash + 1, '/')) != NULL) {
		*slash = '\0';
		good = lstat(path, &st) == 0 && st.st_uid == 0 && (S_ISLNK(st.st_mode) || (st.st_mode & S_IWOTH) == 0);
		*slash = '/';
	}
	return good;
}

/*
 * The group that may make locks there, or 0.  Only where root alone laid the path: a user could make it lead to some other
 * folder of root's, in which a group may write.
 */
static gid_t
spool_group(const struct account *account, const struct location *location)
{
	char folder[PATH_BYTES];
	char *slash;
	struct stat st;

	if (geteuid() != 0 || location->kind != KIND_MBOX || location->in_home)
		return 0;
	strcpy(folder, location->path);
	if (!path_is_roots(folder) || (slash = strrchr(folder, '/')) == folder)
		return 0;
	*slash = '\0';
	if (stat(folder, &st) == -1 || !S_ISDIR(st.st_mode) || st.st_uid == account->uid)
		return 0;
	return st.st_uid == 0 && (st.st_mode & S_IWGRP) != 0 && (st.st_mode & S_IWOTH) == 0 ? st.st_gid : 0;
}

/*
 * Waits for the keeper to end, and removes the lock if it was killed over it: nobody else who is left then may write to the
 * spool.  Should this one be killed, the keeper goes on alone.
 */
static void
watch(pid_t keeper, const char *mailbox)
{
	int status;

	close(SESSION_SOCKET);
	while (waitpid(keeper, &status, 0) == -1 && errno == EINTR)
		continue;
	dotlock_clean(mailbox);
}

/* Does nothing but lock and unlock one path, until the helper is gone: also when somebody stops us all. */
static void __attribute__((noreturn))
keep(struct account account, const struct location *location, gid_t group, int sock)
{
	const struct maildrop_plan plan = { .user = account.name, .kind = KIND_MBOX, .path = location->path };

	pid_t keeper;

	account.gid = group;
	account.groups_count = 0;
	become_user(&account);
	if (dup2(sock, SESSION_SOCKET) == -1 || close_range(SESSION_SOCKET + 1, ~0U, 0) == -1)
		_exit(1);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if ((keeper = fork()) == -1 || maildrop_sandbox(&plan) == -1)
		_exit(1);
	if (keeper == 0)
		dotlock_keep(SESSION_SOCKET, location->path);
	else
		watch(keeper, location->path);
	_exit(0);
}

int
lock_keeper_start(const struct account *account, const struct location *location)
{
	gid_t group = spool_group(account, location);
	int pair[2];

	if (group == 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		give_up("error=\"no socket for the lock keeper\"");
	switch (fork()) {
	case -1:
		give_up("error=\"no process for the lock keeper\"");
	case 0:
		close(pair[0]);
		keep(*account, location, group, pair[1]);
	default:
		close(pair[1]);
		return pair[0];
	}
}
