/* The walls around postern-tls, put up before the first octet of a client is read. */
#ifndef TLS_SANDBOX_H
#define TLS_SANDBOX_H

/* From here on: no files, no network, no processes; two descriptors more, from the session.  0, or -1 with errno. */
int tls_sandbox(void);

#endif
