/* Command lines: RFC 1939, section 3; RFC 2449, section 4. */
#ifndef SESSION_LINE_H
#define SESSION_LINE_H

#include "session/client.h"

enum line_result {
	LINE_OK,
	LINE_TOO_LONG,	/* the whole line is thrown away */
	LINE_BAD,	/* a NUL, or a CR that does not end it */
	LINE_NONE	/* no more lines: c->gone says why */
};

/*
 * The next line, without its CRLF (or LF, which scripts send).  It is ended by a NUL in the input buffer and stays valid
 * until the next call.  limit: octets with CRLF.  A line that the end of input cuts short is none: a QUIT that did not
 * arrive whole deletes nothing.  deadline (client_clock(), or CLIENT_IDLE) is for the whole line: an octet now and then keeps no session
 * open.
 */
enum line_result line_read(struct client *c, size_t limit, int64_t deadline, char **line, size_t *len);

#endif
