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
		v = v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : v * 10 + digit;
	}
	*value = v;
	return 0;
}

size_t
number_format(char *out, uint64_t value)
{
	char digits[NUMBER_DIGITS];
	size_t n = sizeof(digits);

	do {
		digits[--n] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	memcpy(out, digits + n, sizeof(digits) - n);
	return sizeof(digits) - n;
}
