/* Random mailboxes and what has to become of them: shared by the programs that stop an UPDATE in its middle. */
#ifndef FAULT_MAILBOX_H
#define FAULT_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "maildrop/maildrop.h"

/* One folder: the mbox and the state folder of one user. */
struct place {
	char folder[256], mbox[300], state[300];
	struct maildrop_plan plan;
};

struct text {
	char *p;
	size_t len;
};

struct mailbox {
	uint32_t count;
	unsigned char *deleted;		/* bitmap, at least one bit set */
	struct text before, after;	/* the file before and after the UPDATE */
	size_t block;			/* for journal_block_bytes */
};

uint32_t random_below(uint64_t *state, uint32_t n);

/* Ends the program with a TAP "Bail out!". */
_Noreturn void bail(const char *what);

/* A new empty folder under TMPDIR, and its removal. */
void place_make(struct place *place, const char *name);
void place_remove(struct place *place);

/* No mbox, no state, no locks left in it. */
void place_clear(const struct place *place);

void mailbox_make(struct mailbox *mailbox, uint64_t seed);
void mailbox_free(struct mailbox *mailbox);

void text_append(struct text *text, const char *p, size_t len);

/* Message number n of those that come in while nobody looks. */
struct text late_message(uint32_t n);

void file_write(const char *path, struct text text);
void file_append(const char *path, struct text text);
struct text file_read(const char *path);
bool text_equal(struct text a, struct text b);

/* A session that deletes what mailbox->deleted says.  Calls done() when UPDATE has said that it is durable. */
void session_update(const struct place *place, const struct mailbox *mailbox, void (*done)(void));

/* A session that only logs in.  True when its list of messages is right and it left no journal and no lock. */
bool session_login(const struct place *place);

#endif
