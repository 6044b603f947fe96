/*
 * Messages between session and helper: one SOCK_SEQPACKET datagram each, a type octet and typed fields.  A field is
 * a number of fixed width or a length and octets; never a struct, never a pointer.  The peer is hostile: every get
 * checks the length, wire_get_end() that nothing is left over.
 *
 * The conversation (docs: postern-helper(8)):
 *	LOGIN		-> REFUSED (up to LOGIN_FAILURES times) or OPENED; OPENED is the last answer root gives
 *	MESSAGES n, k	-> FILES + up to k descriptors, or GONE		Maildir only
 *	VERIFY		-> VERIFIED or GONE				mbox only
 *	UNIQUE_IDS n	-> IDS from n on, one after the other up to the last message if all are wanted, or GONE
 *	DELETED, READ	(no answer; any number of them)
 *	UPDATE		-> UPDATED, then the helper ends
 */
#ifndef COMMON_WIRE_H
#define COMMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"

enum wire_type {
	/* session to helper */
	WIRE_LOGIN = 1,		/* text name, text password, u8 mechanism (enum login_mechanism) */
	WIRE_MESSAGES,		/* u32 message-number, u32 how many from there on, at most WIRE_FDS */
	WIRE_VERIFY,		/* - */
	WIRE_UNIQUE_IDS,	/* u32 message-number, u8 1: those of all messages behind it, too */
	WIRE_DELETED,		/* u32 first message-number of the bitmap, text bitmap (bit 0 of octet 0 is that message) */
	WIRE_READ,		/* the same for messages that RETR has sent whole */
	WIRE_UPDATE,		/* u32 LAST */
	/* helper to session */
	WIRE_REFUSED = 64,	/* u8 enum refusal, u8 whether another LOGIN may follow */
	WIRE_OPENED,		/* u8 enum maildrop_kind, u32 messages, u32 LAST, u64 octets of all, file state (mbox);
				 * descriptors: table if messages > 0, and then the mbox */
	WIRE_FILES,		/* u32 that message-number; a descriptor of it, and of those behind it up to one that can't be opened */
	WIRE_GONE,		/* - : that message, or the mbox as it was, is there no more */
	WIRE_VERIFIED,		/* file state */
	WIRE_IDS,		/* u32 that message-number, text unique-id of it and of each message behind it, as many as fit */
	WIRE_UPDATED,		/* u8 whether all deletions are durable, u32 messages removed, u32 messages left */
	/* helper and a postern-pam that stays */
	WIRE_ATTEMPT = 96,	/* descriptors: the request, where the answer goes, the log.  The connection ends with the attempt,
				 * and the attempt with the connection */
	WIRE_READY		/* text version */
};

enum refusal {
	REFUSED_AUTH = 1,	/* [AUTH]: wrong name or password, or an account that may not log in */
	REFUSED_TEMPORARY,	/* [SYS/TEMP] */
	REFUSED_PERMANENT,	/* [SYS/PERM]: an administrator has to mend something */
	REFUSED_IN_USE		/* [IN-USE] */
};

enum maildrop_kind { KIND_MBOX = 1, KIND_MAILDIR };

enum login_mechanism { MECHANISM_PASS = 1, MECHANISM_PLAIN };

/* Each of these saves both programs a wake-up; see DESCRIPTORS_UNDER_WAY for how many there may be. */
#define WIRE_FDS 16

struct wire_msg {
	uint8_t type;
	size_t len;	/* octets of data used (put) or received (get) */
	size_t pos;	/* next octet to get */
	int nfds;
	int fds[WIRE_FDS];
	unsigned char data[WIRE_BYTES];
};

/* Starts a message to send. */
void wire_start(struct wire_msg *m, enum wire_type type);

/* 0, or -1 when it does not fit (EMSGSIZE): nothing is put then. */
int wire_put_u8(struct wire_msg *m, uint8_t value);
int wire_put_u32(struct wire_msg *m, uint32_t value);
int wire_put_u64(struct wire_msg *m, uint64_t value);
int wire_put_text(struct wire_msg *m, const void *text, size_t len);

/* Adds a descriptor to send along; it stays the caller's.  At most WIRE_FDS. */
int wire_put_fd(struct wire_msg *m, int fd);

/* 0, or -1 with errno. */
int wire_send(int sock, const struct wire_msg *m);

/*
 * 1: a message came; its descriptors (close-on-exec) are the caller's.  0: the peer is gone.  -1: an error (errno),
 * or something that is no message of this protocol (EPROTO); descriptors that came with it are closed.
 */
int wire_recv(int sock, struct wire_msg *m);

/* 0, or -1 when the field is not there.  Text points into m, is len octets long and has no NUL behind it. */
int wire_get_u8(struct wire_msg *m, uint8_t *value);
int wire_get_u32(struct wire_msg *m, uint32_t *value);
int wire_get_u64(struct wire_msg *m, uint64_t *value);
int wire_get_text(struct wire_msg *m, const char **text, size_t *len);

/* The same, copied and ended with NUL; -1 also when out has less than len + 1 bytes, or there is a NUL in the text. */
int wire_get_string(struct wire_msg *m, char *out, size_t size);

/* 0 when every octet and every descriptor (set to -1 then) was taken, else -1. */
int wire_get_end(const struct wire_msg *m);

/* Whether who connected to the other end, or listens there, was root then (unix(7), SO_PEERCRED). */
bool wire_peer_is_root(int sock);

/* Closes the descriptors that came with m and were not taken (set to -1). */
void wire_close_fds(struct wire_msg *m);

#endif
