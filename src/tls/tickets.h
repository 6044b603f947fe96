/*
 * Session tickets (RFC 5077; RFC 8446, section 4.6.1), so that a client that comes every minute need not make a full handshake each
 * time, although each connection has a process of its own.  Runs as the service user.
 *
 * The secret is a chain: there is a secret for each hour, and that of the next hour is made from it by a function that nobody can
 * turn round.  The file holds the one of the last hour but one that somebody asked for; it is brought up to date by whoever finds
 * it behind.  Who gets hold of the file can open the tickets of two hours, and those to come, but none that is older.  A machine
 * with a copy of the file makes the same chain.
 */
#ifndef TLS_TICKETS_H
#define TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdint.h>

#define TICKETS_SECRET_BYTES 32

/* "HHHHHHHHHHHHHHHH SSSS...\n": the hour since 1970, and its secret, in hexadecimal digits. */
#define TICKETS_FILE_BYTES (16 + 1 + 2 * TICKETS_SECRET_BYTES + 1)

struct ticket_secret {
	uint64_t hour;
	unsigned char secret[TICKETS_SECRET_BYTES];
};

/* Before the sandbox.  Reads the file at path, makes it where there is none but a folder for it, brings it up to date.  Without it
 * (which is logged, unless there is no folder) there are no tickets. */
void tickets_prepare(SSL_CTX *ctx, const char *path);

/* Forgets the keys. */
void tickets_forget(void);

/* For tickets_prepare(), and tests.  0, or -1 when text is not of that form. */
int tickets_parse(const char text[TICKETS_FILE_BYTES], struct ticket_secret *secret);
void tickets_format(char text[TICKETS_FILE_BYTES + 1], const struct ticket_secret *secret);

/* Goes on to a later hour.  0, or -1 when it is earlier, or too far away. */
int tickets_advance(struct ticket_secret *secret, uint64_t hour);

#endif
