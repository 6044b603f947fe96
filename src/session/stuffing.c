#include "session/stuffing.h"

#include <string.h>

size_t
stuff(struct stuffing *st, const char *in, size_t len, char *out)
{
	const char *end = in + len, *lf;
	char *p = out;
	size_t n, dots = 0;

	while (in < end) {
		if (!st->in_line && *in == '.') {
			*p++ = '.';
			dots++;
		}
		lf = memchr(in, '\n', (size_t)(end - in));
		n = (size_t)((lf != NULL ? lf : end) - in);
		memcpy(p, in, n);
		p += n;
		in += n;
		if (n > 0)
			st->after_cr = in[-1] == '\r';
		if (lf == NULL) {
			st->in_line = true;
			break;
		}
		if (!st->after_cr)
			*p++ = '\r';
		*p++ = '\n';
		in++;
		st->in_line = st->after_cr = false;
	}
	st->octets += (size_t)(p - out) - dots;
	return (size_t)(p - out);
}

size_t
stuff_end(struct stuffing *st, char *out)
{
	if (!st->in_line)
		return 0;
	memcpy(out, "\r\n", 2);
	st->octets += 2;
	st->in_line = st->after_cr = false;
	return 2;
}

size_t
top_part(struct top *top, const char *in, size_t len)
{
	const char *p = in, *end = in + len, *lf;

	while (p < end) {
		if (top->in_body && top->lines == 0)
			break;
		lf = memchr(p, '\n', (size_t)(end - p));
		if (lf == NULL) {
			top->only_cr = !top->in_line && end - p == 1 && *p == '\r';
			top->in_line = true;
			return len;
		}
		if (top->in_body)
			top->lines--;
		else
			top->in_body = top->in_line ? top->only_cr && lf == p : lf == p || (lf == p + 1 && *p == '\r');
		top->in_line = top->only_cr = false;
		p = lf + 1;
	}
	return (size_t)(p - in);
}
