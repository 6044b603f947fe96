/*
 * Counts what a stored message is as RETR sends it: each line ends in CRLF, a last line that has no LF gets one; bare
 * CRs and NULs pass; dots that byte-stuffing adds do not count.  Pure code.
 */
#ifndef MAILDROP_OCTETS_H
#define MAILDROP_OCTETS_H

#include <stddef.h>
#include <stdint.h>

struct octets {
	uint64_t bytes;		/* counted so far */
	uint64_t lone_lfs;	/* LFs without a CR in front */
	unsigned char last;	/* the last byte, if there was one */
};

/* Adds the next len bytes of the message; pieces may be cut anywhere.  Start with a zeroed struct. */
void octets_add(struct octets *o, const unsigned char *p, size_t len);

/* The octets of all bytes that were added. */
static inline uint64_t
octets_total(const struct octets *o)
{
	return o->bytes + o->lone_lfs + (o->bytes > 0 && o->last != '\n' ? 2 : 0);
}

#endif
