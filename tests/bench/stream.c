/* Runs in the measuring client. */
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1024 * 1024)

/* CRLF, dot, CRLF. */
static const char terminator[] = "\r\n.\r\n";
#define TERMINATOR 5

void
fail(const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, format);
	fputs("popbench: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

double
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int
stream_connect(unsigned short port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, error;

	if (fd == -1)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

void
stream_reset(int fd)
{
	struct linger now = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

void
stream_open(struct stream *s, unsigned short port)
{
	memset(s, 0, sizeof(*s));
	if ((s->buf = malloc(BUFFER)) == NULL)
		fail("no memory");
	if ((s->fd = stream_connect(port)) == -1)
		fail("port %u: %s", port, strerror(errno));
}

void
stream_send(const struct stream *s, const char *text, size_t len)
{
	ssize_t n;

	for (; len > 0; text += n, len -= (size_t)n)
		if ((n = send(s->fd, text, len, MSG_NOSIGNAL)) == -1)
			fail("send: %s", strerror(errno));
}

void
stream_command(const struct stream *s, const char *format, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line) - 2, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line) - 2)
		fail("command too long");
	memcpy(line + n, "\r\n", 2);
	stream_send(s, line, (size_t)n + 2);
}

/* Adds what has arrived, waiting for at least one octet.  False at the connection's end. */
static bool
fill(struct stream *s)
{
	ssize_t n;

	if (s->start > 0 && (s->start == s->end || s->end == BUFFER)) {
		memmove(s->buf, s->buf + s->start, s->end - s->start);
		s->end -= s->start;
		s->start = 0;
	}
	if (s->end == BUFFER)
		fail("line longer than %d octets", BUFFER);
	do
		n = recv(s->fd, s->buf + s->end, BUFFER - s->end, 0);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		fail("recv: %s", strerror(errno));
	s->end += (size_t)n;
	return n > 0;
}

static void
fill_or_fail(struct stream *s)
{
	if (!fill(s))
		fail("the server closed the connection");
}

static void
take(struct stream *s, size_t octets)
{
	s->start += octets;
	s->taken += octets;
}

char *
stream_line(struct stream *s, size_t *len)
{
	size_t seen = 0;
	char *line, *lf;

	while ((lf = memchr(s->buf + s->start + seen, '\n', s->end - s->start - seen)) == NULL) {
		seen = s->end - s->start;
		fill_or_fail(s);
	}
	line = s->buf + s->start;
	take(s, (size_t)(lf + 1 - line));
	if (lf > line && lf[-1] == '\r')
		lf--;
	*lf = '\0';
	*len = (size_t)(lf - line);
	return line;
}

char *
stream_ok(struct stream *s)
{
	size_t len;
	char *line = stream_line(s, &len);

	if (strncmp(line, "+OK", 3) != 0)
		fail("answer \"%.120s\"", line);
	return line + 3;
}

/* The first terminator among the octets, or NULL.  Dots are few, and memchr(3) is faster than any loop here. */
static const char *
find_terminator(const char *p, size_t len)
{
	const char *end = p + len, *dot;

	if (len < TERMINATOR)
		return NULL;
	for (p += 2; (dot = memchr(p, '.', (size_t)(end - p) - 2)) != NULL; p = dot + 1)
		if (memcmp(dot - 2, terminator, TERMINATOR) == 0)
			return dot - 2;
	return NULL;
}

/*
 * The CRLF before the dot may be the status line's own, which is in the buffer just before start: an empty text.  It is
 * written again, as stream_line() put a NUL there.
 */
static void
step_back(struct stream *s)
{
	s->start -= 2;
	s->taken -= 2;
	memcpy(s->buf + s->start, "\r\n", 2);
}

void
stream_skip_rest(struct stream *s)
{
	const char *found;
	size_t keep;

	while ((found = find_terminator(s->buf + s->start, s->end - s->start)) == NULL) {
		keep = s->end - s->start < TERMINATOR - 1 ? s->end - s->start : TERMINATOR - 1;
		take(s, s->end - s->start - keep);
		memmove(s->buf, s->buf + s->start, keep);
		s->start = 0;
		s->end = keep;
		fill_or_fail(s);
	}
	take(s, (size_t)(found + TERMINATOR - (s->buf + s->start)));
}

void
stream_skip_text(struct stream *s)
{
	step_back(s);
	stream_skip_rest(s);
}

void
stream_skip_part(struct stream *s, uint64_t octets)
{
	uint64_t until;

	step_back(s);
	for (until = s->taken + octets; s->taken < until; fill_or_fail(s))
		if (s->end - s->start >= TERMINATOR)
			take(s, s->end - s->start - (TERMINATOR - 1));
}

void
stream_wait_end(struct stream *s)
{
	if (s->start != s->end || fill(s))
		fail("more octets after the last answer");
}

unsigned long
number_argument(const char *text, unsigned long max)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n > max)
		fail("bad number \"%s\"", text);
	return n;
}

unsigned short
port_argument(const char *text)
{
	return (unsigned short)number_argument(text, 65535);
}
