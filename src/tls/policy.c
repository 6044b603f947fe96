/* Runs as the service user. */
#include "tls/policy.h"

#include <string.h>

#include "tls/library.h"

/*
 * RFC 9325, section 4.2, and RFC 7905 for processors without AES; TLS 1.3 has three suites, all good.  No RSA key exchange, no CBC,
 * no finite fields: every client since 2014 has one of these.
 */
static const char ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static char groups[] = "X25519:P-256:P-384"; /* not const: OpenSSL's macro casts it */

/*
 * RFC 7301; RFC 9325, section 3.7: a client that speaks of protocols, and not of this one, meant another server (or was led to
 * this one).  Most mail clients say nothing.
 */
static int
choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *unused)
{
	static const unsigned char pop3[] = "\4pop3";
	unsigned char *chosen;

	(void)ssl;
	(void)unused;
	if (SSL_select_next_proto(&chosen, out_len, pop3, sizeof(pop3) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *
policy_context(const char *minimum)
{
	static const unsigned char id[] = "postern";
	SSL_CTX *ctx = SSL_CTX_new_ex(library, NULL, TLS_server_method());

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
	    SSL_OP_PRIORITIZE_CHACHA | SSL_OP_CLEANSE_PLAINTEXT);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_security_level(ctx, 2);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* one process, one connection */
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	if (SSL_CTX_set_min_proto_version(ctx, strcmp(minimum, "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1 &&
	    SSL_CTX_set_cipher_list(ctx, ciphers) == 1 && SSL_CTX_set_ciphersuites(ctx, suites) == 1 &&
	    SSL_CTX_set1_groups_list(ctx, groups) == 1 && SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) == 1)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}
