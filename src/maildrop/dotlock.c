/*
 * Runs as the authenticated user; in the lock keeper with group mail.
 *
 * Made as liblockfile makes them: a file of a name that nobody else has, linked to MAILBOX.lock, and the link count tells
 * whether that worked, since over NFS the answer to link(2) or to O_EXCL can be lost.  Judged as liblockfile judges
 * them: a lock with the number of a living process holds, with that of a dead one does not, and without a number it holds
 * for five minutes.  Dovecot's "PID:HOST" of another host is judged by age as well.
 */
#include "maildrop/dotlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/limits.h"

#define STALE_SECONDS 300

/* Our lock, open for as long as we hold it, so that no other file gets its inode number.  -1: none. */
static int ours = -1;

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
unique_path(char path[PATH_BYTES], const char *mailbox, const char *what)
{
	const char *slash = strrchr(mailbox, '/');
	int n, folder = slash != NULL ? (int)(slash - mailbox) + 1 : 0;
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -1;
	n = snprintf(path, PATH_BYTES, "%.*s.lk%s%d.%016llx", folder, mailbox, what, (int)getpid(),
	    (unsigned long long)random);
	if (n > 0 && n < PATH_BYTES)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
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

	if (owner > 0 && !from_before_boot(st))
		return kill(owner, 0) == -1 && errno == ESRCH;
	return st->st_mtim.tv_sec < now - STALE_SECONDS;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * Two who both find a lock stale must not remove each other's new one: it is renamed first, looked at, and put back if it
 * was not the one.
 */
static void
remove_stale(const char *path, const char *mailbox, const struct stat *stale)
{
	char aside[PATH_BYTES];
	struct stat st;

	if (unique_path(aside, mailbox, "old") == -1 || lstat(path, &st) == -1 || !same_file(&st, stale) ||
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
 */
static int
write_owner(int fd)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (write_full(fd, text, (size_t)n) == -1 && errno != ENOSPC && errno != EDQUOT)
		return -1;
	return fchmod(fd, 0444);
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
	return link_lock(fd, temporary, path);
}

enum dotlock_result
dotlock_try(const char *mailbox)
{
	char path[PATH_BYTES], temporary[PATH_BYTES];
	enum dotlock_result result;
	int fd, saved;

	if (lock_path(path, mailbox) == -1 || unique_path(temporary, mailbox, "") == -1)
		return DOTLOCK_FAILED;
	dotlock_remove(mailbox);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1) { /* we can't make locks here, but somebody else may hold one */
		saved = errno;
		result = judge_lock(path, mailbox, time(NULL));
		errno = saved;
		return result == DOTLOCK_HELD ? DOTLOCK_HELD : DOTLOCK_FAILED;
	}
	result = lock_with(fd, temporary, path, mailbox);
	saved = errno;
	unlink(temporary);
	if (result == DOTLOCK_OK)
		ours = fd;
	else
		close(fd);
	errno = saved;
	return result;
}

void
dotlock_clean(const char *mailbox)
{
	char path[PATH_BYTES];

	if (lock_path(path, mailbox) == 0)
		judge_lock(path, mailbox, time(NULL));
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
