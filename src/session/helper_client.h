/*
 * Requests to the helper: one function each.  The helper is not trusted further than the mailbox it serves; an answer
 * that does not fit, or does not come, ends the session after the reply at hand (s->tally says END_HELPER).
 */
#ifndef SESSION_HELPER_CLIENT_H
#define SESSION_HELPER_CLIENT_H

#include "session/session.h"

struct login_answer {
	bool opened;		/* the fields of TRANSACTION in s are filled in */
	uint8_t refusal;	/* enum refusal */
	bool again;		/* whether the helper takes another LOGIN */
};

/* The first call makes the monitor start the helper. */
struct login_answer helper_login(struct session *s, const char *name, size_t name_len, const char *password,
    size_t password_len, enum login_mechanism mechanism);

/* Maildir: a descriptor of message n, open until another message is asked for; -1 if it is there no more. */
int helper_message(struct session *s, uint32_t n);

/* The same if nobody has to be asked for it, else -1. */
int helper_at_hand(uint32_t n);

/* mbox: whether all records are still true; s->seen is refreshed. */
bool helper_verify(struct session *s);

/* The unique-id of message n, which is there, in *id until the next call.  False if it can't be had. */
bool helper_id(struct session *s, uint32_t n, const char **id, size_t *len);

/*
 * The unique-ids of all messages, of which there is at least one: each call of helper_next_id() has the next one, and before the last
 * one came the helper answers nothing else.  False if they can't be had.
 */
bool helper_all_ids(struct session *s);
bool helper_next_id(struct session *s, const char **id, size_t *len);

/* UPDATE: whether every deletion is durable.  The tally gets the numbers. */
bool helper_update(struct session *s);

/* fstat(2) by its own system call: the one that glibc takes could look up names too.  0 or -1. */
int file_state_now(int fd, struct file_state *state);
bool file_state_same(const struct file_state *a, const struct file_state *b);

#endif
