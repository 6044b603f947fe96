#include "session/line.h"

#include <string.h>

/* Waits for an LF; of a line above the limit only the end is kept.  The octets up to it with it, or 0. */
static size_t
find_end(struct client *c, size_t limit, int64_t deadline, bool *long_line)
{
	size_t seen = 0;
	char *lf;

	*long_line = false;
	for (;;) {
		lf = memchr(client_in + c->in_start + seen, '\n', c->in_end - c->in_start - seen);
		if (lf != NULL) {
			seen = (size_t)(lf - (client_in + c->in_start)) + 1;
			*long_line |= seen > limit;
			return seen;
		}
		seen = c->in_end - c->in_start;
		if (seen > limit) {
			*long_line = true;
			c->in_start = c->in_end;
			seen = 0;
		}
		if (client_fill(c, &deadline) == 0)
			return 0;
	}
}

/* NUL would end the line for some of what reads it, and CR for others. */
static bool
is_text(const char *line, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (line[i] == '\0' || line[i] == '\r')
			return false;
	return true;
}

enum line_result
line_read(struct client *c, size_t limit, int64_t deadline, char **line, size_t *len)
{
	bool long_line;
	size_t taken = find_end(c, limit, deadline, &long_line);

	if (taken == 0)
		return LINE_NONE;
	*line = client_in + c->in_start;
	c->in_start += taken;
	if (long_line)
		return LINE_TOO_LONG;
	*len = taken - 1;
	if (*len > 0 && (*line)[*len - 1] == '\r')
		(*len)--;
	(*line)[*len] = '\0';
	return is_text(*line, *len) ? LINE_OK : LINE_BAD;
}
