/* Random mailboxes and what has to become of them: shared by the programs that stop an UPDATE in its middle. */
#ifndef FAULT_MAILBOX_H
#define FAULT_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "maildrop/maildrop.h"

/* One folder: the maildrop and the state folder of one user. */
struct place {
	char folder[256], path[300], state[300];	/* path: the mbox or the Maildir */
	struct maildrop_plan plan;
};

struct text {
	char *p;
	size_t len;
};

/* A message of a Maildir. */
struct stored {
	char name[80];			/* with its folder: "new/1700000000.M1P2.host" */
	struct text text;
};

struct mailbox {
	enum maildrop_kind kind;
	uint32_t count;
	unsigned char *deleted;		/* bitmap, at least one bit set */
	struct text before, after;	/* mbox: the file before and after the UPDATE */
	size_t block;			/* mbox: for journal_block_bytes */
	unsigned char *read;		/* Maildir: bitmap */
	struct stored *stored;		/* Maildir: count of them */
	bool indexed;			/* Maildir: a session before has left an index */
};

/* Mail that comes in while nobody looks has numbers from 1 to 31; a set of them has bit n for number n. */
typedef uint32_t late_set;

enum found {
	FOUND_BEFORE,			/* nothing is deleted */
	FOUND_AFTER,			/* everything that was to be */
	FOUND_PART,			/* Maildir: some of it */
	FOUND_WRONG			/* mail is lost, changed, twice there, or never was */
};

uint32_t random_below(uint64_t *state, uint32_t n);

/* Ends the program with a TAP "Bail out!". */
_Noreturn void bail(const char *what);

/* A new empty folder under TMPDIR, and its removal. */
void place_make(struct place *place, const char *name, enum maildrop_kind kind);
void place_remove(struct place *place);

void mailbox_make(struct mailbox *mailbox, enum maildrop_kind kind, uint64_t seed);
void mailbox_free(struct mailbox *mailbox);

/* The mailbox as it was before, and no state, no locks. */
void mailbox_put(const struct place *place, const struct mailbox *mailbox);

/* What has become of it, and of the late messages that have come in since. */
enum found mailbox_found(const struct place *place, const struct mailbox *mailbox, late_set late);

/* Late message number n comes in. */
void mailbox_deliver(const struct place *place, uint32_t n);

/* Part of them: one message, of an mbox. */
struct text random_message(uint64_t *seed, uint32_t n, uint32_t longest);
struct text late_message(uint32_t n);

/* Files directly in the folder are removed. */
void clear_folder(const char *path);

void text_append(struct text *text, const char *p, size_t len);
void file_write(const char *path, struct text text);
struct text file_read(const char *path);
bool text_equal(struct text a, struct text b);

/* A session that deletes what mailbox->deleted says.  Calls done() when UPDATE has said that it is durable. */
void session_update(const struct place *place, const struct mailbox *mailbox, void (*done)(void));

/* A session that only logs in.  True when its list of messages is right and it left no journal and no lock. */
bool session_login(const struct place *place);

/* What differs between the kinds of maildrop. */
struct mailbox_ops {
	const struct maildrop_kind_ops *session;
	void (*place)(const struct place *place);
	void (*unplace)(const struct place *place);
	void (*make)(struct mailbox *mailbox, uint64_t *seed);
	void (*put)(const struct place *place, const struct mailbox *mailbox);
	enum found (*found)(const struct place *place, const struct mailbox *mailbox, late_set late);
	void (*deliver)(const struct place *place, uint32_t n);
	bool (*list_is_right)(struct maildrop *md, const struct place *place);
};

extern const struct mailbox_ops maildir_mailbox;	/* mailbox_maildir.c */

#endif
