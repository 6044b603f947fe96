/*
 * The client's end of a POP3 connection: commands out, replies in.  Ends the program with a message on standard error
 * (exit status 1) when the server goes away or answers what nobody asked for; a measurement of that would be worth nothing.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream {
	int fd;
	char *buf;
	size_t start, end;	/* what has arrived and was not taken yet */
	uint64_t taken;		/* octets taken since the program set it to 0 */
};

/* Connects to 127.0.0.1.  The descriptor, or -1 with errno. */
int stream_connect(unsigned short port);

/* Closes by RST: no TIME_WAIT is left behind that the next run would have to live with. */
void stream_reset(int fd);

void stream_open(struct stream *s, unsigned short port);
void stream_send(const struct stream *s, const char *text, size_t len);
void stream_command(const struct stream *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The next line without CRLF, ended by NUL; valid until the next call.  Its length in *len. */
char *stream_line(struct stream *s, size_t *len);

/* Takes a line that must begin with +OK, and returns what follows that. */
char *stream_ok(struct stream *s);

/*
 * After the status line of a multi-line reply: takes all up to the line that is a dot alone.  Does nothing else, so that the
 * server is measured and not the client.
 */
void stream_skip_text(struct stream *s);

/*
 * The same in two parts: first about this many octets, fewer than the text has; then, perhaps after a pause, the rest.
 */
void stream_skip_part(struct stream *s, uint64_t octets);
void stream_skip_rest(struct stream *s);

/* Waits until the server has closed the connection; more octets are an error. */
void stream_wait_end(struct stream *s);

/* A number from 0 to max, or the end of the program. */
unsigned long number_argument(const char *text, unsigned long max);
unsigned short port_argument(const char *text);

/* Microseconds of a clock that only goes forward. */
double now_us(void);

void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
