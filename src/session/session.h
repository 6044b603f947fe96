/* One session, as its commands see it.  Runs as the service user, inside the sandbox. */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/settings.h"
#include "common/table.h"
#include "common/wire.h"
#include "session/client.h"
#include "session/tally.h"

/* RFC 1939, sections 4 and 5; UPDATE is what QUIT does. */
enum pop_state { AUTHORIZATION = 1, TRANSACTION = 2 };

enum pop_next { NEXT_COMMAND, NEXT_END };

struct session {
	struct client client;
	struct tally *tally;
	const struct settings *settings;
	bool settings_broken;		/* a login would follow settings that nobody meant */
	enum pop_state state;
	int64_t login_deadline;
	char name[NAME_OCTETS + 1];	/* from USER; empty: none yet */
	unsigned failures, bad_commands;
	int helper;			/* its socket */
	int tunnel;			/* to postern-tls, until the client is given to it; -1: none */
	bool encrypted;			/* the client is at the other end of it */
	bool only_tls;			/* nothing is said before that */
	bool local;			/* the client is on this machine: nobody listens in between */

	/* TRANSACTION */
	enum maildrop_kind kind;
	uint32_t count;			/* messages at login; numbers go from 1 to this */
	uint64_t octets;		/* of all of them */
	int table;			/* their records: see session/records.h; -1 without messages */
	int mbox;			/* read-only descriptor; -1 in a Maildir */
	struct file_state seen;		/* mbox: fstat(2) when the records were known to be true */
	bool changed;			/* mbox: they are true no more, as the helper has said */
	uint32_t last, last_at_login;	/* RFC 1225, LAST */
	uint32_t live;			/* messages not marked deleted */
	uint64_t live_octets;
	unsigned char *deleted, *read;	/* bitmaps as in common/wire.h */
	size_t bitmap_bytes;
};

/* What has to be done before the sandbox is up: looking at what kind of thing the client is, and setting its timeout. */
void session_prepare(struct session *s);

/* Serves the client on descriptors 0 and 1 from greeting to end; how it ended stands in s->tally. */
void session_run(struct session *s);

#endif
