/* The mbox parser: the same messages however its input is cut, and each within the file. */
#include "fuzz.h"

#include <string.h>

#include "maildrop/mbox_scan.h"

static enum mbox_scan_result
scan(const uint8_t *p, size_t len, size_t piece, struct mbox_list *list)
{
	static struct mbox_scan s;
	enum mbox_scan_result result = MBOX_SCAN_OK;
	size_t at, n;

	memset(list, 0, sizeof(*list));
	mbox_scan_begin(&s, list, 0);
	for (at = 0; at < len && result == MBOX_SCAN_OK; at += n) {
		n = len - at < piece ? len - at : piece;
		result = mbox_scan_feed(&s, p + at, n);
	}
	return result == MBOX_SCAN_OK ? mbox_scan_end(&s) : result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	size_t piece = fuzz_octet(&in) + (size_t)1;
	struct mbox_list one, many;
	enum mbox_scan_result result = scan(in.p, in.len, in.len + 1, &one);
	uint32_t i;

	FUZZ_CHECK(scan(in.p, in.len, piece, &many) == result);
	if (result == MBOX_SCAN_OK) {
		FUZZ_CHECK(one.count == many.count && one.begin == many.begin && one.end == many.end && one.end == in.len);
		for (i = 0; i < one.count; i++) {
			const struct record *r = &one.records[i];

			FUZZ_CHECK(memcmp(r, &many.records[i], sizeof(*r)) == 0);
			FUZZ_CHECK(r->offset <= in.len && r->bytes <= in.len - r->offset && r->octets >= r->bytes);
			FUZZ_CHECK(mbox_start(&one, i) < r->offset && r->offset + r->bytes <= mbox_start(&one, i + 1));
		}
	}
	mbox_list_free(&one);
	mbox_list_free(&many);
	return 0;
}
