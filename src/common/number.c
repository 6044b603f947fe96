#include "common/number.h"

#include <string.h>

int
number_parse(const char *s, size_t len, uint64_t *value)
{
	uint64_t v = 0, digit;
	size_t i;

	if (len == 0)
		return -1;
	for (i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		digit = (uint64_t)(s[i] - '0');
		/* The division is for what could be too much: Maildir names are read by the hundred thousand. */
		v = i < NUMBER_DIGITS - 1 || v <= (UINT64_MAX - digit) / 10 ? v * 10 + digit : UINT64_MAX;
	}
	*value = v;
	return 0;
}

static size_t
count_digits(uint64_t value)
{
	uint64_t power = 10;
	size_t n = 1;

	while (value >= power && n < NUMBER_DIGITS - 1) {
		power *= 10;
		n++;
	}
	return value >= power ? n + 1 : n;
}

/* Two digits at a time, and where they stay: a listing of 100,000 lines is made of little else. */
size_t
number_format(char *out, uint64_t value)
{
	static const char pairs[] = "0001020304050607080910111213141516171819" "2021222324252627282930313233343536373839"
	    "4041424344454647484950515253545556575859" "6061626364656667686970717273747576777879"
	    "8081828384858687888990919293949596979899";
	size_t len = count_digits(value), at = len;

	for (; value >= 100; value /= 100)
		memcpy(out + (at -= 2), pairs + value % 100 * 2, 2);
	if (value >= 10)
		memcpy(out, pairs + value * 2, 2);
	else
		out[0] = (char)('0' + value);
	return len;
}
