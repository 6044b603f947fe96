/*
 * Octets to and from the client.  Output is collected and leaves in one piece when the input runs dry (RFC 2449's
 * PIPELINING) or the buffer is full.  There is one client, so there is one set of buffers; pages of them that are
 * never used cost nothing.
 */
#ifndef SESSION_CLIENT_H
#define SESSION_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/tally.h"

/* Big enough that a system call's cost vanishes in the copying (measured: nothing gained above). */
#define OUT_BYTES (256 * 1024)

struct client {
	int in, out;
	bool out_is_socket;
	bool in_times_out;		/* unless it does not block, read(2) of it returns after idle_timeout */
	unsigned quick_commands;	/* the last so many came in QUICK_NANOSECONDS each (client.c) */
	enum session_end gone;		/* why nothing more can be sent or read; 0 while it can */
	unsigned long idle_timeout;	/* seconds, for a command to come whole, and for output to make progress */
	int64_t write_deadline;		/* client_clock(); 0: none but idle_timeout */
	size_t in_start, in_end;	/* octets not read yet: in_buffer[in_start..in_end) */
	size_t out_len;
};

/* A deadline that idle_timeout makes, from when the output is out and waiting begins. */
#define CLIENT_IDLE 0

void client_start(struct client *c, int in, int out, unsigned long idle_timeout);

/*
 * Flushes, then waits for input until *deadline (milliseconds, client_clock()) and appends it to the input buffer.  CLIENT_IDLE is
 * made the deadline that it comes to.  1: there is more.  0: the client is gone, or the time is over (c->gone says which).
 */
int client_fill(struct client *c, int64_t *deadline);

/* Waits until fd, not only the client's, can be read.  1: it can (or is at its end).  0: the time is over.  -1: failed. */
int client_wait(int fd, int64_t deadline);

/*
 * From here on the client is at the socket fd.  Input that nobody has taken is wiped: it came before whatever is at fd.  The old
 * descriptors are closed.
 */
void client_replace(struct client *c, int fd);

int64_t client_clock(void);

/* Whether the client has sent more than what was taken: it does not wait for the answers. */
bool client_has_more(const struct client *c);

/* The input buffer; in_start is moved by who takes octets. */
extern char client_in[];

/* Makes room for len octets (at most OUT_BYTES) and returns where they go; client_wrote() counts them. */
char *client_room(struct client *c, size_t len);
size_t client_free(const struct client *c);
void client_wrote(struct client *c, size_t len);

void client_put(struct client *c, const void *octets, size_t len);

/* Sends what is collected.  After a failure everything is dropped and c->gone is set; no need to look at each call. */
void client_flush(struct client *c);

/*
 * Ends the connection on our side at once; systemd keeps the socket until the whole unit is gone.  Unless the client has said
 * QUIT (nothing comes after that), what it still sends is read for a moment: closing over it would be a reset, which takes the last
 * reply along.
 */
void client_end(struct client *c, bool quit);

#endif
