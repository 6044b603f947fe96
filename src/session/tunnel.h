/* The session's end of the pair to postern-tls (common/tunnel.h).  Runs as the service user, inside the sandbox. */
#ifndef SESSION_TUNNEL_H
#define SESSION_TUNNEL_H

#include "session/session.h"

/*
 * Asks for postern-tls; it is started by that.  Whether it is ready to take the client over: certificates and keys are good.
 * After a no the tunnel is gone for this session.
 */
bool tunnel_ready(struct session *s);

/*
 * Gives the client to postern-tls.  From here on the client is who comes through the tunnel; what came before it is forgotten, and
 * its own descriptors are closed here.  A failure ends the session (s->client.gone).
 */
void tunnel_begin(struct session *s);

/* A connection that has to begin with TLS (port 995): both of the above; a client that cannot be served is told so. */
void tunnel_only(struct session *s);

#endif
