/*
 * The table of messages that the helper hands to the session at login, in a sealed memfd: one record per message, in
 * the order of the message-numbers (number 1 is record 0).  Both programs are of one build and one machine, so the
 * records cross as they are.
 */
#ifndef COMMON_TABLE_H
#define COMMON_TABLE_H

#include <stdint.h>

struct record {
	uint64_t offset;	/* mbox: file position of the first header byte (after the From_ line).  Maildir: 0 */
	uint64_t bytes;		/* the message as it is in the file, without the empty line that ends it in an mbox */
	uint64_t octets;	/* the message as RETR sends it: each line ends in CRLF; no byte-stuffing, no final dot */
	uint64_t fingerprint;	/* mbox: fingerprint() of its first bytes.  Maildir: 0 */
};

/*
 * The state of an mbox in which all records are known to be true.  Any difference in fstat(2) means that somebody
 * wrote since.  Times are compared to the nanosecond.
 */
struct file_state {
	uint64_t size;
	int64_t mtime_sec, mtime_nsec;
	int64_t ctime_sec, ctime_nsec;
};

#endif
