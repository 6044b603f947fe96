/* Conversion in pieces gives what conversion in one piece gives; TOP's part is a prefix that ends where a line does. */
#include "fuzz.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "session/stuffing.h"

static size_t
convert(const char *in, size_t len, size_t piece, char *out, uint64_t *octets)
{
	struct stuffing st = { 0 };
	size_t at, n, used = 0;

	for (at = 0; at < len; at += n) {
		n = len - at < piece ? len - at : piece;
		used += stuff(&st, in + at, n, out + used);
	}
	used += stuff_end(&st, out + used);
	*octets = st.octets;
	return used;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	size_t piece = fuzz_octet(&in) + (size_t)1, one, many, part;
	struct top top = { .lines = fuzz_octet(&in) };
	char *a = malloc(2 * in.len + 4), *b = malloc(2 * in.len + 4);
	const char *text = (const char *)in.p;
	uint64_t octets, octets_again;

	FUZZ_CHECK(a != NULL && b != NULL);
	one = convert(text, in.len, in.len + 1, a, &octets);
	many = convert(text, in.len, piece, b, &octets_again);
	FUZZ_CHECK(one == many && memcmp(a, b, one) == 0 && octets == octets_again && octets <= one);
	FUZZ_CHECK(one == 0 || (one >= 2 && a[one - 2] == '\r' && a[one - 1] == '\n'));
	part = top_part(&top, text, in.len);
	FUZZ_CHECK(part <= in.len && (part == in.len || text[part - 1] == '\n'));
	free(a);
	free(b);
	return 0;
}
