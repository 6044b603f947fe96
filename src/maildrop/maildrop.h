/*
 * What the two kinds of maildrop have in common: the message list and the operations.  Runs as the authenticated user.
 * Message-numbers start at 1; message n is record n - 1.
 */
#ifndef MAILDROP_MAILDROP_H
#define MAILDROP_MAILDROP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/table.h"
#include "maildrop/serve.h"

enum md_result {
	MD_OK,
	MD_GONE,	/* it changed underneath: not what the login saw */
	MD_IN_USE,	/* another session, or a lock that did not come free */
	MD_TEMPORARY,	/* disk full, i/o error: another time it may work */
	MD_PERMANENT	/* somebody has to mend something; the log says what */
};

struct maildrop;

struct maildrop_kind_ops {
	/* Takes the session lock, recovers what a crash left, makes the table, fills last (and fd and state: mbox). */
	enum md_result (*open)(struct maildrop *md);
	/*
	 * Maildir: opens message n read-only, *fd becomes the caller's.  MD_GONE if its name is no more.  ahead: nobody wants it yet,
	 * so it is not looked for, and nothing is logged.
	 */
	enum md_result (*message)(struct maildrop *md, uint32_t n, bool ahead, int *fd);
	/* mbox: under the locks, checks by content that every record is still true and refreshes md->state. */
	enum md_result (*verify)(struct maildrop *md);
	/*
	 * Gives put the unique-ids, 1 to UNIQUE_ID_OCTETS characters, of message first (which is there) and of those behind it in
	 * their order, until it returns false.  MD_GONE if they can't be told any more.
	 */
	enum md_result (*unique_ids)(struct maildrop *md, uint32_t first, bool (*put)(const char *id, size_t len));
	/*
	 * UPDATE (RFC 1939, section 6).  Removes the messages marked in md->deleted, notes those in md->read and last as read.
	 * MD_OK: all of it is durable.  Otherwise none, or (Maildir) only md->removed of them, are gone.  Sets md->removed.
	 */
	enum md_result (*update)(struct maildrop *md, uint32_t last);
	/* Frees, and gives the session lock up. */
	void (*close)(struct maildrop *md);
};

struct maildrop {
	const struct maildrop_plan *plan;
	const struct maildrop_kind_ops *ops;
	void *private;			/* the kind's own */
	uint32_t count;
	uint64_t octets;		/* of all messages */
	struct record *records;		/* count of them, in the mapping of table_fd; nobody can write there */
	int table_fd;			/* memfd of the records; -1 without messages */
	uint32_t last;			/* highest message-number read in earlier sessions (RFC 1225, LAST), 0: none */
	int fd;				/* mbox: O_RDONLY, handed to the session; Maildir and absent mbox: -1 */
	struct file_state state;	/* mbox: when the records were known to be true */
	unsigned char *deleted, *read;	/* bitmaps of count bits, as the wire has them; all zero at login */
	uint32_t removed;
};

static inline bool
md_marked(const unsigned char *bitmap, uint32_t n)
{
	return (bitmap[(n - 1) / 8] >> ((n - 1) % 8) & 1) != 0;
}

/*
 * table.c: the records of all messages, in the memory that session and helper share.  Records are added in their order, any
 * number at a time, and can be looked at when the table is complete; adds to count and octets.  0, or -1 with errno (E2BIG:
 * more than MESSAGES_MAX): then, or when it turns out wrong, the table is dropped.  Without messages there is none.
 */
#define TABLE_PIECE 1024	/* 32 KiB, which stay in the processor's cache until they are written */
int md_table_add(struct maildrop *md, const struct record *records, size_t count);
int md_table_end(struct maildrop *md);
void md_table_drop(struct maildrop *md);

extern const struct maildrop_kind_ops mbox_ops;
extern const struct maildrop_kind_ops maildir_ops;

#endif
