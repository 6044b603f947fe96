#include "tls/tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/limits.h"
#include "common/logrecord.h"
#include "tls/library.h"

#define HOUR_SECONDS 3600

/* Ten years: a machine that was off for longer, or whose clock is wrong, begins a new chain. */
#define HOURS_MAX (10 * 366 * 24)

/* A client is told to keep its ticket for as long as it is surely good: what is made at the end of an hour is, for one more. */
#define LIFETIME_SECONDS HOUR_SECONDS

/* No chain of tickets, each got with the one before, goes on for longer without a full handshake, which shows the certificate. */
#define CHAIN_SECONDS (24 * HOUR_SECONDS)

#define NAME_BYTES 16

/* Of an hour. */
struct ticket_keys {
	unsigned char name[32];		/* NAME_BYTES of it stand in front of each ticket */
	unsigned char encrypt[32];
	unsigned char authenticate[32];
};

/* This hour's, for new tickets, and the last one's, for old ones. */
static struct ticket_keys keys[2];
static EVP_CIPHER *cipher_of_tickets;

/* HKDF-Expand (RFC 5869) for one block of output. */
static int
derive(const unsigned char secret[TICKETS_SECRET_BYTES], const char *purpose, unsigned char out[32])
{
	unsigned char info[32];
	size_t len = strlen(purpose);

	memcpy(info, purpose, len);
	info[len] = 1;
	return HMAC(EVP_sha256(), secret, TICKETS_SECRET_BYTES, info, len + 1, out, NULL) != NULL ? 0 : -1;
}

int
tickets_advance(struct ticket_secret *secret, uint64_t hour)
{
	if (hour < secret->hour || hour - secret->hour > HOURS_MAX)
		return -1;
	for (; secret->hour < hour; secret->hour++)
		if (derive(secret->secret, "postern next hour", secret->secret) == -1)
			return -1;
	return 0;
}

void
tickets_format(char text[TICKETS_FILE_BYTES + 1], const struct ticket_secret *secret)
{
	static const char digits[] = "0123456789abcdef";
	char *p = text;
	size_t i;

	for (i = 0; i < 16; i++)
		*p++ = digits[secret->hour >> (60 - 4 * i) & 15];
	*p++ = ' ';
	for (i = 0; i < sizeof(secret->secret); i++) {
		*p++ = digits[secret->secret[i] >> 4];
		*p++ = digits[secret->secret[i] & 15];
	}
	*p++ = '\n';
	*p = '\0';
}

/* Lower case digits only, as we write them. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
tickets_parse(const char text[TICKETS_FILE_BYTES], struct ticket_secret *secret)
{
	int i, value;

	memset(secret, 0, sizeof(*secret));
	for (i = 0; i < 16; i++) {
		if ((value = hex_value(text[i])) == -1)
			return -1;
		secret->hour = secret->hour << 4 | (unsigned)value;
	}
	for (i = 0; i < 2 * TICKETS_SECRET_BYTES; i++) {
		if ((value = hex_value(text[17 + i])) == -1)
			return -1;
		secret->secret[i / 2] = (unsigned char)(secret->secret[i / 2] << 4 | value);
	}
	return text[16] == ' ' && text[TICKETS_FILE_BYTES - 1] == '\n' ? 0 : -1;
}

static void
note(const char *path, const char *error)
{
	log_note(LOG_WARNING, "tickets file=\"%s\" error=\"%s\"", path, error);
}

/* A whole new file, which others see from one instant to the next: another process may do the same now.  0, or -1 with errno. */
static int
write_file(const char *path, const struct ticket_secret *secret)
{
	char text[TICKETS_FILE_BYTES + 1], new[PATH_BYTES + 24];
	int fd, saved;

	if (snprintf(new, sizeof(new), "%s.%ld", path, (long)getpid()) >= (int)sizeof(new))
		return -1;
	unlink(new); /* of a process of that number that was killed in between */
	if ((fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) == -1)
		return -1;
	tickets_format(text, secret);
	if (write_full(fd, text, TICKETS_FILE_BYTES) == 0 && rename(new, path) == 0)
		new[0] = '\0';
	saved = errno;
	explicit_bzero(text, sizeof(text));
	close(fd);
	if (new[0] != '\0')
		unlink(new);
	errno = saved;
	return new[0] == '\0' ? 0 : -1;
}

/* Where there is no file, or one that is of no use. */
static int
make_secret(const char *path, struct ticket_secret *secret, uint64_t hour)
{
	secret->hour = hour;
	if (getrandom(secret->secret, sizeof(secret->secret), 0) != (ssize_t)sizeof(secret->secret))
		return -1;
	if (write_file(path, secret) == 0)
		return 0;
	if (errno != ENOENT) /* no folder: the administrator wants no tickets */
		note(path, strerror(errno));
	return -1;
}

static int
read_secret(const char *path, struct ticket_secret *secret)
{
	char text[TICKETS_FILE_BYTES];
	int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC), result = -1;
	struct stat st;

	if (fd == -1) {
		if (errno != ENOENT)
			note(path, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) || (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		note(path, "others can read it, or it is no file: chmod 600, or remove it, and a new one is made");
	else if (st.st_size != TICKETS_FILE_BYTES || pread_full(fd, text, sizeof(text), 0) != IO_DONE ||
	    tickets_parse(text, secret) == -1)
		note(path, "not what it should be: remove it, and a new one is made");
	else
		result = 0;
	explicit_bzero(text, sizeof(text));
	close(fd);
	return result;
}

/* The secret of the hour before this one.  0 or -1. */
static int
current_secret(const char *path, struct ticket_secret *secret, uint64_t last_hour)
{
	uint64_t stored;

	if (access(path, F_OK) == -1 && errno == ENOENT)
		return make_secret(path, secret, last_hour);
	if (read_secret(path, secret) == -1)
		return -1;
	stored = secret->hour;
	if (tickets_advance(secret, last_hour) == -1) {
		/* The clock was wrong by hours, when the file was written or now.  An hour is what two machines may differ by. */
		if (stored == last_hour + 1)
			return -1;
		note(path, "from another time: a new one is made");
		return make_secret(path, secret, last_hour);
	}
	if (stored != last_hour && write_file(path, secret) == -1)
		note(path, strerror(errno));
	return 0;
}

static int
derive_keys(const struct ticket_secret *secret, struct ticket_keys *k)
{
	return derive(secret->secret, "postern ticket name", k->name) == -1 ||
	    derive(secret->secret, "postern ticket encryption", k->encrypt) == -1 ||
	    derive(secret->secret, "postern ticket integrity", k->authenticate) == -1 ? -1 : 0;
}

/* OpenSSL's way of asking for keys; its own values: 0 unknown, 1 good, 2 good but make a new one, -1 failed. */
static int
ticket_keys(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *ctx, EVP_MAC_CTX *mac, int encrypt)
{
	static char digest[] = "SHA256";
	OSSL_PARAM params[3];
	int i = 0;

	(void)ssl;
	if (!encrypt)
		while (i < 2 && CRYPTO_memcmp(name, keys[i].name, NAME_BYTES) != 0)
			i++;
	if (i == 2)
		return 0;
	if (encrypt) {
		memcpy(name, keys[0].name, NAME_BYTES);
		if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
			return -1;
	}
	params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, keys[i].authenticate, sizeof(keys[i].authenticate));
	params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
	params[2] = OSSL_PARAM_construct_end();
	if (EVP_CipherInit_ex(ctx, cipher_of_tickets, NULL, keys[i].encrypt, iv, encrypt) != 1 ||
	    EVP_MAC_CTX_set_params(mac, params) != 1)
		return -1;
	return encrypt || i == 0 ? 1 : 2;
}

/* When the full handshake was that the chain of tickets began with goes along in each. */
static int
note_beginning(SSL *ssl, void *unused)
{
	SSL_SESSION *session = SSL_get_session(ssl);
	uint64_t began = (uint64_t)time(NULL);
	void *kept;
	size_t len;

	(void)unused;
	if (SSL_session_reused(ssl) && SSL_SESSION_get0_ticket_appdata(session, &kept, &len) == 1 && len == sizeof(began))
		return 1;
	return SSL_SESSION_set1_ticket_appdata(session, &began, sizeof(began));
}

static SSL_TICKET_RETURN
check_beginning(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t name_len, SSL_TICKET_STATUS status, void *unused)
{
	uint64_t began, now = (uint64_t)time(NULL);
	void *kept;
	size_t len;

	(void)name;
	(void)name_len;
	(void)unused;
	if ((status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) || session == NULL)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	if (SSL_SESSION_get0_ticket_appdata(session, &kept, &len) != 1 || len != sizeof(began))
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	memcpy(&began, kept, sizeof(began));
	if (now < began || now - began > CHAIN_SECONDS)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	/* RFC 8446, appendix C.4: a ticket that is used twice shows that it is the same client; so these throw theirs away. */
	return status == SSL_TICKET_SUCCESS && SSL_version(ssl) < TLS1_3_VERSION ? SSL_TICKET_RETURN_USE
	    : SSL_TICKET_RETURN_USE_RENEW;
}

void
tickets_prepare(SSL_CTX *ctx, const char *path)
{
	uint64_t last_hour = (uint64_t)time(NULL) / HOUR_SECONDS - 1;
	struct ticket_secret secret;
	int result = current_secret(path, &secret, last_hour);

	if (result == 0)
		result = derive_keys(&secret, &keys[1]);
	if (result == 0)
		result = tickets_advance(&secret, last_hour + 1) == -1 ? -1 : derive_keys(&secret, &keys[0]);
	explicit_bzero(&secret, sizeof(secret));
	if (result == 0 && (cipher_of_tickets = EVP_CIPHER_fetch(library, "AES-256-CBC", NULL)) == NULL)
		result = -1;
	SSL_CTX_set_num_tickets(ctx, result == 0 ? 1 : 0);
	if (result == -1) {
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		return;
	}
	SSL_CTX_set_timeout(ctx, LIFETIME_SECONDS);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_keys);
	SSL_CTX_set_session_ticket_cb(ctx, note_beginning, check_beginning, NULL);
}

void
tickets_forget(void)
{
	explicit_bzero(keys, sizeof(keys));
}
