#include "tls/relay.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/logrecord.h"

/* From the client: a record of TLS at most (RFC 8446, section 5.1), of which a POP3 client needs a hundredth. */
#define UP_BYTES (16 * 1024)

/* To the client: what a Unix socket holds; several records, so that the session can go on writing meanwhile. */
#define DOWN_BYTES (256 * 1024)

/*
 * Records are collected, and leave together: each by itself would cost a system call, and wake the client up for 16 kB.  Measured with
 * a message of 400 MB: a third more per second.
 */
#define COLLECTED_BYTES (128 * 1024)

/* Long enough for the client to answer our end with its own. */
#define LINGER_MILLISECONDS 1000

enum { IN, OUT, SESSION };

struct buffer {
	char *bytes;
	size_t size, start, end;	/* what is left stands in bytes[start..end) */
};

static struct {
	SSL *ssl;
	int fds[3];
	short seen[3];			/* by the last poll(2) */
	struct buffer up, down;
	bool client_ended;		/* nothing more comes from it, */
	bool session_told;		/* which the session knows */
	bool client_gone;		/* nothing can be sent to it either */
	bool session_ended;		/* all that it said is read */
	bool session_gone;		/* it reads nothing any more; something of what it said may be left */
	bool collected;			/* records wait in the BIO for others, or for room */
	bool write_wants_write;		/* the last SSL_write(3), or what sends them, found no room */
	bool read_wants_write;		/* so did an SSL_read(3): a key update has to be answered */
} now;

static char up_bytes[UP_BYTES], down_bytes[DOWN_BYTES];

static int64_t
clock_milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * Waits until one of the events, or deadline (0: without one): false then.  Events 0: not looked at.  The session's end is noticed in
 * any case, once.
 */
static bool
wait_for(short in, short out, short session, int64_t deadline)
{
	const short events[3] = { in, out, session };
	struct pollfd p[3];
	int64_t left = -1;
	int i, n;

	for (i = 0; i < 3; i++)
		p[i] = (struct pollfd){ .fd = events[i] != 0 ? now.fds[i] : -1, .events = events[i] };
	if (!now.session_gone)
		p[SESSION].fd = now.fds[SESSION];
	do {
		if (deadline != 0 && (left = deadline - clock_milliseconds()) <= 0)
			return false;
		n = poll(p, 3, (int)left);
	} while (n == -1 && errno == EINTR);
	for (i = 0; i < 3; i++)
		now.seen[i] = p[i].revents;
	if ((p[SESSION].revents & POLLHUP) != 0)
		now.session_gone = true;
	return n != 0;
}

static void
start(SSL *ssl, int in, int out, int session)
{
	now.ssl = ssl;
	now.fds[IN] = in;
	now.fds[OUT] = out;
	now.fds[SESSION] = session;
	now.up = (struct buffer){ up_bytes, sizeof(up_bytes), 0, 0 };
	now.down = (struct buffer){ down_bytes, sizeof(down_bytes), 0, 0 };
}

/* A moment for the client's own end: closing over what it still sends would be a reset, which takes our last words along. */
static void
end_connection(void)
{
	int64_t until = clock_milliseconds() + LINGER_MILLISECONDS;

	shutdown(now.fds[OUT], SHUT_WR);
	while (wait_for(POLLIN, 0, 0, until) && (now.seen[IN] == 0 || read(now.fds[IN], up_bytes, sizeof(up_bytes)) > 0))
		continue;
}

/* The reasons that say something about the client, in words; the rest are OpenSSL's numbers. */
static const struct {
	int reason;
	const char *words;
} reasons[] = {
	{ SSL_R_UNEXPECTED_EOF_WHILE_READING, "the client went away" },
	{ SSL_R_UNSUPPORTED_PROTOCOL, "the client's version of TLS is too old" },
	{ SSL_R_VERSION_TOO_LOW, "the client's version of TLS is too old" },
	{ SSL_R_NO_SHARED_CIPHER, "no cipher in common" },
	{ SSL_R_NO_SUITABLE_KEY_SHARE, "no group in common" },
	{ SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "no signature algorithm in common" },
	{ SSL_R_NO_APPLICATION_PROTOCOL, "the client wants another protocol than pop3" },
	{ SSL_R_HTTP_REQUEST, "HTTP, not TLS" },
	{ SSL_R_WRONG_VERSION_NUMBER, "not TLS" },
	{ SSL_R_TLSV1_ALERT_UNKNOWN_CA, "the client does not know who issued the certificate" },
	{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "the client refuses the certificate" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "the client refuses the certificate" },
	{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "the client takes the certificate for expired" },
	{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, "the client refuses the certificate" },
};

static void
log_failure(int error)
{
	unsigned long e = ERR_peek_error();
	size_t i;

	if (error == SSL_ERROR_SYSCALL || e == 0) {
		log_note(LOG_INFO, "handshake-failed error=\"%s\"", reasons[0].words);
		return;
	}
	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == reasons[i].reason) {
			log_note(LOG_INFO, "handshake-failed error=\"%s\"", reasons[i].words);
			return;
		}
	log_note(LOG_INFO, "handshake-failed error=\"OpenSSL's error %08lX\"", e);
}

/* The session's line in the log will have it. */
static void
log_connection(const char *end)
{
	const char *name = SSL_get_servername(now.ssl, TLSEXT_NAMETYPE_host_name);

	log_event(LOG_EVENT_TLS, LOG_INFO, name, name != NULL ? strnlen(name, 255) : 0, "%s %s %s%s", SSL_get_version(now.ssl),
	    SSL_CIPHER_get_name(SSL_get_current_cipher(now.ssl)), SSL_session_reused(now.ssl) ? "yes" : "no", end);
}

int
relay_handshake(SSL *ssl, int in, int out, int session)
{
	int64_t deadline = clock_milliseconds() + HANDSHAKE_SECONDS * 1000;
	int n, error;

	start(ssl, in, out, session);
	while ((n = SSL_accept(ssl)) != 1) {
		error = SSL_get_error(ssl, n);
		if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
			log_failure(error);
			end_connection();
			return -1;
		}
		if (!wait_for(error == SSL_ERROR_WANT_READ ? POLLIN : 0, error == SSL_ERROR_WANT_WRITE ? POLLOUT : 0, 0, deadline)) {
			log_note(LOG_INFO, "handshake-failed error=\"not done within %d s\"", HANDSHAKE_SECONDS);
			return -1;
		}
		if (now.session_gone)
			return -1; /* its login-timeout, or somebody has stopped it */
	}
	log_connection("");
	return 0;
}

static bool
is_empty(const struct buffer *b)
{
	return b->start == b->end;
}

/* The session must not wait for a client that takes nothing more; what the client has said before is still delivered. */
static void
lose_client(void)
{
	shutdown(now.fds[SESSION], SHUT_RD);
	now.client_ended = now.client_gone = true;
	now.down.start = now.down.end = 0;
	now.collected = false;
}

/*
 * The client's end of data is close_notify (RFC 8446, section 6.1).  Without it somebody in between may have cut the line: that ends
 * the session too, and no QUIT is taken from it, as none has come; but it is worth a word in the log.
 */
static void
end_of_client(int error)
{
	if (error == SSL_ERROR_ZERO_RETURN) {
		now.client_ended = true;
		return;
	}
	if (!now.session_ended)
		log_connection(" yes");
	lose_client();
}

static void
read_client(void)
{
	struct buffer *b = &now.up;
	size_t n;
	int error;

	now.read_wants_write = false;
	if (SSL_read_ex(now.ssl, b->bytes, b->size, &n) == 1) {
		b->start = 0;
		b->end = n;
		return;
	}
	error = SSL_get_error(now.ssl, 0);
	if (error == SSL_ERROR_WANT_WRITE)
		now.read_wants_write = true;
	else if (error != SSL_ERROR_WANT_READ)
		end_of_client(error);
}

/* All that the session has said so far. */
static void
send_collected(void)
{
	BIO *out = SSL_get_wbio(now.ssl);

	if (BIO_flush(out) == 1)
		now.collected = false;
	else if (BIO_should_retry(out))
		now.write_wants_write = true;
	else
		lose_client();
}

static void
write_client(void)
{
	struct buffer *b = &now.down;
	size_t n;
	int error;

	now.write_wants_write = false;
	while (!is_empty(b)) {
		if (SSL_write_ex(now.ssl, b->bytes + b->start, b->end - b->start, &n) == 1) {
			explicit_bzero(b->bytes + b->start, n); /* somebody's mail */
			b->start += n;
			now.collected = true;
			continue;
		}
		error = SSL_get_error(now.ssl, 0);
		if (error == SSL_ERROR_WANT_WRITE)
			now.write_wants_write = true;
		else if (error != SSL_ERROR_WANT_READ)
			lose_client();
		return;
	}
	send_collected();
}

static void
read_session(void)
{
	struct buffer *b = &now.down;
	ssize_t n = recv(now.fds[SESSION], b->bytes, b->size, MSG_DONTWAIT);

	if (n > 0) {
		b->start = 0;
		b->end = (size_t)n;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		now.session_ended = true;
	}
}

static void
write_session(void)
{
	struct buffer *b = &now.up;
	ssize_t n = send(now.fds[SESSION], b->bytes + b->start, b->end - b->start, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0) {
		explicit_bzero(b->bytes + b->start, (size_t)n); /* a password, perhaps */
		b->start += (size_t)n;
	} else if (errno != EAGAIN && errno != EINTR) {
		b->start = b->end; /* nobody reads it any more */
		now.client_ended = now.session_told = true;
	}
}

static bool
all_sent(void)
{
	return is_empty(&now.down) && !now.collected;
}

static bool
all_delivered(void)
{
	return (now.session_ended && all_sent()) || (now.client_gone && is_empty(&now.up));
}

/* Everything that can be done without waiting. */
static void
move(void)
{
	if (!now.client_ended && is_empty(&now.up) && (now.seen[IN] != 0 || (now.read_wants_write && now.seen[OUT] != 0)))
		read_client();
	if (!is_empty(&now.up))
		write_session();
	if (now.client_ended && is_empty(&now.up) && !now.session_told) {
		shutdown(now.fds[SESSION], SHUT_WR);
		now.session_told = true;
	}
	if (!now.session_ended && !now.client_gone && all_sent() && now.seen[SESSION] != 0)
		read_session();
	if (!all_sent())
		write_client();
}

/* What move() waits for; the session's own timeouts are the only ones as long as it is there. */
static bool
wait_for_more(int64_t deadline)
{
	short in = !now.client_ended && is_empty(&now.up) ? POLLIN : 0;
	short out = now.write_wants_write || now.read_wants_write ? POLLOUT : 0;
	short session = !is_empty(&now.up) ? POLLOUT : 0;

	if (!now.session_ended && !now.client_gone && all_sent())
		session |= POLLIN;
	return wait_for(in, out, session, deadline);
}

/* No more than without it when there is no memory. */
static void
collect_records(SSL *ssl)
{
	BIO *collect = BIO_new(BIO_f_buffer()), *out = SSL_get_wbio(ssl);

	if (collect == NULL || BIO_set_write_buffer_size(collect, COLLECTED_BYTES) != 1 || BIO_up_ref(out) != 1) {
		BIO_free(collect);
		return;
	}
	SSL_set0_wbio(ssl, BIO_push(collect, out));
}

void
relay_run(SSL *ssl, int in, int out, int session)
{
	size_t left = 0, left_before = 0;
	int64_t deadline = 0;

	start(ssl, in, out, session);
	collect_records(ssl);
	now.seen[IN] = now.seen[SESSION] = POLLIN;
	while (move(), !all_delivered()) {
		left = now.down.end - now.down.start + (size_t)BIO_wpending(SSL_get_wbio(ssl));
		if (now.session_gone && (deadline == 0 || left != left_before))
			deadline = clock_milliseconds() + STALL_SECONDS * 1000;
		left_before = left;
		if (!wait_for_more(deadline))
			break;
	}
	if (!now.client_gone) {
		SSL_shutdown(ssl);
		end_connection();
	}
	explicit_bzero(up_bytes, sizeof(up_bytes));
	explicit_bzero(down_bytes, sizeof(down_bytes));
}
