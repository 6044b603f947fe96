#include "maildrop/octets.h"

#include <string.h>

/* The compiler's vectors: SSE2 or NEON where there is one, plain code elsewhere. */
#define LANES 16

typedef unsigned char lanes __attribute__((vector_size(LANES)));

static uint64_t
sum(const lanes *counts)
{
	unsigned char lane[LANES];
	uint64_t total = 0;
	size_t i;

	memcpy(lane, counts, LANES);
	for (i = 0; i < LANES; i++)
		total += lane[i];
	return total;
}

/* Up to 255 times LANES bytes, so that no lane overflows: a comparison yields 0 or -1.  p[-1] can be read. */
static uint64_t
count_lanes(const unsigned char *p, size_t times, const lanes *lf, const lanes *cr)
{
	lanes here, before, counts = { 0 };
	size_t i;

	for (i = 0; i < times; i++, p += LANES) {
		memcpy(&here, p, LANES);
		memcpy(&before, p - 1, LANES);
		counts -= (lanes)(here == *lf) & (lanes)(before != *cr);
	}
	return sum(&counts);
}

void
octets_add(struct octets *o, const unsigned char *p, size_t len)
{
	const unsigned char *end = p + len;
	size_t times;
	lanes lf, cr;

	if (len == 0)
		return;
	o->lone_lfs += *p == '\n' && (o->bytes == 0 || o->last != '\r');
	memset(&lf, '\n', LANES);
	memset(&cr, '\r', LANES);
	for (p++; end - p >= LANES; p += times * LANES) {
		times = (size_t)(end - p) / LANES;
		if (times > 255)
			times = 255;
		o->lone_lfs += count_lanes(p, times, &lf, &cr);
	}
	for (; p < end; p++)
		o->lone_lfs += p[0] == '\n' && p[-1] != '\r';
	o->bytes += len;
	o->last = end[-1];
}
