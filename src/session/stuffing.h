/* From a message as it is stored to what RETR and TOP send: RFC 1939, section 3.  Pure code. */
#ifndef SESSION_STUFFING_H
#define SESSION_STUFFING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stuffing {
	bool in_line;		/* octets of a line that has not ended were seen */
	bool after_cr;		/* the last of them was a CR */
	uint64_t octets;	/* sent so far, without the dots that were added */
};

/* stuff() writes at most twice what it reads: ".\n" becomes "..\r\n". */
#define STUFFING_GROWTH 2

/* stuff_end() writes at most this. */
#define STUFFING_END 2

/*
 * Converts len bytes: LF becomes CRLF where no CR stands before it, a dot at the start of a line is doubled.  Lines end at
 * LF alone; bare CRs and NULs pass.  out has room for STUFFING_GROWTH * len octets.  Start with a zeroed struct; pieces may
 * be cut anywhere.  Returns the octets written.
 */
size_t stuff(struct stuffing *st, const char *in, size_t len, char *out);

/* Ends a last line that has no LF.  Returns the octets written. */
size_t stuff_end(struct stuffing *st, char *out);

/*
 * TOP (RFC 1939, section 7): how many of the next len bytes belong to the header, the empty line and the first lines of the
 * body.  Fewer than len: that was all.
 */
struct top {
	bool in_body;
	bool in_line, only_cr;	/* of the line at hand: has octets; they are one CR */
	uint64_t lines;		/* body lines still wanted */
};

size_t top_part(struct top *top, const char *in, size_t len);

#endif
