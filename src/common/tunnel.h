/*
 * Between the session and postern-tls: one SOCK_STREAM pair.  The session asks; postern-tls, started by that, reads certificates
 * and keys, confines itself and says that it is ready; the session gives it the client's descriptors, and from then on the pair
 * carries what the client says and hears, decrypted.
 *
 *	TUNNEL_ASK	-> TUNNEL_READY, or the end: no pair of certificate and key is good, and the log says why
 *	TUNNEL_BEGIN + two descriptors, the client's for reading and for writing
 *
 * Each is one octet.  Neither side believes the other more than it has to: the session takes what comes out of the tunnel for a
 * client's words, and postern-tls never looks into it.
 */
#ifndef COMMON_TUNNEL_H
#define COMMON_TUNNEL_H

#define TUNNEL_ASK 'A'
#define TUNNEL_READY 'R'
#define TUNNEL_BEGIN 'B'

/* Where each of the two finds its end. */
#define TUNNEL_SESSION_END 4
#define TUNNEL_TLS_END 3

#endif
