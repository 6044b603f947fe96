/* Runs as the authenticated user. */
#include "maildrop/session_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TRIES 21
#define PAUSE_NANOSECONDS 50000000L

/*
 * F_OFD_SETLK, not flock(2): it works over NFS as far as lockd does, and not F_SETLK, which is lost as soon as any
 * descriptor of the file is closed.
 */
static int
try_lock(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EACCES)
		errno = EAGAIN; /* POSIX allows both */
	return -1;
}

/* The folder may be one that others can write to. */
static int
check_ours(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return -1;
	if (S_ISREG(st.st_mode) && st.st_uid == geteuid())
		return 0;
	errno = EPERM;
	return -1;
}

int
session_lock_take(const char *path)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NANOSECONDS };
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	int tries, result = -1, saved;

	if (fd == -1)
		return -1;
	if (check_ours(fd) == 0)
		for (tries = 1; (result = try_lock(fd)) == -1 && errno == EAGAIN && tries < TRIES; tries++)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	if (result == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}
