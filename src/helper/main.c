/*
 * postern-helper: 4710 root:postern.  Started by the monitor when a session first wants to log in.  As root it answers one
 * message, LOGIN; then it becomes the mailbox's owner for good and serves the maildrop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/settings.h"
#include "helper/become_user.h"
#include "helper/lock_keeper.h"
#include "helper/login.h"
#include "helper/sanitize.h"
#include "maildrop/serve.h"

/*
 * STATE/USER, owned by the user.  Root makes it in a folder that only root can write, so nobody can lay a link there; one left
 * behind by a crash between the two calls is given over at the next login.  Without it the maildrop's own phase refuses.
 */
static void
make_state_folder(const char *state_directory, const struct account *account)
{
	int parent = open(state_directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (parent == -1 || geteuid() != 0 || strstr(account->mail, "mbox:") == NULL)
		return;
	if (fstat(parent, &st) == -1 || st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		give_up("path=\"%s\" error=\"must be owned by root and writable by nobody else\"", state_directory);
	if ((mkdirat(parent, account->name, 0700) == 0 || errno == EEXIST) &&
	    fstatat(parent, account->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && st.st_uid == 0 &&
	    fchownat(parent, account->name, account->uid, account->gid, AT_SYMLINK_NOFOLLOW) == -1)
		give_up("path=\"%s/%s\" error=\"%s\"", state_directory, account->name, strerror(errno));
	close(parent);
}

int
main(int argc, char **argv)
{
	static struct start start;
	static struct settings settings;
	static struct account account;
	struct maildrop_owner owner;
	char error[512];
	int keeper;

	(void)argv;
	sanitize(argc, &start);
	if (settings_read(&settings, start.settings, !start.personal, error, sizeof(error)) == -1)
		give_up("%s", error);
	login(&start, &settings, &account);

	owner = (struct maildrop_owner){ account.name, account.home, account.mail, settings.state_directory, settings.lock_timeout };
	make_state_folder(settings.state_directory, &account);
	keeper = lock_keeper_start(&account, &owner, settings.spool);
	become_user(&account);
	/* Not exit(3): what the libraries would still put away is a dozen page faults, and nothing of ours is buffered. */
	_exit(maildrop_serve(SESSION_SOCKET, &owner, keeper));
}
