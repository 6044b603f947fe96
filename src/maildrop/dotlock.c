/*
 * Runs as the authenticated user; in the lock keeper with group mail.
 *
 * Made as liblockfile makes them: a file of a name that nobody else uses, linked to MAILBOX.lock, and the link count tells
 * whether that worked, since over NFS the answer to link(2) or to O_EXCL can be lost.  Judged as liblockfile judges
 * them: a lock with the number of a living process holds, with that of a dead one does not, and without a number it holds
 * for five minutes.  Dovecot's "PID:HOST" of another host is judged by age as well.
 *
 * The file that is linked has one name for each mailbox and host, and a lock of fcntl(2) on it keeps others of us out, who
 * outlived their session: so what a kill leaves is found and used again, and nothing gathers in a spool.
 */
#include "maildrop/dotlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "common/ioutil.h"
#include "common/limits.h"

#define STALE_SECONDS 300

/* Our lock, open for as long as we hold it, so that no other file gets its inode number.  -1: none. */
static int ours = -1;

/* The last one that was ours: if it is still there when we hold none, it could not be removed. */
static struct stat last;

static int
lock_path(char path[PATH_BYTES], const char *mailbox)
{
	int n = snprintf(path, PATH_BYTES, "%s.lock", mailbox);

	if (n > 0 && n < PATH_BYTES)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* A name beside the mailbox, beginning as liblockfile's do, so that cleaners of spools know it. */
static int
private_path(char path[PATH_BYTES], const char *mailbox, const char *what)
{
	const char *slash = strrchr(mailbox, '/');
	int n, folder = slash != NULL ? (int)(slash - mailbox) + 1 : 0;
	struct utsname host;

	if (uname(&host) == -1)
		return -1;
	n = snprintf(path, PATH_BYTES, "%.*s.lk%s%016llx", folder, mailbox, what, (unsigned long long)
	    (XXH3_64bits(mailbox + folder, strlen(mailbox + folder)) ^ XXH3_64bits(host.nodename, strlen(host.nodename))));
	if (n > 0 && n < PATH_BYTES)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

#define TEMPORARY ""
#define ASIDE "old"

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* --- others' locks --- */

/* The process that the lock names, 0 for none that can be asked about. */
static pid_t
lock_owner(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct utsname host;
	char text[128], *end;
	ssize_t n;
	long pid;

	if (fd == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	pid = strtol(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || pid < 1 || pid > INT32_MAX)
		return 0;
	if (*end == ':' && end[1] != '\0') {
		end[1 + strcspn(end + 1, "\n")] = '\0';
		return uname(&host) == 0 && strcmp(end + 1, host.nodename) == 0 ? (pid_t)pid : 0;
	}
	return *end == '\0' || *end == '\n' || *end == ' ' ? (pid_t)pid : 0;
}

/* Process numbers start anew at boot, and a lock that a power loss left would else name whoever has its number now. */
static bool
from_before_boot(const struct stat *st)
{
	struct timespec now, up;

	return clock_gettime(CLOCK_REALTIME, &now) == 0 && clock_gettime(CLOCK_BOOTTIME, &up) == 0 &&
	    st->st_mtim.tv_sec < now.tv_sec - up.tv_sec - STALE_SECONDS;
}

/* now: what the file system says, which may be another machine's clock. */
static bool
is_stale(const char *path, const struct stat *st, time_t now)
{
	pid_t owner = lock_owner(path);

	if (owner == getpid() && same_file(st, &last))
		return true;
	if (owner > 0 && !from_before_boot(st))
		return kill(owner, 0) == -1 && errno == ESRCH;
	return st->st_mtim.tv_sec < now - STALE_SECONDS;
}

/*
 * Another program may have found it stale as well, and made its own: it is renamed first, looked at, and put back if it was
 * not the one.  The caller has the temporary file locked, so that no other of us uses the name aside.
 */
static void
remove_stale(const char *path, const char *mailbox, const struct stat *stale)
{
	char aside[PATH_BYTES];
	struct stat st;

	if (private_path(aside, mailbox, ASIDE) == -1 || lstat(path, &st) == -1 || !same_file(&st, stale) ||
	    rename(path, aside) == -1)
		return;
	if (lstat(aside, &st) == 0 && !same_file(&st, stale))
		(void)!link(aside, path);
	unlink(aside);
}

/* DOTLOCK_OK: there is no lock (any more). */
static enum dotlock_result
judge_lock(const char *path, const char *mailbox, time_t now)
{
	struct stat st;

	if (lstat(path, &st) == -1)
		return errno == ENOENT ? DOTLOCK_OK : DOTLOCK_FAILED;
	if (!is_stale(path, &st, now))
		return DOTLOCK_HELD;
	remove_stale(path, mailbox, &st);
	return lstat(path, &st) == -1 && errno == ENOENT ? DOTLOCK_OK : DOTLOCK_HELD;
}

/* --- ours --- */

/*
 * Others have to be able to read the number.  On a full disk the lock stays empty rather than not made: deleting mail is
 * what helps then, and an empty one holds as well, only longer if we die.
 *
 * What was killed left something in the file.  A new one is not truncated: ext4 writes a file that was truncated to nothing
 * to the disk when it is closed (auto_da_alloc, ext4(5)), and its removal waits for that, at each login.
 */
static int
write_owner(int fd)
{
	struct stat st;
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (fstat(fd, &st) == -1 || (st.st_size != 0 && ftruncate(fd, 0) == -1) ||
	    (write_full(fd, text, (size_t)n) == -1 && errno != ENOSPC && errno != EDQUOT))
		return -1;
	return fchmod(fd, 0644);
}

/* Links temporary to path.  What counts is the number of links, not what link(2) says. */
static enum dotlock_result
link_lock(int fd, const char *temporary, const char *path)
{
	struct stat st;

	if (link(temporary, path) == -1 && errno != EEXIST && errno != EIO)
		return DOTLOCK_FAILED;
	if (fstat(fd, &st) == -1)
		return DOTLOCK_FAILED;
	return st.st_nlink == 2 ? DOTLOCK_OK : DOTLOCK_HELD;
}

/* The temporary file tells the file system's time, too. */
static enum dotlock_result
lock_with(int fd, const char *temporary, const char *path, const char *mailbox)
{
	enum dotlock_result result;
	struct stat st;

	if (write_owner(fd) == -1 || fstat(fd, &st) == -1)
		return DOTLOCK_FAILED;
	if ((result = judge_lock(path, mailbox, st.st_mtim.tv_sec)) != DOTLOCK_OK)
		return result;
	last = st;
	return link_lock(fd, temporary, path);
}

/* The file is open: DOTLOCK_OK if it is ours alone, under this name and no other. */
static enum dotlock_result
own_temporary(int fd, const char *temporary)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st, there;

	if (fcntl(fd, F_OFD_SETLK, &whole) == -1)
		return errno == EAGAIN || errno == EACCES ? DOTLOCK_HELD : DOTLOCK_FAILED;
	if (fstat(fd, &st) == -1)
		return DOTLOCK_FAILED;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
		errno = EBUSY;
		return DOTLOCK_FAILED;
	}
	if (lstat(temporary, &there) == -1 || !same_file(&st, &there))
		return DOTLOCK_HELD;
	if (st.st_nlink == 1)
		return DOTLOCK_OK;
	unlink(temporary); /* somebody was killed after linking it */
	return DOTLOCK_HELD;
}

/* The file that is to become the lock; the caller closes *fd if that is not -1, and removes the file if the result is OK. */
static enum dotlock_result
open_temporary(const char *temporary, int *fd)
{
	enum dotlock_result result = DOTLOCK_HELD;
	struct stat st;
	int tries;

	for (tries = 0; tries < 2 && result == DOTLOCK_HELD; tries++) {
		*fd = open(temporary, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
		if (*fd == -1) {
			/* That we may not write here is one thing, a stranger's file in the way another. */
			if (errno == EACCES)
				errno = lstat(temporary, &st) == 0 ? EBUSY : EACCES;
			return DOTLOCK_FAILED;
		}
		if ((result = own_temporary(*fd, temporary)) == DOTLOCK_HELD) {
			close(*fd);
			*fd = -1;
		}
	}
	return result;
}

/* What we can't lock here, somebody else may. */
static enum dotlock_result
only_look(const char *path, time_t now)
{
	struct stat st;
	int saved = errno;
	bool held = lstat(path, &st) == 0 && !is_stale(path, &st, now);

	errno = saved;
	return held ? DOTLOCK_HELD : DOTLOCK_FAILED;
}

/* Judges the lock with the temporary file in hand, and makes ours if wanted. */
static enum dotlock_result
work_on(const char *mailbox, const char *path, bool take)
{
	char temporary[PATH_BYTES], aside[PATH_BYTES];
	enum dotlock_result result;
	int fd = -1, saved;

	if (private_path(temporary, mailbox, TEMPORARY) == -1 || private_path(aside, mailbox, ASIDE) == -1)
		return DOTLOCK_FAILED;
	if ((result = open_temporary(temporary, &fd)) == DOTLOCK_OK) {
		unlink(aside);
		result = take ? lock_with(fd, temporary, path, mailbox) : judge_lock(path, mailbox, time(NULL));
		saved = errno;
		unlink(temporary);
		errno = saved;
	} else if (result == DOTLOCK_FAILED) {
		result = only_look(path, time(NULL));
	}
	if (take && result == DOTLOCK_OK) {
		ours = fd;
	} else if (fd != -1) {
		saved = errno;
		close(fd);
		errno = saved;
	}
	return result;
}

enum dotlock_result
dotlock_try(const char *mailbox)
{
	char path[PATH_BYTES];

	if (lock_path(path, mailbox) == -1)
		return DOTLOCK_FAILED;
	dotlock_remove(mailbox);
	return work_on(mailbox, path, true);
}

bool
dotlock_exists(const char *mailbox)
{
	char path[PATH_BYTES];
	struct stat st;

	return lock_path(path, mailbox) == -1 || lstat(path, &st) == 0 || errno != ENOENT;
}

void
dotlock_clean(const char *mailbox)
{
	char path[PATH_BYTES], temporary[PATH_BYTES];
	struct stat st;

	if (lock_path(path, mailbox) == 0 && private_path(temporary, mailbox, TEMPORARY) == 0 &&
	    (lstat(path, &st) == 0 || lstat(temporary, &st) == 0))
		work_on(mailbox, path, false);
}

/* Whether the lock at path is ours. */
static bool
is_ours(const char *path)
{
	struct stat there, st;

	return ours != -1 && fstat(ours, &st) == 0 && lstat(path, &there) == 0 && same_file(&st, &there);
}

int
dotlock_refresh(const char *mailbox)
{
	char path[PATH_BYTES];

	if (lock_path(path, mailbox) == -1)
		return -1;
	if (!is_ours(path)) {
		errno = ENOENT;
		return -1;
	}
	return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

void
dotlock_remove(const char *mailbox)
{
	char path[PATH_BYTES];

	if (lock_path(path, mailbox) == 0 && is_ours(path))
		unlink(path);
	if (ours != -1)
		close(ours);
	ours = -1;
}

bool
dotlock_held(void)
{
	return ours != -1;
}
