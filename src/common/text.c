#include "common/text.h"

#include <stdint.h>
#include <string.h>

#include "common/limits.h"

bool
name_possible(const char *name, size_t len)
{
	size_t i;

	if (len < 1 || len > NAME_OCTETS || name[0] == '-' || name[0] == '.')
		return false;
	for (i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] >= 0x7f || name[i] == '/' || name[i] == ':')
			return false;
	return true;
}

/* Not zero if one of the eight octets is below 0x21 or above 0x7E. */
static uint64_t
not_graphic(uint64_t octets)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);

	return (octets | (octets + ones) | (octets - ones * 0x21)) & ones * 0x80;
}

/* Eight at a time: a listing of 100,000 looks at four million of them in each of two programs. */
bool
unique_id_possible(const char *id, size_t len)
{
	uint64_t octets, bad = 0;
	size_t i;

	if (len < 1 || len > UNIQUE_ID_OCTETS)
		return false;
	for (i = 0; len - i >= sizeof(octets); i += sizeof(octets)) {
		memcpy(&octets, id + i, sizeof(octets));
		bad |= not_graphic(octets);
	}
	for (; i < len; i++)
		bad |= id[i] < 0x21 || id[i] > 0x7e;
	return bad == 0;
}

char *
text_escape(char *dst, size_t size, const char *src, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	size_t i, used = 0;
	unsigned char c;

	for (i = 0; i < len; i++) {
		c = (unsigned char)src[i];
		if (c >= 0x20 && c < 0x7f && c != '\\' && c != '"') {
			if (used + 2 > size)
				break;
			dst[used++] = (char)c;
			continue;
		}
		if (used + 5 > size)
			break;
		dst[used++] = '\\';
		dst[used++] = 'x';
		dst[used++] = hex[c >> 4];
		dst[used++] = hex[c & 15];
	}
	if (size > 0)
		dst[used] = '\0';
	return dst;
}
