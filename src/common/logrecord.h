/*
 * What the helper has to say, sent to the monitor as one datagram on descriptor 2 (a SOCK_SEQPACKET pair whose other
 * end is the monitor's).  The monitor knows the sender's uid from the kernel and makes the line.  Anything else that
 * arrives there (a library writing to stderr) is logged as text.
 */
#ifndef COMMON_LOGRECORD_H
#define COMMON_LOGRECORD_H

#include <stddef.h>

#include "common/limits.h"

enum log_event {
	LOG_EVENT_NOTE = 1,	/* text: what happened, as key=value */
	LOG_EVENT_LOGIN,	/* user; text: method=... */
	LOG_EVENT_LOGIN_FAILED,	/* user; text: reason word */
	LOG_EVENT_TLS		/* postern-tls alone.  user: the server name asked for; text: protocol, cipher, whether
				 * resumed; at the end once more, if truncated, with a word for that */
};

struct log_record {
	enum log_event event;
	int priority;			/* LOG_ERR ... of syslog(3) */
	char user[256 * 4];		/* escaped; empty in notes */
	char text[LOG_BYTES];		/* escaped by who made it, and printable */
};

/*
 * Helper, either phase: sends one record.  Never fails visibly: a log that cannot be written must not stop mail.
 * user may be NULL.  Texts of peers and files in the arguments go through text_escape() before.
 */
void log_event(enum log_event event, int priority, const char *user, size_t user_len, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* A note: what="..." key=value ..., as postern-helper(8) lists them under DIAGNOSTICS. */
#define log_note(priority, ...) log_event(LOG_EVENT_NOTE, (priority), NULL, 0, __VA_ARGS__)

/* Monitor: reads the datagram of len octets.  0, or -1 when it is no record. */
int log_record_parse(const char *datagram, size_t len, struct log_record *record);

#endif
