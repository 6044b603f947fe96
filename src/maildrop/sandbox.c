/* Runs as the authenticated user. */
#include "maildrop/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/logrecord.h"

/* Root made it for us, unless this is a user's own run. */
static void
make_state_folder(const struct maildrop_plan *plan)
{
	if (plan->state != NULL && mkdir(plan->state, 0700) == -1 && errno != EEXIST)
		log_note(LOG_WARNING, "state-folder path=\"%s\" error=\"%s\"", plan->state, strerror(errno));
}

#ifdef SANDBOX

static const struct sock_filter calls[] = {
	FILTER_BEGIN,
	/* the session, the lock keeper, the log */
	FILTER_ALLOW(recvmsg),
	FILTER_ALLOW(sendmsg),
	FILTER_ALLOW(sendto),
	FILTER_ALLOW(recvfrom),
	FILTER_ALLOW(ppoll),
#ifdef SYS_poll
	FILTER_ALLOW(poll),
#endif
	/* files, within Landlock's limits */
#ifdef SYS_open
	FILTER_ALLOW(open),		/* what musl calls where the others are openat and newfstatat */
	FILTER_ALLOW(stat),
	FILTER_ALLOW(lstat),
#endif
	FILTER_ALLOW(openat),
	FILTER_ALLOW(close),
	FILTER_ALLOW_IF(close_range, 2, 0),
	FILTER_ALLOW(read),
	FILTER_ALLOW(pread64),
	FILTER_ALLOW(write),
	FILTER_ALLOW(pwrite64),
	FILTER_ALLOW(lseek),
	FILTER_ALLOW(fstat),
	FILTER_ALLOW(newfstatat),
	FILTER_ALLOW(statx),
	FILTER_ALLOW(getdents64),
	FILTER_ALLOW(fcntl),
	FILTER_ALLOW(ftruncate),
	FILTER_ALLOW(fallocate),
	FILTER_ALLOW(fstatfs),
	FILTER_ALLOW(fadvise64),
	FILTER_ALLOW(fsync),
	FILTER_ALLOW(fdatasync),
	FILTER_ALLOW(sync_file_range),	/* the journal's hint to the disk */
#ifdef SYS_rename
	FILTER_ALLOW(rename),
	FILTER_ALLOW(unlink),
	FILTER_ALLOW(link),
#endif
	FILTER_ALLOW(renameat),
	FILTER_ALLOW(renameat2),
	FILTER_ALLOW(unlinkat),
	FILTER_ALLOW(linkat),
	FILTER_ALLOW(utimensat),
	FILTER_ALLOW(fchmod),
	FILTER_ALLOW(memfd_create),
	/* memory */
	FILTER_ALLOW_WITHOUT(mmap, 2, PROT_EXEC),
	FILTER_ALLOW_WITHOUT(mprotect, 2, PROT_EXEC),
	FILTER_ALLOW(munmap),
	FILTER_ALLOW(mremap),
	FILTER_ALLOW(madvise),
	FILTER_ALLOW(brk),
	/* time, names, ourselves */
	FILTER_ALLOW(clock_gettime),
	FILTER_ALLOW(clock_nanosleep),	/* nanosleep(3): glibc's, and musl's */
	FILTER_ALLOW(nanosleep),
	FILTER_ALLOW(getrandom),
	FILTER_ALLOW(getpid),
	FILTER_ALLOW(getuid),
	FILTER_ALLOW(geteuid),
	FILTER_ALLOW(uname),		/* the host name of a dot-lock */
	FILTER_ALLOW_IF(kill, 1, 0),	/* whether a dot-lock's owner lives */
	FILTER_ALLOW(sysinfo),		/* qsort(3) asks how much memory there is */
	FILTER_ALLOW(futex),
	FILTER_ALLOW(rt_sigprocmask),
	FILTER_ALLOW(rt_sigreturn),
	FILTER_ALLOW(restart_syscall),
	FILTER_ALLOW(exit_group),
	FILTER_END
};

static void
refused(int number)
{
	log_note(LOG_ERR, "sandbox call=%s", syscall_name(number));
}

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* since Linux 6.2 */
#endif

/* Rights on files, folders being read, and on changing what is in a folder; the user id does the rest. */
#define RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_DIR | \
	LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)

/* A folder that is not there gets no rights: an absent maildrop is an empty one. */
static int
allow_folder(int ruleset, const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), result;

	if (fd == -1)
		return 0;
	result = filter_landlock_allow(ruleset, fd, RIGHTS);
	close(fd);
	return result;
}

/* The Maildir, or the folder that the mbox stands in. */
static int
allow_maildrop(int ruleset, const struct maildrop_plan *plan)
{
	char folder[PATH_BYTES];
	const char *slash = strrchr(plan->path, '/');

	if (plan->kind == KIND_MAILDIR)
		return allow_folder(ruleset, plan->path);
	if (slash == NULL || (size_t)(slash - plan->path) + 1 >= sizeof(folder)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(folder, plan->path, (size_t)(slash - plan->path) + 1);
	folder[slash - plan->path + (slash == plan->path)] = '\0';
	return allow_folder(ruleset, folder);
}

static int
enter(const struct maildrop_plan *plan)
{
	int ruleset = filter_landlock_begin();

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || (ruleset == -1 && !filter_landlock_missing(errno)))
		return -1;
	if (ruleset != -1 && (allow_maildrop(ruleset, plan) == -1 ||
	    (plan->state != NULL && allow_folder(ruleset, plan->state) == -1) || filter_landlock_end(ruleset) == -1))
		return -1;
	return filter_install(calls, sizeof(calls) / sizeof(calls[0]), refused);
}

#else

static int
enter(const struct maildrop_plan *plan)
{
	(void)plan;
	return 0;
}

#endif

int
maildrop_sandbox(const struct maildrop_plan *plan)
{
	make_state_folder(plan);
	return enter(plan);
}
