#include "tls/pairs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/logrecord.h"
#include "common/tls_files.h"
#include "tls/library.h"

/* A chain of certificates has a few kilobytes, a key less. */
#define FILE_BYTES 65536
#define GROUPS_MAX 64

static int
bad(const char *path, const char *error)
{
	log_note(LOG_ERR, "certificate file=\"%s\" error=\"%s\"", path, error);
	return -1;
}

/* Whether the members of group are the service user, whoever else is in its groups by the administrator's will, and root. */
static bool
own_group(gid_t group)
{
	gid_t groups[GROUPS_MAX];
	int i, n = getgroups(GROUPS_MAX, groups);

	if (group == 0 || group == getegid())
		return true;
	for (i = 0; i < n; i++)
		if (groups[i] == group)
			return true;
	return false;
}

static int
check_secret(const char *path, int fd, const struct stat *st)
{
	(void)fd;
	if ((st->st_mode & S_IRWXO) != 0)
		return bad(path, "the key can be read or written by everybody: chmod o= the file");
	if ((st->st_mode & S_IRWXG) != 0 && !own_group(st->st_gid))
		return bad(path, "the key can be read or written by a group that " SERVICE_USER " is not in: chmod g= or chgrp the file");
	return 0;
}

/* The file's bytes, in a memory BIO over buf; NULL when it is not what it should be, which is logged then. */
static BIO *
read_file(const char *path, bool secret, char buf[FILE_BYTES])
{
	int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	BIO *bio = NULL;

	if (fd == -1 || fstat(fd, &st) == -1) {
		bad(path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		bad(path, "not a regular file");
	} else if (!secret || check_secret(path, fd, &st) == 0) {
		if (st.st_size > FILE_BYTES)
			bad(path, "too long");
		else if (st.st_size == 0)
			bad(path, "empty");
		else if (pread_full(fd, buf, (size_t)st.st_size, 0) != IO_DONE)
			bad(path, "cannot be read");
		else
			bio = BIO_new_mem_buf(buf, (int)st.st_size);
	}
	if (fd != -1)
		close(fd);
	return bio;
}

static X509 *
next_certificate(BIO *bio)
{
	X509 *certificate = X509_new_ex(library, NULL);

	if (certificate != NULL && PEM_read_bio_X509(bio, &certificate, NULL, NULL) != NULL)
		return certificate;
	X509_free(certificate);
	return NULL;
}

static int
read_certificates(const char *path, struct pair *pair)
{
	char buf[FILE_BYTES];
	BIO *bio = read_file(path, false, buf);
	X509 *next;

	if (bio == NULL)
		return -1;
	pair->chain = sk_X509_new_null();
	pair->certificate = next_certificate(bio);
	while (pair->certificate != NULL && pair->chain != NULL && (next = next_certificate(bio)) != NULL)
		sk_X509_push(pair->chain, next);
	BIO_free(bio);
	explicit_bzero(buf, sizeof(buf)); /* the key may stand in the same file */
	return pair->certificate != NULL ? 0 : bad(path, "no certificate in it, or a broken one: PEM is what is wanted");
}

/* A pass phrase cannot be asked for: there is nobody to type it. */
static int
no_pass_phrase(char *buf, int size, int writing, void *asked)
{
	(void)buf;
	(void)size;
	(void)writing;
	*(bool *)asked = true;
	return -1;
}

static int
read_key(const char *path, struct pair *pair)
{
	char buf[FILE_BYTES];
	bool encrypted = false;
	BIO *bio = read_file(path, true, buf);

	if (bio == NULL)
		return -1;
	pair->key = PEM_read_bio_PrivateKey_ex(bio, NULL, no_pass_phrase, &encrypted, library, NULL);
	BIO_free(bio);
	explicit_bzero(buf, sizeof(buf));
	if (pair->key != NULL)
		return 0;
	return bad(path, encrypted ? "the key is encrypted: openssl pkey -in FILE writes it without the pass phrase"
	    : "no key in it, or a broken one: PEM is what is wanted");
}

/* Clients would refuse it, and say nothing that helps. */
static int
check_pair(const struct tls_files *files, const struct pair *pair, SSL *ssl)
{
	if (X509_check_private_key(pair->certificate, pair->key) != 1)
		return bad(files->key, "the key does not belong to the certificate: tls-certificate and tls-key need the same order");
	if (X509_cmp_current_time(X509_get0_notAfter(pair->certificate)) < 0)
		return bad(files->certificate, "the certificate has expired: renew it");
	if (X509_cmp_current_time(X509_get0_notBefore(pair->certificate)) > 0)
		return bad(files->certificate, "the certificate is not valid yet: look at the clock");
	if (SSL_use_cert_and_key(ssl, pair->certificate, pair->key, pair->chain, 1) != 1)
		return bad(files->certificate, "too weak: RSA keys need 2048 bits, elliptic curves 224, signatures SHA-256");
	return 0;
}

static void
free_pair(struct pair *pair)
{
	X509_free(pair->certificate);
	sk_X509_pop_free(pair->chain, X509_free);
	EVP_PKEY_free(pair->key);
	memset(pair, 0, sizeof(*pair));
}

static int
read_pair(const struct tls_files *files, struct pair *pair, SSL *ssl)
{
	memset(pair, 0, sizeof(*pair));
	if (files->error != NULL)
		return bad(files->certificate, files->error);
	if (read_certificates(files->certificate, pair) == 0 && read_key(files->key, pair) == 0 &&
	    check_pair(files, pair, ssl) == 0)
		return 0;
	free_pair(pair);
	return -1;
}

int
pairs_read(const char *certificates, const char *keys, struct pair pairs[PAIRS_MAX], SSL *ssl)
{
	struct tls_files files;
	int count = 0;

	tls_files_start(&files, certificates, keys, getenv("CREDENTIALS_DIRECTORY"));
	while (count < PAIRS_MAX && tls_files_next(&files))
		if (read_pair(&files, &pairs[count], ssl) == 0)
			count++;
	SSL_certs_clear(ssl);
	return count;
}

static int
use(const struct pair *pair, SSL *ssl)
{
	/* One of each kind of key: the first that is given stays. */
	return SSL_use_cert_and_key(ssl, pair->certificate, pair->key, pair->chain, 0) == 1 ? 0 : -1;
}

int
pairs_choose(const struct pair *pairs, int count, const char *name, SSL *ssl)
{
	int i, used = 0;

	for (i = 0; name != NULL && i < count; i++)
		if (X509_check_host(pairs[i].certificate, name, 0, 0, NULL) == 1 && use(&pairs[i], ssl) == 0)
			used++;
	return used > 0 ? 0 : use(&pairs[0], ssl);
}

void
pairs_free(struct pair *pairs, int count)
{
	while (count-- > 0)
		free_pair(&pairs[count]);
}
