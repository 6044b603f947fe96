/*
 * Unique-ids of the messages of an mbox (RFC 1939, section 7: UIDL).
 *
 * The digest is a pure function of what does not change in a message: SHA-256 over its From_ line and its header lines,
 * except those in which mail programs keep their own notes (Status, X-Status, X-Keywords, X-UID, X-IMAP, X-IMAPbase,
 * Content-Length, Lines, X-UIDL), so that it survives other programs, restored backups and a lost index.  Nothing is ever taken
 * from a header as it is, since whoever sends mail writes headers.  The id is the first 128 bits in hexadecimal; messages
 * with equal digests get -2, -3 ... behind it, in the order in which they came.
 */
#ifndef MAILDROP_UNIQUE_ID_H
#define MAILDROP_UNIQUE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maildrop/mbox_scan.h"

/* A header is hashed up to this many bytes; what has more is no header, and its beginning tells it apart as well. */
#define DIGESTED_BYTES (256 * 1024)

/* Room for an id and its NUL: 32 digits, '-' and a number of 32 bits. */
#define ID_BYTES (2 * DIGEST_BYTES + 1 + 10 + 1)

/* text: From_ line and message, len bytes, as they stand in the file (from_bytes of it the From_ line). */
void unique_id_digest(const char *text, size_t from_bytes, size_t len, unsigned char digest[DIGEST_BYTES]);

/* Ids of messages that were in the mailbox before and have not been found again; suffix 0: an entry to be passed over. */
struct earlier_ids {
	uint32_t count;
	unsigned char (*digests)[DIGEST_BYTES];
	uint32_t *suffixes;
};

/*
 * Makes list->digests and list->suffixes complete: allocates them when there are none, reads the messages whose suffix is
 * 0 from fd, and numbers them.  0, or -1 with errno (ESTALE: the file is shorter than the list says).
 */
int unique_id_complete(struct mbox_list *list, int fd, const struct earlier_ids *earlier);

/* The digest of message i (from 0) alone, read from fd.  0, or -1 with errno. */
int unique_id_read(const struct mbox_list *list, uint32_t i, int fd, unsigned char digest[DIGEST_BYTES]);

/*
 * Numbers the messages whose suffix is 0, after those that have one.  earlier may be NULL: an equal digest gets its suffix
 * back (and loses it in earlier).  Suffixes that an index brought and that cannot be right are made anew.  0, or -1 with
 * ENOMEM.
 */
int unique_id_number(struct mbox_list *list, const struct earlier_ids *earlier);

/* Writes the id of message i (from 0) with its NUL to out (ID_BYTES) and returns its length. */
size_t unique_id_text(const struct mbox_list *list, uint32_t i, char *out);

#endif
