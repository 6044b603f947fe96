/* Who is at the other end: for the log and for PAM. */
#ifndef SESSION_PEER_H
#define SESSION_PEER_H

#include <stdbool.h>

/* Any numeric address. */
#define PEER_BYTES 64

/*
 * Writes the peer's numeric address to text: from the socket fd if it is one (an IPv4 address mapped into IPv6 as IPv4), else
 * from REMOTE_ADDR (systemd) or TCPREMOTEIP (tcpserver, s6) if that is an address; "local" for a Unix socket, a pipe, a file.
 */
void peer_find(int fd, char text[PEER_BYTES]);

/* Whether that is this machine itself: a loopback address, or "local". */
bool peer_is_local(const char *text);

#endif
