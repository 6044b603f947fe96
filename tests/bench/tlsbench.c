/*
 * tlsbench: the benchmark's client of servers that speak TLS, and the least that such a server can be.
 *
 *	connect PORT MILLISECONDS full|resumed	connections one after the other: handshake, greeting, QUIT, the end
 *	retr PORT USER				one session with RETR 1
 *	serve FILE CERTIFICATE KEY		on descriptor 0: a greeting, +OK to every line, and for RETR the file's bytes and a dot:
 *						what copying over TLS costs without any mailbox
 *
 * Talks to 127.0.0.1 only, and checks no certificate: servers are measured, not clients.  Exit status 0, a line of JSON: measured;
 * 1, a line on standard error: the server did not do what was asked.
 */
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "popbench.h"
#include "stream.h"

#define LONGEST_SECONDS 300

/* The same work for all servers, whose order of preference differs. */
#define SUITES "TLS_AES_128_GCM_SHA256"

static char buf[256 * 1024];
static SSL_SESSION *newest;

static int
keep_session(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(newest);
	newest = session;
	return 1; /* it is ours now */
}

static SSL_CTX *
client_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 || SSL_CTX_set_ciphersuites(ctx, SUITES) != 1)
		fail("no context");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
	return ctx;
}

static SSL *
connect_tls(SSL_CTX *ctx, unsigned short port, bool resume)
{
	int fd = stream_connect(port);
	SSL *ssl = SSL_new(ctx);

	if (fd == -1 || ssl == NULL || SSL_set_fd(ssl, fd) != 1)
		fail("port %u: no connection", port);
	SSL_set_tlsext_host_name(ssl, "bench");
	if (resume && newest != NULL)
		SSL_set_session(ssl, newest);
	if (SSL_connect(ssl) != 1)
		fail("no handshake: %s", ERR_reason_error_string(ERR_peek_error()));
	return ssl;
}

static void
disconnect(SSL *ssl)
{
	int fd = SSL_get_fd(ssl);

	/* A connection without our own close_notify would spoil its session, and there is nobody to read one any more. */
	SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
	stream_reset(fd);
}

/* A line of +OK. */
static void
ok(SSL *ssl)
{
	size_t have = 0, n;

	while (have == 0 || buf[have - 1] != '\n') {
		if (SSL_read_ex(ssl, buf + have, 1, &n) != 1)
			fail("the server has gone");
		have++;
	}
	if (strncmp(buf, "+OK", 3) != 0)
		fail("the server says: %.*s", (int)have, buf);
}

static void
command(SSL *ssl, const char *text)
{
	size_t n;

	if (SSL_write_ex(ssl, text, strlen(text), &n) != 1)
		fail("the server has gone");
}

static int
connect_main(char **argv)
{
	unsigned short port = port_argument(argv[0]);
	double start, until = (double)number_argument(argv[1], 600000) * 1e3;
	bool resume = strcmp(argv[2], "resumed") == 0;
	unsigned long done = 0, resumed = 0;
	SSL_CTX *ctx = client_context();
	size_t n;
	SSL *ssl;

	for (start = now_us(), until += start; now_us() < until; done++) {
		ssl = connect_tls(ctx, port, resume);
		ok(ssl);
		resumed += (unsigned long)SSL_session_reused(ssl);
		command(ssl, "QUIT\r\n");
		ok(ssl);
		while (SSL_read_ex(ssl, buf, sizeof(buf), &n) == 1)
			continue;
		disconnect(ssl);
	}
	printf("{\"done\": %lu, \"resumed\": %lu, \"seconds\": %.6f}\n", done, resumed, (now_us() - start) / 1e6);
	return 0;
}

/* Octets up to and with the final dot. */
static uint64_t
skip_text(SSL *ssl)
{
	static const char end[] = "\r\n.\r\n";
	uint64_t octets = 0;
	size_t have = 0, n;

	for (;;) {
		if (SSL_read_ex(ssl, buf + have, sizeof(buf) - have, &n) != 1)
			fail("the server has gone in the middle of a message");
		octets += n;
		have += n;
		if (have >= 5 && memcmp(buf + have - 5, end, 5) == 0)
			return octets;
		if (have > sizeof(buf) / 2) {
			memmove(buf, buf + have - 5, 5);
			have = 5;
		}
	}
}

static int
retr_main(char **argv)
{
	SSL *ssl = connect_tls(client_context(), port_argument(argv[0]), false);
	char line[300];
	uint64_t octets;
	double start;

	ok(ssl);
	snprintf(line, sizeof(line), "USER %.200s\r\n", argv[1]);
	command(ssl, line);
	ok(ssl);
	command(ssl, "PASS " BENCH_PASSWORD "\r\n");
	ok(ssl);
	start = now_us();
	command(ssl, "RETR 1\r\n");
	ok(ssl);
	octets = skip_text(ssl);
	printf("{\"octets\": %llu, \"ms\": %.3f}\n", (unsigned long long)octets, (now_us() - start) / 1e3);
	command(ssl, "QUIT\r\n");
	ok(ssl);
	disconnect(ssl);
	return 0;
}

static void
write_file(SSL *ssl, const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t got;
	size_t n;

	if (fd == -1)
		fail("%s cannot be read", path);
	while ((got = read(fd, buf, sizeof(buf))) > 0)
		if (SSL_write_ex(ssl, buf, (size_t)got, &n) != 1)
			fail("the client has gone");
	close(fd);
	command(ssl, "\r\n.\r\n");
}

static int
serve_main(char **argv)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	size_t have = 0, n;
	SSL *ssl;

	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1 || (ssl = SSL_new(ctx)) == NULL)
		fail("no certificate");
	if (SSL_set_fd(ssl, 0) != 1 || SSL_accept(ssl) != 1)
		fail("no handshake");
	command(ssl, "+OK\r\n");
	while (have < sizeof(buf) && SSL_read_ex(ssl, buf + have, 1, &n) == 1) {
		if (buf[have++] != '\n')
			continue;
		have = 0;
		command(ssl, "+OK\r\n");
		if (strncmp(buf, "RETR", 4) == 0)
			write_file(ssl, argv[0]);
		if (strncmp(buf, "QUIT", 4) == 0)
			break;
	}
	SSL_shutdown(ssl);
	return 0;
}

int
main(int argc, char **argv)
{
	alarm(LONGEST_SECONDS);
	if (argc == 5 && strcmp(argv[1], "connect") == 0)
		return connect_main(argv + 2);
	if (argc == 4 && strcmp(argv[1], "retr") == 0)
		return retr_main(argv + 2);
	if (argc == 5 && strcmp(argv[1], "serve") == 0)
		return serve_main(argv + 2);
	fail("connect PORT MILLISECONDS full|resumed | retr PORT USER | serve FILE CERTIFICATE KEY");
}
