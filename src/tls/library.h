/*
 * OpenSSL, with no more of it started than this program uses.  Most of what its start costs is that it makes an object for each
 * algorithm that it has, when one of their kind is first asked for; so it is shown a provider that has a twentieth of them.
 */
#ifndef TLS_LIBRARY_H
#define TLS_LIBRARY_H

#include <openssl/types.h>

/* Once, before anything else of OpenSSL.  NULL when it cannot be started. */
OSSL_LIB_CTX *library_start(void);

/* What library_start() has returned: for whatever takes one. */
extern OSSL_LIB_CTX *library;

#endif
