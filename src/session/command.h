/* The command table: names, states, arguments.  State and syntax are decided here once; a handler does one thing. */
#ifndef SESSION_COMMAND_H
#define SESSION_COMMAND_H

#include "session/session.h"

struct pop_args {
	char *text;		/* ARG_TEXT and ARG_OPT_TEXT: the rest of the line, NUL behind it */
	size_t text_len;
	bool given;		/* whether an optional argument is there */
	uint64_t number;	/* message-number, not checked against the maildrop */
	uint64_t lines;		/* TOP */
};

/* Runs one line (NUL behind its len octets). */
enum pop_next command_run(struct session *s, char *line, size_t len);

#endif
