/* Certificates with their keys.  Runs as the service user; reads files, so before the sandbox is up. */
#ifndef TLS_PAIRS_H
#define TLS_PAIRS_H

#include <openssl/ssl.h>

/* More than this are not looked at: each is read for each connection. */
#define PAIRS_MAX 16

struct pair {
	X509 *certificate;
	STACK_OF(X509) *chain;		/* what stands behind it in its file */
	EVP_PKEY *key;
};

/*
 * Reads the pairs that the settings tls-certificate and tls-key name (common/tls_files.h).  One that is not good (unreadable,
 * broken, mismatched, out of its time, with a key that others can read) is logged with its file and what to do, and left out.
 * How many are good; they stand in their order in pairs.  ssl says which keys are too weak; it is left without any.
 */
int pairs_read(const char *certificates, const char *keys, struct pair pairs[PAIRS_MAX], SSL *ssl);

/*
 * The pairs that a client is shown that asks for the server of this name (NULL: for none): those with the name in their
 * certificates, or the first of all.  Gives them to ssl.  0 or -1.
 */
int pairs_choose(const struct pair *pairs, int count, const char *name, SSL *ssl);

/* Wipes the keys.  What ssl was given is its own. */
void pairs_free(struct pair *pairs, int count);

#endif
