/*
 * The file names of a Maildir session, packed: a name shares its start (delivery time) and its end (host) with the one
 * before, so that only the middle is kept.  That takes 15 to 25 bytes a message where the names take 50, and is also the
 * form in which the index file has them.  Runs as the authenticated user; pure code.
 */
#ifndef MAILDROP_MAILDIR_NAMES_H
#define MAILDROP_MAILDIR_NAMES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "maildrop/pile.h"

/* Where the file of a message is. */
enum place {
	PLACE_NEW,
	PLACE_CUR,
	PLACE_GONE,	/* nowhere any more: a search that missed nothing did not find it */
	PLACE_UNCLEAR	/* not found, but the search may have missed it, or two files could be it */
};

#define FOLDERS 2	/* PLACE_NEW, PLACE_CUR */

struct name {
	char text[NAME_MAX + 1];	/* ends in NUL */
	size_t len;
	enum place place;
	uint64_t stamp;			/* name_stamp() of the file when it was counted */
};

struct names {
	struct pile stream;	/* the form of a name: maildir_names.c */
	struct pile blocks;	/* uint32_t: where in the stream names 0, NAMES_PER_BLOCK ... start; those share nothing */
	uint32_t count;
	struct name_state {
		size_t base;	/* octets of the base name */
		size_t end;	/* how many of them it shared at its end */
		uint64_t drift;	/* the stamp less the delivery time */
	} last;			/* names_add(): of the name before, */
	char last_base[NAME_MAX];	/* and that */
};

#define NAMES_PER_BLOCK 32

/* Walks the names in order.  Start with a zeroed struct. */
struct name_cursor {
	struct name name;	/* the name that name_next() found */
	uint32_t next;		/* its number + 1 */
	size_t pos;
	struct name_state state;
};

/* Adds a name.  0, or -1 with errno. */
int names_add(struct names *names, const char *text, size_t len, enum place place, uint64_t stamp);

/*
 * Whether the stream (from a file that anybody may have made) holds exactly count names, each one possible in a folder of
 * a Maildir, in PLACE_NEW or PLACE_CUR.  Fills blocks and sets count.  0, or -1.
 */
int names_check(struct names *names, uint32_t count);

/* The next name, false behind the last. */
bool name_next(const struct names *names, struct name_cursor *cursor);

/* Makes name_next() go on with name n, counted from 0; n < count. */
void name_seek(const struct names *names, uint32_t n, struct name_cursor *cursor);

/* Name n. */
void names_get(const struct names *names, uint32_t n, struct name *name);

void names_free(struct names *names);

/* Numbers of 7 bits an octet, the low ones first; at most 10 octets.  Returns what is used of p; 0: it does not end before end. */
size_t varint_put(unsigned char *p, uint64_t value);
size_t varint_get(const unsigned char *p, const unsigned char *end, uint64_t *value);
#define VARINT_OCTETS 10

/* The delivery time: the decimal number at the start of the name, 0 without one. */
uint64_t name_time(const char *name, size_t len);

/* How much of the name is the base name, which never changes: all before the ':'. */
size_t name_base(const char *name, size_t len);

/* The flags behind ":2,", or NULL if the name ends otherwise. */
const char *name_flags(const char *name, size_t len);

/* Whether 'S', seen, is among the flags: what RFC 1225's LAST is told from. */
bool name_seen(const char *name, size_t len);

/*
 * Whether the name was not made the way maildir(5) demands, with a delivery time and a '.' in front.  Nothing keeps its
 * maker from using it again for another message: procmail's msg.<inode> in a folder that it does not know to be a Maildir.
 */
bool name_odd(const char *name, size_t len);

/* What tells a file from another of the same name: its mtime in seconds; odd names: in nanoseconds. */
uint64_t name_stamp(const char *name, size_t len, const struct stat *st);

#endif
