/* Replies: "+OK", "-ERR" and their texts, which are fixed: nothing a client or a mailbox wrote comes back in them. */
#ifndef SESSION_REPLY_H
#define SESSION_REPLY_H

#include "session/session.h"

/* text: a whole reply line without its CRLF.  Returns NEXT_COMMAND, for handlers to end with. */
enum pop_next reply(struct session *s, const char *text);

/* The same for a command that is none here; too many of them in a row end the session. */
enum pop_next reply_bad(struct session *s, const char *text);

/* Says text, notes how the session ended and ends it. */
enum pop_next reply_end(struct session *s, enum session_end end, const char *text);

/* "+OK a b" */
enum pop_next reply_numbers(struct session *s, const uint64_t *numbers, int count);

/* A line of LIST: "n octets". */
void reply_scan(struct session *s, uint32_t n, uint64_t octets);

/* "+OK n id", and "n id" in a listing. */
void reply_id(struct session *s, const char *before, uint32_t n, const char *id, size_t id_len);

#endif
