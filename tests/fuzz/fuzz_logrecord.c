/* What the monitor reads from the helper's log socket, and how it and peer's text get into a line: printable, and never longer. */
#include "fuzz.h"

#include <string.h>

#include "common/logrecord.h"
#include "common/text.h"

static void
check_printable(const char *text, size_t size)
{
	size_t i, len = strnlen(text, size);

	FUZZ_CHECK(len < size);
	for (i = 0; i < len; i++)
		FUZZ_CHECK(text[i] >= 0x20 && text[i] <= 0x7e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct log_record record;
	char escaped[LOG_BYTES], small[7];

	if (log_record_parse((const char *)data, size, &record) == 0) {
		FUZZ_CHECK(record.priority >= 0 && record.priority <= 7);
		FUZZ_CHECK(record.event >= LOG_EVENT_NOTE && record.event <= LOG_EVENT_TLS);
		check_printable(record.user, sizeof(record.user));
		check_printable(record.text, sizeof(record.text));
	}
	check_printable(text_escape(escaped, sizeof(escaped), (const char *)data, size), sizeof(escaped));
	check_printable(text_escape(small, sizeof(small), (const char *)data, size), sizeof(small));
	FUZZ_CHECK(strpbrk(escaped, "\"") == NULL);
	name_possible((const char *)data, size);
	return 0;
}
