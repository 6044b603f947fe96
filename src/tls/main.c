/*
 * postern-tls: between a client and its session, for one connection.  Runs as the service user, is not setuid, and is started by
 * the monitor when the session first asks for it (common/tunnel.h).  The only process that ever holds a private key, and only until
 * the handshake is done.
 *
 * This file is the start-up, in its order: files are read, the sandbox is put up, then the client's descriptors arrive.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "common/tunnel.h"
#include "tls/library.h"
#include "tls/pairs.h"
#include "tls/policy.h"
#include "tls/relay.h"
#include "tls/sandbox.h"
#include "tls/tickets.h"

static struct {
	struct pair pairs[PAIRS_MAX];
	int count;
} certificates;

static void __attribute__((noreturn))
give_up(const char *what)
{
	log_note(LOG_ERR, "gives-up error=\"%s\" reason=\"%s\"", what, strerror(errno));
	_exit(1);
}

/* The monitor has seen to descriptors 0 to 3; a core file or a debugger would have the key. */
static void
fix_process(void)
{
	if (syscall(SYS_close_range, TUNNEL_TLS_END + 1, ~0U, 0) == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == -1)
		give_up("start");
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	/* When the machine goes down the session is told too; what it has to say still has to reach the client. */
	signal(SIGTERM, SIG_IGN);
}

/* The server name is known only now. */
static int
choose_certificate(SSL *ssl, void *unused)
{
	(void)unused;
	return pairs_choose(certificates.pairs, certificates.count, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), ssl) == 0;
}

static void
tell_ready(void)
{
	const char ready = TUNNEL_READY;

	if (send(TUNNEL_TLS_END, &ready, 1, MSG_NOSIGNAL) != 1)
		_exit(0); /* the session waits no more */
}

/* An octet with as many descriptors as wanted (2 at most).  0, or -1 when it is another, or the session is gone. */
static int
receive(char wanted, int *fds, int count)
{
	char got = 0;
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec iov = { &got, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room) };
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(TUNNEL_TLS_END, &msg, MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n != 1 || got != wanted)
		return -1;
	if (count == 0)
		return 0;
	c = CMSG_FIRSTHDR(&msg);
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN((size_t)count * sizeof(int)))
		return -1;
	memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
	return 0;
}

static SSL *
prepare(char **argv)
{
	SSL_CTX *ctx;
	SSL *ssl;

	if ((ctx = policy_context(argv[3])) == NULL || (ssl = SSL_new(ctx)) == NULL)
		give_up("OpenSSL gives no context");
	if ((certificates.count = pairs_read(argv[1], argv[2], certificates.pairs, ssl)) == 0)
		_exit(0); /* the log has a line about each */
	ERR_clear_error();
	SSL_free(ssl);
	tickets_prepare(ctx, argv[4]);
	SSL_CTX_set_cert_cb(ctx, choose_certificate, NULL);
	if ((ssl = SSL_new(ctx)) == NULL)
		give_up("OpenSSL gives no connection");
	SSL_CTX_free(ctx); /* ssl keeps it */
	return ssl;
}

/* A key that is not there can't be stolen: neither TLS 1.2 without renegotiation nor 1.3 has a use for it after the handshake. */
static void
forget_keys(SSL *ssl)
{
	SSL_certs_clear(ssl);
	pairs_free(certificates.pairs, certificates.count);
	certificates.count = 0;
	tickets_forget();
}

int
main(int argc, char **argv)
{
	int client[2];
	SSL *ssl;

	if (argc != 5)
		_exit(2);
	fix_process();
	if (receive(TUNNEL_ASK, NULL, 0) == -1)
		_exit(0);
	if (library_start() == NULL)
		give_up("OpenSSL does not start");
	ssl = prepare(argv);
	if (tls_sandbox() == -1)
		give_up("sandbox");
	tell_ready();
	if (receive(TUNNEL_BEGIN, client, 2) == -1)
		_exit(0); /* the client has gone before the answer to STLS */
	/* They are ours alone by now; only the flag matters, the way they were opened stays. */
	if (fcntl(client[0], F_SETFL, O_NONBLOCK) == -1 || fcntl(client[1], F_SETFL, O_NONBLOCK) == -1 ||
	    SSL_set_rfd(ssl, client[0]) != 1 || SSL_set_wfd(ssl, client[1]) != 1)
		give_up("the client's descriptors");
	if (relay_handshake(ssl, client[0], client[1], TUNNEL_TLS_END) == -1)
		_exit(0);
	forget_keys(ssl);
	relay_run(ssl, client[0], client[1], TUNNEL_TLS_END);
	_exit(0);
}
