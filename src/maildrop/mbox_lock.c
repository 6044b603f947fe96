/* Runs as the authenticated user. */
#include "maildrop/mbox_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "common/text.h"
#include "maildrop/dotlock.h"
#include "maildrop/keeper.h"
#include "maildrop/mbox_index.h"

/* O_NOFOLLOW: a link in a spool may point to somebody's file.  O_NONBLOCK: a FIFO must not hang us. */
#define OPEN_FLAGS (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

#define PAUSE_LEAST_MS 50
#define PAUSE_RANDOM_MS 200
#define REFRESH_SECONDS 60

enum try_result { TRY_LOCKED, TRY_HELD, TRY_ABSENT, TRY_AGAIN, TRY_TEMPORARY, TRY_PERMANENT };

void
mbox_note(int priority, const struct maildrop_plan *plan, const char *what, int error)
{
	char path[PATH_BYTES * 4];

	text_escape(path, sizeof(path), plan->path, strlen(plan->path));
	if (error != 0)
		log_note(priority, "mbox-%s path=\"%.700s\" error=\"%s\"", what, path, strerror(error));
	else
		log_note(priority, "mbox-%s path=\"%.700s\"", what, path);
}

/* What becomes of a file that cannot be opened: links, folders and foreign files are for an administrator. */
static enum try_result
open_failed(const struct maildrop_plan *plan, int error)
{
	if (error == ENOENT)
		return TRY_ABSENT;
	mbox_note(LOG_ERR, plan, "open", error);
	return error == ELOOP || error == EISDIR || error == EACCES || error == EPERM || error == ENOTDIR ||
	    error == ENXIO ? TRY_PERMANENT : TRY_TEMPORARY;
}

static enum try_result
stat_failed(const struct maildrop_plan *plan)
{
	mbox_note(LOG_ERR, plan, "stat", errno);
	return TRY_TEMPORARY;
}

static enum try_result
refuse(const struct maildrop_plan *plan, const char *what)
{
	mbox_note(LOG_ERR, plan, what, 0);
	return TRY_PERMANENT;
}

/*
 * The open file against what stands at its path now: programs that replace the file (mailutils) do so under locks, and
 * mail that goes to the old one is lost.  A second name would be somebody else's way to the file.
 */
static enum try_result
check_file(const struct maildrop_plan *plan, int fd, struct stat *st)
{
	struct stat there;

	if (fstat(fd, st) == -1)
		return stat_failed(plan);
	if (!S_ISREG(st->st_mode))
		return refuse(plan, "not-regular");
	if (st->st_uid != geteuid())
		return refuse(plan, "foreign-owner");
	if (fstatat(AT_FDCWD, plan->path, &there, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT ? TRY_AGAIN : stat_failed(plan);
	if (there.st_dev != st->st_dev || there.st_ino != st->st_ino)
		return TRY_AGAIN;
	return st->st_nlink == 1 ? TRY_LOCKED : refuse(plan, "several-names");
}

static enum try_result
try_fcntl(const struct mbox_lock *lock)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(lock->fd, F_OFD_SETLK, &whole) == 0)
		return TRY_LOCKED;
	if (errno == EAGAIN || errno == EACCES)
		return TRY_HELD;
	mbox_note(LOG_ERR, lock->plan, "fcntl-lock", errno);
	return TRY_TEMPORARY;
}

static enum try_result
try_dotlock(struct mbox_lock *lock)
{
	static bool noted;
	const struct maildrop_plan *plan = lock->plan;

	switch (plan->keeper != -1 ? keeper_try(plan->keeper) : dotlock_try(plan->path)) {
	case DOTLOCK_OK:
		lock->dotlock = true;
		clock_gettime(CLOCK_MONOTONIC, &lock->refreshed);
		return TRY_LOCKED;
	case DOTLOCK_HELD:
		return TRY_HELD;
	case DOTLOCK_FAILED:
		break;
	}
	if (errno != EACCES && errno != EPERM) {
		mbox_note(LOG_ERR, plan, "dot-lock", errno);
		return TRY_TEMPORARY;
	}
	if (!noted)
		mbox_note(LOG_NOTICE, plan, "without-dot-lock", errno);
	noted = true;
	return TRY_LOCKED;
}

static enum try_result
try_locks(struct mbox_lock *lock)
{
	enum try_result result;

	lock->fd = open(lock->plan->path, O_RDWR | OPEN_FLAGS);
	if (lock->fd == -1)
		return open_failed(lock->plan, errno);
	if ((result = check_file(lock->plan, lock->fd, &lock->st)) == TRY_LOCKED &&
	    (result = try_fcntl(lock)) == TRY_LOCKED && (result = try_dotlock(lock)) == TRY_LOCKED)
		result = check_file(lock->plan, lock->fd, &lock->st);
	if (result != TRY_LOCKED)
		mbox_unlock(lock);
	return result;
}

static struct timespec
seconds_from_now(unsigned long seconds)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (time_t)seconds;
	return t;
}

static bool
is_over(const struct timespec *deadline)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > deadline->tv_sec ||
	    (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

/* Random, so that two programs that miss each other's locks do not do so for ever. */
static void
pause_a_moment(void)
{
	struct timespec pause = { 0, 0 };
	unsigned char r = 0;

	if (getrandom(&r, 1, 0) != 1)
		r = 128;
	pause.tv_nsec = (PAUSE_LEAST_MS + PAUSE_RANDOM_MS * (long)r / 255) * 1000000L;
	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

enum md_result
mbox_lock(struct mbox_lock *lock, const struct maildrop_plan *plan, enum md_result busy)
{
	struct timespec deadline = seconds_from_now(plan->lock_timeout);
	enum try_result result;

	memset(lock, 0, sizeof(*lock));
	lock->plan = plan;
	lock->fd = -1;
	while ((result = try_locks(lock)) == TRY_HELD || result == TRY_AGAIN) {
		if (is_over(&deadline)) {
			mbox_note(LOG_NOTICE, plan, "locked-by-others", 0);
			return busy;
		}
		pause_a_moment();
	}
	if (result == TRY_PERMANENT)
		return MD_PERMANENT;
	return result == TRY_TEMPORARY ? MD_TEMPORARY : MD_OK;
}

void
mbox_lock_refresh(struct mbox_lock *lock)
{
	struct timespec due = lock->refreshed;

	due.tv_sec += REFRESH_SECONDS;
	if (!lock->dotlock || lock->plan->keeper != -1 || !is_over(&due))
		return;
	dotlock_refresh(lock->plan->path);
	clock_gettime(CLOCK_MONOTONIC, &lock->refreshed);
}

/* The dot-lock goes first: who waits for both finds the other free a moment later. */
void
mbox_unlock(struct mbox_lock *lock)
{
	if (lock->dotlock && lock->plan->keeper != -1)
		keeper_remove(lock->plan->keeper);
	else if (lock->dotlock)
		dotlock_remove(lock->plan->path);
	lock->dotlock = false;
	if (lock->fd != -1)
		close(lock->fd);
	lock->fd = -1;
}

bool
mbox_lock_shared(const struct maildrop_plan *plan, int fd)
{
	struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &whole) == 0 && !dotlock_exists(plan->path);
}

void
mbox_unlock_shared(int fd)
{
	struct flock whole = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(fd, F_OFD_SETLK, &whole);
}

bool
mbox_left_alone(const struct maildrop_plan *plan, int fd, const struct stat *st)
{
	struct file_state then, now;
	struct stat st_now;

	if (dotlock_exists(plan->path) || check_file(plan, fd, &st_now) != TRY_LOCKED)
		return false;
	file_state_of(st, &then);
	file_state_of(&st_now, &now);
	return file_state_equal(&then, &now);
}

enum md_result
mbox_open_reader(const struct maildrop_plan *plan, int *fd, struct stat *st)
{
	enum try_result result = TRY_AGAIN;
	int tries;

	for (tries = 0; tries < 100 && result == TRY_AGAIN; tries++) {
		if ((*fd = open(plan->path, O_RDONLY | OPEN_FLAGS)) == -1)
			result = open_failed(plan, errno);
		else if ((result = check_file(plan, *fd, st)) != TRY_LOCKED)
			close(*fd);
	}
	if (result == TRY_LOCKED)
		return MD_OK;
	*fd = -1;
	if (result == TRY_ABSENT)
		return MD_OK;
	return result == TRY_PERMANENT ? MD_PERMANENT : MD_TEMPORARY;
}
