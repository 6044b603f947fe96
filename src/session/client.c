#include "session/client.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* A window of pipelined commands: what a socket hands over at once. */
#define IN_BYTES (16 * 1024)

/*
 * A client that asks for one message after the other waits for our sleep and our waking up each time, which on a virtual machine take
 * several times as long as the message: 4 kB ones go at 11,000 a second so, and at 30,000 to 120,000 if we ask for the next command
 * again and again before we sleep.  That is done for clients on this machine, or behind a quick network: after so many commands that
 * each came so soon, and no longer than that.
 */
#define QUICK_COMMANDS 16
#define QUICK_NANOSECONDS 200000

/* Long enough for the other end to answer our end with its own. */
#define LINGER_MILLISECONDS 1000

char client_in[IN_BYTES];
static char out[OUT_BYTES];

void
client_start(struct client *c, int in, int out_fd, unsigned long idle_timeout)
{
	struct timeval wait = { .tv_sec = (time_t)idle_timeout };
	struct stat st;

	memset(c, 0, sizeof(*c));
	c->in = in;
	c->out = out_fd;
	c->out_is_socket = fstat(out_fd, &st) == 0 && S_ISSOCK(st.st_mode);
	c->in_times_out = setsockopt(in, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) == 0;
	c->idle_timeout = idle_timeout;
}

static int64_t
nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t
client_clock(void)
{
	return nanoseconds() / 1000000;
}

/* poll(2) until the deadline, whatever interrupts it.  1 ready, 0 time over, -1 failed. */
static int
wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left;
	int n;

	do {
		if ((left = deadline - client_clock()) <= 0)
			return 0; /* also for a client that never stops sending */
		n = poll(&p, 1, (int)left);
	} while (n == -1 && errno == EINTR);
	return n;
}

/*
 * Moves what is left to the front.  The place it leaves is wiped: a password that came in two pieces must not stay
 * there for the rest of the session.
 */
static void
compact(struct client *c)
{
	size_t len = c->in_end - c->in_start;

	if (c->in_start == 0)
		return;
	memmove(client_in, client_in + c->in_start, len);
	explicit_bzero(client_in + len, c->in_end - len);
	c->in_start = 0;
	c->in_end = len;
}

int
client_wait(int fd, int64_t deadline)
{
	return wait_for(fd, POLLIN, deadline);
}

void
client_replace(struct client *c, int fd)
{
	explicit_bzero(client_in, c->in_end);
	c->in_start = c->in_end = 0;
	close(c->in);
	close(c->out);
	c->in = c->out = fd;
	c->out_is_socket = true;
	c->in_times_out = false;
}

static ssize_t
read_some(struct client *c)
{
	return read(c->in, client_in + c->in_end, IN_BYTES - c->in_end);
}

static ssize_t
read_until(struct client *c, int64_t deadline)
{
	ssize_t n = -1;
	int ready;

	while ((ready = wait_for(c->in, POLLIN, deadline)) == 1 && (n = read_some(c)) == -1 && errno == EINTR)
		continue;
	if (ready == 0)
		errno = EAGAIN;
	return n;
}

/* Whoever has something to do on this processor goes first; it may be the client. */
static ssize_t
read_awake(struct client *c, int64_t until)
{
	ssize_t n;

	while ((n = recv(c->in, client_in + c->in_end, IN_BYTES - c->in_end, MSG_DONTWAIT)) == -1 && errno == EAGAIN &&
	    nanoseconds() < until)
		sched_yield();
	return n;
}

/* The beginning of a command, from began on; the rest of it, and what comes through postern-tls, is waited for asleep. */
static ssize_t
read_beginning(struct client *c, int64_t began)
{
	ssize_t n = -1;

	errno = EAGAIN;
	if (c->quick_commands >= QUICK_COMMANDS)
		n = read_awake(c, began + QUICK_NANOSECONDS);
	if (n == -1 && errno == EAGAIN)
		n = read_some(c);
	c->quick_commands = n > 0 && nanoseconds() - began < QUICK_NANOSECONDS ? c->quick_commands + 1 : 0;
	return n;
}

/*
 * Where the socket has idle_timeout for its own, read(2) waits that long by itself: most commands come so, and poll(2) is saved.
 * When it comes back without (a socket that somebody has made non-blocking, a stop), poll(2) knows whether the time is over.
 */
static ssize_t
read_in_time(struct client *c, int64_t *deadline)
{
	bool idle = *deadline == CLIENT_IDLE;
	int64_t now = nanoseconds();
	ssize_t n;

	if (idle)
		*deadline = now / 1000000 + (int64_t)c->idle_timeout * 1000;
	if (idle && c->in_times_out && ((n = read_beginning(c, now)) != -1 || (errno != EAGAIN && errno != EINTR)))
		return n;
	return read_until(c, *deadline);
}

int
client_fill(struct client *c, int64_t *deadline)
{
	ssize_t n;

	client_flush(c);
	if (c->gone)
		return 0;
	compact(c);
	n = read_in_time(c, deadline);
	if (n <= 0) {
		c->gone = n == -1 && errno == EAGAIN ? END_IDLE : END_CLOSED;
		return 0;
	}
	c->in_end += (size_t)n;
	return 1;
}

static int64_t
write_deadline(const struct client *c)
{
	return c->write_deadline != 0 ? c->write_deadline : client_clock() + (int64_t)c->idle_timeout * 1000;
}

/* One piece, never waiting longer than idle_timeout without progress; a pipe or a file is written as it takes it. */
static ssize_t
send_some(struct client *c, const char *p, size_t len)
{
	ssize_t n;

	n = c->out_is_socket ? send(c->out, p, len, MSG_NOSIGNAL | MSG_DONTWAIT) : write(c->out, p, len);
	if (n != -1 || errno != EAGAIN)
		return n;
	switch (wait_for(c->out, POLLOUT, write_deadline(c))) {
	case 0:
		errno = ETIMEDOUT;
		return -1;
	case 1:
		return 0;
	default:
		return -1;
	}
}

void
client_flush(struct client *c)
{
	size_t done = 0;
	ssize_t n;

	while (done < c->out_len && !c->gone) {
		if ((n = send_some(c, out + done, c->out_len - done)) >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			c->gone = errno == ETIMEDOUT ? END_STALLED : END_CLOSED;
	}
	c->out_len = 0;
}

size_t
client_free(const struct client *c)
{
	return sizeof(out) - c->out_len;
}

bool
client_has_more(const struct client *c)
{
	return c->in_start < c->in_end;
}

char *
client_room(struct client *c, size_t len)
{
	if (len > client_free(c))
		client_flush(c);
	return out + c->out_len;
}

void
client_wrote(struct client *c, size_t len)
{
	c->out_len += len;
}

void
client_end(struct client *c, bool quit)
{
	int64_t until = client_clock() + LINGER_MILLISECONDS;

	if (!c->out_is_socket || c->gone == END_CLOSED)
		return;
	shutdown(c->out, SHUT_WR);
	while (!quit && wait_for(c->in, POLLIN, until) == 1 && read(c->in, client_in, IN_BYTES) > 0)
		continue;
}

void
client_put(struct client *c, const void *octets, size_t len)
{
	memcpy(client_room(c, len), octets, len);
	client_wrote(c, len);
}
