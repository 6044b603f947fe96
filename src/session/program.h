/*
 * A program that the monitor starts when the session first speaks to it: one end of a socket pair is the session's, the other
 * becomes descriptor 3 of the program, and descriptor 2 is a second pair, on which it sends its log records.
 */
#ifndef SESSION_PROGRAM_H
#define SESSION_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct program {
	const char *event;	/* the log's word for its failures */
	const char *path;
	int end;		/* its end of the pair; readable when the session has written to it.  -1: it has none (any more) */
	pid_t pid;		/* 0: not started, -1: gone, or never to be started */
	int log;		/* where its records arrive; -1 before it is started, and when it has closed its end */
};

/* The exit status of a process that could not become the program. */
#define PROGRAM_NOT_STARTED 127

/*
 * Starts it, with all signals unblocked.  NULL, or what could not be done, with errno.  Its end of the pair stays open here: a
 * failure can still be answered in its place.
 */
const char *program_start(struct program *p, char **argv, char **env);

/* Whether the session waits for the program (and has not just closed its end). */
bool program_wanted(const struct program *p);

/* The session has the pair alone from here on. */
void program_release(struct program *p);

/*
 * One record with its sender's uid, as the kernel knows it.  Its length, which can be 0; -1 when there is none now.
 */
ssize_t program_heard(struct program *p, char *datagram, size_t size, uid_t *sender);

#endif
