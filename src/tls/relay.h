/*
 * The tunnel: what the client sends goes decrypted to the session, what the session says goes encrypted to the client.  Runs as
 * the service user, inside the sandbox.
 */
#ifndef TLS_RELAY_H
#define TLS_RELAY_H

#include <openssl/ssl.h>

/* A handshake that is not done by then never will be; the session's own login-timeout may be shorter. */
#define HANDSHAKE_SECONDS 60

/* The session is gone and the client takes nothing of what is left for it. */
#define STALL_SECONDS 60

/*
 * The handshake, on ssl's descriptors, which do not block; session: the socket to the session, which is watched meanwhile.  0, or -1:
 * it failed (which is logged, and the client is told what TLS has to say of it), or one of the two is gone.
 */
int relay_handshake(SSL *ssl, int in, int out, int session);

/* Until both are gone, or one and all that is left for the other is delivered. */
void relay_run(SSL *ssl, int in, int out, int session);

#endif
