#include "common/logrecord.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/text.h"

/* "P:E:user:text": digits of priority and event, the escaped name, then the text; a name has no ':' (text_escape
 * leaves it, so it is made one here). */
void
log_event(enum log_event event, int priority, const char *user, size_t user_len, const char *fmt, ...)
{
	char record[sizeof(struct log_record)], name[sizeof(((struct log_record *)0)->user)];
	va_list ap;
	char *p;
	int n;

	text_escape(name, sizeof(name), user != NULL ? user : "", user_len);
	for (p = name; (p = strchr(p, ':')) != NULL;)
		*p = '?';
	n = snprintf(record, sizeof(record), "%d:%d:%s:", priority, (int)event, name);
	va_start(ap, fmt);
	vsnprintf(record + n, LOG_BYTES, fmt, ap);
	va_end(ap);
	n = (int)strlen(record);
	if (send(STDERR_FILENO, record, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 && errno == ENOTSOCK) {
		record[n] = '\n'; /* a terminal or a test instead of the monitor; not dprintf(3), which musl does with writev(2) */
		write_full(STDERR_FILENO, record, (size_t)n + 1);
	}
}

static int
field(const char **p, const char *end, char *out, size_t size)
{
	const char *colon = memchr(*p, ':', (size_t)(end - *p));

	if (colon == NULL || (size_t)(colon - *p) >= size)
		return -1;
	memcpy(out, *p, (size_t)(colon - *p));
	out[colon - *p] = '\0';
	*p = colon + 1;
	return 0;
}

/* The sender may be somebody who wants a line of its own. */
static void
make_printable(char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			text[i] = '?';
}

int
log_record_parse(const char *datagram, size_t len, struct log_record *r)
{
	const char *p = datagram, *end = datagram + len;
	char priority[2], event[2];

	if (field(&p, end, priority, sizeof(priority)) == -1 || field(&p, end, event, sizeof(event)) == -1 ||
	    field(&p, end, r->user, sizeof(r->user)) == -1)
		return -1;
	if (priority[0] < '0' || priority[0] > '7' || event[0] < '1' || event[0] > '4')
		return -1;
	if ((size_t)(end - p) >= sizeof(r->text))
		return -1;
	r->priority = priority[0] - '0';
	r->event = (enum log_event)(event[0] - '0');
	memcpy(r->text, p, (size_t)(end - p));
	r->text[end - p] = '\0';
	make_printable(r->user, strlen(r->user));
	make_printable(r->text, (size_t)(end - p));
	return 0;
}
