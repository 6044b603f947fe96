/* popbench rate and hold: many connections at once, driven by epoll.  Runs in the measuring client. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "popbench.h"
#include "stream.h"

#define PLACES_MAX 4096

/* What is sent when the greeting (0) or an answer has come; NULL: nothing more. */
static const char *const greet_only[] = { "QUIT\r\n", NULL };
static const char *const log_in[] = { "USER %s%u\r\n", "PASS " BENCH_PASSWORD "\r\n", "STAT\r\n", "QUIT\r\n", NULL };
static const char *const log_in_and_stay[] = { "USER %s%u\r\n", "PASS " BENCH_PASSWORD "\r\n", "STAT\r\n", NULL };
static const char *const stay[] = { NULL };

struct place {
	int fd;
	unsigned number;
	unsigned next;		/* of the script */
	size_t have;
	char line[512];
};

static struct {
	unsigned short port;
	const char *prefix;
	const char *const *script;
	bool leave;		/* the last answer is followed by the connection's end */
	int epoll;
	unsigned long done, failed;
	char first_failure[160];
} run;

static void
note_failure(const char *what)
{
	if (run.failed++ == 0)
		snprintf(run.first_failure, sizeof(run.first_failure), "%.150s", what);
}

static void
connect_place(struct place *p)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = p };

	p->next = 0;
	p->have = 0;
	if ((p->fd = stream_connect(run.port)) == -1 || epoll_ctl(run.epoll, EPOLL_CTL_ADD, p->fd, &ev) == -1)
		fail("port %u: %s", run.port, strerror(errno));
}

static void
leave_place(struct place *p)
{
	stream_reset(p->fd);
	p->fd = -1;
}

/* Sends the script's next command.  False when there is none. */
static bool
send_next(struct place *p)
{
	const char *text = run.script[p->next];
	char line[300];
	int n;

	if (text == NULL)
		return false;
	p->next++;
	/* Only USER has something to fill in. */
	if (strchr(text, '%') != NULL)
		n = snprintf(line, sizeof(line), "USER %s%u\r\n", run.prefix, p->number);
	else
		n = snprintf(line, sizeof(line), "%s", text);
	if (send(p->fd, line, (size_t)n, MSG_NOSIGNAL) != n)
		note_failure("send");
	return true;
}

/* What a place has come to. */
enum progress { WAITS, ANSWERED, ENDED, BROKEN };

/* The whole line, if it has come, must be +OK. */
static enum progress
take_line(struct place *p)
{
	char *lf = memchr(p->line, '\n', p->have);

	if (lf == NULL)
		return p->have < sizeof(p->line) ? WAITS : BROKEN;
	*lf = '\0';
	if (strncmp(p->line, "+OK", 3) != 0 || lf + 1 != p->line + p->have) {
		note_failure(p->line);
		return BROKEN;
	}
	p->have = 0;
	return send_next(p) ? WAITS : ANSWERED;
}

/*
 * The end of a connection is expected after the last answer.  A server may answer and close at once: then both are read in
 * two turns.
 */
static enum progress
progress(struct place *p)
{
	ssize_t n = recv(p->fd, p->line + p->have, sizeof(p->line) - p->have, 0);

	if (n > 0) {
		p->have += (size_t)n;
		return take_line(p);
	}
	if (run.leave && n == 0 && run.script[p->next] == NULL && p->have == 0)
		return ENDED;
	note_failure(n == 0 ? "closed early" : strerror(errno));
	return BROKEN;
}

/* Waits for the next event of a place; places that ended or broke are counted.  NULL: nothing came within 20 seconds. */
static struct place *
turn(enum progress *what)
{
	struct epoll_event ev;
	struct place *p;
	int n;

	do
		n = epoll_wait(run.epoll, &ev, 1, 20000);
	while (n == -1 && errno == EINTR);
	if (n != 1)
		return NULL;
	p = ev.data.ptr;
	*what = progress(p);
	return p;
}

static struct place *
open_places(unsigned count)
{
	struct rlimit files = { PLACES_MAX + 64, PLACES_MAX + 64 };
	struct place *places = calloc(count, sizeof(*places));
	unsigned i;

	setrlimit(RLIMIT_NOFILE, &files);
	if (places == NULL || (run.epoll = epoll_create1(EPOLL_CLOEXEC)) == -1)
		fail("epoll: %s", strerror(errno));
	for (i = 0; i < count; i++) {
		places[i].number = i;
		connect_place(&places[i]);
	}
	return places;
}

static void
take_options(char **argv, int argc, int prefix_at)
{
	run.port = port_argument(argv[0]);
	run.prefix = argc > prefix_at ? argv[prefix_at] : NULL;
}

/* Text of a server, as a JSON string. */
static void
print_text(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++)
		if (*text >= ' ' && *text <= '~' && *text != '"' && *text != '\\')
			putchar(*text);
	putchar('"');
}

static void
print_rate(double seconds)
{
	printf("{\"done\": %lu, \"failed\": %lu, \"seconds\": %.6f, \"failure\": ", run.done, run.failed, seconds);
	print_text(run.first_failure);
	puts("}");
}

int
rate_main(int argc, char **argv)
{
	unsigned count = (unsigned)number_argument(argv[1], PLACES_MAX), open = count;
	double start, until, last;
	enum progress what;
	struct place *p;

	take_options(argv, argc, 3);
	run.script = run.prefix != NULL ? log_in : greet_only;
	run.leave = true;
	last = start = now_us();
	until = start + (double)number_argument(argv[2], 3600000) * 1e3;
	open_places(count);
	while (open > 0 && (p = turn(&what)) != NULL) {
		if (what != ENDED && what != BROKEN)
			continue;
		leave_place(p);
		run.done += what == ENDED;
		last = now_us();
		if (last < until && run.failed < 100)
			connect_place(p);
		else
			open--;
	}
	if (open > 0)
		note_failure("no answer for 20 seconds");
	print_rate((last - start) / 1e6);
	return 0;
}

int
hold_main(int argc, char **argv)
{
	unsigned count = (unsigned)number_argument(argv[1], PLACES_MAX), wait = count, i;
	enum progress what;
	struct place *places;

	take_options(argv, argc, 2);
	run.script = run.prefix != NULL ? log_in_and_stay : stay;
	places = open_places(count);
	while (wait > 0 && turn(&what) != NULL) {
		if (what == BROKEN)
			fail("a held connection: %s", run.first_failure);
		wait -= what == ANSWERED;
	}
	if (wait > 0)
		fail("%u connections got no answer for 20 seconds", wait);
	hold();
	for (i = 0; i < count; i++)
		leave_place(&places[i]);
	puts("{}");
	return 0;
}
