#include "common/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ioutil.h"

void
wire_start(struct wire_msg *m, enum wire_type type)
{
	m->type = (uint8_t)type;
	m->len = m->pos = 0;
	m->nfds = 0;
}

static int
put(struct wire_msg *m, const void *p, size_t len)
{
	if (len > sizeof(m->data) - m->len) {
		errno = EMSGSIZE;
		return -1;
	}
	if (len > 0)
		memcpy(m->data + m->len, p, len);
	m->len += len;
	return 0;
}

int
wire_put_u8(struct wire_msg *m, uint8_t value)
{
	return put(m, &value, sizeof(value));
}

int
wire_put_u32(struct wire_msg *m, uint32_t value)
{
	return put(m, &value, sizeof(value));
}

int
wire_put_u64(struct wire_msg *m, uint64_t value)
{
	return put(m, &value, sizeof(value));
}

int
wire_put_text(struct wire_msg *m, const void *text, size_t len)
{
	if (len > WIRE_BYTES || m->len + sizeof(uint32_t) + len > sizeof(m->data)) {
		errno = EMSGSIZE;
		return -1;
	}
	return wire_put_u32(m, (uint32_t)len) == -1 ? -1 : put(m, text, len);
}

int
wire_put_fd(struct wire_msg *m, int fd)
{
	if (m->nfds == WIRE_FDS) {
		errno = EMSGSIZE;
		return -1;
	}
	m->fds[m->nfds++] = fd;
	return 0;
}

/* Room for the descriptors of one message, aligned as CMSG_FIRSTHDR needs it. */
union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * WIRE_FDS)];
};

int
wire_send(int sock, const struct wire_msg *m)
{
	struct wire_msg *unconst = (struct wire_msg *)(uintptr_t)m; /* iovec has no const */
	struct iovec iov[2] = { { &unconst->type, sizeof(m->type) }, { unconst->data, m->len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t bytes = sizeof(int) * (size_t)m->nfds;
	union control control;
	struct cmsghdr *c;
	ssize_t n;

	if (m->nfds > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.room;
		msg.msg_controllen = (socklen_t)CMSG_SPACE(bytes); /* POSIX's type, glibc has another */
		c = &control.align;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = (socklen_t)CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), m->fds, bytes);
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	return n == -1 ? -1 : 0;
}

static void
take_fds(struct wire_msg *m, struct msghdr *msg)
{
	struct cmsghdr *c;
	size_t i, n;
	int fd;

	for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (m->nfds < WIRE_FDS)
				m->fds[m->nfds++] = fd;
			else
				close(fd);
		}
	}
}

int
wire_recv(int sock, struct wire_msg *m)
{
	struct iovec iov[2] = { { &m->type, sizeof(m->type) }, { m->data, sizeof(m->data) } };
	union control control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	ssize_t n;

	m->len = m->pos = 0;
	m->nfds = 0;
	/* A peer that closed with something unread is told once as ECONNRESET, before what it had sent. */
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n == -1 && (errno == EINTR || errno == ECONNRESET));
	if (n == -1)
		return -1;
	take_fds(m, &msg);
	if (n == 0 && m->nfds == 0)
		return 0;
	if (n == 0 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		wire_close_fds(m);
		errno = EPROTO;
		return -1;
	}
	m->len = (size_t)n - sizeof(m->type);
	return 1;
}

static int
get(struct wire_msg *m, void *p, size_t len)
{
	if (len > m->len - m->pos)
		return -1;
	memcpy(p, m->data + m->pos, len);
	m->pos += len;
	return 0;
}

int
wire_get_u8(struct wire_msg *m, uint8_t *value)
{
	return get(m, value, sizeof(*value));
}

int
wire_get_u32(struct wire_msg *m, uint32_t *value)
{
	return get(m, value, sizeof(*value));
}

int
wire_get_u64(struct wire_msg *m, uint64_t *value)
{
	return get(m, value, sizeof(*value));
}

int
wire_get_text(struct wire_msg *m, const char **text, size_t *len)
{
	uint32_t n;

	if (wire_get_u32(m, &n) == -1 || n > m->len - m->pos)
		return -1;
	*text = (const char *)m->data + m->pos;
	*len = n;
	m->pos += n;
	return 0;
}

int
wire_get_string(struct wire_msg *m, char *out, size_t size)
{
	const char *text;
	size_t len;

	if (wire_get_text(m, &text, &len) == -1 || len >= size || memchr(text, '\0', len) != NULL)
		return -1;
	memcpy(out, text, len);
	out[len] = '\0';
	return 0;
}

int
wire_get_end(const struct wire_msg *m)
{
	int i;

	for (i = 0; i < m->nfds; i++)
		if (m->fds[i] != -1)
			return -1;
	return m->pos == m->len ? 0 : -1;
}

bool
wire_peer_is_root(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == 0;
}

void
wire_close_fds(struct wire_msg *m)
{
	close_all(m->fds, m->nfds);
	m->nfds = 0;
}
