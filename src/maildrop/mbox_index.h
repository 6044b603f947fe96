/*
 * The index of an mbox: file "index" in the state folder.  A cache: it can be removed or spoilt at any moment, which costs
 * a scan and nothing else.  (The one thing in it that cannot be computed again is which of several equal messages had which
 * unique-id.)
 */
#ifndef MAILDROP_MBOX_INDEX_H
#define MAILDROP_MBOX_INDEX_H

#include <stdbool.h>
#include <sys/stat.h>

#include "maildrop/mbox_scan.h"

struct index_header {
	char magic[16];
	uint64_t dev, ino;
	struct file_state state;	/* of the mbox when the records were true */
	uint64_t begin, end;
	uint64_t count;
	uint64_t flags;
	uint64_t tail_hash;		/* of the last bytes of the mbox */
	uint64_t records_hash, from_hash, digests_hash, suffixes_hash;
	uint64_t believed;		/* as in struct mbox_list */
	uint64_t hash;			/* of all before */
};

#define INDEX_DIGESTS 1u	/* digests and suffixes are there */
#define INDEX_EQUAL 2u		/* and some messages are equal */

struct mbox_index {
	int fd;			/* of the file that was opened, whatever its name stands for by now; -1: there is none */
	struct index_header h;
};

/* Opens the index of the state folder; index->fd is -1 when there is none that can be used. */
void mbox_index_open(struct mbox_index *index, int folder);
void mbox_index_close(struct mbox_index *index);

/* Whether the mbox (open as fd, with st) is what it was: same file, size, times and end. */
bool mbox_index_is_current(const struct mbox_index *index, int fd, const struct stat *st);

/* Whether it is the same file and has grown: the records may still be true, which is for the caller to find out. */
bool mbox_index_may_have_grown(const struct mbox_index *index, const struct stat *st);

/*
 * Reads all records, proving that they fit into the file and each other, and gives them to put in their order, many at a time;
 * put returns 0, or -1 to end that.  from_bytes has room for index->h.count.  0, or -1: what was put before is worth nothing.
 */
typedef int mbox_index_put(void *to, const struct record *records, size_t count);
int mbox_index_read(const struct mbox_index *index, mbox_index_put *put, void *to, uint16_t *from_bytes);

/* The same for digests and suffixes (INDEX_DIGESTS). */
int mbox_index_read_digests(const struct mbox_index *index, unsigned char (*digests)[DIGEST_BYTES], uint32_t *suffixes);

/*
 * Replaces the index.  fd: the mbox, whose records list are in state st.  Digests are written if list has them all.  0, or
 * -1 with errno; the old one stays then.
 */
int mbox_index_write(int folder, const struct mbox_list *list, int fd, const struct stat *st);

void mbox_index_remove(int folder);

/* What the index says of places is not true.  The next login reads all, and finds the unique-ids of what it reads in there. */
void mbox_index_distrust(int folder);

void file_state_of(const struct stat *st, struct file_state *state);
bool file_state_equal(const struct file_state *a, const struct file_state *b);

#endif
