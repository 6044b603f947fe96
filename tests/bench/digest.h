/*
 * A message's digest, for comparing what a server sent with what was stored.  Line ends are counted, not hashed, so that
 * LF and CRLF are the same; empty lines at the end count for nothing, as servers differ in whether an mbox's separating
 * line belongs to the message.
 */
#ifndef BENCH_DIGEST_H
#define BENCH_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct digest {
	uint64_t sum;
	uint64_t empty;		/* line ends not hashed yet */
};

#define DIGEST_START ((struct digest){ UINT64_C(0xcbf29ce484222325), 0 })

/* FNV-1a, eight bytes at a time where there are eight: this only has to tell messages apart. */
static inline uint64_t
digest_bytes(uint64_t sum, const char *p, size_t len)
{
	const uint64_t prime = UINT64_C(0x100000001b3);
	uint64_t word;

	for (; len >= 8; p += 8, len -= 8) {
		__builtin_memcpy(&word, p, 8);
		sum = (sum ^ word) * prime;
		sum ^= sum >> 29;
	}
	for (; len > 0; p++, len--)
		sum = (sum ^ (unsigned char)*p) * prime;
	return sum;
}

/* One line without its end. */
static inline void
digest_line(struct digest *d, const char *line, size_t len)
{
	if (len > 0) {
		d->sum = (d->sum ^ (d->empty + 1)) * UINT64_C(0x9e3779b97f4a7c15);
		d->sum = digest_bytes(d->sum, line, len);
		d->empty = 0;
	}
	d->empty++;
}

#endif
