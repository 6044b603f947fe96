/* The last thing that runs as root. */
#include "helper/become_user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/sanitize.h"

static void
prove_ids(uid_t uid, gid_t gid)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (getresuid(&ruid, &euid, &suid) == -1 || getresgid(&rgid, &egid, &sgid) == -1)
		give_up("error=\"reading the ids back\"");
	if (ruid != uid || euid != uid || suid != uid || rgid != gid || egid != gid || sgid != gid)
		give_up("error=\"the ids did not change\"");
	if (setuid(0) != -1 || seteuid(0) != -1 || setgid(0) != -1 || setegid(0) != -1)
		give_up("error=\"root could be regained\"");
}

/* The change of ids takes permitted and effective ones; inheritable ones come from who started us all, and stay. */
static void
drop_capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	if (syscall(SYS_capset, &header, data) == -1)
		give_up("error=\"capset: %s\"", strerror(errno));
	if (syscall(SYS_capget, &header, data) == -1)
		give_up("error=\"capget: %s\"", strerror(errno));
	if ((data[0].effective | data[1].effective | data[0].permitted | data[1].permitted | data[0].inheritable |
	    data[1].inheritable) != 0)
		give_up("error=\"capabilities are left\"");
}

static void
become(uid_t uid, gid_t gid, const gid_t *groups, int count, int when_parent_ends)
{
	if (uid == 0 || gid == 0)
		give_up("error=\"refusing to go on as root\"");
	if (geteuid() == 0) {
		/* Groups first: that needs root.  The user id last. */
		if (setgroups((size_t)count, groups) == -1 || setresgid(gid, gid, gid) == -1 || setresuid(uid, uid, uid) == -1)
			give_up("error=\"giving up root: %s\"", strerror(errno));
		drop_capabilities();
	}
	prove_ids(uid, gid);
	/* The change of ids may have reset the first to fs.suid_dumpable, and has reset the last. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_SET_PDEATHSIG, when_parent_ends, 0, 0, 0) == -1)
		give_up("error=\"prctl: %s\"", strerror(errno));
}

void
become_user(const struct account *account)
{
	become(account->uid, account->gid, account->groups, account->groups_count, 0);
}

void
become_service(uid_t uid, gid_t gid)
{
	become(uid, gid, NULL, 0, SIGKILL);
}
