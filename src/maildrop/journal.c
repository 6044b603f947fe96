/*
 * Runs as the authenticated user.  The journal is read back from a folder of that user, who may have put anything there:
 * every number is checked, and the worst that a forged one can do is to spoil its owner's own mailbox.
 *
 * The file, in the byte order of the machine:
 *	    0	struct header		written once
 *	 4096	struct entry		even numbers
 *	 8192	struct entry		odd numbers
 *	12288	the ranges
 *	then	one or two slots for the data of entries, in turns like these
 * The valid entry with the highest number counts.  It is never overwritten by the next one, so a torn write leaves it.
 */
#include "maildrop/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "common/ioutil.h"
#include "common/limits.h"
#include "common/logrecord.h"

#define NAME "journal"
#define NEW_NAME "journal.new"
#define MAGIC "postern journal"	/* 15 characters and NUL */

#define PAGE 4096u
#define ENTRIES_AT PAGE
#define RANGES_AT (3 * PAGE)

/* How much of the mbox around the place of work is hashed, to know the file again. */
#define SAMPLE_BYTES 4096u

/* The same of each stripe that a round reads: there may be 128 of them, and a disk writes no less at a time. */
#define STRIPE_SAMPLE_BYTES 512u

/* Gaps of less are read along with what is around them: a read costs as much as copying so many bytes. */
#define READ_OVER 16384u

/* A gap of a block by this is wide: writing everything twice costs more than waiting for the disk more often. */
#define WIDE_GAP 4

/* A rest of so little goes into the journal even where the gap is wide: that saves two waits for the disk. */
#define SMALL_REST ((uint64_t)256 << 10)

/*
 * Stripes: as long as the gap, so that the bytes of one stand where the next one goes.  They are written in ROUNDS, every
 * ROUNDS-th stripe in a round, and a round is durable before the next begins: what a stripe needs is overwritten in the
 * round after its own.  Only the last round needs what the first one overwrites, and has it in the slot: so one byte of ROUNDS
 * is written twice, where a block writes all of them.  More rounds would win little and wait for the disk more often.  By
 * measurement, 1 GiB behind 512 KiB moves in 0.6 of the time of blocks.
 */
#define ROUNDS 16u

/* Of a block: a narrower gap has stripes that share most of their pages with others, which the disk gets once for each round. */
#define STRIPE_LEAST 128

/* In blocks: where less has the same gap, a round is too little for what it waits for the disk. */
#define STRIPED_LEAST 8

/*
 * Copied at a time: the disk begins with one while the next is being copied.  By measurement: of 512 KiB a move of 1 GiB takes 1.9
 * times as long as one without a journal, of 2 MiB 1.8 times.
 */
#define PIECE ((size_t)2 << 20)

/* Below this a smaller block is no use when the disk is full. */
#define BLOCK_LEAST ((size_t)64 << 10)

#define NONCE_BYTES 32u

/* By measurement: smaller ones wait for the disk more often, larger ones win nothing. */
size_t journal_block_bytes = (size_t)8 << 20;

struct header {
	char magic[16];
	unsigned char id[16];		/* of this journal; the entries carry it */
	unsigned char nonce[NONCE_BYTES];
	uint64_t ino;			/* not the device: its number may be another one after a boot */
	uint64_t size, first, new_size;
	uint64_t block, slots;
	uint64_t count, ranges_hash;
	uint64_t end_hash;		/* of the old end of the file, where nothing is written */
	uint64_t hash;			/* of all before */
};

enum phase {
	PHASE_MOVE = 1,	/* done bytes are in place; the next bytes are in the slot, if any */
	PHASE_CUT,	/* all are, and the nonce stands at new_size for as long as the file has not been cut */
	PHASE_ROUND	/* + r: and so are r rounds of the next ROUNDS * bytes; the stripes of the last round are in the slot */
};

struct entry {
	unsigned char id[16];
	uint64_t number;		/* from 0 */
	uint64_t phase, done, bytes;
	uint64_t data_hash;		/* of the slot */
	uint64_t before_hash;		/* of the bytes before the place of work */
	uint64_t source_hash;		/* of the bytes after those at work, and of those that the round reads */
	uint64_t hash;			/* of all before */
};

struct journal {
	struct mbox_lock *lock;
	int folder, fd;
	struct header h;
	struct journal_range *ranges;
	uint64_t *starts;		/* of each range in the stream of moved bytes, and its length at the end */
	uint64_t total;
	uint64_t done;			/* bytes of the stream that are durable in their place */
	uint64_t number;		/* of the next entry */
	uint64_t slot_hash;		/* of what was last written to a slot */
	bool named;			/* its name is durable */
	bool unsynced;			/* the mbox has been written to since */
	bool marked;			/* the nonce stands in the mbox */
	bool cutting;			/* PHASE_CUT is durable */
	unsigned char *buf;		/* h.block bytes */
};

static uint64_t
smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t
whole_pages(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

static uint64_t
slot_bytes(const struct journal *j)
{
	return whole_pages(smaller(j->h.block, j->total));
}

static uint64_t
slot_at(const struct journal *j, uint64_t number)
{
	return RANGES_AT + whole_pages(j->h.count * sizeof(*j->ranges)) + number % j->h.slots * slot_bytes(j);
}

/* How many rounds of stripes an entry says are in place: their slot belongs to the entry so many before. */
static unsigned int
rounds_of(uint64_t phase)
{
	return phase > PHASE_ROUND ? (unsigned int)(phase - PHASE_ROUND) : 0;
}

/* How many bytes of the stream are at work for each one in the slot. */
static unsigned int
spread_of(uint64_t phase)
{
	return phase >= PHASE_ROUND ? ROUNDS : 1;
}

static size_t
nonce_bytes(const struct journal *j)
{
	return (size_t)smaller(NONCE_BYTES, j->h.size - j->h.new_size);
}

static void
journal_free(struct journal *j)
{
	if (j->fd != -1)
		close(j->fd);
	free(j->ranges);
	free(j->starts);
	free(j->buf);
}

/* read() to the end of what must be there. */
static int
get(int fd, void *buf, size_t len, uint64_t at)
{
	switch (pread_full(fd, buf, len, (off_t)at)) {
	case IO_DONE:
		return 0;
	case IO_FAILED:
		return -1;
	default:
		errno = ESTALE; /* the file is shorter than it was */
		return -1;
	}
}

/* --- the stream of bytes that move --- */

/* Fills starts and total from the ranges. */
static int
index_ranges(struct journal *j)
{
	uint64_t i, at = 0;

	if ((j->starts = malloc((j->h.count + 1) * sizeof(*j->starts))) == NULL)
		return -1;
	for (i = 0; i < j->h.count; i++) {
		j->starts[i] = at;
		at += j->ranges[i].bytes;
	}
	j->starts[i] = at;
	j->total = at;
	return 0;
}

/* The range that holds byte at of the stream. */
static uint64_t
range_of(const struct journal *j, uint64_t at)
{
	uint64_t low = 0, high = j->h.count, middle;

	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (j->starts[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static uint64_t
source_of(const struct journal *j, uint64_t at)
{
	uint64_t i = range_of(j, at);

	return j->ranges[i].from + (at - j->starts[i]);
}

/* How far down byte at of the stream moves. */
static uint64_t
gap_at(const struct journal *j, uint64_t at)
{
	return source_of(j, at) - (j->h.first + at);
}

/* How many bytes from there on move as far. */
static uint64_t
left_in_range(const struct journal *j, uint64_t at)
{
	return j->starts[range_of(j, at) + 1] - at;
}

/*
 * Reads bytes of the stream from `at` on to out, at least one and at most len; small gaps between ranges are read with them
 * and closed in memory.
 */
static int
gather_some(const struct journal *j, uint64_t at, unsigned char *out, size_t len, size_t *got)
{
	uint64_t i = range_of(j, at), last = i, start = source_of(j, at), end, piece;

	for (end = j->ranges[i].from + j->ranges[i].bytes; last + 1 < j->h.count && end - start < len &&
	    j->ranges[last + 1].from - end < READ_OVER && j->ranges[last + 1].from - start < len; last++)
		end = j->ranges[last + 1].from + j->ranges[last + 1].bytes;
	end = smaller(end, start + len);
	if (get(j->lock->fd, out, (size_t)(end - start), start) == -1)
		return -1;
	*got = (size_t)(smaller(end, j->ranges[i].from + j->ranges[i].bytes) - start);
	for (i++; i <= last; i++) {
		piece = smaller(end, j->ranges[i].from + j->ranges[i].bytes) - j->ranges[i].from;
		memmove(out + *got, out + (j->ranges[i].from - start), (size_t)piece);
		*got += (size_t)piece;
	}
	return 0;
}

static int
gather(const struct journal *j, uint64_t at, unsigned char *out, size_t len)
{
	size_t got;

	for (; len > 0; at += got, out += got, len -= got)
		if (gather_some(j, at, out, len, &got) == -1)
			return -1;
	return 0;
}

/* --- knowing the file again --- */

static int
hash_of(int fd, uint64_t from, uint64_t to, uint64_t *hash)
{
	unsigned char sample[SAMPLE_BYTES];

	if (get(fd, sample, (size_t)(to - from), from) == -1)
		return -1;
	*hash = XXH3_64bits(sample, (size_t)(to - from));
	return 0;
}

static int
hash_before(const struct journal *j, uint64_t done, uint64_t *hash)
{
	uint64_t place = j->h.first + done;

	return hash_of(j->lock->fd, place - smaller(place, SAMPLE_BYTES), place, hash);
}

/* What the next step reads first.  It stays as it is until that step's entry is durable. */
static int
hash_next(const struct journal *j, uint64_t at, uint64_t *hash)
{
	uint64_t from;

	*hash = 0;
	if (at == j->total)
		return 0;
	from = source_of(j, at);
	return hash_of(j->lock->fd, from, from + smaller(SAMPLE_BYTES, left_in_range(j, at)), hash);
}

/* Adds the beginnings of what a round reads: so that none is done again over the next one, and none over what others have moved. */
static int
hash_round(const struct journal *j, const struct entry *e, uint64_t *hash)
{
	uint64_t i, from, pair[2], gap = gap_at(j, e->done);

	for (i = 0; i < e->bytes; i += gap) {
		from = source_of(j, e->done + i * ROUNDS + rounds_of(e->phase) * gap);
		pair[0] = *hash;
		if (hash_of(j->lock->fd, from, from + smaller(STRIPE_SAMPLE_BYTES, gap), &pair[1]) == -1)
			return -1;
		*hash = XXH3_64bits(pair, sizeof(pair));
	}
	return 0;
}

/* The last round reads the slot, which has a hash of its own. */
static int
hash_source(const struct journal *j, const struct entry *e, uint64_t *hash)
{
	if (hash_next(j, e->done + e->bytes * spread_of(e->phase), hash) == -1)
		return -1;
	return e->phase < PHASE_ROUND || rounds_of(e->phase) == ROUNDS - 1 ? 0 : hash_round(j, e, hash);
}

/* Behind the new end and its nonce nothing is written before the file is cut. */
static int
hash_end(const struct journal *j, uint64_t *hash)
{
	uint64_t from = j->h.size - smaller(j->h.size, SAMPLE_BYTES), quiet = j->h.new_size + nonce_bytes(j);

	return hash_of(j->lock->fd, from > quiet ? from : quiet, j->h.size, hash);
}

/* --- entries --- */

/* The name comes after the content: a journal that is found was complete once. */
static int
make_name_durable(struct journal *j)
{
	if (j->named)
		return 0;
	if (renameat(j->folder, NEW_NAME, j->folder, NAME) == -1)
		return -1;
	j->named = true;
	return fsync(j->folder);
}

static int
sync_mbox(struct journal *j)
{
	if (j->unsynced && fdatasync(j->lock->fd) == -1)
		return -1;
	j->unsynced = false;
	return 0;
}

/*
 * Lets the disk begin with what was written, so that the next fdatasync() has little left to wait for.  A hint, and only
 * one: with one or two blocks there is nothing to gain.
 */
static void
start_writing(const struct journal *j, int fd, uint64_t at, size_t bytes)
{
	if (j->total > 2 * j->h.block)
		sync_file_range(fd, (off_t)at, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
}

static int
write_pieces(const struct journal *j, int fd, const unsigned char *p, size_t bytes, uint64_t at)
{
	size_t i, n;

	for (i = 0; i < bytes; i += n) {
		n = (size_t)smaller(bytes - i, PIECE);
		if (pwrite_full(fd, p + i, n, (off_t)(at + i)) == -1)
			return -1;
		start_writing(j, fd, at + i, n);
	}
	return 0;
}

/*
 * Reads the next bytes of the stream (spread 1), or its next stripes for the last round (spread ROUNDS), to j->buf and writes them
 * to the slot of the next entry.
 */
static int
fill_slot(struct journal *j, size_t bytes, unsigned int spread)
{
	XXH3_state_t state;
	size_t i, n, piece = spread == 1 ? PIECE : (size_t)gap_at(j, j->done);

	XXH3_INITSTATE(&state);
	XXH3_64bits_reset(&state);
	for (i = 0; i < bytes; i += n) {
		n = (size_t)smaller(bytes - i, piece);
		if (gather(j, j->done + i * spread + (spread - 1) * n, j->buf + i, n) == -1 ||
		    write_pieces(j, j->fd, j->buf + i, n, slot_at(j, j->number) + i) == -1)
			return -1;
		XXH3_64bits_update(&state, j->buf + i, n);
	}
	j->slot_hash = XXH3_64bits_digest(&state);
	return 0;
}

/*
 * Says that j->done bytes are in place (and, in rounds of stripes, those rounds), after seeing to it that they are.  bytes: how
 * many of those that come next go into the slot (and to j->buf); that is done first, since the slot belongs to the entry
 * before the last.  Durable when it returns 0.
 */
static int
write_entry(struct journal *j, uint64_t phase, size_t bytes)
{
	struct entry e;

	memset(&e, 0, sizeof(e));
	memcpy(e.id, j->h.id, sizeof(e.id));
	e.number = j->number;
	e.phase = phase;
	e.done = j->done;
	e.bytes = bytes;
	if (hash_before(j, j->done, &e.before_hash) == -1 || hash_source(j, &e, &e.source_hash) == -1)
		return -1;
	if ((bytes > 0 && rounds_of(phase) == 0 && fill_slot(j, bytes, spread_of(phase)) == -1) || sync_mbox(j) == -1)
		return -1;
	e.data_hash = bytes > 0 ? j->slot_hash : 0;
	e.hash = XXH3_64bits(&e, offsetof(struct entry, hash));
	if (pwrite_full(j->fd, &e, sizeof(e), (off_t)(ENTRIES_AT + e.number % 2 * PAGE)) == -1 ||
	    fdatasync(j->fd) == -1 || make_name_durable(j) == -1)
		return -1;
	j->number++;
	return 0;
}

/* --- the work --- */

static int
put(struct journal *j, const void *p, size_t bytes, uint64_t at)
{
	j->unsynced = true;
	return write_pieces(j, j->lock->fd, p, bytes, at);
}

static int
put_nonce(struct journal *j)
{
	j->marked = true;
	return put(j, j->h.nonce, nonce_bytes(j), j->h.new_size);
}

/* Writes the block in j->buf to its place; with the last one the nonce, since this block can be had from the journal. */
static int
put_block(struct journal *j, size_t bytes)
{
	if (put(j, j->buf, bytes, j->h.first + j->done) == -1)
		return -1;
	j->done += bytes;
	return j->done == j->total ? put_nonce(j) : 0;
}

/*
 * The gap is so wide that the next bytes of the stream can move without touching their source.  It is overwritten later,
 * after an entry has said that they are in place.
 */
static int
put_across(struct journal *j, uint64_t bytes)
{
	uint64_t end = j->done + bytes;
	size_t n;

	for (; j->done < end; j->done += n) {
		n = (size_t)smaller(end - j->done, j->h.block);
		if (gather(j, j->done, j->buf, n) == -1 || put(j, j->buf, n, j->h.first + j->done) == -1)
			return -1;
		mbox_lock_refresh(j->lock);
	}
	return 0;
}

/* The stripes of one round. */
static int
put_round(struct journal *j, size_t bytes, unsigned int round)
{
	size_t i, gap = (size_t)gap_at(j, j->done);
	uint64_t slot = slot_at(j, j->number - 1 - round), at;
	int got;

	for (i = 0; i < bytes; i += gap) {
		at = j->done + (uint64_t)i * ROUNDS + round * gap;
		got = round == ROUNDS - 1 ? get(j->fd, j->buf, gap, slot + i) : gather(j, at, j->buf, gap);
		if (got == -1 || put(j, j->buf, gap, j->h.first + at) == -1)
			return -1;
	}
	mbox_lock_refresh(j->lock);
	return 0;
}

/* All rounds from the one on that the last entry speaks of.  The last entry here lets the slot go. */
static int
put_rounds(struct journal *j, size_t bytes, unsigned int round)
{
	for (;;) {
		if (put_round(j, bytes, round) == -1)
			return -1;
		if (++round == ROUNDS)
			break;
		if (write_entry(j, PHASE_ROUND + round, bytes) == -1)
			return -1;
	}
	j->done += (uint64_t)bytes * ROUNDS;
	return write_entry(j, PHASE_MOVE, 0);
}

/* How much goes into the slot when the next bytes move in stripes; 0: they do not. */
static size_t
striped_bytes(const struct journal *j, uint64_t gap)
{
	uint64_t left = left_in_range(j, j->done);

	if (gap < j->h.block / STRIPE_LEAST || gap >= j->h.block / WIDE_GAP || left < STRIPED_LEAST * j->h.block)
		return 0;
	return (size_t)(smaller(j->h.block / gap, left / (ROUNDS * gap)) * gap);
}

static int
step(struct journal *j)
{
	uint64_t gap = gap_at(j, j->done), left = j->total - j->done;
	size_t bytes = (size_t)smaller(j->h.block, left), striped = striped_bytes(j, gap);

	mbox_lock_refresh(j->lock);
	if (gap >= j->h.block / WIDE_GAP && left > smaller(j->h.block, SMALL_REST))
		return write_entry(j, PHASE_MOVE, 0) == -1 ? -1 : put_across(j, smaller(gap, left));
	if (striped > 0)
		return write_entry(j, PHASE_ROUND, striped) == -1 ? -1 : put_rounds(j, striped, 0);
	if (write_entry(j, PHASE_MOVE, bytes) == -1)
		return -1;
	return put_block(j, bytes);
}

/*
 * From "all is in place" to "the file may be cut".  After the cut new mail may stand where the old end was, so whether it
 * was made cannot be told by sizes: as long as the nonce stands at the new end, it was not.
 */
static int
prepare_cut(struct journal *j)
{
	if (j->cutting)
		return 0;
	/* Sources of the last step may stand where the nonce goes: that step must not be done again. */
	if (!j->marked && (write_entry(j, PHASE_MOVE, 0) == -1 || put_nonce(j) == -1))
		return -1;
	j->cutting = true;
	return write_entry(j, PHASE_CUT, 0);
}

static int
cut(struct journal *j)
{
	/* The size is durable before the journal goes, and before anybody says that messages are deleted. */
	if (ftruncate(j->lock->fd, (off_t)j->h.new_size) == -1 || fsync(j->lock->fd) == -1)
		return -1;
	/* If this is lost, the journal is found again in a state that means "cut". */
	return unlinkat(j->folder, NAME, 0);
}

/* --- making one --- */

static int
put_header(struct journal *j)
{
	struct header *h = &j->h;
	size_t bytes = h->count * sizeof(*j->ranges);

	memcpy(h->magic, MAGIC, sizeof(h->magic));
	if (getrandom(h->id, sizeof(h->id), 0) != sizeof(h->id) ||
	    getrandom(h->nonce, sizeof(h->nonce), 0) != sizeof(h->nonce) || hash_end(j, &h->end_hash) == -1)
		return -1;
	h->ranges_hash = XXH3_64bits(j->ranges, bytes);
	h->hash = XXH3_64bits(h, offsetof(struct header, hash));
	if (pwrite_full(j->fd, h, sizeof(*h), 0) == -1)
		return -1;
	return pwrite_full(j->fd, j->ranges, bytes, RANGES_AT);
}

/*
 * A file system without fallocate(2), as NFS before 4.2, gives room for what is written.  (posix_fallocate(3) writes in glibc, and does
 * not in musl.)  0, or -1 with errno.
 */
static int
reserve(int fd, off_t bytes)
{
	static const char zeros[65536];
	off_t at;
	int result;

	do
		result = fallocate(fd, 0, 0, bytes);
	while (result == -1 && errno == EINTR);
	if (result == 0 || errno != EOPNOTSUPP)
		return result;
	for (at = 0; at < bytes; at += (off_t)sizeof(zeros))
		if (pwrite_full(fd, zeros, bytes - at < (off_t)sizeof(zeros) ? (size_t)(bytes - at) : sizeof(zeros), at) == -1)
			return -1;
	return 0;
}

/* All the room it will need; smaller blocks when the disk is nearly full. */
static int
allocate(struct journal *j)
{
	for (;;) {
		j->h.slots = j->total > j->h.block ? 2 : 1;
		if (reserve(j->fd, (off_t)(slot_at(j, 0) + j->h.slots * slot_bytes(j))) == 0)
			return 0;
		if ((errno != ENOSPC && errno != EDQUOT && errno != EFBIG) || j->h.block / 8 < BLOCK_LEAST)
			return -1;
		j->h.block /= 8;
	}
}

static int
create(struct journal *j, const struct journal_plan *plan)
{
	size_t bytes = plan->count * sizeof(*plan->ranges);

	j->h.ino = j->lock->st.st_ino;
	j->h.size = plan->size;
	j->h.first = plan->first;
	j->h.block = journal_block_bytes;
	j->h.count = plan->count;
	if ((j->ranges = malloc(bytes)) == NULL)
		return -1;
	memcpy(j->ranges, plan->ranges, bytes);
	if (index_ranges(j) == -1)
		return -1;
	j->h.new_size = j->h.first + j->total;
	j->fd = openat(j->folder, NEW_NAME, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (j->fd == -1 || allocate(j) == -1)
		return -1;
	j->h.block = smaller(j->h.block, whole_pages(j->total));
	if ((j->buf = malloc((size_t)j->h.block)) == NULL)
		return -1;
	return put_header(j);
}

/* --- one after the other --- */

/*
 * Mail stands behind the size that was planned for: a second journal, which takes the gap before that mail out, replaces
 * the first by rename.  Both say that all before it is in place.
 */
static int
follow(struct journal *j, uint64_t size)
{
	struct journal_range appended = { j->h.size, size - j->h.size };
	struct journal_plan plan = { size, j->h.new_size, 1, &appended };
	struct journal next = { .lock = j->lock, .folder = j->folder, .fd = -1 };

	if (create(&next, &plan) == -1) {
		journal_free(&next);
		return -1;
	}
	journal_free(j);
	*j = next;
	return 0;
}

/* From any state to the end; *size is the mbox's then. */
static int
run(struct journal *j, uint64_t *size)
{
	struct stat st;

	for (;;) {
		while (j->done < j->total)
			if (step(j) == -1)
				return -1;
		if (prepare_cut(j) == -1 || fstat(j->lock->fd, &st) == -1)
			return -1;
		if ((uint64_t)st.st_size < j->h.size) {
			errno = ESTALE;
			return -1;
		}
		if ((uint64_t)st.st_size == j->h.size)
			break;
		if (follow(j, (uint64_t)st.st_size) == -1)
			return -1;
	}
	*size = j->h.new_size;
	return cut(j);
}

int
journal_move(struct mbox_lock *lock, int folder, const struct journal_plan *plan, uint64_t *size)
{
	struct journal j = { .lock = lock, .folder = folder, .fd = -1 };
	int result = -1, saved;

	if (create(&j, plan) == 0)
		result = run(&j, size);
	saved = errno;
	if (result == -1 && !j.named)
		unlinkat(folder, NEW_NAME, 0);
	journal_free(&j);
	errno = saved;
	return result;
}

/* --- after a crash --- */

int
journal_exists(int folder)
{
	struct stat st;

	if (unlinkat(folder, NEW_NAME, 0) == -1 && errno != ENOENT)
		return -1;
	if (fstatat(folder, NAME, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -1;
}

enum verdict {
	VERDICT_GO_ON,
	VERDICT_ALL_DONE,	/* the file has been cut */
	VERDICT_STRANGE,	/* not of this file, or damaged */
	VERDICT_FAILED		/* errno */
};

/* Each number of a header whose hash is right, as a forger would have it. */
static bool
header_is_sound(const struct header *h)
{
	return h->count >= 1 && h->count <= (uint64_t)MESSAGES_MAX + 1 && h->first <= h->new_size &&
	    h->new_size < h->size && h->size <= INT64_MAX && h->block >= 1 && h->block <= JOURNAL_BLOCK_MAX &&
	    (h->slots == 1 || h->slots == 2);
}

static bool
ranges_are_sound(const struct journal *j)
{
	uint64_t i, end = j->h.first + 1, sum = 0;

	for (i = 0; i < j->h.count; i++) {
		const struct journal_range *r = &j->ranges[i];

		if (r->from < end || r->from >= j->h.size || r->bytes == 0 || r->bytes > j->h.size - r->from)
			return false;
		end = r->from + r->bytes;
		sum += r->bytes; /* the ranges do not overlap, so it is less than size */
	}
	return sum == j->h.new_size - j->h.first;
}

/* Header and ranges.  One that has its name was whole once. */
static enum verdict
load(struct journal *j)
{
	struct stat st;
	size_t bytes;

	if (fstat(j->fd, &st) == -1)
		return VERDICT_FAILED;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return VERDICT_STRANGE;
	if (get(j->fd, &j->h, sizeof(j->h), 0) == -1)
		return errno == ESTALE ? VERDICT_STRANGE : VERDICT_FAILED;
	if (memcmp(j->h.magic, MAGIC, sizeof(j->h.magic)) != 0 ||
	    j->h.hash != XXH3_64bits(&j->h, offsetof(struct header, hash)) || !header_is_sound(&j->h))
		return VERDICT_STRANGE;
	bytes = j->h.count * sizeof(*j->ranges);
	if ((uint64_t)st.st_size < RANGES_AT + bytes)
		return VERDICT_STRANGE;
	if ((j->ranges = malloc(bytes)) == NULL || get(j->fd, j->ranges, bytes, RANGES_AT) == -1)
		return VERDICT_FAILED;
	if (j->h.ranges_hash != XXH3_64bits(j->ranges, bytes) || !ranges_are_sound(j))
		return VERDICT_STRANGE;
	if (index_ranges(j) == -1 || (j->buf = malloc((size_t)j->h.block)) == NULL)
		return VERDICT_FAILED;
	return VERDICT_GO_ON;
}

/* The same of an entry. */
static bool
entry_is_sound(const struct journal *j, const struct entry *e)
{
	if (e->phase < PHASE_MOVE || e->phase >= PHASE_ROUND + ROUNDS || e->done > j->total || e->bytes > j->h.block ||
	    e->bytes > (j->total - e->done) / spread_of(e->phase))
		return false;
	return e->phase < PHASE_ROUND || (e->number >= rounds_of(e->phase) && e->bytes > 0 &&
	    e->bytes % gap_at(j, e->done) == 0 && e->bytes <= left_in_range(j, e->done) / ROUNDS);
}

/* Reads one entry, and its data to j->buf.  1; 0 when it was not written whole; -1 when that cannot be told. */
static int
read_entry(const struct journal *j, unsigned int which, struct entry *e)
{
	if (get(j->fd, e, sizeof(*e), ENTRIES_AT + which * PAGE) == -1)
		return errno == ESTALE ? 0 : -1;
	if (e->hash != XXH3_64bits(e, offsetof(struct entry, hash)) || memcmp(e->id, j->h.id, sizeof(e->id)) != 0 ||
	    e->number % 2 != which || !entry_is_sound(j, e))
		return 0;
	if (e->bytes == 0)
		return 1;
	if (get(j->fd, j->buf, (size_t)e->bytes, slot_at(j, e->number - rounds_of(e->phase))) == -1)
		return errno == ESTALE ? 0 : -1;
	return e->data_hash == XXH3_64bits(j->buf, (size_t)e->bytes);
}

/* The newest whole entry, like read_entry(); its data are in j->buf. */
static int
newest_entry(const struct journal *j, struct entry *e)
{
	struct entry other;
	int first = read_entry(j, 0, e), second = first == -1 ? -1 : read_entry(j, 1, &other);

	if (second == -1)
		return -1;
	if (first == 0 || (second == 1 && other.number > e->number)) {
		*e = other;
		return second;
	}
	return read_entry(j, 0, e); /* the data of the other one are in the buffer */
}

/*
 * Is the mbox the one that e speaks of, as far as the work had come?  Others may have appended; who has rewritten it, not
 * knowing that it was half moved, has changed what is looked at here.
 */
static enum verdict
recognise(const struct journal *j, const struct entry *e)
{
	uint64_t before, source, end;

	if (j->lock->st.st_ino != j->h.ino || (uint64_t)j->lock->st.st_size < j->h.size)
		return VERDICT_STRANGE;
	if (hash_before(j, e->done, &before) == -1 || hash_source(j, e, &source) == -1 || hash_end(j, &end) == -1)
		return errno == ESTALE ? VERDICT_STRANGE : VERDICT_FAILED;
	return before == e->before_hash && source == e->source_hash && end == j->h.end_hash ? VERDICT_GO_ON :
		VERDICT_STRANGE;
}

/* In PHASE_CUT: was the file cut?  Only the nonce tells. */
static enum verdict
was_cut(const struct journal *j)
{
	unsigned char there[NONCE_BYTES];

	if (j->lock->st.st_ino != j->h.ino)
		return VERDICT_STRANGE;
	if ((uint64_t)j->lock->st.st_size < j->h.size)
		return VERDICT_ALL_DONE;
	if (get(j->lock->fd, there, nonce_bytes(j), j->h.new_size) == -1)
		return VERDICT_FAILED;
	return memcmp(there, j->h.nonce, nonce_bytes(j)) == 0 ? VERDICT_GO_ON : VERDICT_ALL_DONE;
}

static enum verdict
take_up(struct journal *j)
{
	enum verdict verdict;
	struct entry e;
	int found;

	if (fstat(j->lock->fd, &j->lock->st) == -1)
		return VERDICT_FAILED;
	if ((verdict = load(j)) != VERDICT_GO_ON)
		return verdict;
	if ((found = newest_entry(j, &e)) != 1)
		return found == 0 ? VERDICT_STRANGE : VERDICT_FAILED;
	/* It was read from memory, perhaps: who wrote it may have been killed before the disk had it. */
	if (fdatasync(j->fd) == -1 || fsync(j->folder) == -1)
		return VERDICT_FAILED;
	j->named = true;
	j->number = e.number + 1;
	j->done = e.done;
	j->slot_hash = e.data_hash;
	if (e.phase == PHASE_CUT) {
		j->marked = j->cutting = true;
		j->done = j->total;
		return was_cut(j);
	}
	if ((verdict = recognise(j, &e)) != VERDICT_GO_ON || e.bytes == 0)
		return verdict;
	if (e.phase >= PHASE_ROUND)
		return put_rounds(j, (size_t)e.bytes, rounds_of(e.phase)) == 0 ? VERDICT_GO_ON : VERDICT_FAILED;
	return put_block(j, (size_t)e.bytes) == 0 ? VERDICT_GO_ON : VERDICT_FAILED;
}

static enum journal_found
set_aside(const struct journal *j)
{
	char name[64];

	snprintf(name, sizeof(name), NAME ".strange-%lld", (long long)time(NULL));
	log_note(LOG_ERR, "journal-strange kept=\"%s\"", name);
	if (renameat(j->folder, NAME, j->folder, name) == -1 || fsync(j->folder) == -1)
		return JOURNAL_FAILED;
	return JOURNAL_NONE;
}

/* Nothing to do for it. */
static enum journal_found
drop(const struct journal *j)
{
	log_note(LOG_NOTICE, "journal-dropped state=all-done");
	return unlinkat(j->folder, NAME, 0) == 0 ? JOURNAL_NONE : JOURNAL_FAILED;
}

static enum journal_found
recover(struct journal *j)
{
	uint64_t size;

	j->fd = openat(j->folder, NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (j->fd == -1)
		return errno == ENOENT ? JOURNAL_NONE : errno == ELOOP || errno == EISDIR ? set_aside(j) : JOURNAL_FAILED;
	switch (take_up(j)) {
	case VERDICT_GO_ON:
		break;
	case VERDICT_ALL_DONE:
		/* Who cut it may have been killed before the disk had the new size. */
		return fsync(j->lock->fd) == -1 ? JOURNAL_FAILED : drop(j);
	case VERDICT_STRANGE:
		return set_aside(j);
	case VERDICT_FAILED:
		return JOURNAL_FAILED;
	}
	if (run(j, &size) == -1)
		return JOURNAL_FAILED;
	log_note(LOG_NOTICE, "journal-recovered size=%llu", (unsigned long long)size);
	return JOURNAL_RECOVERED;
}

enum journal_found
journal_recover(struct mbox_lock *lock, int folder)
{
	struct journal j = { .lock = lock, .folder = folder, .fd = -1 };
	enum journal_found found = recover(&j);
	int saved = errno;

	journal_free(&j);
	errno = saved;
	return found;
}
