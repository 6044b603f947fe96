/*
 * What the parts of the mbox backend share; the rest of postern sees mbox_ops alone.
 */
#ifndef MAILDROP_MBOX_H
#define MAILDROP_MBOX_H

#include <sys/stat.h>

#include "maildrop/maildrop.h"
#include "maildrop/mbox_index.h"
#include "maildrop/mbox_lock.h"
#include "maildrop/mbox_scan.h"

/*
 * What an index costs to write, and what it saves: reading the mbox, which is 0.7 ms of a login on 100 messages of 8 kB.  So a small one
 * pays as soon as one later session finds the mbox unchanged.
 */
#define INDEX_PAYS_BYTES ((uint64_t)64 << 10)
#define INDEX_SMALL_COUNT 2000u

/*
 * Of an mbox that has grown only what is new is read, and the index is believed about the rest (mbox_list.believed): a message is
 * looked at before it is sent (session/transmit.c), and all of them before one is removed or gets its unique-id.  To read a smaller
 * mbox whole takes 0.3 ms; it is, but where tests of small ones are to go the other way.
 */
#ifndef GROWTH_PAYS_BYTES
#define GROWTH_PAYS_BYTES ((uint64_t)1 << 20)
#endif

struct mbox {
	int folder;			/* the state folder */
	int session_lock;
	struct stat st;			/* of the mbox when md->state was taken */
	struct mbox_list list;		/* its records are md->records */
	struct mbox_index index;	/* as it was found at login */
	uint32_t known;			/* the digests of so many messages, from the first, are in index */
	bool indexed;			/* index says all that is known */
	bool distrusted;		/* the list is not the mailbox, so no index is made of it */
	bool ids_settled;		/* the list has the unique-ids of all, and equal ones are told apart on disk */
	uint64_t scanned;		/* bytes that the index saved nobody from reading */
};

/*
 * Reads the messages of the locked mbox, with the help of index (may be NULL), until the file stands still and is old enough
 * for a later change to show in its times; *st is how it was then.  MD_OK, MD_TEMPORARY, MD_PERMANENT (logged).  *known: as
 * in struct mbox, may be NULL; *scanned: bytes read, may be NULL.
 */
enum md_result mbox_read_locked(struct mbox_lock *lock, const struct mbox_index *index, struct mbox_list *list,
    struct stat *st, uint32_t *known, uint64_t *scanned);

/* Digests that are in the index and not in memory yet.  0, or -1: they will have to be computed. */
int mbox_load_digests(struct mbox *mbox);

/*
 * If the index has digests: these, and those of what has come since, read from fd, where the list is true.  Otherwise an index written
 * of the list would not say any more which of equal messages is which.
 */
void mbox_complete_digests(struct mbox *mbox, int fd);

/* Whether all that list says is true of now as well, which may have more messages; fd: the mbox as it is now. */
bool mbox_is_continued(const struct mbox_list *list, const struct mbox_list *now, int fd);

/* The list is not, or not any more, what the mailbox holds. */
void mbox_distrust(struct mbox *mbox);

/* Whether all messages of list have their digests and suffixes. */
bool mbox_has_ids(const struct mbox_list *list);

#endif
