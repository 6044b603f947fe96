/* The conversion to what goes over the wire, against a naive one, with pieces cut everywhere. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "session/stuffing.h"

/* Octet by octet, as RFC 1939 says it.  Returns the length; *octets is what LIST counts. */
static size_t
naive(const char *in, size_t len, char *out, uint64_t *octets)
{
	size_t i, used = 0, dots = 0;

	for (i = 0; i < len; i++) {
		if (in[i] == '.' && (i == 0 || in[i - 1] == '\n')) {
			out[used++] = '.';
			dots++;
		}
		if (in[i] == '\n' && (i == 0 || in[i - 1] != '\r'))
			out[used++] = '\r';
		out[used++] = in[i];
	}
	if (len > 0 && in[len - 1] != '\n') {
		out[used++] = '\r';
		out[used++] = '\n';
	}
	*octets = used - dots;
	return used;
}

static void
compare(const char *in, size_t len, size_t piece)
{
	char want[4096], got[4096];
	uint64_t octets;
	size_t wanted = naive(in, len, want, &octets), used = 0, at, n;
	struct stuffing st = { 0 };

	for (at = 0; at < len; at += n) {
		n = len - at < piece ? len - at : piece;
		used += stuff(&st, in + at, n, got + used);
	}
	used += stuff_end(&st, got + used);
	assert_int_equal(used, wanted);
	assert_memory_equal(got, want, wanted);
	assert_int_equal(st.octets, octets);
}

static void
test_known(void **state)
{
	static const char *const messages[] = { "", ".", "..", "\n", "\r\n", ".\n", ".\r\n", "\n.\n", "\r.\r", "\r\r\n.",
		"a\r", "a\n.b\n..c\n.", "\r", "a\r\n.\r\nb", "From x\n\n.", "no end" };
	size_t i, piece;

	(void)state;
	for (i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
		for (piece = 1; piece < 6; piece++)
			compare(messages[i], strlen(messages[i]), piece);
	compare("a\0b\n\0.\n", 7, 3);
}

static void
test_random(void **state)
{
	static const char alphabet[] = { '.', '\r', '\n', 'x', '\0', (char)0xff };
	char in[300];
	size_t len, i;
	int round;

	(void)state;
	srand(1);
	for (round = 0; round < 20000; round++) {
		len = (size_t)rand() % sizeof(in);
		for (i = 0; i < len; i++)
			in[i] = alphabet[(size_t)rand() % sizeof(alphabet)];
		compare(in, len, (size_t)(rand() % 40) + 1);
	}
}

/* What TOP keeps, line by line. */
static size_t
naive_top(const char *in, size_t len, uint64_t lines)
{
	size_t start = 0, i;
	int body = 0;

	for (i = 0; i < len; i++) {
		if (in[i] != '\n')
			continue;
		if (body && lines-- == 0)
			return start;
		if (!body && (i == start || (i == start + 1 && in[start] == '\r')))
			body = 1;
		start = i + 1;
	}
	return body && lines == 0 ? start : len;
}

static void
test_top(void **state)
{
	static const char alphabet[] = { '\r', '\n', '\n', 'x', '.' };
	char in[120];
	size_t len, i, at, n, part, piece, total;
	uint64_t lines;
	int round;

	(void)state;
	srand(2);
	for (round = 0; round < 50000; round++) {
		struct top top = { .lines = lines = (uint64_t)(rand() % 5) };

		len = (size_t)rand() % sizeof(in);
		for (i = 0; i < len; i++)
			in[i] = alphabet[(size_t)rand() % sizeof(alphabet)];
		piece = (size_t)(rand() % 20) + 1;
		for (total = at = 0; at < len; at += n) {
			n = len - at < piece ? len - at : piece;
			part = top_part(&top, in + at, n);
			total += part;
			if (part < n)
				break;
		}
		assert_int_equal(total, naive_top(in, len, lines));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_known), cmocka_unit_test(test_random),
		cmocka_unit_test(test_top) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("stuffing", tests, NULL, NULL);
}
