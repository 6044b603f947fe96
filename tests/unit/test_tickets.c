/* The chain of ticket secrets: its file, and that it goes one way only. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/library.h"
#include "tls/tickets.h"

static struct ticket_secret
begin(uint64_t hour)
{
	struct ticket_secret s = { .hour = hour };
	size_t i;

	for (i = 0; i < sizeof(s.secret); i++)
		s.secret[i] = (unsigned char)(i * 7 + 1);
	return s;
}

static void
test_file(void **state)
{
	static const char want[] = "0123456789abcdef 01080f161d242b323940474e555c636a71787f868d949ba2a9b0b7bec5ccd3da\n";
	struct ticket_secret s = begin(0x0123456789abcdef), got;
	char text[TICKETS_FILE_BYTES + 1];
	size_t i;

	(void)state;
	tickets_format(text, &s);
	assert_string_equal(text, want);
	assert_int_equal(tickets_parse(text, &got), 0);
	assert_memory_equal(&got, &s, sizeof(s));
	/* No octet can be another: not even an upper case digit is what we write. */
	for (i = 0; i < TICKETS_FILE_BYTES; i++) {
		tickets_format(text, &s);
		text[i] = i % 3 == 0 ? '\0' : i % 3 == 1 ? 'A' : 'g';
		assert_int_equal(tickets_parse(text, &got), -1);
	}
}

/* Whatever machine comes by at whatever hours, all have the same secret in the end. */
static void
test_chain(void **state)
{
	struct ticket_secret all = begin(1000), some = begin(1000), each = begin(1000), before;
	uint64_t hour;

	(void)state;
	assert_int_equal(tickets_advance(&all, 1100), 0);
	assert_int_equal(tickets_advance(&some, 1037), 0);
	assert_int_equal(tickets_advance(&some, 1037), 0);
	assert_int_equal(tickets_advance(&some, 1100), 0);
	for (hour = 1001; hour <= 1100; hour++) {
		before = each;
		assert_int_equal(tickets_advance(&each, hour), 0);
		assert_int_equal(each.hour, hour);
		assert_memory_not_equal(each.secret, before.secret, sizeof(each.secret));
	}
	assert_memory_equal(&all, &some, sizeof(all));
	assert_memory_equal(&all, &each, sizeof(all));
}

static void
test_no_way_back(void **state)
{
	struct ticket_secret s = begin(1000), same = begin(1000);

	(void)state;
	assert_int_equal(tickets_advance(&s, 999), -1);
	assert_int_equal(tickets_advance(&s, 1000 + 20 * 366 * 24), -1);
	assert_int_equal(tickets_advance(&s, UINT64_MAX), -1);
	assert_memory_equal(&s, &same, sizeof(s));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_file), cmocka_unit_test(test_chain),
		cmocka_unit_test(test_no_way_back) };

	if (library_start() == NULL)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("tickets", tests, NULL, NULL);
}
