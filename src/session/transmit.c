#include "session/transmit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "common/ioutil.h"
#include "session/client.h"
#include "session/helper_client.h"
#include "session/records.h"
#include "session/reply.h"
#include "session/stuffing.h"

/*
 * The part of the maildrop that was read last.  In an mbox it reaches past the message at hand, so that a client that
 * fetches one message after the other finds the next ones here; they were checked when they were read.
 */
#define WINDOW_BYTES (256 * 1024)

static char window[WINDOW_BYTES];

/* The next message is the one in sequence if it starts this close behind the last: a From_ line is in between. */
#define FROM_LINE_BYTES 1024

/* A delivery takes longer than a look at the mailbox: that it happens so often between two of them is no chance. */
#define VERIFICATIONS 50

/* What the window holds. */
static uint64_t window_start, window_end;

/* The message of a Maildir that was read whole at one time, so that it may be sent at another; 0: none. */
static uint32_t window_message;

/* Reads on over EINTR and short counts; fewer than len bytes only at the end of the file.  The count, or -1. */
static ssize_t
read_at(int fd, char *buf, size_t len, uint64_t offset)
{
	size_t have = 0;
	ssize_t n;

	while (have < len) {
		n = pread(fd, buf + have, len - have, (off_t)(offset + have));
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

/*
 * Whether the mbox is still the file of the records, asked after each read and before any of it is sent: no lock is held,
 * and another program may have moved its messages about in the meantime.
 */
static bool
unchanged(struct session *s)
{
	struct file_state now;

	return file_state_now(s->mbox, &now) == 0 && file_state_same(&now, &s->seen);
}

/* Fills the window from offset on with at least want bytes (at most WINDOW_BYTES).  0 or -1. */
static int
fill(struct session *s, int fd, uint64_t offset, size_t want)
{
	bool goes_on = offset >= window_start && offset < window_end + FROM_LINE_BYTES;
	size_t len = s->kind == KIND_MBOX && goes_on ? WINDOW_BYTES : want;
	int tries = 0;
	ssize_t n;

	window_start = window_end = 0;
	for (;;) {
		n = s->changed ? -1 : read_at(fd, window, len, offset);
		if (n < (ssize_t)want)
			return -1;
		if (s->kind != KIND_MBOX || unchanged(s))
			break;
		/* Most likely mail has come, and while it pours in, more of it since the helper has looked. */
		s->changed = tries++ == VERIFICATIONS || !helper_verify(s);
	}
	window_start = offset;
	window_end = offset + (uint64_t)n;
	return 0;
}

/*
 * What stands in the file from offset on, bytes long, from position pos of it on: *len bytes (at most what the window takes), or NULL.
 */
static const char *
bytes_at(struct session *s, int fd, uint64_t bytes, uint64_t offset, uint64_t pos, size_t *len)
{
	uint64_t at = offset + pos, left = bytes - pos;

	*len = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
	if (at >= window_start && at < window_end && (pos > 0 || at + *len <= window_end)) {
		if (at + *len > window_end)
			*len = (size_t)(window_end - at);
		return window + (at - window_start);
	}
	return fill(s, fd, at, *len) == -1 ? NULL : window + (at - window_start);
}

/* Whether these are a line's end, an empty line and the From_ line of the next message. */
static bool
is_seam(const char *p, size_t len)
{
	size_t empty = p[1] == '\r' ? 2 : 1;

	return len > 1 + empty + 5 && p[0] == '\n' && p[empty] == '\n' && memcmp(p + 1 + empty, "From ", 5) == 0;
}

/* read: how much is read at once, at least the message. */
static bool
begins_there(struct session *s, const struct record *r, uint64_t read)
{
	size_t len;
	const char *p = bytes_at(s, s->mbox, read, r->offset, 0, &len);

	return p != NULL && fingerprint(p, r->bytes) == r->fingerprint;
}

static bool
ends_there(struct session *s, const struct record *r, uint64_t seam)
{
	size_t len;
	const char *p = seam > 0 ? bytes_at(s, s->mbox, 1 + seam, r->offset + r->bytes - 1, 0, &len) : NULL;

	return seam == 0 || (p != NULL && is_seam(p, len));
}

/* The helper looks at all of it, once: the next session must not be told the same. */
static void
report_wrong_record(struct session *s)
{
	if (!s->changed)
		s->changed = !helper_verify(s);
}

/* There is nothing to know an empty message by. */
static bool
all_is_there(struct session *s)
{
	report_wrong_record(s);
	return !s->changed;
}

/*
 * Whether a message of an mbox is where its record says, and ends where the next one begins (the last one was read at the login).
 * Records of a mailbox that has only grown may be from an earlier session; other programs may have rewritten header fields since, in
 * each other's padding.
 */
static bool
is_there(struct session *s, uint32_t n, const struct record *r)
{
	uint64_t seam = n < s->count ? record_of(s, n + 1)->offset - (r->offset + r->bytes) : 0;

	if (n < s->count && (seam == 0 || seam > FROM_LINE_BYTES))
		return false;
	if (r->bytes == 0)
		return all_is_there(s);
	if (r->bytes <= WINDOW_BYTES - seam)
		return begins_there(s, r, r->bytes + seam) && ends_there(s, r, seam);
	return ends_there(s, r, seam) && begins_there(s, r, r->bytes); /* so that the window has the beginning, which is sent next */
}

/* Converts a piece into the client's buffer, as much at a time as there is room for. */
static void
put_stuffed(struct client *c, struct stuffing *st, const char *p, size_t len)
{
	size_t piece;

	while (len > 0 && !c->gone) {
		if (client_free(c) < 4096)
			client_flush(c);
		piece = client_free(c) / STUFFING_GROWTH;
		if (piece > len)
			piece = len;
		client_wrote(c, stuff(st, p, piece, client_room(c, STUFFING_GROWTH * piece)));
		p += piece;
		len -= piece;
	}
}

static void
put_end(struct client *c, struct stuffing *st)
{
	client_wrote(c, stuff_end(st, client_room(c, STUFFING_END)));
	client_put(c, ".\r\n", 3);
}

/* The message from its descriptor.  Its first piece is read before "+OK" is said. */
static enum sent
send_message(struct session *s, int fd, const struct record *r, const char *status, uint64_t lines)
{
	struct stuffing st = { 0 };
	struct top top = { .lines = lines };
	uint64_t pos = 0;
	const char *p = NULL;
	size_t len, part;

	do {
		len = 0;
		if (r->bytes > 0 && (p = bytes_at(s, fd, r->bytes, r->offset, pos, &len)) == NULL)
			return pos == 0 ? SENT_NOTHING : SENT_TORN;
		if (pos == 0)
			reply(s, status);
		part = lines == TRANSMIT_ALL ? len : top_part(&top, p, len);
		put_stuffed(&s->client, &st, p, part);
		pos += part;
	} while (part == len && pos < r->bytes && !s->client.gone);
	if (pos == r->bytes && !s->client.gone && st.octets + (st.in_line ? STUFFING_END : 0) != r->octets) {
		if (s->kind == KIND_MBOX)
			report_wrong_record(s);
		return SENT_TORN;
	}
	put_end(&s->client, &st);
	return s->client.gone ? SENT_TORN : SENT_ALL;
}

/*
 * A client that fetches one message after the other, and waits for each, takes its time to ask for the next: that one is read
 * meanwhile, if all of it fits.
 */
static void
read_ahead(struct session *s, uint32_t n)
{
	int fd = helper_at_hand(n);
	const struct record *r;

	if (fd == -1 || (r = record_of(s, n))->bytes > WINDOW_BYTES)
		return;
	window_message = 0;
	window_start = 0;
	window_end = r->bytes;
	if (pread_full(fd, window, (size_t)r->bytes, 0) == IO_DONE)
		window_message = n;
}

enum sent
transmit(struct session *s, uint32_t n, const char *status, uint64_t lines)
{
	const struct record r = *record_of(s, n);
	enum sent sent;
	int fd;

	if (s->kind == KIND_MBOX) {
		if (is_there(s, n, &r))
			return send_message(s, s->mbox, &r, status, lines);
		report_wrong_record(s);
		return SENT_NOTHING;
	}
	if ((fd = helper_message(s, n)) == -1)
		return SENT_NOTHING;
	if (window_message != n)
		window_start = window_end = 0;
	window_message = r.bytes <= WINDOW_BYTES ? n : 0;
	sent = send_message(s, fd, &r, status, lines);
	if (sent == SENT_ALL && !client_has_more(&s->client)) {
		client_flush(&s->client);
		read_ahead(s, n + 1);
	}
	return sent;
}
