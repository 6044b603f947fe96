/* Runs as root until the process that it starts has become the user, with the spool's group. */
#include "helper/lock_keeper.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/become_user.h"
#include "helper/sanitize.h"
#include "maildrop/keeper.h"

int
lock_keeper_start(const struct account *account, const struct maildrop_owner *owner, const char *spool)
{
	struct account keeper = *account;
	struct stat st;
	int pair[2];
	pid_t pid;

	if (geteuid() != 0 || strstr(account->mail, "mbox:/") == NULL || stat(spool, &st) == -1 || !S_ISDIR(st.st_mode) ||
	    st.st_uid != 0 || st.st_gid == 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != S_IWGRP)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 || (pid = fork()) == -1)
		give_up("error=\"no lock keeper\"");
	if (pid == 0) {
		if (dup2(pair[1], SESSION_SOCKET) == -1 || syscall(SYS_close_range, SESSION_SOCKET + 1, ~0U, 0) == -1)
			_exit(1);
		keeper.gid = st.st_gid;
		keeper.groups_count = 0;
		become_user(&keeper);
		maildrop_keep(SESSION_SOCKET, owner, &st);
	}
	close(pair[1]);
	return pair[0];
}
