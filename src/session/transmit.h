/* Sends one message: RETR and TOP. */
#ifndef SESSION_TRANSMIT_H
#define SESSION_TRANSMIT_H

#include "session/session.h"

enum sent {
	SENT_ALL,
	SENT_NOTHING,	/* no octet of a reply is out: it can still be refused */
	SENT_TORN	/* the "+OK" may be out: the connection has to end without the final dot */
};

/* All of a message, as RETR wants it. */
#define TRANSMIT_ALL UINT64_MAX

/* Message n (1 to count): "status", the message or its header and lines lines of its body, the final dot. */
enum sent transmit(struct session *s, uint32_t n, const char *status, uint64_t lines);

#endif
