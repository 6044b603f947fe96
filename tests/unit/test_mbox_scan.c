/* mbox_scan: boundaries, sizes and fingerprints against a naive scanner, with pieces cut everywhere. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "maildrop/mbox_scan.h"

/* --- the same by hand: one line after the other --- */

struct naive_line {
	size_t start, len;	/* with its line end */
	size_t text;		/* without */
};

static struct naive_line
naive_line_at(const char *p, size_t start, size_t len)
{
	struct naive_line l = { start, 0, 0 };

	while (start + l.len < len && p[start + l.len] != '\n')
		l.len++;
	l.text = l.len;
	if (start + l.len < len) {
		l.len++;
		if (l.text > 0 && p[start + l.text - 1] == '\r')
			l.text--;
	}
	return l;
}

static bool
ends_in_lf(const char *p, struct naive_line l)
{
	return l.len > 0 && p[l.start + l.len - 1] == '\n';
}

/* What RETR would send of a message, counted octet by octet. */
static uint64_t
naive_octets(const char *p, size_t bytes)
{
	uint64_t octets = 0;
	size_t i;

	for (i = 0; i < bytes; i++)
		octets += p[i] == '\n' && (i == 0 || p[i - 1] != '\r') ? 2 : 1;
	return octets + (bytes > 0 && p[bytes - 1] != '\n' ? 2 : 0);
}

static void
naive_add(struct mbox_list *list, const char *p, size_t from, size_t offset, size_t end)
{
	struct record *r;

	assert_int_equal(mbox_list_add(list), 0);
	r = &list->records[list->count - 1];
	r->offset = offset;
	r->bytes = end - offset;
	r->octets = naive_octets(p + offset, end - offset);
	r->fingerprint = fingerprint(p + offset, end - offset);
	list->from_bytes[list->count - 1] = (uint16_t)(offset - from);
}

/* No internal message in what it gets. */
static enum mbox_scan_result
naive_scan(const char *p, size_t len, struct mbox_list *list)
{
	size_t at = 0, from = 0, offset = 0, empty_start = 0;
	bool in_message = false, after_empty = true;
	struct naive_line l;

	for (; at < len; at += l.len) {
		l = naive_line_at(p, at, len);
		if (after_empty && l.len <= FROM_LINE_BYTES && from_line_valid(p + l.start,
		    ends_in_lf(p, l) || p[l.start + l.len - 1] != '\r' ? l.text : l.text - 1)) {
			if (in_message)
				naive_add(list, p, from, offset, empty_start);
			in_message = true;
			from = l.start;
			offset = l.start + l.len;
			after_empty = false;
			continue;
		}
		if (!in_message) {
			if (ends_in_lf(p, l) && l.text == 0)
				continue;
			return MBOX_SCAN_NOT_MBOX;
		}
		after_empty = ends_in_lf(p, l) && l.text == 0;
		empty_start = l.start;
	}
	if (in_message)
		naive_add(list, p, from, offset, after_empty ? empty_start : len);
	list->end = len;
	return MBOX_SCAN_OK;
}

/* --- comparing --- */

static enum mbox_scan_result
scan_pieces(const char *p, size_t len, const size_t *cuts, size_t count, struct mbox_list *list)
{
	enum mbox_scan_result result = MBOX_SCAN_OK;
	struct mbox_scan *scan = malloc(sizeof(*scan));
	size_t i, at = 0, end;
	unsigned char *piece;

	assert_non_null(scan);
	mbox_scan_begin(scan, list, 0);
	for (i = 0; i <= count && result == MBOX_SCAN_OK; i++, at = end) {
		end = i < count ? cuts[i] : len;
		piece = malloc(end - at + 1); /* of its exact size, for the checkers of memory */
		assert_non_null(piece);
		memcpy(piece, p + at, end - at);
		result = mbox_scan_feed(scan, piece, end - at);
		free(piece);
	}
	if (result == MBOX_SCAN_OK)
		result = mbox_scan_end(scan);
	free(scan);
	return result;
}

static void
show(const char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] == '\n')
			fprintf(stderr, "\\n\n");
		else if (p[i] < ' ')
			fprintf(stderr, "\\x%02x", (unsigned char)p[i]);
		else
			fputc(p[i], stderr);
	fputc('\n', stderr);
}

static void
check(const char *p, size_t len, const size_t *cuts, size_t count)
{
	struct mbox_list naive = { .count = 0 }, list = { .count = 0 };
	enum mbox_scan_result expected = naive_scan(p, len, &naive), result = scan_pieces(p, len, cuts, count, &list);
	bool same = expected == result;
	uint32_t i;

	if (result == MBOX_SCAN_OK) {
		same = same && naive.count == list.count && list.end == len && list.begin == 0;
		for (i = 0; same && i < list.count; i++)
			same = memcmp(&list.records[i], &naive.records[i], sizeof(struct record)) == 0 &&
			    list.from_bytes[i] == naive.from_bytes[i];
	}
	if (!same) {
		show(p, len);
		for (i = 0; i < list.count; i++)
			fprintf(stderr, "%u: %llu+%llu\n", i, (unsigned long long)list.records[i].offset,
			    (unsigned long long)list.records[i].bytes);
		for (i = 0; i < naive.count; i++)
			fprintf(stderr, "naive %u: %llu+%llu\n", i, (unsigned long long)naive.records[i].offset,
			    (unsigned long long)naive.records[i].bytes);
		for (i = 0; i < count; i++)
			fprintf(stderr, "cut at %zu\n", cuts[i]);
		fail_msg("result %d, expected %d", (int)result, (int)expected);
	}
	mbox_list_free(&naive);
	mbox_list_free(&list);
}

static uint64_t random_state = 88172645463325252u;

static uint32_t
random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 32) % n);
}

struct token {
	const char *text;
	size_t len;
};

#define TOKEN(s) { s, sizeof(s) - 1 }

static const struct token tokens[] = {
	TOKEN("From a@example.org Mon Nov 23 10:00:00 2026\n"), TOKEN("From a@example.org Mon Nov 23 10:00:00 2026\r\n"),
	TOKEN("From a@example.org Mon Nov 23 10:00:00 2026"), TOKEN("From nobody\n"), TOKEN("From "), TOKEN("Fro"), TOKEN("F"),
	TOKEN("\n"), TOKEN("\n"), TOKEN("\n\n"), TOKEN("\r\n"), TOKEN("\r\n\r\n"), TOKEN("\r"), TOKEN("\0"), TOKEN("text\n"),
	TOKEN("text\r\n"), TOKEN(">From b Mon Nov 23 10:00:00 2026\n"), TOKEN("Subject: x\n\n"),
	TOKEN("a line that is somewhat longer than one vector of thirty-two bytes\n"), TOKEN("\x80\xff"),
};

static size_t
random_mbox(char *p, size_t room)
{
	size_t len = 0, n = 1 + random_below(24), i;

	for (i = 0; i < n; i++) {
		size_t which = i == 0 && random_below(8) > 0 ? random_below(2) : random_below(sizeof(tokens) / sizeof(tokens[0]));

		if (len + tokens[which].len > room)
			break;
		memcpy(p + len, tokens[which].text, tokens[which].len);
		len += tokens[which].len;
	}
	return len;
}

static void
test_random_cut_everywhere(void **state)
{
	size_t i, cut, len, cuts[2];
	char p[1024];

	(void)state;
	for (i = 0; i < 4000; i++) {
		len = random_mbox(p, sizeof(p));
		check(p, len, NULL, 0);
		for (cut = 0; cut <= len; cut++)
			check(p, len, &cut, 1);
		cuts[0] = random_below((uint32_t)len + 1);
		cuts[1] = cuts[0] + random_below((uint32_t)(len - cuts[0]) + 1);
		check(p, len, cuts, 2);
	}
}

static void
test_byte_by_byte(void **state)
{
	size_t i, n, len, cuts[1024];
	char p[1024];

	(void)state;
	for (i = 0; i < 1000; i++) {
		len = random_mbox(p, sizeof(p));
		for (n = 0; n < len; n++)
			cuts[n] = n;
		check(p, len, cuts, len);
	}
}

/* Around the limit of From_ lines, and with the fingerprint's bytes coming in two pieces. */
static void
test_long_lines(void **state)
{
	static const char head[] = "From ", tail[] = " Mon Nov 23 10:00:00 2026\n\nbody\n\n";
	size_t sender, len, cut;
	char p[4096];

	(void)state;
	for (sender = FROM_LINE_BYTES - 40; sender < FROM_LINE_BYTES + 10; sender++) {
		len = 0;
		memcpy(p, "From a Mon Nov 23 10:00:00 2026\n\n", 33);
		len = 33;
		memcpy(p + len, head, 5);
		memset(p + len + 5, 'x', sender);
		len += 5 + sender;
		memcpy(p + len, tail, sizeof(tail) - 1);
		len += sizeof(tail) - 1;
		memset(p + len, 'y', 600);
		len += 600;
		check(p, len, NULL, 0);
		for (cut = 0; cut < len; cut += 7)
			check(p, len, &cut, 1);
	}
}

/* --- the loop itself --- */

static size_t
naive_find(const unsigned char *p, size_t at, size_t len, unsigned char before1, unsigned char before2,
    struct line_counts *counts)
{
	for (; at < len; before2 = before1, before1 = p[at++]) {
		if (p[at] == 'F' && before1 == '\n' && (before2 == '\n' || before2 == '\r'))
			return at;
		counts->lfs += p[at] == '\n';
		counts->crlfs += p[at] == '\n' && before1 == '\r';
	}
	return len;
}

static void
test_finds_agree(void **state)
{
	static const unsigned char letters[] = "\n\n\n\r\rFFx\x8a\x0b\x0c\x8d";
	const struct mbox_find *finds;
	size_t count = mbox_finds(&finds), i, k, len, at;
	unsigned char p[512], b1, b2;

	(void)state;
	for (i = 0; i < 100000; i++) {
		len = random_below(300);
		for (k = 0; k < len; k++)
			p[k] = random_below(4) > 0 ? (unsigned char)random_below(256) : letters[random_below(12)];
		at = random_below((uint32_t)len + 1);
		b1 = letters[random_below(12)];
		b2 = letters[random_below(12)];
		for (k = 0; k < count; k++) {
			struct line_counts expected = { 0, 0 }, counts = { 0, 0 };

			if (!finds[k].usable)
				continue;
			assert_int_equal(finds[k].find(p, at, len, b1, b2, &counts),
			    naive_find(p, at, len, b1, b2, &expected));
			assert_int_equal(counts.lfs, expected.lfs);
			assert_int_equal(counts.crlfs, expected.crlfs);
		}
	}
	for (k = 0; k < count; k++)
		if (!finds[k].usable)
			print_message("# %s is not usable on this processor\n", finds[k].name);
	assert_true(finds[count - 1].usable);
}

/* --- what is in the books --- */

static const char sample[] =
	"From alice@example.org Mon Nov 23 10:00:00 2026\n"
	"Return-Path: <alice@example.org>\n"
	"Delivered-To: bob@example.net\n"
	"Received: from a.example.org (a.example.org [192.0.2.1])\n"
	"\tby mx.example.net (Postfix) with ESMTP id 4ABCD\n"
	"\tfor <bob@example.net>; Mon, 23 Nov 2026 10:00:00 +0000\n"
	"Received: from x by a.example.org; Mon, 23 Nov 2026 09:59:59 +0000\n"
	"Date: Mon, 23 Nov 2026 09:59:58 +0000\n"
	"Message-ID: <1@example.org>\n"
	"From: alice@example.org\n"
	"Subject: one\n"
	"\n"
	"line\n"
	"From inside body after non-blank\n"
	".dot\n"
	"\n"
	"From carol@example.org Mon Nov 23 10:01:00 2026\n"
	"Date: Mon, 23 Nov 2026 10:00:58 +0000\n"
	"Message-ID: <2@example.org>\n"
	"X-Delivery-ID: abc\n"
	"Subject: two\n"
	"Status: RO\n"
	"\n"
	"second\n"
	"\n"
	"From dave@example.org Mon Nov 23 10:02:00 2026\n"
	"Subject: three, no fixed headers\n"
	"\n"
	"third\n";

/* The sizes that popa3d's own source, compiled and run, gives for this mailbox. */
static void
test_popa3d_sizes(void **state)
{
	struct mbox_list list = { .count = 0 };

	(void)state;
	assert_int_equal(sizeof(sample) - 1, 741);
	assert_int_equal(scan_pieces(sample, 741, NULL, 0, &list), MBOX_SCAN_OK);
	assert_int_equal(list.count, 3);
	assert_int_equal(list.records[0].octets, 453);
	assert_int_equal(list.records[1].octets, 124);
	assert_int_equal(list.records[2].octets, 43);
	assert_int_equal(mbox_start(&list, 0), 0);
	assert_int_equal(mbox_start(&list, 3), 741);
	mbox_list_free(&list);
}

static void
test_from_lines(void **state)
{
	static const char *const good[] = {
		"From a@example.org Mon Nov 23 10:00:00 2026",
		"From a@example.org Wed Dec  2 05:53 1992",
		"From a Wed Dec  2 05:53:22 1992",
		"From a Wed Dec  2 5:53 PDT 1992",
		"From a Wed Dec  2 05:53 -0700 1992",
		"From a Wed Dec  2 05:53:22 MET DST 1992",
		"From a Wed Dec  2 05:53 1992 PDT",
		"From a Wed Dec  2 05:53:22 1992 -0700",
		"From a Wed Dec  2 05:53:22 1992 +0100 (CET)",
		"From a Wed Dec  2 05:53:22 1992 remote from uunet",
		"From a Thu, 9 Nov 2002 22:33:52",
		"From a Thu, 09 Nov 2002 22:33:52 +0100",
		"From a thu nov 09 22:33:52 2002",
		"From  Mon Nov 23 10:00:00 2026",
		"From \"John Doe\"@example.org Mon Nov 23 10:00:00 2026",
		"From Mon Mon Nov 23 10:00:00 2026",
		"From a@b\tMon Nov 23 10:00:60 2026 ",
	};
	static const char *const bad[] = {
		"", "From", "From ", "From a", "From: a Mon Nov 23 10:00:00 2026", "from a Mon Nov 23 10:00:00 2026",
		"From me to you", "From a Mon Nov 23 10:00:00", "From a Mon Nov 32 10:00:00 2026",
		"From a Mon Nov 23 24:00:00 2026", "From a Mon Nov 23 10:60:00 2026", "From a Mon Nov 23 10:00:61 2026",
		"From a Mon Nov 23 10:00:0 2026", "From a Mon Nov 23 1000 2026", "From a Mon Nov 23 10:00:00 26",
		"From a Nov 23 10:00:00 2026", "From a Mon 23 10:00:00 2026", "From a Mon Nov 23 10:00:00 2026 and so on",
		"From a Mon Nov 23 10:00:00 2026 remote from", "From a Mon Nov 23 10:00:00 2026 remote from a b",
		">From a Mon Nov 23 10:00:00 2026", "From a Mon Nov 0 10:00:00 2026", "From a Monday Nov 23 10:00:00 2026",
		"From a Mon Nov 23 :00:00 2026", "From a Mon Nov 23 10: 2026",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!from_line_valid(good[i], strlen(good[i])))
			fail_msg("refused: %s", good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (from_line_valid(bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
}

/* The short way that most dates take judges as the long one does, which a space behind the line leads to. */
static void
test_from_line_ctime(void **state)
{
	static const char line[] = "From a@example.org Wed Dec  2 05:53:22 1992 ";
	const size_t len = sizeof(line) - 2;
	char p[sizeof(line)];
	unsigned int c, day;
	size_t i;

	(void)state;
	for (i = 18; i < len; i++) {
		for (c = 0; c < 256; c++) {
			for (day = 0; day < 2; day++) {
				memcpy(p, line, sizeof(line));
				if (day == 1)
					p[27] = '1';
				p[i] = (char)c;
				if (from_line_valid(p, len) != from_line_valid(p, len + 1))
					fail_msg("octet %u at %zu", c, i);
			}
		}
	}
	assert_true(from_line_valid(line, len));
	assert_true(from_line_valid("From Wed Dec  2 05:53:22 1992", 29));
	assert_false(from_line_valid("From xWed Dec  2 05:53:22 1992", 30));
}

static void
test_internal_message(void **state)
{
	static const char internal[] = "From MAILER-DAEMON Mon Nov 23 10:00:00 2026\n"
		"Date: 23 Nov 2026 10:00:00 +0000\n"
		"From: Mail System Internal Data <MAILER-DAEMON@example.org>\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
		"Message-ID: <1@example.org>\n"
		"X-IMAP: 1234567890 0000000005\n"
		"Status: RO\n"
		"\n"
		"This text is part of the internal format of your mail folder.\n"
		"\n";
	char p[4096], *received;
	struct mbox_list list = { .count = 0 };
	size_t cut, len = sizeof(internal) - 1;

	(void)state;
	memcpy(p, internal, len);
	memcpy(p + len, sample, sizeof(sample));
	for (cut = 0; cut < len + 741; cut++) {
		assert_int_equal(scan_pieces(p, len + 741, &cut, 1, &list), MBOX_SCAN_OK);
		assert_int_equal(list.count, 3);
		assert_int_equal(list.begin, len);
		assert_int_equal(mbox_start(&list, 0), len);
		mbox_list_free(&list);
	}
	assert_int_equal(scan_pieces(p, len, NULL, 0, &list), MBOX_SCAN_OK);
	assert_int_equal(list.count, 0);
	assert_int_equal(list.begin, len);
	mbox_list_free(&list);
	/* Second in the file it is a message, and so is one that came by mail. */
	memcpy(p, sample, 741);
	memcpy(p + 741, "\n", 1);
	memcpy(p + 742, internal, len);
	assert_int_equal(scan_pieces(p, 742 + len, NULL, 0, &list), MBOX_SCAN_OK);
	assert_int_equal(list.count, 4);
	assert_int_equal(list.begin, 0);
	mbox_list_free(&list);
	memcpy(p, internal, len);
	received = strstr(p, "Message-ID:");
	assert_non_null(received);
	memcpy(received, "Received:  ", 11);
	assert_int_equal(scan_pieces(p, len, NULL, 0, &list), MBOX_SCAN_OK);
	assert_int_equal(list.count, 1);
	mbox_list_free(&list);
}

/* A scan may begin at any message. */
static void
test_from_the_middle(void **state)
{
	struct mbox_list whole = { .count = 0 }, rest = { .count = 0 };
	struct mbox_scan *scan = malloc(sizeof(*scan));
	uint64_t start;

	(void)state;
	assert_non_null(scan);
	assert_int_equal(scan_pieces(sample, 741, NULL, 0, &whole), MBOX_SCAN_OK);
	start = mbox_start(&whole, 1);
	mbox_scan_begin(scan, &rest, start);
	assert_int_equal(mbox_scan_feed(scan, (const unsigned char *)sample + start, 741 - start), MBOX_SCAN_OK);
	assert_int_equal(mbox_scan_end(scan), MBOX_SCAN_OK);
	assert_int_equal(rest.count, 2);
	assert_memory_equal(rest.records, whole.records + 1, 2 * sizeof(struct record));
	assert_int_equal(rest.end, 741);
	mbox_list_free(&whole);
	mbox_list_free(&rest);
	free(scan);
}

static void
test_no_mbox(void **state)
{
	static const char *const not_mbox[] = { "x", "Subject: a\n\n", "From me to you\n", "\n\nhello\n", "From ", "F" };
	static const char *const empty[] = { "", "\n", "\r\n\n" };
	struct mbox_list list = { .count = 0 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(not_mbox) / sizeof(not_mbox[0]); i++)
		assert_int_equal(scan_pieces(not_mbox[i], strlen(not_mbox[i]), NULL, 0, &list), MBOX_SCAN_NOT_MBOX);
	for (i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		assert_int_equal(scan_pieces(empty[i], strlen(empty[i]), NULL, 0, &list), MBOX_SCAN_OK);
	assert_int_equal(list.count, 0);
	mbox_list_free(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_lines),
		cmocka_unit_test(test_popa3d_sizes),
		cmocka_unit_test(test_from_line_ctime), cmocka_unit_test(test_internal_message),
		cmocka_unit_test(test_from_the_middle),
		cmocka_unit_test(test_no_mbox),
		cmocka_unit_test(test_random_cut_everywhere),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_finds_agree),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("mbox_scan", tests, NULL, NULL);
}
