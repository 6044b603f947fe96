/* Runs as the service user. */
#include "tls/library.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <string.h>

/* More than any row below keeps. */
#define KEPT_MAX 32

OSSL_LIB_CTX *library;

/* OpenSSL's own, which does the work. */
static OSSL_PROVIDER *standard;

/*
 * By operation, what tls/policy.c, keys of certificates (RSA, elliptic curves, Ed25519), tickets, and these themselves ask for.  The
 * names are the first that the provider has for it; a space ends each.
 */
static const struct {
	int operation;
	const char *names;
} used[] = {
	{ OSSL_OP_CIPHER, "AES-128-GCM AES-256-GCM ChaCha20-Poly1305 AES-256-CBC " },
	{ OSSL_OP_DIGEST, "SHA1 SHA2-224 SHA2-256 SHA2-384 SHA2-512 " },
	{ OSSL_OP_MAC, "HMAC " },
	{ OSSL_OP_KDF, "TLS1-PRF TLS13-KDF HKDF " },
	{ OSSL_OP_RAND, "HASH-DRBG SEED-SRC " },
	{ OSSL_OP_KEYMGMT, "RSA RSA-PSS EC X25519 ED25519 HMAC " },
	{ OSSL_OP_KEYEXCH, "ECDH X25519 " },
	{ OSSL_OP_SIGNATURE, "RSA ECDSA ED25519 HMAC " },
	{ OSSL_OP_DECODER, "RSA RSA-PSS EC ED25519 DER " },
};

static bool
is_used(const char *names, const OSSL_ALGORITHM *a)
{
	size_t len = strcspn(a->algorithm_names, ":");
	const char *p;

	/* Microsoft's formats of keys: nobody has a server's key in one. */
	if (strstr(a->property_definition, "input=msblob") != NULL || strstr(a->property_definition, "input=pvk") != NULL)
		return false;
	for (p = names; *p != '\0'; p += strcspn(p, " ") + 1)
		if (strcspn(p, " ") == len && strncmp(p, a->algorithm_names, len) == 0)
			return true;
	return false;
}

static const OSSL_ALGORITHM *
query(void *unused, int operation, int *no_cache)
{
	static OSSL_ALGORITHM kept[sizeof(used) / sizeof(used[0])][KEPT_MAX + 1];
	const OSSL_ALGORITHM *a;
	size_t i, n = 0;

	(void)unused;
	for (i = 0; i < sizeof(used) / sizeof(used[0]) && used[i].operation != operation; i++)
		continue;
	*no_cache = 0;
	if (i == sizeof(used) / sizeof(used[0]))
		return NULL;
	/* It is asked again for each name that it has not. */
	if (kept[i][0].algorithm_names != NULL || (a = OSSL_PROVIDER_query_operation(standard, operation, no_cache)) == NULL)
		return kept[i];
	for (; a->algorithm_names != NULL && n < KEPT_MAX; a++)
		if (is_used(used[i].names, a))
			kept[i][n++] = *a;
	return kept[i];
}

/* The groups for key exchange are told in this way. */
static int
capabilities(void *unused, const char *capability, OSSL_CALLBACK *each, void *arg)
{
	(void)unused;
	return OSSL_PROVIDER_get_capabilities(standard, capability, each, arg);
}

static const OSSL_DISPATCH functions[] = {
	{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query },
	{ OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities },
	{ 0, NULL }
};

static int
start_provider(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **out, void **context)
{
	(void)handle;
	(void)core;
	*out = functions;
	*context = OSSL_PROVIDER_get0_provider_ctx(standard); /* its algorithms take it for their own */
	return 1;
}

/* By these the strength of a certificate's signature is known. */
static int
add_digests(void)
{
	return EVP_add_digest(EVP_sha256()) == 1 && EVP_add_digest(EVP_sha384()) == 1 && EVP_add_digest(EVP_sha512()) == 1;
}

/*
 * No openssl.cnf, which could name modules to load; no texts for errors that nobody will read; no exit handlers; no tables of names for
 * programs that ask for algorithms as before OpenSSL 3.  Random numbers are
 * made with a hash: the usual way, with a cipher, would make objects of all ciphers after all, as the algorithms ask the context that
 * they come from.
 */
OSSL_LIB_CTX *
library_start(void)
{
	static const char generator[] = "HASH-DRBG", digest[] = "SHA256";

	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
	    OPENSSL_INIT_NO_ADD_ALL_DIGESTS | OPENSSL_INIT_NO_ATEXIT, NULL) != 1 ||
	    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_SSL_STRINGS, NULL) != 1 || !add_digests())
		return NULL;
	if ((standard = OSSL_PROVIDER_load(NULL, "default")) == NULL || (library = OSSL_LIB_CTX_new()) == NULL ||
	    OSSL_PROVIDER_add_builtin(library, "postern", start_provider) != 1 || OSSL_PROVIDER_load(library, "postern") == NULL ||
	    RAND_set_DRBG_type(NULL, generator, NULL, NULL, digest) != 1 ||
	    RAND_set_DRBG_type(library, generator, NULL, NULL, digest) != 1)
		return NULL;
	return library;
}
