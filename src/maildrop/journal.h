/*
 * Takes pieces out of an mbox in place, all or nothing at every instant: the kept rest moves down, block by block, and a
 * redo journal in the state folder says how far it has come.  postern-maildrop(7) numbers the states.
 *
 * What is moved may overwrite its own source, so a block goes into the journal first (and to disk), then to its place
 * (and to disk).  Where the gap is wide, the source of a block stays whole while the block is written, and only the progress
 * is noted.  Where much is behind a gap that is neither wide nor narrow, it moves in stripes, few of which go into the journal.
 *
 * The caller holds the mbox's locks.  The file at lock->fd keeps its inode; mail appended behind the size that was planned
 * for (by a program that ignores locks, or after a crash) is moved down as well.
 */
#ifndef MAILDROP_JOURNAL_H
#define MAILDROP_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "maildrop/mbox_lock.h"

/* Bytes moved at a time; tests make it small.  No more than JOURNAL_BLOCK_MAX. */
extern size_t journal_block_bytes;

#define JOURNAL_BLOCK_MAX ((size_t)64 << 20)

struct journal_range {
	uint64_t from, bytes;
};

/* Everything before first stays where it is, the ranges (at least one; rising, none empty, each behind first) move. */
struct journal_plan {
	uint64_t size;	/* of the mbox */
	uint64_t first;
	uint32_t count;
	const struct journal_range *ranges;
};

/*
 * Carries plan out.  folder: the state folder's descriptor.  *size: what the mbox has then.  0 when all of it is
 * durable.  -1 with errno when not: the mbox is untouched, or the journal stays and journal_recover() goes on with it.
 */
int journal_move(struct mbox_lock *lock, int folder, const struct journal_plan *plan, uint64_t *size);

enum journal_found {
	JOURNAL_NONE,		/* no work was left */
	JOURNAL_RECOVERED,	/* an UPDATE that was begun is complete now */
	JOURNAL_FAILED		/* errno tells; the journal stays */
};

/* Whether the folder has a journal: 1, 0, or -1 with errno.  A half-made one is removed. */
int journal_exists(int folder);

/* Finishes what a crash left.  A journal that is of another file or does not fit is set aside, and the log says so. */
enum journal_found journal_recover(struct mbox_lock *lock, int folder);

#endif
