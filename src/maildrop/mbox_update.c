/*
 * Runs as the authenticated user.
 *
 * Messages are deleted by identity: if anybody but us has written since the login, the mbox is read again and the marked
 * messages are looked for.  Those that are gone already count as removed, those that cannot be told from others stay, and
 * the client hears that some do.
 */
#include "maildrop/mbox_update.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/logrecord.h"
#include "maildrop/journal.h"
#include "maildrop/unique_id.h"

/* --- finding messages again --- */

uint64_t *
mbox_content_keys(const struct mbox_list *list)
{
	uint64_t *keys = malloc((list->count + (size_t)1) * sizeof(*keys));
	uint32_t i;

	if (keys == NULL)
		return NULL;
	for (i = 0; i < list->count; i++) {
		const struct record *r = &list->records[i];
		uint64_t parts[3] = { r->fingerprint, r->bytes, r->octets };

		keys[i] = XXH3_64bits(parts, sizeof(parts));
	}
	return keys;
}

static uint64_t *
digest_keys(const struct mbox_list *list)
{
	uint64_t *keys = malloc((list->count + (size_t)1) * sizeof(*keys));
	uint32_t i;

	if (keys == NULL)
		return NULL;
	for (i = 0; i < list->count; i++)
		memcpy(&keys[i], list->digests[i], sizeof(*keys));
	return keys;
}

/* A hash table from keys to the places that have them, each chain in rising order; 0: none, else place + 1. */
struct key_table {
	uint32_t mask;
	uint32_t *slots, *next;
	const uint64_t *keys;
};

static void
key_table_free(struct key_table *t)
{
	free(t->slots);
	free(t->next);
}

/* Chains hold whatever falls into a slot; equal keys are told apart by who walks them. */
static int
key_table_make(struct key_table *t, const uint64_t *keys, uint32_t count)
{
	uint32_t i, *slot;

	for (t->mask = 15; t->mask / 2 < count; t->mask = t->mask * 2 + 1)
		;
	t->keys = keys;
	t->slots = calloc((size_t)t->mask + 1, sizeof(*t->slots));
	t->next = calloc((size_t)count + 1, sizeof(*t->next));
	if (t->slots == NULL || t->next == NULL) {
		key_table_free(t);
		return -1;
	}
	for (i = count; i > 0; i--) {
		slot = &t->slots[keys[i - 1] & t->mask];
		t->next[i - 1] = *slot;
		*slot = i;
	}
	return 0;
}

/* Takes the first place that has key out of the table; MBOX_NOWHERE when there is none (any more). */
static uint32_t
key_table_take(struct key_table *t, uint64_t key)
{
	uint32_t *link = &t->slots[key & t->mask], place;

	while (*link != 0 && t->keys[*link - 1] != key)
		link = &t->next[*link - 1];
	if (*link == 0)
		return MBOX_NOWHERE;
	place = *link - 1;
	*link = t->next[place];
	return place;
}

int
mbox_match(const uint64_t *keys, uint32_t count, const uint64_t *new_keys, uint32_t new_count, uint32_t *where)
{
	struct key_table t;
	uint32_t i;

	if (key_table_make(&t, new_keys, new_count) == -1)
		return -1;
	for (i = 0; i < count; i++)
		where[i] = key_table_take(&t, keys[i]);
	key_table_free(&t);
	return 0;
}

/* --- UPDATE in a mailbox that others have changed --- */

struct change {
	const struct mbox_list *old, *now;
	const unsigned char *marked;	/* of old */
	unsigned char *remove;		/* of now */
	uint64_t *keys, *new_keys;
	bool by_digest;
	uint32_t *where;
	uint32_t unidentified;
};

static void
set_mark(unsigned char *bitmap, uint32_t i)
{
	bitmap[i / 8] |= (unsigned char)(1u << i % 8);
}

/* The first message of the old list with the key of message i. */
static uint32_t
first_equal(const struct key_table *t, uint64_t key)
{
	uint32_t chain = t->slots[key & t->mask];

	while (t->keys[chain - 1] != key)
		chain = t->next[chain - 1];
	return chain - 1;
}

#define GROUP_SHORT 1
#define GROUP_UNMARKED 2

/*
 * Equal messages of which some are gone: which ones, cannot be told.  That matters where not all of them were marked.
 * Forgets where those are, so that none of them is removed.
 */
static int
forget_ambiguous(struct change *c)
{
	struct key_table t;
	uint32_t i, n = c->old->count;
	unsigned char *groups = calloc((size_t)n + 1, 1);

	if (groups == NULL)
		return -1;
	if (key_table_make(&t, c->keys, n) == -1) {
		free(groups);
		return -1;
	}
	for (i = 0; i < n; i++)
		groups[first_equal(&t, c->keys[i])] |= (c->where[i] == MBOX_NOWHERE ? GROUP_SHORT : 0) |
			(md_marked(c->marked, i + 1) ? 0 : GROUP_UNMARKED);
	for (i = 0; i < n; i++) {
		if (!md_marked(c->marked, i + 1) || c->where[i] == MBOX_NOWHERE ||
		    groups[first_equal(&t, c->keys[i])] != (GROUP_SHORT | GROUP_UNMARKED))
			continue;
		c->where[i] = MBOX_NOWHERE;
		c->unidentified++;
	}
	key_table_free(&t);
	free(groups);
	return 0;
}

/*
 * Marked messages that were not found again.  One that somebody has given another Status line (without digests) or any other
 * new header line looks new.  It is gone only if between the neighbours that were found there is nothing that looks new;
 * otherwise the client hears that it may still be there, which is true of the next session at the latest.
 */
static int
count_unidentified(struct change *c)
{
	uint32_t n = c->old->count, m = c->now->count, i, from, to;
	uint32_t *strangers = calloc((size_t)m + 1, sizeof(*strangers)), *following = malloc((n + (size_t)1) * sizeof(*following));

	if (strangers == NULL || following == NULL) {
		free(strangers);
		free(following);
		return -1;
	}
	for (i = 0; i < n; i++)
		if (c->where[i] != MBOX_NOWHERE)
			strangers[c->where[i] + 1] = 1;
	for (i = 1; i <= m; i++) /* strangers[i]: how many of the first i */
		strangers[i] = strangers[i - 1] + (strangers[i] == 0);
	following[n] = m;
	for (i = n; i > 0; i--)
		following[i - 1] = c->where[i - 1] != MBOX_NOWHERE ? c->where[i - 1] : following[i];
	for (i = 0, from = 0; i < n; i++) {
		to = following[i];
		if (c->where[i] != MBOX_NOWHERE)
			from = c->where[i] + 1;
		else if (md_marked(c->marked, i + 1) && (from > to || strangers[to] != strangers[from]))
			c->unidentified++;
	}
	free(strangers);
	free(following);
	return 0;
}

/* Fills c->remove from c->marked. */
static int
identify(struct change *c)
{
	uint32_t i;

	if (mbox_match(c->keys, c->old->count, c->new_keys, c->now->count, c->where) == -1)
		return -1;
	for (i = 0; c->by_digest && i < c->old->count; i++)
		if (c->where[i] != MBOX_NOWHERE &&
		    memcmp(c->old->digests[i], c->now->digests[c->where[i]], DIGEST_BYTES) != 0)
			c->where[i] = MBOX_NOWHERE;
	if (count_unidentified(c) == -1 || forget_ambiguous(c) == -1)
		return -1;
	for (i = 0; i < c->old->count; i++)
		if (c->where[i] != MBOX_NOWHERE && md_marked(c->marked, i + 1))
			set_mark(c->remove, c->where[i]);
	return 0;
}

static bool
is_as_at_login(const struct maildrop *md, const struct mbox_lock *lock)
{
	const struct mbox *mbox = md->private;
	struct file_state state;

	file_state_of(&lock->st, &state);
	return lock->st.st_dev == mbox->st.st_dev && lock->st.st_ino == mbox->st.st_ino &&
	    file_state_equal(&state, &md->state) && mbox->list.end == state.size;
}

/*
 * Digests are the better identity, if the login's messages have them or can still be read for them: where another file
 * was put in the mbox's place, ours is still open as it was; and what has only grown before the login has what was new then.
 */
static bool
digests_are_known(struct maildrop *md, const struct mbox_lock *lock)
{
	struct mbox *mbox = md->private;
	struct stat st;

	mbox_load_digests(mbox);
	if (mbox_has_ids(&mbox->list))
		return true;
	if (lock->st.st_dev == mbox->st.st_dev && lock->st.st_ino == mbox->st.st_ino)
		return is_as_at_login(md, lock) && mbox->list.believed <= mbox->known &&
		    unique_id_complete(&mbox->list, lock->fd, NULL) == 0;
	return mbox->list.believed <= mbox->known && fstat(md->fd, &st) == 0 && st.st_size == mbox->st.st_size &&
	    st.st_mtim.tv_sec == mbox->st.st_mtim.tv_sec && st.st_mtim.tv_nsec == mbox->st.st_mtim.tv_nsec &&
	    unique_id_complete(&mbox->list, md->fd, NULL) == 0;
}

/* The ids stay with their messages. */
static void
carry_suffixes(const struct change *c, struct mbox_list *now)
{
	uint32_t i;

	for (i = 0; i < now->count; i++)
		now->suffixes[i] = 0;
	for (i = 0; i < c->old->count; i++)
		if (c->where[i] != MBOX_NOWHERE)
			now->suffixes[c->where[i]] = c->old->suffixes[i];
	if (unique_id_number(now, NULL) == -1)
		mbox_list_drop_ids(now);
}

/* Mail was appended, no more: every message is where it was. */
static int
keep_places(struct change *c, struct mbox_list *now, int fd)
{
	uint32_t i;

	for (i = 0; i < c->old->count; i++) {
		c->where[i] = i;
		if (md_marked(c->marked, i + 1))
			set_mark(c->remove, i);
	}
	if (!mbox_has_ids(c->old))
		return 0;
	if (mbox_list_make_ids(now, now->count) == -1)
		return -1;
	memcpy(now->digests, c->old->digests, (size_t)c->old->count * DIGEST_BYTES);
	memcpy(now->suffixes, c->old->suffixes, c->old->count * sizeof(*now->suffixes));
	return unique_id_complete(now, fd, NULL);
}

static int
make_keys(struct maildrop *md, struct mbox_lock *lock, struct change *c, struct mbox_list *now)
{
	c->by_digest = digests_are_known(md, lock) && unique_id_complete(now, lock->fd, NULL) == 0;
	c->keys = c->by_digest ? digest_keys(c->old) : mbox_content_keys(c->old);
	c->new_keys = c->by_digest ? digest_keys(now) : mbox_content_keys(now);
	return c->keys != NULL && c->new_keys != NULL ? 0 : -1;
}

/* Fills c->where and c->remove. */
static int
find_all(struct maildrop *md, struct mbox_lock *lock, struct change *c, struct mbox_list *now)
{
	struct mbox *mbox = md->private;

	c->where = malloc((c->old->count + (size_t)1) * sizeof(*c->where));
	c->remove = calloc(now->count / 8 + (size_t)1, 1);
	if (c->where == NULL || c->remove == NULL)
		return -1;
	if (lock->st.st_dev == mbox->st.st_dev && lock->st.st_ino == mbox->st.st_ino &&
	    mbox_is_continued(c->old, now, lock->fd)) {
		mbox_complete_digests(mbox, lock->fd);
		return keep_places(c, now, lock->fd);
	}
	mbox_distrust(mbox);
	if (make_keys(md, lock, c, now) == -1 || identify(c) == -1)
		return -1;
	if (c->by_digest)
		carry_suffixes(c, now);
	return 0;
}

/* --- UPDATE --- */

/* What to do, on the mailbox as it is now. */
struct work {
	struct mbox_list *list;
	const unsigned char *remove;
	uint32_t last;			/* LAST, as a number of list */
};

static uint32_t
count_marked(const unsigned char *bitmap, uint32_t count)
{
	uint32_t n, marked = 0;

	for (n = 1; n <= count; n++)
		marked += md_marked(bitmap, n);
	return marked;
}

/* The pieces that stay behind the first one that goes; NULL with errno. */
static struct journal_range *
kept_ranges(const struct work *w, uint32_t first, uint32_t *count)
{
	struct journal_range *ranges = malloc((w->list->count - first) * sizeof(*ranges) + 1), *r = ranges;
	uint32_t i;

	if (ranges == NULL)
		return NULL;
	for (i = first; i < w->list->count; i++) {
		uint64_t from, to;

		if (md_marked(w->remove, i + 1))
			continue;
		from = mbox_start(w->list, i);
		to = mbox_start(w->list, i + 1);
		if (r > ranges && r[-1].from + r[-1].bytes == from)
			r[-1].bytes += to - from;
		else
			*r++ = (struct journal_range){ from, to - from };
	}
	*count = (uint32_t)(r - ranges);
	return ranges;
}

/* Takes the marked messages out; *size is the file's then.  0, or -1 with errno. */
static int
remove_marked(const struct mbox *mbox, struct mbox_lock *lock, const struct work *w, uint64_t *size)
{
	struct journal_plan plan = { .size = w->list->end };
	struct journal_range *ranges;
	uint32_t first = 0;
	int result;

	while (!md_marked(w->remove, first + 1))
		first++;
	plan.first = mbox_start(w->list, first);
	if ((ranges = kept_ranges(w, first, &plan.count)) == NULL)
		return -1;
	plan.ranges = ranges;
	if (plan.count == 0) {
		/* Only the end goes: a file system changes a size in one piece. */
		*size = plan.first;
		result = ftruncate(lock->fd, (off_t)plan.first) == -1 ? -1 : fsync(lock->fd);
	} else {
		result = journal_move(lock, mbox->folder, &plan, size);
	}
	free(ranges);
	return result;
}

/* The list as it is after that: what is kept begins where the one kept before ends. */
static int
list_kept(const struct work *w, struct mbox_list *kept)
{
	uint64_t from, to;
	uint32_t i, n;

	kept->begin = kept->end = w->list->begin;
	if (w->list->digests != NULL && mbox_list_make_ids(kept, w->list->count) == -1)
		return -1;
	for (i = 0; i < w->list->count; i++) {
		if (md_marked(w->remove, i + 1))
			continue;
		n = kept->count;
		if (mbox_list_add(kept) == -1)
			return -1;
		from = mbox_start(w->list, i);
		to = mbox_start(w->list, i + 1);
		kept->records[n] = w->list->records[i];
		kept->records[n].offset -= from - kept->end;
		kept->from_bytes[n] = w->list->from_bytes[i];
		if (kept->digests != NULL) {
			memcpy(kept->digests[n], w->list->digests[i], DIGEST_BYTES);
			kept->suffixes[n] = w->list->suffixes[i];
		}
		kept->end += to - from;
	}
	return 0;
}

/*
 * Sets the time of modification back a little: whoever writes from now on, be it in the same tick of the kernel's clock,
 * is seen by it.
 */
static int
set_time_back(int fd, struct stat *st)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0, 0 } };

	clock_gettime(CLOCK_REALTIME, &times[1]);
	if ((times[1].tv_nsec -= 20000000) < 0) {
		times[1].tv_sec--;
		times[1].tv_nsec += 1000000000;
	}
	if (futimens(fd, times) == -1 || fstat(fd, st) == -1)
		return -1;
	return st->st_mtim.tv_nsec == 0 ? -1 : 0; /* a file system of whole seconds would not show it */
}

/* The next login need not scan what we know; where that would be cheaper, or if anything is unclear, it does. */
static void
index_kept(const struct mbox *mbox, const struct mbox_lock *lock, const struct mbox_list *kept, uint64_t size)
{
	bool equal = false;
	struct stat st;
	uint32_t i;

	if (kept->digests == NULL && mbox->distrusted && mbox->index.fd != -1 && (mbox->index.h.flags & INDEX_EQUAL) != 0)
		return; /* it still knows the suffixes of equal messages */
	for (i = 0; kept->digests != NULL && i < kept->count; i++)
		equal |= kept->suffixes[i] > 1;
	if (kept->count > 0 && kept->end == size && (kept->end >= INDEX_PAYS_BYTES || equal) &&
	    set_time_back(lock->fd, &st) == 0 && (uint64_t)st.st_size == size &&
	    mbox_index_write(mbox->folder, kept, lock->fd, &st) == 0)
		return;
	if (!equal && kept->digests != NULL) /* else the old one still knows the suffixes of equal messages */
		mbox_index_remove(mbox->folder);
}

/* --- LAST --- */

#define LAST_NAME "last"
#define LAST_NEW_NAME "last.new"
#define LAST_MAGIC "postern last 01"	/* 15 characters and NUL */

/* How far a message is looked for whose Status line somebody has changed. */
#define LAST_REACH 200u

struct last_file {
	char magic[16];
	uint64_t number, bytes, octets, fingerprint;
	unsigned char digest[DIGEST_BYTES];
	uint64_t hash;
};

static int
read_last(int folder, struct last_file *last)
{
	int fd = openat(folder, LAST_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), result;

	if (fd == -1)
		return -1;
	result = pread_full(fd, last, sizeof(*last), 0) == IO_DONE &&
	    memcmp(last->magic, LAST_MAGIC, sizeof(last->magic)) == 0 &&
	    last->hash == XXH3_64bits(last, offsetof(struct last_file, hash)) && last->number >= 1 ? 0 : -1;
	close(fd);
	return result;
}

static bool
is_last(const struct record *r, const struct last_file *last)
{
	return r->fingerprint == last->fingerprint && r->bytes == last->bytes && r->octets == last->octets;
}

uint32_t
mbox_last_read(const struct mbox *mbox, const struct maildrop *md)
{
	unsigned char digest[DIGEST_BYTES];
	struct last_file last;
	uint32_t n, lowest, start;

	if (md->count == 0 || read_last(mbox->folder, &last) == -1)
		return 0;
	start = last.number < md->count ? (uint32_t)last.number : md->count;
	if (last.number == start && is_last(&md->records[start - 1], &last))
		return start;
	for (n = md->count; n > 0; n--)
		if (is_last(&md->records[n - 1], &last))
			return n;
	/* Others' deletions make the number smaller, nothing makes it greater. */
	lowest = start > LAST_REACH ? start - LAST_REACH : 0;
	for (n = start; n > lowest; n--)
		if (unique_id_read(&mbox->list, n - 1, md->fd, digest) == 0 &&
		    memcmp(digest, last.digest, DIGEST_BYTES) == 0)
			return n;
	return 0;
}

/* Not synced: after a power loss LAST may be an older one. */
static void
write_last(int folder, const struct mbox_list *list, uint32_t number, int mbox)
{
	struct last_file last = { .magic = LAST_MAGIC, .number = number };
	const struct record *r;
	int fd = -1;

	if (number == 0) {
		unlinkat(folder, LAST_NAME, 0);
		return;
	}
	r = &list->records[number - 1];
	last.bytes = r->bytes;
	last.octets = r->octets;
	last.fingerprint = r->fingerprint;
	if (unique_id_read(list, number - 1, mbox, last.digest) == 0) {
		last.hash = XXH3_64bits(&last, offsetof(struct last_file, hash));
		fd = openat(folder, LAST_NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	}
	if (fd == -1 || write_full(fd, &last, sizeof(last)) == -1 ||
	    renameat(folder, LAST_NEW_NAME, folder, LAST_NAME) == -1)
		log_note(LOG_NOTICE, "last error=\"%s\"", strerror(errno));
	if (fd != -1)
		close(fd);
}

/* LAST among what is kept: messages up to the highest read one. */
static uint32_t
last_kept(const struct work *w)
{
	uint32_t n, kept = 0;

	for (n = 1; n <= w->last; n++)
		kept += !md_marked(w->remove, n);
	return kept;
}

/* --- all of it --- */

static enum md_result
failed(const struct maildrop *md, int error)
{
	mbox_note(LOG_ERR, md->plan, "update", error);
	return MD_TEMPORARY;
}

/* Removes, and writes what is worth knowing about the rest.  MD_OK: durable. */
static enum md_result
carry_out(struct maildrop *md, struct mbox_lock *lock, const struct work *w)
{
	struct mbox *mbox = md->private;
	struct mbox_list kept = { .count = 0 };
	uint64_t size;

	if (count_marked(w->remove, w->list->count) == 0)
		return MD_OK;
	mbox->indexed = true; /* no index of the mailbox as it was is wanted any more */
	if (remove_marked(mbox, lock, w, &size) == -1)
		return failed(md, errno);
	if (list_kept(w, &kept) == 0) {
		index_kept(mbox, lock, &kept, size);
		write_last(mbox->folder, &kept, last_kept(w), lock->fd);
	}
	mbox_list_free(&kept);
	return MD_OK;
}

/* Nobody has written since all of it was read. */
static enum md_result
update_unchanged(struct maildrop *md, struct mbox_lock *lock, uint32_t last)
{
	struct mbox *mbox = md->private;
	struct work w = { &mbox->list, md->deleted, last };
	enum md_result result;

	mbox_complete_digests(mbox, lock->fd);
	result = carry_out(md, lock, &w);
	if (result == MD_OK)
		md->removed = count_marked(md->deleted, md->count);
	return result;
}

static uint32_t
last_now(const struct change *c, uint32_t last)
{
	uint32_t i, highest = 0;

	for (i = 0; i < last; i++)
		if (c->where[i] != MBOX_NOWHERE && c->where[i] + 1 > highest)
			highest = c->where[i] + 1;
	return highest;
}

static enum md_result
update_found(struct maildrop *md, struct mbox_lock *lock, struct change *c, struct mbox_list *now, uint32_t last)
{
	struct work w = { .list = now };
	enum md_result result;

	if (find_all(md, lock, c, now) == -1)
		return failed(md, errno);
	w.remove = c->remove;
	w.last = last_now(c, last);
	if ((result = carry_out(md, lock, &w)) != MD_OK)
		return result;
	md->removed = count_marked(md->deleted, md->count) - c->unidentified;
	if (c->unidentified == 0)
		return MD_OK;
	log_note(LOG_NOTICE, "mbox-changed not-found=%u", (unsigned int)c->unidentified);
	return MD_TEMPORARY;
}

static enum md_result
update_changed(struct maildrop *md, struct mbox_lock *lock, uint32_t last)
{
	struct mbox *mbox = md->private;
	struct mbox_list now = { .count = 0 };
	struct change c = { .old = &mbox->list, .now = &now, .marked = md->deleted };
	struct stat st;
	enum md_result result = mbox_read_locked(lock, NULL, &now, &st, NULL, NULL);

	if (result != MD_OK)
		return result;
	mbox->indexed = true; /* the list is not the mailbox's any more */
	result = update_found(md, lock, &c, &now, last);
	free(c.remove);
	free(c.keys);
	free(c.new_keys);
	free(c.where);
	mbox_list_free(&now);
	return result;
}

/* As long as messages are only believed to be where they were, none is removed. */
static bool
is_as_it_was_read(const struct maildrop *md, const struct mbox_lock *lock)
{
	const struct mbox *mbox = md->private;

	return mbox->list.believed == 0 && is_as_at_login(md, lock);
}

static enum md_result
update_locked(struct maildrop *md, struct mbox_lock *lock, uint32_t last)
{
	if (fstat(lock->fd, &lock->st) == -1)
		return failed(md, errno);
	return is_as_it_was_read(md, lock) ? update_unchanged(md, lock, last) : update_changed(md, lock, last);
}

enum md_result
mbox_update(struct maildrop *md, uint32_t last)
{
	struct mbox *mbox = md->private;
	struct mbox_lock lock;
	enum md_result result;
	uint32_t marked = md->count > 0 ? count_marked(md->deleted, md->count) : 0;

	if (marked == 0) {
		if (last != md->last)
			write_last(mbox->folder, &mbox->list, last, md->fd);
		return MD_OK;
	}
	if ((result = mbox_lock(&lock, md->plan, MD_TEMPORARY)) != MD_OK)
		return result;
	if (lock.fd == -1)
		md->removed = marked; /* the whole mailbox is gone */
	else
		result = update_locked(md, &lock, last);
	mbox_unlock(&lock);
	return result;
}
