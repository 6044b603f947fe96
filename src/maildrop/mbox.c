/*
 * Runs as the authenticated user.  The mbox is shared with programs that never heard of us: delivery agents that append,
 * mail readers that rewrite Status lines or the whole file, old POP3 servers that put another file in its place.  Hence:
 *	- nothing is read but under a lock, or proved by device, inode, size and times to be what was read under one;
 *	- nothing is written but under both locks, where both can be had;
 *	- locks are held for moments; between them everything may change, and is compared by content;
 *	- the file keeps its inode (mbox_update.c).
 */
#include "maildrop/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/logrecord.h"
#include "maildrop/dotlock.h"
#include "maildrop/journal.h"
#include "maildrop/mbox_update.h"
#include "maildrop/pile.h"
#include "maildrop/session_lock.h"
#include "maildrop/unique_id.h"

#define READ_BYTES ((size_t)256 << 10)

/* Each may be in memory that nobody has touched for long, which takes a virtual machine 0.13 ms to come by. */
#define SAMPLES 4u

/* Times of files advance with the kernel's clock tick, 1 to 10 ms; where they are whole seconds, with those. */
#define LEAST_TICK_NANOSECONDS 900000L
#define TICK_NANOSECONDS 20000000L
#define SECOND_NANOSECONDS 1000000000L

/* OpenZFS's, which is no part of Linux. */
#define ZFS_SUPER_MAGIC 0x2fc12fc1

/* A file that changes under our locks so often is in the hands of something that takes none. */
#define UNSETTLED_TRIES 10

/* Few are smaller, with what mail systems put into a header. */
#define LIKELY_MESSAGE_BYTES 1024

/* Room for what comes between two sessions, so that a long list need not move for it. */
#define FEW_NEW_MESSAGES 64u

/* --- reading the file --- */

static enum mbox_scan_result
feed_file(struct mbox_scan *scan, int fd, unsigned char *buf, uint64_t *scanned)
{
	enum mbox_scan_result result = MBOX_SCAN_OK;
	ssize_t n;

	while (result == MBOX_SCAN_OK) {
		n = pread(fd, buf, READ_BYTES, (off_t)scan->position);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return MBOX_SCAN_FAILED;
		if (n == 0)
			return mbox_scan_end(scan);
		result = mbox_scan_feed(scan, buf, (size_t)n);
		*scanned += (uint64_t)n;
	}
	return result;
}

/*
 * Room for as many messages as the file is likely to hold.  What is not used costs one huge page at most, while a list that grows by
 * doubling touches most of its pages twice.  Where memory is short, that is how it has to grow.
 */
static void
expect_messages(struct mbox_list *list, int fd)
{
	uint64_t likely;
	struct stat st;

	if (fstat(fd, &st) == -1)
		return;
	likely = (uint64_t)st.st_size / LIKELY_MESSAGE_BYTES + 1;
	mbox_list_make_room(list, likely < MESSAGES_MAX ? (uint32_t)likely : MESSAGES_MAX);
}

/* Adds the messages from position on. */
static enum mbox_scan_result
scan_file(int fd, uint64_t position, struct mbox_list *list, uint64_t *scanned)
{
	struct mbox_scan *scan = malloc(sizeof(*scan));
	unsigned char *buf = malloc(READ_BYTES);
	enum mbox_scan_result result = MBOX_SCAN_FAILED;

	if (scan != NULL && buf != NULL) {
		if (position == 0)
			expect_messages(list, fd);
		posix_fadvise(fd, (off_t)position, 0, POSIX_FADV_SEQUENTIAL);
		mbox_scan_begin(scan, list, position);
		result = feed_file(scan, fd, buf, scanned);
		posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL);	/* it may be the session's, which jumps */
	}
	free(scan);
	free(buf);
	return result;
}

static bool
is_still_there(const struct record *r, int fd)
{
	unsigned char head[FINGERPRINT_BYTES];
	size_t len = r->bytes < sizeof(head) ? (size_t)r->bytes : sizeof(head);

	return (len == 0 || pread_full(fd, head, len, (off_t)r->offset) == IO_DONE) &&
	    fingerprint(head, r->bytes) == r->fingerprint;
}

/*
 * Looks at some messages all over the file, and at the last: whoever removed one, or made one longer, has shifted those behind it.
 * Who has made up for it with another one's padding, as Dovecot and c-client do for Status and X-Keywords, is found out by chance here;
 * that is what mbox_list.believed is for.
 */
static bool
samples_are_there(const struct mbox_list *list, int fd)
{
	uint32_t i, step = (list->count + SAMPLES - 1) / SAMPLES;

	for (i = 0; i < list->count; i += step)
		if (!is_still_there(&list->records[i], fd))
			return false;
	return list->count == 0 || is_still_there(&list->records[list->count - 1], fd);
}

/* mbox_index_put: into a list that has the room. */
static int
put_in_list(void *to, const struct record *records, size_t count)
{
	struct mbox_list *list = to;

	memcpy(list->records + list->count, records, count * sizeof(*records));
	list->count += (uint32_t)count;
	return 0;
}

static int
read_list(const struct mbox_index *index, struct mbox_list *list)
{
	return mbox_index_read(index, put_in_list, list, list->from_bytes);
}

/*
 * The file has grown since index was written.  The last message known is scanned again, since what is behind it may have
 * changed where it ends (an agent that writes an empty line before its From_ line).
 */
static bool
read_growth(const struct mbox_index *index, int fd, struct mbox_list *list, uint64_t *scanned)
{
	uint32_t last = (uint32_t)index->h.count - 1;
	struct record r;

	if (mbox_list_make_room(list, (uint32_t)index->h.count + FEW_NEW_MESSAGES) == -1 || read_list(index, list) == -1)
		return false;
	list->begin = index->h.begin;
	list->end = index->h.end;
	if (!samples_are_there(list, fd))
		return false;
	r = list->records[last];
	list->count = list->believed = last;
	return scan_file(fd, r.offset - list->from_bytes[last], list, scanned) == MBOX_SCAN_OK && list->count > last &&
	    list->records[last].offset == r.offset;
}

/* Gives the messages of list that index knows their digests and suffixes. */
static int
copy_known(struct mbox_list *list, const struct mbox_list *old)
{
	uint64_t *keys = mbox_content_keys(old), *new_keys = mbox_content_keys(list);
	uint32_t *where = malloc((old->count + (size_t)1) * sizeof(*where)), i;
	int result = -1;

	if (keys != NULL && new_keys != NULL && where != NULL && mbox_list_make_ids(list, list->count) == 0 &&
	    mbox_match(keys, old->count, new_keys, list->count, where) == 0) {
		for (i = 0; i < old->count; i++) {
			if (where[i] == MBOX_NOWHERE)
				continue;
			memcpy(list->digests[where[i]], old->digests[i], DIGEST_BYTES);
			list->suffixes[where[i]] = old->suffixes[i];
			old->suffixes[i] = 0;
		}
		result = 0;
	}
	free(keys);
	free(new_keys);
	free(where);
	return result;
}

/*
 * The file was rewritten.  What is new in the index cannot be lost but for the suffixes of equal messages, so those are
 * settled at once.
 */
static void
carry_ids(const struct mbox_index *index, int fd, struct mbox_list *list)
{
	struct mbox_list old = { .count = 0 };
	struct earlier_ids earlier;

	if (index->fd == -1 || index->h.count == 0 || (index->h.flags & INDEX_DIGESTS) == 0 || list->count == 0)
		return;
	if (mbox_list_make_room(&old, (uint32_t)index->h.count) == 0 && mbox_list_make_ids(&old, (uint32_t)index->h.count) == 0 &&
	    read_list(index, &old) == 0 && mbox_index_read_digests(index, old.digests, old.suffixes) == 0) {
		earlier = (struct earlier_ids){ old.count, old.digests, old.suffixes };
		if (copy_known(list, &old) == 0 && (index->h.flags & INDEX_EQUAL) != 0)
			unique_id_complete(list, fd, &earlier);
	}
	mbox_list_free(&old);
}

static enum mbox_scan_result
read_messages(const struct mbox_index *index, int fd, const struct stat *st, struct mbox_list *list, uint32_t *known,
    uint64_t *scanned)
{
	enum mbox_scan_result result;

	*known = 0;
	if (index != NULL && (uint64_t)st->st_size >= GROWTH_PAYS_BYTES && mbox_index_may_have_grown(index, st)) {
		if (read_growth(index, fd, list, scanned)) {
			*known = (index->h.flags & INDEX_DIGESTS) != 0 ? (uint32_t)index->h.count : 0;
			return MBOX_SCAN_OK;
		}
		mbox_list_free(list);
	}
	result = scan_file(fd, 0, list, scanned);
	if (result == MBOX_SCAN_OK && index != NULL)
		carry_ids(index, fd, list);
	return result;
}

/* Nanoseconds from the last change of the file to now, at most a second either way. */
static long
age_of(const struct stat *st, clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) == -1 || now.tv_sec > st->st_ctim.tv_sec + 1)
		return SECOND_NANOSECONDS;
	if (now.tv_sec < st->st_ctim.tv_sec - 1)
		return -SECOND_NANOSECONDS;
	return (now.tv_sec - st->st_ctim.tv_sec) * SECOND_NANOSECONDS + now.tv_nsec - st->st_ctim.tv_nsec;
}

static bool
stands_on(int fd, const long *types, size_t count)
{
	struct statfs fs;
	size_t i;

	if (fstatfs(fd, &fs) == -1)
		return false;
	for (i = 0; i < count && types[i] != (long)fs.f_type; i++)
		continue;
	return i < count;
}

/*
 * Whether all who use the file are on this machine, so that a dot-lock is seen as soon as it is made.  A client of NFS may say for half
 * a minute that there is none (acdirmin, nfs(5)).
 */
static bool
is_local(int fd)
{
	static const long known[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC, F2FS_SUPER_MAGIC,
		OVERLAYFS_SUPER_MAGIC, ZFS_SUPER_MAGIC };

	return stands_on(fd, known, sizeof(known) / sizeof(known[0]));
}

/*
 * Whether a change made now would get another time than the file has, for sure.  These file systems give it that of the kernel's coarse
 * clock, to the nanosecond: another one as soon as that clock has gone on.  From Linux 6.13 on, where somebody has asked for the last
 * time, as we have, it is one that was never given before; that is ahead of the coarse clock.
 */
static bool
change_would_show(int fd, const struct stat *st)
{
	static const long known[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC };
	long age = age_of(st, CLOCK_REALTIME_COARSE);

	if (st->st_ctim.tv_nsec == 0 && st->st_mtim.tv_nsec == 0)
		return false;	/* ext3 may keep whole seconds */
	return stands_on(fd, known, sizeof(known) / sizeof(known[0])) && (age < 0 || age >= LEAST_TICK_NANOSECONDS);
}

/* Sleeps until a change made from now on would show in the times of the file. */
static void
let_age(int fd, const struct stat *st)
{
	long tick = st->st_ctim.tv_nsec == 0 && st->st_mtim.tv_nsec == 0 ? SECOND_NANOSECONDS : TICK_NANOSECONDS;
	long age = age_of(st, CLOCK_REALTIME);
	struct timespec pause = { 0, 0 };

	if (age >= tick || change_would_show(fd, st))
		return;
	pause.tv_nsec = age > 0 ? tick - age : tick; /* in the future: by another machine's clock */
	if (pause.tv_nsec == SECOND_NANOSECONDS)
		pause = (struct timespec){ 1, 0 };
	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static enum md_result
scan_failed(const struct maildrop_plan *plan, enum mbox_scan_result result)
{
	if (result == MBOX_SCAN_NOT_MBOX) {
		mbox_note(LOG_ERR, plan, "not-an-mbox", 0);
		return MD_PERMANENT;
	}
	mbox_note(LOG_ERR, plan, "read", errno);
	return errno == E2BIG ? MD_PERMANENT : MD_TEMPORARY;
}

struct reading {
	enum mbox_scan_result result;
	struct stat st;		/* of the file, before and after */
	uint32_t known;		/* as in struct mbox */
	uint64_t scanned;	/* bytes */
};

/* Reads the messages once.  False: the file was changed meanwhile. */
static bool
read_once(int fd, const struct mbox_index *index, struct mbox_list *list, struct reading *r)
{
	struct file_state before, after;

	*r = (struct reading){ .result = MBOX_SCAN_FAILED };
	if (fstat(fd, &r->st) == -1)
		return true;
	file_state_of(&r->st, &before);
	let_age(fd, &r->st);
	r->result = read_messages(index, fd, &r->st, list, &r->known, &r->scanned);
	if (fstat(fd, &r->st) == -1) {
		r->result = MBOX_SCAN_FAILED;
		return true;
	}
	file_state_of(&r->st, &after);
	return file_state_equal(&before, &after) && (r->result != MBOX_SCAN_OK || list->end == after.size);
}

enum md_result
mbox_read_locked(struct mbox_lock *lock, const struct mbox_index *index, struct mbox_list *list, struct stat *st,
    uint32_t *known, uint64_t *scanned)
{
	struct reading r;
	int tries;

	for (tries = 0; tries < UNSETTLED_TRIES; tries++) {
		if (read_once(lock->fd, index, list, &r)) {
			*st = lock->st = r.st;
			if (known != NULL)
				*known = r.known;
			if (scanned != NULL)
				*scanned = r.scanned;
			return r.result == MBOX_SCAN_OK ? MD_OK : scan_failed(lock->plan, r.result);
		}
		mbox_list_free(list);
		mbox_lock_refresh(lock);
	}
	mbox_note(LOG_ERR, lock->plan, "changes-under-lock", 0);
	return MD_TEMPORARY;
}

/* --- login --- */

/* Its own maker is who started us: as root, or as the user whose folder it is. */
static enum md_result
open_state(struct mbox *mbox, const struct maildrop_plan *plan)
{
	char path[PATH_BYTES];
	struct stat st;
	int n;

	mbox->folder = open(plan->state, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (mbox->folder == -1 || fstat(mbox->folder, &st) == -1 || st.st_uid != geteuid()) {
		log_note(LOG_ERR, "state-folder path=\"%.700s\" error=\"%s\"", plan->state,
		    mbox->folder == -1 ? strerror(errno) : "not the user's");
		return MD_TEMPORARY;
	}
	n = snprintf(path, sizeof(path), "%s/session.lock", plan->state);
	if (n < 0 || (size_t)n >= sizeof(path))
		return MD_TEMPORARY;
	if ((mbox->session_lock = session_lock_take(path)) != -1)
		return MD_OK;
	if (errno == EAGAIN)
		return MD_IN_USE;
	log_note(LOG_ERR, "session-lock path=\"%.700s\" error=\"%s\"", path, strerror(errno));
	return MD_TEMPORARY;
}

static void
remember_state(struct maildrop *md, const struct stat *st)
{
	struct mbox *mbox = md->private;

	mbox->st = *st;
	file_state_of(st, &md->state);
}

static void
close_reader(struct maildrop *md)
{
	if (md->fd != -1)
		close(md->fd);
	md->fd = -1;
}

static void
drop_records(struct maildrop *md)
{
	struct mbox *mbox = md->private;

	md_table_drop(md);
	mbox->list.records = NULL;
	mbox_list_free(&mbox->list);
}

/* mbox_index_put */
static int
put_in_table(void *to, const struct record *records, size_t count)
{
	return md_table_add(to, records, count);
}

/* md->fd, with st, is what the index speaks of: takes the records from there.  False when they cannot be used. */
static bool
take_index(struct maildrop *md, const struct stat *st)
{
	struct mbox *mbox = md->private;
	const struct index_header *h = &mbox->index.h;
	struct mbox_list *list = &mbox->list;

	if (!mbox_index_is_current(&mbox->index, md->fd, st))
		return false;
	list->from_bytes = malloc((h->count + 1) * sizeof(*list->from_bytes));
	if (list->from_bytes == NULL || mbox_index_read(&mbox->index, put_in_table, md, list->from_bytes) == -1 ||
	    md_table_end(md) == -1) {
		drop_records(md);
		return false;
	}
	list->records = md->records;
	list->count = md->count;
	list->believed = (uint32_t)h->believed;
	list->begin = h->begin;
	list->end = h->end;
	mbox->known = (h->flags & INDEX_DIGESTS) != 0 ? md->count : 0;
	mbox->indexed = true;
	remember_state(md, st);
	return true;
}

/* The records that the scan made become those of the table. */
static int
hand_over(struct maildrop *md, struct mbox_list *list)
{
	struct mbox *mbox = md->private;

	if (md_table_add(md, list->records, list->count) == -1 || md_table_end(md) == -1)
		return -1;
	free(list->records);
	mbox->list = *list;
	mbox->list.records = md->records;
	memset(list, 0, sizeof(*list));
	return 0;
}

/*
 * Mail has come, or there is no index.  Who reads needs no dot-lock: fcntl(2) keeps out all who take that, too.  Who takes the dot-lock
 * alone is seen by it, or shows in the times of the file.  Those are taken first: a write that has its time already, and is still under
 * way, is seen by the dot-lock then.  st: of md->fd.  False: it has to be done under both locks.
 */
static bool
read_shared(struct maildrop *md, const struct stat *st)
{
	struct mbox *mbox = md->private;
	struct mbox_list list = { .count = 0 };
	struct reading r;
	bool good;

	let_age(md->fd, st);
	good = is_local(md->fd) && mbox_lock_shared(md->plan, md->fd) && read_once(md->fd, &mbox->index, &list, &r) &&
	    r.result == MBOX_SCAN_OK && mbox_left_alone(md->plan, md->fd, st);
	mbox_unlock_shared(md->fd);
	if (!good || hand_over(md, &list) == -1) {
		mbox_list_free(&list);
		drop_records(md);
		return false;
	}
	mbox->known = r.known;
	mbox->scanned = r.scanned;
	remember_state(md, &r.st);
	if (md->count == 0)
		close_reader(md);
	return true;
}

/*
 * What can be had without the dot-lock: there is no mbox, it is empty, it is what the index says, or it can be read.  *done: that
 * was so.
 */
static enum md_result
open_shared(struct maildrop *md, bool *done)
{
	struct stat st;
	enum md_result result = mbox_open_reader(md->plan, &md->fd, &st);

	*done = true;
	if (result != MD_OK || md->fd == -1)
		return result;
	if (st.st_size == 0) {
		remember_state(md, &st);
		close_reader(md);
	} else if (!take_index(md, &st) && !read_shared(md, &st)) {
		close_reader(md);
		*done = false;
	}
	if (*done && md->plan->keeper == -1)
		dotlock_clean(md->plan->path);
	return MD_OK;
}

/* The session's descriptor is opened anew and read-only: the locked one can write. */
static enum md_result
open_reader(struct maildrop *md, const struct mbox_lock *lock)
{
	enum md_result result;
	struct stat st;

	if ((result = mbox_open_reader(md->plan, &md->fd, &st)) != MD_OK)
		return result;
	if (md->fd != -1 && st.st_dev == lock->st.st_dev && st.st_ino == lock->st.st_ino)
		return MD_OK;
	mbox_note(LOG_ERR, md->plan, "replaced-under-lock", 0);
	return MD_TEMPORARY;
}

static enum md_result
scan_locked(struct maildrop *md, struct mbox_lock *lock)
{
	struct mbox *mbox = md->private;
	struct mbox_list list = { .count = 0 };
	enum md_result result;
	struct stat st;

	if (journal_recover(lock, mbox->folder) == JOURNAL_FAILED) {
		mbox_note(LOG_ERR, md->plan, "recovery", errno);
		return MD_TEMPORARY;
	}
	result = mbox_read_locked(lock, &mbox->index, &list, &st, &mbox->known, &mbox->scanned);
	if (result == MD_OK && list.count > 0)
		result = open_reader(md, lock);
	if (result == MD_OK) {
		remember_state(md, &st);
		if (hand_over(md, &list) == -1)
			result = scan_failed(md->plan, MBOX_SCAN_FAILED);
	}
	mbox_list_free(&list);
	return result;
}

static enum md_result
open_locked(struct maildrop *md)
{
	struct mbox_lock lock;
	enum md_result result = mbox_lock(&lock, md->plan, MD_IN_USE);

	if (result == MD_OK && lock.fd != -1) {
		result = scan_locked(md, &lock);
		mbox_unlock(&lock);
	}
	return result;
}

static enum md_result
mbox_open(struct maildrop *md)
{
	struct mbox *mbox = calloc(1, sizeof(*mbox));
	enum md_result result;
	bool done = false;
	int journal;

	if ((md->private = mbox) == NULL)
		return MD_TEMPORARY;
	mbox->folder = mbox->session_lock = mbox->index.fd = md->fd = -1;
	if ((result = open_state(mbox, md->plan)) != MD_OK)
		return result;
	if ((journal = journal_exists(mbox->folder)) == -1) {
		log_note(LOG_ERR, "journal error=\"%s\"", strerror(errno));
		return MD_TEMPORARY;
	}
	mbox_index_open(&mbox->index, mbox->folder);
	if (journal == 0 && (result = open_shared(md, &done)) != MD_OK)
		return result;
	if (!done && (result = open_locked(md)) != MD_OK)
		return result;
	md->last = mbox_last_read(mbox, md);
	return MD_OK;
}

/* --- what the session asks --- */

bool
mbox_has_ids(const struct mbox_list *list)
{
	uint32_t i;

	if (list->digests == NULL)
		return false;
	for (i = 0; i < list->count; i++)
		if (list->suffixes[i] == 0)
			return false;
	return true;
}

int
mbox_load_digests(struct mbox *mbox)
{
	struct mbox_list *list = &mbox->list;

	if (list->digests != NULL)
		return 0;
	if (mbox->known == 0 || mbox->known != mbox->index.h.count || mbox->known > list->count)
		return -1;
	if (mbox_list_make_ids(list, list->count) == 0 &&
	    mbox_index_read_digests(&mbox->index, list->digests, list->suffixes) == 0)
		return 0;
	mbox_list_drop_ids(list);
	mbox->known = 0;
	return -1;
}

void
mbox_complete_digests(struct mbox *mbox, int fd)
{
	if (mbox_load_digests(mbox) == 0 && !mbox_has_ids(&mbox->list))
		unique_id_complete(&mbox->list, fd, NULL);
}

static bool
is_unchanged(const struct maildrop *md, int fd)
{
	const struct mbox *mbox = md->private;
	struct file_state now;
	struct stat st;

	if (fstat(fd, &st) == -1)
		return false;
	file_state_of(&st, &now);
	return st.st_dev == mbox->st.st_dev && st.st_ino == mbox->st.st_ino && file_state_equal(&now, &md->state);
}

/* The last message may have got empty lines behind it: agents that write one before their From_ line do that. */
static bool
only_empty_lines_added(const struct record *old, const struct record *now, int fd)
{
	char added[8];
	uint64_t more = now->bytes - old->bytes, octets = old->octets;
	size_t i;

	if (now->bytes <= old->bytes || more > sizeof(added) ||
	    pread_full(fd, added, (size_t)more, (off_t)(old->offset + old->bytes)) != IO_DONE)
		return false;
	for (i = 0; i < more; i++) {
		if (added[i] != '\n' && added[i] != '\r')
			return false;
		octets += added[i] == '\n' && (i == 0 || added[i - 1] != '\r') ? 2 : 1;
	}
	return octets == now->octets;
}

bool
mbox_is_continued(const struct mbox_list *list, const struct mbox_list *now, int fd)
{
	uint32_t i;

	if (now->count < list->count)
		return false;
	for (i = 0; i < list->count; i++) {
		const struct record *a = &list->records[i], *b = &now->records[i];

		if (memcmp(a, b, sizeof(*a)) == 0)
			continue;
		if (i + 1 < list->count || a->offset != b->offset || !is_still_there(a, fd) || !only_empty_lines_added(a, b, fd))
			return false;
	}
	return true;
}

static enum md_result
verify_locked(struct maildrop *md, struct mbox_lock *lock)
{
	struct mbox *mbox = md->private;
	struct mbox_list now = { .count = 0 };
	enum md_result result = MD_GONE;
	struct stat st;

	if (lock->fd == -1 || lock->st.st_dev != mbox->st.st_dev || lock->st.st_ino != mbox->st.st_ino)
		return MD_GONE;
	if (mbox->list.believed == 0 && is_unchanged(md, lock->fd))
		return MD_OK;
	if (mbox_read_locked(lock, NULL, &now, &st, NULL, &mbox->scanned) == MD_OK &&
	    mbox_is_continued(&mbox->list, &now, lock->fd)) {
		remember_state(md, &st);
		mbox->list.end = mbox_start(&now, mbox->list.count); /* what has come since is not in the list */
		mbox->list.believed = 0;
		mbox->indexed = false;
		result = MD_OK;
	}
	mbox_list_free(&now);
	return result;
}

void
mbox_distrust(struct mbox *mbox)
{
	mbox_index_distrust(mbox->folder);
	mbox->distrusted = true;
}

static enum md_result
mbox_verify(struct maildrop *md)
{
	struct mbox *mbox = md->private;
	struct mbox_lock lock;
	enum md_result result = mbox_lock(&lock, md->plan, MD_TEMPORARY);

	if (result == MD_OK)
		result = verify_locked(md, &lock);
	mbox_unlock(&lock);
	if (result == MD_GONE || (result != MD_OK && mbox->list.believed > 0)) /* also where a lock was busy: somebody had doubts */
		mbox_distrust(mbox);
	return result;
}

/* The digests, from a file that was the same before and after. */
static enum md_result
compute_ids(struct maildrop *md)
{
	struct mbox *mbox = md->private;
	enum md_result result;
	int tries;

	for (tries = 0; tries < 3; tries++) {
		mbox_load_digests(mbox);
		if (mbox_has_ids(&mbox->list))
			return MD_OK;
		if (mbox->list.believed <= mbox->known && is_unchanged(md, md->fd) && unique_id_complete(&mbox->list, md->fd, NULL) == 0 &&
		    is_unchanged(md, md->fd)) {
			mbox->indexed = false;
			return MD_OK;
		}
		mbox_list_drop_ids(&mbox->list);
		if ((result = mbox_verify(md)) != MD_OK)
			return result;
	}
	return MD_TEMPORARY;
}

static void
save_index(struct maildrop *md)
{
	struct mbox *mbox = md->private;

	if (mbox->distrusted || mbox->list.end != (uint64_t)mbox->st.st_size)
		return; /* wrong, or mail has come since */
	mbox_complete_digests(mbox, md->fd);
	if (!is_unchanged(md, md->fd))
		return; /* nor are these digests known to be of our messages */
	if (mbox_index_write(mbox->folder, &mbox->list, md->fd, &mbox->st) == 0)
		mbox->indexed = true;
	else
		log_note(LOG_NOTICE, "index error=\"%s\"", strerror(errno));
}

static bool
has_equal(const struct mbox_list *list)
{
	uint32_t i;

	if (list->digests != NULL)
		for (i = 0; i < list->count; i++)
			if (list->suffixes[i] > 1)
				return true;
	return false;
}

/* Once in a session: they stay. */
static enum md_result
settle_ids(struct maildrop *md)
{
	struct mbox *mbox = md->private;
	enum md_result result;

	if (mbox->ids_settled)
		return MD_OK;
	if ((result = compute_ids(md)) != MD_OK)
		return result;
	/* Which of two equal messages is which has to be on disk before anybody is told. */
	if (!mbox->indexed && has_equal(&mbox->list))
		save_index(md);
	mbox->ids_settled = true;
	return MD_OK;
}

static enum md_result
mbox_unique_ids(struct maildrop *md, uint32_t first, bool (*put)(const char *id, size_t len))
{
	const struct mbox_list *list = &((struct mbox *)md->private)->list;
	enum md_result result = settle_ids(md);
	char id[ID_BYTES];
	uint32_t i;

	if (result != MD_OK)
		return result;
	for (i = first - 1; i < list->count && put(id, unique_id_text(list, i, id)); i++)
		continue;
	return MD_OK;
}

/* --- the end --- */

/* An index costs something to write as well. */
static bool
index_pays(const struct mbox *mbox)
{
	if (mbox->indexed || mbox->list.count == 0 || mbox->list.end < INDEX_PAYS_BYTES)
		return false;
	return mbox->scanned >= INDEX_PAYS_BYTES || mbox->list.count < INDEX_SMALL_COUNT ||
	    (mbox->list.digests != NULL && mbox->known < mbox->list.count);
}

static void
mbox_close(struct maildrop *md)
{
	struct mbox *mbox = md->private;

	if (mbox == NULL)
		return;
	if (md->fd != -1 && index_pays(mbox))
		save_index(md);
	drop_records(md);
	close_reader(md);
	mbox_index_close(&mbox->index);
	if (mbox->folder != -1)
		close(mbox->folder);
	if (mbox->session_lock != -1)
		close(mbox->session_lock);
	free(mbox);
	md->private = NULL;
}

const struct maildrop_kind_ops mbox_ops = {
	.open = mbox_open,
	.verify = mbox_verify,
	.unique_ids = mbox_unique_ids,
	.update = mbox_update,
	.close = mbox_close,
};
