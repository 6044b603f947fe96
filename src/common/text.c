#include "common/text.h"

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
