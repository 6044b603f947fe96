/* What is spoken: RFC 9325's recommendations for servers, of which only the oldest version is a setting. */
#ifndef TLS_POLICY_H
#define TLS_POLICY_H

#include <openssl/ssl.h>

/* minimum: "1.2" or "1.3".  NULL when there is no memory. */
SSL_CTX *policy_context(const char *minimum);

#endif
