/* unique_id: what an id depends on, what it does not, and equal messages. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "maildrop/unique_id.h"

#define FROM "From a@example.org Mon Nov 23 10:00:00 2026\n"

static void
digest_of(const char *headers, unsigned char digest[DIGEST_BYTES])
{
	char *text;
	int len = asprintf(&text, FROM "%s", headers);

	assert_true(len > 0);
	unique_id_digest(text, sizeof(FROM) - 1, (size_t)len, digest);
	free(text);
}

static void
assert_digests(const char *a, const char *b, bool equal)
{
	unsigned char one[DIGEST_BYTES], other[DIGEST_BYTES];

	digest_of(a, one);
	digest_of(b, other);
	if ((memcmp(one, other, DIGEST_BYTES) == 0) != equal)
		fail_msg("%s:\n%s--\n%s", equal ? "not equal" : "equal", a, b);
}

static void
test_what_counts(void **state)
{
	static const char plain[] = "Subject: a\nTo: b\n\nbody\n";

	(void)state;
	assert_digests(plain, "Subject: a\nTo: b\n\nanother body\n", true);
	assert_digests(plain, "Subject: a\nTo: b\n", true);
	assert_digests(plain, "Status: RO\nSubject: a\nTo: b\n\nbody\n", true);
	assert_digests(plain, "Subject: a\nTo: b\nStatus: RO\n\nbody\n", true);
	assert_digests(plain, "Subject: a\nX-Status: AF\nX-Keywords:\nX-UID: 17\nTo: b\nX-IMAP: 1 2\nX-IMAPbase: 1 2\n\n", true);
	assert_digests(plain, "Subject: a\nContent-Length: 5\nTo: b\nX-UIDL: abc\n\nbody\n", true);
	assert_digests(plain, "STATUS: O\nSubject: a\nTo: b\nx-uid \t: 3\n\nbody\n", true);
	assert_digests(plain, "Subject: a\nX-Keywords: one\n two\n\tthree\nTo: b\n\nbody\n", true);
	assert_digests(plain, "Subject: A\nTo: b\n\nbody\n", false);
	assert_digests(plain, "To: b\nSubject: a\n\nbody\n", false);
	assert_digests(plain, "Subject: a\nTo: b\nTo: c\n\nbody\n", false);
	assert_digests(plain, "Subject: a\nTo: b\nX-Statuses: RO\n\nbody\n", false);
	assert_digests(plain, "Subject: a\nTo: b\nStatus RO\n\nbody\n", false);
	assert_digests("Subject: a\n folded\n\n", "Subject: a\n folder\n\n", false);
	assert_digests("A: 1\r\nStatus: RO\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n\r\nother\r\n", true);
	/* A folded line in front of everything belongs to no header that could be left out. */
	assert_digests(" a\nSubject: b\n\n", " c\nSubject: b\n\n", false);
}

static void
test_from_line_counts(void **state)
{
	unsigned char one[DIGEST_BYTES], other[DIGEST_BYTES];
	char text[] = FROM "Subject: a\n\n";

	(void)state;
	unique_id_digest(text, sizeof(FROM) - 1, sizeof(text) - 1, one);
	text[5] = 'b';
	unique_id_digest(text, sizeof(FROM) - 1, sizeof(text) - 1, other);
	assert_memory_not_equal(one, other, DIGEST_BYTES);
}

/* --- whole mailboxes --- */

struct made {
	int fd;
	struct mbox_list list;
};

/* bodies: each a whole message behind its From_ line. */
static struct made
make_mailbox(const char *const *messages, size_t count)
{
	struct made made = { memfd_create("mbox", MFD_CLOEXEC), { .count = 0 } };
	struct mbox_scan *scan = malloc(sizeof(*scan));
	size_t i;

	assert_true(made.fd != -1);
	assert_non_null(scan);
	mbox_scan_begin(scan, &made.list, 0);
	for (i = 0; i < count; i++) {
		const char *parts[3] = { FROM, messages[i], "\n" };
		size_t k;

		for (k = 0; k < 3; k++) {
			assert_int_equal(write_full(made.fd, parts[k], strlen(parts[k])), 0);
			assert_int_equal(mbox_scan_feed(scan, (const unsigned char *)parts[k], strlen(parts[k])), MBOX_SCAN_OK);
		}
	}
	assert_int_equal(mbox_scan_end(scan), MBOX_SCAN_OK);
	assert_int_equal(made.list.count, count);
	free(scan);
	return made;
}

static void
free_mailbox(struct made *made)
{
	close(made->fd);
	mbox_list_free(&made->list);
}

static void
test_equal_messages(void **state)
{
	static const char *const messages[] = { "A: 1\n\nx\n", "A: 2\n\nx\n", "A: 1\nStatus: RO\n\nx\n", "A: 1\n\nx\n" };
	struct made made = make_mailbox(messages, 4);
	char ids[4][ID_BYTES];
	uint32_t i;

	(void)state;
	assert_int_equal(unique_id_complete(&made.list, made.fd, NULL), 0);
	for (i = 0; i < 4; i++) {
		size_t len = unique_id_text(&made.list, i, ids[i]);

		assert_int_equal(len, strlen(ids[i]));
	}
	assert_int_equal(strlen(ids[0]), 32);
	assert_int_equal(strspn(ids[0], "0123456789abcdef"), 32);
	assert_string_not_equal(ids[0], ids[1]);
	assert_memory_equal(ids[2], ids[0], 32);
	assert_string_equal(ids[2] + 32, "-2");
	assert_memory_equal(ids[3], ids[0], 32);
	assert_string_equal(ids[3] + 32, "-3");
	free_mailbox(&made);
}

/* The first of two was deleted: the second keeps its name, and a third one does not get that of the first. */
static void
test_kept_suffixes(void **state)
{
	static const char *const messages[] = { "A: 1\n\nx\n", "A: 1\n\nx\n" };
	struct made made = make_mailbox(messages, 2);

	(void)state;
	assert_int_equal(mbox_list_make_ids(&made.list, 2), 0);
	assert_int_equal(unique_id_read(&made.list, 0, made.fd, made.list.digests[0]), 0);
	made.list.suffixes[0] = 2;
	assert_int_equal(unique_id_complete(&made.list, made.fd, NULL), 0);
	assert_int_equal(made.list.suffixes[0], 2);
	assert_int_equal(made.list.suffixes[1], 3);
	free_mailbox(&made);
}

static void
test_wrong_suffixes(void **state)
{
	static const char *const messages[] = { "A: 1\n\nx\n", "A: 1\n\nx\n", "A: 1\n\nx\n" };
	static const uint32_t wrong[][3] = { { 2, 2, 2 }, { 3, 2, 1 }, { UINT32_MAX, 1, 1 }, { 0, UINT32_MAX, INT32_MAX } };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct made made = make_mailbox(messages, 3);
		uint32_t *s;

		assert_int_equal(unique_id_complete(&made.list, made.fd, NULL), 0);
		s = made.list.suffixes;
		memcpy(s, wrong[i], sizeof(wrong[i]));
		assert_int_equal(unique_id_number(&made.list, NULL), 0);
		assert_true(s[0] > 0 && s[1] > 0 && s[2] > 0);
		assert_true(s[0] != s[1] && s[1] != s[2] && s[0] != s[2]);
		free_mailbox(&made);
	}
}

/* Somebody has changed Status lines: digests are made anew, suffixes come from what was known. */
static void
test_earlier_ids(void **state)
{
	static const char *const messages[] = { "A: 1\n\nx\n", "B: 1\n\nx\n", "A: 1\n\nx\n", "C: 1\n\nx\n" };
	struct made made = make_mailbox(messages, 4);
	unsigned char digests[4][DIGEST_BYTES];
	uint32_t suffixes[4] = { 5, 0, 9, 2 };
	struct earlier_ids earlier = { 4, digests, suffixes };
	uint32_t i;

	(void)state;
	for (i = 0; i < 4; i++)
		assert_int_equal(unique_id_read(&made.list, i, made.fd, digests[i]), 0);
	assert_int_equal(unique_id_complete(&made.list, made.fd, &earlier), 0);
	assert_int_equal(made.list.suffixes[0], 5);
	assert_int_equal(made.list.suffixes[1], 1);
	assert_int_equal(made.list.suffixes[2], 9);
	assert_int_equal(made.list.suffixes[3], 2);
	free_mailbox(&made);
}

/* However the file is read in pieces, the digest is that of the whole. */
static void
test_long_headers(void **state)
{
	static const size_t lengths[] = { 10, 8000, 8150, 8192, 9000, 100000, DIGESTED_BYTES - 100, DIGESTED_BYTES + 100,
		3 * DIGESTED_BYTES };
	size_t count = sizeof(lengths) / sizeof(lengths[0]), i, n;
	char *messages[9];
	struct made made;
	uint32_t k;

	(void)state;
	for (i = 0; i < count; i++) {
		messages[i] = malloc(lengths[i] + 100);
		assert_non_null(messages[i]);
		n = (size_t)sprintf(messages[i], "N: %zu\n", i);
		while (n < lengths[i])
			n += (size_t)sprintf(messages[i] + n, "X-Long: %zu %s\n", n, "value of some length to fill it up");
		sprintf(messages[i] + n, "Last: x\n\nbody\n");
	}
	made = make_mailbox((const char *const *)(void *)messages, count);
	assert_int_equal(unique_id_complete(&made.list, made.fd, NULL), 0);
	for (k = 0; k < count; k++) {
		unsigned char digest[DIGEST_BYTES];
		char *text = malloc(sizeof(FROM) + strlen(messages[k]));

		assert_non_null(text);
		n = (size_t)sprintf(text, FROM "%s", messages[k]);
		unique_id_digest(text, sizeof(FROM) - 1, n, digest);
		assert_memory_equal(made.list.digests[k], digest, DIGEST_BYTES);
		assert_int_equal(unique_id_read(&made.list, k, made.fd, digest), 0);
		assert_memory_equal(made.list.digests[k], digest, DIGEST_BYTES);
		assert_int_equal(made.list.suffixes[k], 1);
		free(text);
		free(messages[k]);
	}
	free_mailbox(&made);
}

static void
test_many(void **state)
{
	enum { MANY = 3000 };
	static char texts[MANY][40];
	const char *messages[MANY];
	char id[ID_BYTES], other[ID_BYTES];
	struct made made;
	uint32_t i;

	(void)state;
	for (i = 0; i < MANY; i++) {
		snprintf(texts[i], sizeof(texts[i]), "N: %u\n\nx\n", (unsigned int)(i % (MANY / 2)));
		messages[i] = texts[i];
	}
	made = make_mailbox(messages, MANY);
	assert_int_equal(unique_id_complete(&made.list, made.fd, NULL), 0);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(made.list.suffixes[i], i < MANY / 2 ? 1 : 2);
		if (i < MANY / 2)
			continue;
		unique_id_text(&made.list, i, id);
		unique_id_text(&made.list, i - MANY / 2, other);
		assert_memory_equal(id, other, 32);
		assert_string_equal(id + 32, "-2");
	}
	free_mailbox(&made);
}

static void
test_file_too_short(void **state)
{
	static const char *const messages[] = { "A: 1\n\nx\n", "A: 2\n\nx\n" };
	struct made made = make_mailbox(messages, 2);

	(void)state;
	assert_int_equal(ftruncate(made.fd, 60), 0);
	assert_int_equal(unique_id_complete(&made.list, made.fd, NULL), -1);
	free_mailbox(&made);
}

/* Computed once by other means (sha256sum of the lines). */
static void
test_fixed_value(void **state)
{
	static const char message[] = "From carol@example.org Mon Nov 23 10:01:00 2026\n"
		"Date: Mon, 23 Nov 2026 10:00:58 +0000\n"
		"Message-ID: <2@example.org>\n"
		"X-Delivery-ID: abc\n"
		"Subject: two\n"
		"Status: RO\n"
		"\n"
		"second\n";
	static const unsigned char expected[DIGEST_BYTES] = { 0x6f, 0xab, 0x27, 0xcf, 0x19, 0x87, 0x68, 0x93, 0x80, 0x60, 0x1d,
		0xe2, 0x6b, 0xb8, 0x4f, 0x70 };
	unsigned char digest[DIGEST_BYTES];

	(void)state;
	unique_id_digest(message, 48, sizeof(message) - 1, digest);
	assert_memory_equal(digest, expected, DIGEST_BYTES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_from_line_counts),
		cmocka_unit_test(test_fixed_value),
		cmocka_unit_test(test_equal_messages),
		cmocka_unit_test(test_kept_suffixes),
		cmocka_unit_test(test_wrong_suffixes),
		cmocka_unit_test(test_earlier_ids),
		cmocka_unit_test(test_long_headers),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_file_too_short),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("unique_id", tests, NULL, NULL);
}
