/*
 * The parser of mbox files alone: no files, no locks.  It is fed the file's bytes in pieces of any size and makes the
 * list of its messages.  One pass, without looking at lines one by one.
 *
 * A message begins with a line "From SENDER DATE" at the start of the file (empty lines before it are tolerated) or
 * after an empty line; DATE has to be one in the forms that delivery agents write (from_line_valid()).  Body text is
 * never unquoted: which of ">From " were quoted cannot be known.
 */
#ifndef MAILDROP_MBOX_SCAN_H
#define MAILDROP_MBOX_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fingerprint.h"
#include "common/table.h"

/* A longer line is no From_ line: RFC 5321 ends addresses at 254 octets, and a date has less than 50. */
#define FROM_LINE_BYTES 1000

/* What is looked at to know c-client's internal message: its header has about 300 bytes. */
#define INTERNAL_BYTES 2048

#define DIGEST_BYTES 16

/*
 * The messages of an mbox.  Those of a whole file cover it without a gap: message i (from 0) goes from mbox_start(i) to
 * mbox_start(i + 1), its From_ line and the empty line behind it included, and the last one to end.
 */
struct mbox_list {
	struct record *records;
	uint16_t *from_bytes;		/* of the From_ lines, which end where the records begin */
	unsigned char (*digests)[DIGEST_BYTES];	/* unique_id.h; NULL until somebody asks */
	uint32_t *suffixes;		/* 0: its digest is not known yet.  Behind the digests, in the same memory */
	uint32_t count, room;
	uint32_t believed;		/* of so many, from the first, the index says so, and nobody has read them since others wrote */
	uint64_t begin;			/* 0, or the end of c-client's internal message, which is not in the list */
	uint64_t end;			/* size of the file */
};

static inline uint64_t
mbox_start(const struct mbox_list *list, uint32_t i)
{
	if (i >= list->count)
		return list->end;
	return i == 0 ? list->begin : list->records[i].offset - list->from_bytes[i];
}

/* Adds an empty entry.  0, or -1 with errno (E2BIG: more than MESSAGES_MAX). */
int mbox_list_add(struct mbox_list *list);
void mbox_list_free(struct mbox_list *list);

/* Room for so many messages in all.  0, or -1 with errno. */
int mbox_list_make_room(struct mbox_list *list, uint32_t room);

/* Room for the digests and suffixes of so many messages, all zero, in a list without.  0, or -1 with errno. */
int mbox_list_make_ids(struct mbox_list *list, uint32_t count);
void mbox_list_drop_ids(struct mbox_list *list);

struct line_counts {
	uint64_t lfs, crlfs;
};

struct mbox_scan {
	struct mbox_list *list;
	uint64_t position;		/* in the file, of the next byte to be fed */
	struct line_counts counts;	/* before it */
	unsigned char before[3];	/* the bytes before it, the nearest first */
	bool first, begun, in_message;
	bool after_cr;			/* in the empty lines before the first message */
	/* The message at hand. */
	uint64_t from, offset;
	struct line_counts at_offset;
	bool internal;			/* its From_ line does not speak against c-client */
	size_t head_bytes;
	unsigned char head[INTERNAL_BYTES];
	/* A line that may be a From_ line: where, the counts there, the size of the empty line before it. */
	uint64_t line;
	struct line_counts at_line;
	unsigned int empty_bytes;
	/* If its end has not been fed yet: what of it has. */
	bool in_line;
	size_t line_bytes;
	char line_head[FROM_LINE_BYTES];
};

enum mbox_scan_result {
	MBOX_SCAN_OK,
	MBOX_SCAN_NOT_MBOX,	/* does not begin with a From_ line */
	MBOX_SCAN_FAILED	/* errno: ENOMEM, E2BIG */
};

/*
 * Messages are added to list (zeroed, or with those before position).  position is 0 or where a From_ line begins, and
 * the next byte to be fed stands there.
 */
void mbox_scan_begin(struct mbox_scan *scan, struct mbox_list *list, uint64_t position);
enum mbox_scan_result mbox_scan_feed(struct mbox_scan *scan, const unsigned char *bytes, size_t len);
/* The end of the file; sets list->begin and list->end.  A file of nothing but empty lines is an empty maildrop. */
enum mbox_scan_result mbox_scan_end(struct mbox_scan *scan);

/*
 * Whether line (len bytes, no line end) is "From ", anything, and a date:
 *	Wed Dec  2 05:53[:22] [ZONE] 1992 [ZONE]	ctime(3), BSD, SysV; ZONE is +0100, PDT or "MET DST"
 *	Wed[,] 2 Dec 1992 05:53[:22] [ZONE]		RFC 822's order
 * and perhaps " remote from HOST" (UUCP).
 */
bool from_line_valid(const char *line, size_t len);

/*
 * The loop that all the time goes into: counts the LFs and CRLFs in bytes[at..len) up to the first 'F' that follows an
 * LF after an LF or CR; returns its place, or len.  bytes[at - 1] and bytes[at - 2] are before1 and before2.  One for each
 * processor, here so that tests can hold them against each other; mbox_scan_feed() takes the best one.
 */
typedef size_t mbox_find_fn(const unsigned char *bytes, size_t at, size_t len, unsigned char before1,
    unsigned char before2, struct line_counts *counts);

struct mbox_find {
	const char *name;
	mbox_find_fn *find;
	bool usable;	/* on this processor */
};

/* Best first; the last one is usable everywhere.  Returns how many. */
size_t mbox_finds(const struct mbox_find **finds);

#endif
