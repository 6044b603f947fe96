#include "session/tunnel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/tunnel.h"

/* RFC 8446, section 6: a record with the fatal alert internal_error, as any version of TLS understands it. */
static const char internal_error[] = { 0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x50 };

static void
tunnel_close(struct session *s)
{
	close(s->tunnel);
	s->tunnel = -1;
}

bool
tunnel_ready(struct session *s)
{
	const char ask = TUNNEL_ASK;
	char answer = 0;

	if (s->tunnel == -1)
		return false;
	if (send(s->tunnel, &ask, 1, MSG_NOSIGNAL) == 1 && client_wait(s->tunnel, s->login_deadline) == 1 &&
	    read(s->tunnel, &answer, 1) == 1 && answer == TUNNEL_READY)
		return true;
	tunnel_close(s);
	return false;
}

/* One octet with the client's descriptors.  0 or -1. */
static int
send_client(const struct session *s)
{
	char begin = TUNNEL_BEGIN;
	const int fds[2] = { s->client.in, s->client.out };
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(fds))];
	} control;
	struct iovec iov = { &begin, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	struct cmsghdr *c;

	memset(&control, 0, sizeof(control));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	return sendmsg(s->tunnel, &msg, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

void
tunnel_begin(struct session *s)
{
	if (send_client(s) == -1) {
		s->client.gone = END_TLS;
		return;
	}
	client_replace(&s->client, s->tunnel);
	s->tunnel = -1;
	s->encrypted = true;
}

void
tunnel_only(struct session *s)
{
	if (tunnel_ready(s)) {
		tunnel_begin(s);
		return;
	}
	client_put(&s->client, internal_error, sizeof(internal_error));
	client_flush(&s->client);
	s->client.gone = END_TLS;
}
