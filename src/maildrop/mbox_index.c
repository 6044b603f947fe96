/* Runs as the authenticated user.  The file may have been written by that user's own hand: nothing in it is believed. */
#include "maildrop/mbox_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/limits.h"
#include "maildrop/maildrop.h"

#define NAME "index"
#define NEW_NAME "index.new"
#define MAGIC "postern index 2"	/* 15 characters and NUL */
#define TAIL_BYTES 4096u

void
file_state_of(const struct stat *st, struct file_state *state)
{
	state->size = (uint64_t)st->st_size;
	state->mtime_sec = st->st_mtim.tv_sec;
	state->mtime_nsec = st->st_mtim.tv_nsec;
	state->ctime_sec = st->st_ctim.tv_sec;
	state->ctime_nsec = st->st_ctim.tv_nsec;
}

bool
file_state_equal(const struct file_state *a, const struct file_state *b)
{
	return a->size == b->size && a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec &&
	    a->ctime_sec == b->ctime_sec && a->ctime_nsec == b->ctime_nsec;
}

static int
hash_tail(int fd, uint64_t size, uint64_t *hash)
{
	unsigned char tail[TAIL_BYTES];
	size_t len = size < TAIL_BYTES ? (size_t)size : TAIL_BYTES;

	if (len > 0 && pread_full(fd, tail, len, (off_t)(size - len)) != IO_DONE)
		return -1;
	*hash = XXH3_64bits(tail, len);
	return 0;
}

/* --- reading --- */

static bool
header_is_sound(const struct index_header *h)
{
	return memcmp(h->magic, MAGIC, sizeof(h->magic)) == 0 &&
	    h->hash == XXH3_64bits(h, offsetof(struct index_header, hash)) && h->count <= MESSAGES_MAX &&
	    h->believed <= h->count && h->begin <= h->end && h->end <= INT64_MAX && h->end == h->state.size;
}

void
mbox_index_open(struct mbox_index *index, int folder)
{
	struct stat st;

	index->fd = openat(folder, NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (index->fd == -1)
		return;
	if (fstat(index->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	    pread_full(index->fd, &index->h, sizeof(index->h), 0) == IO_DONE && header_is_sound(&index->h))
		return;
	mbox_index_close(index);
}

void
mbox_index_close(struct mbox_index *index)
{
	if (index->fd != -1)
		close(index->fd);
	index->fd = -1;
}

static bool
is_same_file(const struct mbox_index *index, const struct stat *st)
{
	return index->fd != -1 && index->h.dev == st->st_dev && index->h.ino == st->st_ino;
}

bool
mbox_index_is_current(const struct mbox_index *index, int fd, const struct stat *st)
{
	struct file_state now;
	uint64_t hash;

	file_state_of(st, &now);
	return is_same_file(index, st) && file_state_equal(&now, &index->h.state) &&
	    hash_tail(fd, now.size, &hash) == 0 && hash == index->h.tail_hash;
}

bool
mbox_index_may_have_grown(const struct mbox_index *index, const struct stat *st)
{
	return is_same_file(index, st) && index->h.count > 0 && (uint64_t)st->st_size > index->h.end;
}

/* Where the parts stand; each begins at a multiple of 8. */
static uint64_t
records_at(void)
{
	return sizeof(struct index_header);
}

static uint64_t
from_at(uint64_t count)
{
	return records_at() + count * sizeof(struct record);
}

static uint64_t
digests_at(uint64_t count)
{
	return from_at(count) + (count * sizeof(uint16_t) + 7) / 8 * 8;
}

static uint64_t
suffixes_at(uint64_t count)
{
	return digests_at(count) + count * DIGEST_BYTES;
}

/* next: where the From_ line of the next message begins, or the file ends. */
static bool
record_is_sound(const struct record *r, uint16_t from_bytes, uint64_t start, uint64_t next, bool last)
{
	uint64_t end;

	if (from_bytes < 5 || from_bytes > FROM_LINE_BYTES || r->offset > next || r->offset < start + from_bytes ||
	    r->bytes > next - r->offset)
		return false;
	end = r->offset + r->bytes;
	return next - end <= 2 && (last || next - end >= 1) && r->octets >= r->bytes && r->octets <= 2 * r->bytes + 2;
}

/* What was read and is still to be proved: a record is followed by the next one's From_ line, or by the end. */
struct proof {
	XXH3_state_t hash;
	uint64_t number, start;		/* records so far; where the From_ line of the last one begins */
	struct record last;
};

static bool
last_is_sound(const struct proof *p, const struct index_header *h, const uint16_t *from_bytes, uint64_t next)
{
	uint64_t start = p->number == 1 ? h->begin : p->start;

	return next >= start && next <= h->end &&
	    record_is_sound(&p->last, from_bytes[p->number - 1], start, next, p->number == h->count);
}

static bool
piece_is_sound(struct proof *p, const struct index_header *h, const struct record *r, size_t count,
    const uint16_t *from_bytes)
{
	uint64_t start;
	size_t i;

	for (i = 0; i < count; i++) {
		start = r[i].offset - from_bytes[p->number];
		if (p->number > 0 && !last_is_sound(p, h, from_bytes, start))
			return false;
		p->last = r[i];
		p->start = start;
		p->number++;
	}
	return true;
}

static int
read_records(const struct mbox_index *index, struct proof *p, mbox_index_put *put, void *to, const uint16_t *from_bytes)
{
	const struct index_header *h = &index->h;
	static struct record piece[TABLE_PIECE];
	size_t count;

	while (p->number < h->count) {
		count = h->count - p->number < TABLE_PIECE ? (size_t)(h->count - p->number) : TABLE_PIECE;
		if (pread_full(index->fd, piece, count * sizeof(*piece),
			(off_t)(records_at() + p->number * sizeof(*piece))) != IO_DONE)
			return -1;
		XXH3_64bits_update(&p->hash, piece, count * sizeof(*piece));
		if (!piece_is_sound(p, h, piece, count, from_bytes) || put(to, piece, count) == -1)
			return -1;
	}
	return XXH3_64bits_digest(&p->hash) == h->records_hash && last_is_sound(p, h, from_bytes, h->end) ? 0 : -1;
}

int
mbox_index_read(const struct mbox_index *index, mbox_index_put *put, void *to, uint16_t *from_bytes)
{
	size_t from_size = index->h.count * sizeof(*from_bytes);
	struct proof proof = { .number = 0 };

	if (index->h.count == 0)
		return 0;
	if (pread_full(index->fd, from_bytes, from_size, (off_t)from_at(index->h.count)) != IO_DONE ||
	    XXH3_64bits(from_bytes, from_size) != index->h.from_hash)
		return -1;
	XXH3_64bits_reset(&proof.hash);
	return read_records(index, &proof, put, to, from_bytes);
}

int
mbox_index_read_digests(const struct mbox_index *index, unsigned char (*digests)[DIGEST_BYTES], uint32_t *suffixes)
{
	const struct index_header *h = &index->h;
	size_t digests_size = h->count * DIGEST_BYTES, suffixes_size = h->count * sizeof(*suffixes);

	if (index->fd == -1 || (h->flags & INDEX_DIGESTS) == 0)
		return -1;
	if (pread_full(index->fd, digests, digests_size, (off_t)digests_at(h->count)) != IO_DONE ||
	    pread_full(index->fd, suffixes, suffixes_size, (off_t)suffixes_at(h->count)) != IO_DONE)
		return -1;
	return XXH3_64bits(digests, digests_size) == h->digests_hash &&
	    XXH3_64bits(suffixes, suffixes_size) == h->suffixes_hash ? 0 : -1;
}

/* --- writing --- */

static uint64_t
digest_flags(const struct mbox_list *list)
{
	uint64_t flags = INDEX_DIGESTS;
	uint32_t i;

	if (list->digests == NULL)
		return 0;
	for (i = 0; i < list->count; i++) {
		if (list->suffixes[i] == 0)
			return 0;
		if (list->suffixes[i] > 1)
			flags |= INDEX_EQUAL;
	}
	return flags;
}

static int
fill_header(struct index_header *h, const struct mbox_list *list, int fd, const struct stat *st)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, MAGIC, sizeof(h->magic));
	h->dev = st->st_dev;
	h->ino = st->st_ino;
	file_state_of(st, &h->state);
	h->begin = list->begin;
	h->end = list->end;
	h->count = list->count;
	h->believed = list->believed;
	h->flags = digest_flags(list);
	h->records_hash = XXH3_64bits(list->records, list->count * sizeof(*list->records));
	h->from_hash = XXH3_64bits(list->from_bytes, list->count * sizeof(*list->from_bytes));
	if ((h->flags & INDEX_DIGESTS) != 0) {
		h->digests_hash = XXH3_64bits(list->digests, (size_t)list->count * DIGEST_BYTES);
		h->suffixes_hash = XXH3_64bits(list->suffixes, list->count * sizeof(*list->suffixes));
	}
	if (h->end != h->state.size || hash_tail(fd, h->end, &h->tail_hash) == -1) {
		errno = ESTALE;
		return -1;
	}
	h->hash = XXH3_64bits(h, offsetof(struct index_header, hash));
	return 0;
}

static int
write_parts(int fd, const struct index_header *h, const struct mbox_list *list)
{
	uint64_t n = h->count;

	if (pwrite_full(fd, h, sizeof(*h), 0) == -1 ||
	    pwrite_full(fd, list->records, n * sizeof(*list->records), (off_t)records_at()) == -1 ||
	    pwrite_full(fd, list->from_bytes, n * sizeof(*list->from_bytes), (off_t)from_at(n)) == -1)
		return -1;
	if ((h->flags & INDEX_DIGESTS) == 0)
		return 0;
	if (pwrite_full(fd, list->digests, n * DIGEST_BYTES, (off_t)digests_at(n)) == -1)
		return -1;
	return pwrite_full(fd, list->suffixes, n * sizeof(*list->suffixes), (off_t)suffixes_at(n));
}

/* Not synced: what a power loss leaves of it, the hashes tell. */
int
mbox_index_write(int folder, const struct mbox_list *list, int mbox, const struct stat *st)
{
	struct index_header h;
	int fd, saved, result;

	if (fill_header(&h, list, mbox, st) == -1)
		return -1;
	fd = openat(folder, NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd == -1)
		return -1;
	result = write_parts(fd, &h, list);
	saved = errno;
	if (close(fd) == -1 && result == 0) {
		saved = errno;
		result = -1;
	}
	if (result == 0 && (result = renameat(folder, NEW_NAME, folder, NAME)) == -1)
		saved = errno;
	if (result == -1)
		unlinkat(folder, NEW_NAME, 0);
	errno = saved;
	return result;
}

void
mbox_index_remove(int folder)
{
	unlinkat(folder, NAME, 0);
}

void
mbox_index_distrust(int folder)
{
	struct mbox_index index;
	int fd;

	mbox_index_open(&index, folder);
	if (index.fd == -1)
		return;
	mbox_index_close(&index);
	index.h.ino = 0; /* no file has that */
	index.h.hash = XXH3_64bits(&index.h, offsetof(struct index_header, hash));
	fd = openat(folder, NAME, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd == -1 || pwrite_full(fd, &index.h, sizeof(index.h), 0) == -1)
		mbox_index_remove(folder);
	if (fd != -1)
		close(fd);
}
