#include "session/helper_client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "common/text.h"
#include "session/records.h"

/* Messages per bitmap message: half of WIRE_BYTES. */
#define BITMAP_BYTES (WIRE_BYTES / 2)

static struct wire_msg msg;

/* Messages of a Maildir that came together, those from first to before end: open until others are wanted. */
static struct {
	int fds[WIRE_FDS];
	uint32_t first, end;
	uint32_t asked, asked_end;	/* what a request under way is for; 0: there is none */
	uint32_t before, run;		/* the message that was wanted last, and how many came one behind the other until then */
} hand;

/* The unique-ids that came last: that of message next is the next text in msg, and they end before message end. */
static struct {
	struct wire_msg msg;
	uint32_t next, end;
} ids;

enum answer {
	YES,	/* the answer that was expected; its fields are in msg */
	NO,	/* the other one that is allowed */
	OVER	/* the conversation has ended, and the session with it */
};

/* Ends a conversation with a helper that does not keep to it, or does not come back. */
static enum answer
over(struct session *s)
{
	wire_close_fds(&msg);
	if (s->helper != -1)
		close(s->helper);
	s->helper = -1;
	s->tally->end = END_HELPER;
	return OVER;
}

/*
 * Whether an answer comes in time.  The helper has limits of its own, and these are wider; but it runs as the mailbox's owner,
 * who can stop it.
 */
static bool
answer_comes(const struct session *s, unsigned long seconds)
{
	int64_t until = client_clock() + (int64_t)seconds * 1000, left;
	struct pollfd p = { .fd = s->helper, .events = POLLIN };
	int n;

	do {
		left = until - client_clock();
		n = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (n == -1 && errno == EINTR);
	return n == 1;
}

/* What any request but LOGIN may take: an mbox's locks, and a big mailbox on a slow disk. */
static unsigned long
patience(const struct session *s)
{
	return s->settings->lock_timeout + s->settings->idle_timeout;
}

/* The next answer.  A helper that gave up has sent its answer first, so it need not be there any more. */
static enum answer
hear(struct session *s, enum wire_type yes, enum wire_type no, unsigned long seconds)
{
	if (s->helper == -1 || !answer_comes(s, seconds) || wire_recv(s->helper, &msg) != 1)
		return over(s);
	if (msg.type == yes)
		return YES;
	return msg.type == no && msg.nfds == 0 ? NO : over(s);
}

static void
drop_hand(void)
{
	close_all(hand.fds, (int)(hand.end - hand.first));
	hand.end = hand.first;
}

/* The answer that was asked for ahead and is not wanted now.  0 or -1. */
static int
drop_asked(struct session *s)
{
	static struct wire_msg late;

	if (hand.asked == 0)
		return 0;
	drop_hand(); /* before the late one comes, so that never more are open than come together */
	hand.asked = 0;
	if (s->helper == -1 || !answer_comes(s, patience(s)) || wire_recv(s->helper, &late) != 1)
		return -1;
	wire_close_fds(&late);
	return 0;
}

static int
send_request(struct session *s)
{
	int sent = s->helper != -1 ? wire_send(s->helper, &msg) : -1;

	explicit_bzero(msg.data, msg.len); /* LOGIN's password */
	msg.nfds = 0;
	return s->helper == -1 || (sent == -1 && errno != EPIPE && errno != ECONNRESET) ? -1 : 0;
}

/* Sends msg and waits for the answer. */
static enum answer
ask(struct session *s, enum wire_type yes, enum wire_type no, unsigned long seconds)
{
	if (drop_asked(s) == -1 || send_request(s) == -1)
		return over(s);
	return hear(s, yes, no, seconds);
}

static int
get_file_state(struct wire_msg *m, struct file_state *state)
{
	uint64_t v[5];
	int i;

	for (i = 0; i < 5; i++)
		if (wire_get_u64(m, &v[i]) == -1)
			return -1;
	*state = (struct file_state){ v[0], (int64_t)v[1], (int64_t)v[2], (int64_t)v[3], (int64_t)v[4] };
	return 0;
}

int
file_state_now(int fd, struct file_state *state)
{
	struct stat st;

#if defined(__x86_64__) || defined(__aarch64__) /* elsewhere the call may have a structure of its own */
	if (syscall(SYS_fstat, fd, &st) == -1)
		return -1;
#else
	if (fstat(fd, &st) == -1)
		return -1;
#endif
	*state = (struct file_state){ (uint64_t)st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ctim.tv_sec,
		st.st_ctim.tv_nsec };
	return 0;
}

bool
file_state_same(const struct file_state *a, const struct file_state *b)
{
	return a->size == b->size && a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec &&
	    a->ctime_sec == b->ctime_sec && a->ctime_nsec == b->ctime_nsec;
}

/* Fills the fields of TRANSACTION from WIRE_OPENED.  0 or -1. */
static int
take_maildrop(struct session *s)
{
	uint8_t kind;
	int taken;

	if (wire_get_u8(&msg, &kind) == -1 || (kind != KIND_MBOX && kind != KIND_MAILDIR) ||
	    wire_get_u32(&msg, &s->count) == -1 || wire_get_u32(&msg, &s->last) == -1 || s->last > s->count ||
	    s->count > MESSAGES_MAX || wire_get_u64(&msg, &s->octets) == -1 ||
	    (kind == KIND_MBOX && get_file_state(&msg, &s->seen) == -1))
		return -1;
	s->kind = (enum maildrop_kind)kind;
	s->last_at_login = s->last;
	s->tally->left = s->count;
	s->table = s->mbox = -1;
	if (msg.nfds != (s->count == 0 ? 0 : kind == KIND_MBOX ? 2 : 1))
		return -1;
	if (s->count == 0)
		return s->octets == 0 ? wire_get_end(&msg) : -1;
	taken = records_take(s, msg.fds[0]);
	msg.fds[0] = -1;
	if (taken == -1)
		return -1;
	if (kind == KIND_MBOX) {
		s->mbox = msg.fds[1];
		msg.fds[1] = -1;
	}
	if (wire_get_end(&msg) == -1)
		return -1;
	s->bitmap_bytes = (s->count + 7) / 8;
	s->deleted = mmap(NULL, 2 * s->bitmap_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->deleted == MAP_FAILED)
		return -1;
	s->read = s->deleted + s->bitmap_bytes;
	s->live = s->count;
	s->live_octets = s->octets;
	return 0;
}

struct login_answer
helper_login(struct session *s, const char *name, size_t name_len, const char *password, size_t password_len,
    enum login_mechanism mechanism)
{
	struct login_answer answer = { false, REFUSED_TEMPORARY, false };
	uint8_t why, again;

	memset(&hand, 0, sizeof(hand));
	ids.next = ids.end = 0;
	wire_start(&msg, WIRE_LOGIN);
	wire_put_text(&msg, name, name_len);
	wire_put_text(&msg, password, password_len);
	wire_put_u8(&msg, (uint8_t)mechanism);
	switch (ask(s, WIRE_OPENED, WIRE_REFUSED, LOGIN_SECONDS + s->settings->failure_delay + patience(s))) {
	case YES:
		answer.opened = take_maildrop(s) == 0;
		if (!answer.opened)
			over(s);
		break;
	case NO:
		if (wire_get_u8(&msg, &why) == -1 || wire_get_u8(&msg, &again) == -1 || wire_get_end(&msg) == -1 ||
		    why < REFUSED_AUTH || why > REFUSED_IN_USE) {
			over(s);
			break;
		}
		answer.refusal = why;
		answer.again = again != 0;
		break;
	case OVER:
		break;
	}
	return answer;
}

/* Asks for message n and those behind it, count of them as far as there are so many.  0 or -1. */
static int
ask_for(struct session *s, uint32_t n, uint32_t count)
{
	if (count > s->count - n + 1)
		count = s->count - n + 1;
	wire_start(&msg, WIRE_MESSAGES);
	wire_put_u32(&msg, n);
	wire_put_u32(&msg, count);
	hand.asked = n;
	hand.asked_end = n + count;
	return send_request(s);
}

/* Takes the descriptors that are in msg.  -1 when they are not what was asked for. */
static int
take_files(uint32_t n)
{
	uint32_t which, end = n + (uint32_t)msg.nfds;
	int i;

	if (wire_get_u32(&msg, &which) == -1 || which != n || msg.nfds == 0 || end > hand.asked_end)
		return -1;
	for (i = 0; i < msg.nfds; i++) {
		hand.fds[i] = msg.fds[i];
		msg.fds[i] = -1;
	}
	hand.first = n;
	hand.end = end;
	return wire_get_end(&msg);
}

/* Fills the hand from message n on.  False if that one is gone, or the session is over. */
static bool
fill_hand(struct session *s, uint32_t n, uint32_t count)
{
	if (hand.asked != n && (drop_asked(s) == -1 || ask_for(s, n, count) == -1)) {
		over(s);
		return false;
	}
	drop_hand(); /* while the helper opens the next ones */
	if (hear(s, WIRE_FILES, WIRE_GONE, patience(s)) != YES) {
		hand.asked = 0;
		return false;
	}
	if (take_files(n) == -1) {
		over(s);
		return false;
	}
	hand.asked = 0;
	return true;
}

int
helper_message(struct session *s, uint32_t n)
{
	bool hurry = client_has_more(&s->client), upwards;

	hand.run = n == hand.before + 1 ? hand.run + 1 : 0;
	hand.before = n;
	upwards = hand.run > 1 || (hand.run == 1 && hurry);
	if ((n < hand.first || n >= hand.end) && !fill_hand(s, n, upwards ? WIRE_FDS : 1))
		return -1;
	/* For a client that does not wait for answers the helper opens the next ones while we send these. */
	if (upwards && hurry && hand.asked == 0 && hand.end <= s->count && ask_for(s, hand.end, WIRE_FDS) == -1)
		hand.asked = 0;
	return hand.fds[n - hand.first];
}

int
helper_at_hand(uint32_t n)
{
	return n >= hand.first && n < hand.end ? hand.fds[n - hand.first] : -1;
}

bool
helper_verify(struct session *s)
{
	struct file_state now;

	wire_start(&msg, WIRE_VERIFY);
	if (ask(s, WIRE_VERIFIED, WIRE_GONE, patience(s)) != YES)
		return false;
	if (get_file_state(&msg, &now) == -1 || wire_get_end(&msg) == -1) {
		over(s);
		return false;
	}
	s->seen = now;
	return true;
}

/* Keeps the ids that are in msg.  -1 when they are not what was asked for. */
static int
take_ids(const struct session *s, uint32_t first)
{
	const char *id;
	uint32_t n;
	size_t len;

	if (wire_get_u32(&msg, &n) == -1 || n != first)
		return -1;
	ids.msg = msg;
	for (; msg.pos < msg.len; n++)
		if (n > s->count || wire_get_text(&msg, &id, &len) == -1 || !unique_id_possible(id, len))
			return -1;
	if (n == first || wire_get_end(&msg) == -1)
		return -1;
	ids.next = first;
	ids.end = n;
	return 0;
}

static bool
keep_ids(struct session *s, uint32_t first, enum answer answer)
{
	if (answer != YES)
		return false;
	if (take_ids(s, first) == 0)
		return true;
	over(s);
	return false;
}

static bool
ask_for_ids(struct session *s, uint32_t first, bool all)
{
	ids.next = ids.end = 0;
	wire_start(&msg, WIRE_UNIQUE_IDS);
	wire_put_u32(&msg, first);
	wire_put_u8(&msg, all);
	return keep_ids(s, first, ask(s, WIRE_IDS, WIRE_GONE, patience(s)));
}

bool
helper_all_ids(struct session *s)
{
	return ask_for_ids(s, 1, true);
}

bool
helper_next_id(struct session *s, const char **id, size_t *len)
{
	if (ids.next == ids.end && !keep_ids(s, ids.end, hear(s, WIRE_IDS, WIRE_GONE, patience(s))))
		return false;
	ids.next++;
	return wire_get_text(&ids.msg, id, len) == 0;
}

/* A client that asks for one after the other finds most of them here. */
bool
helper_id(struct session *s, uint32_t n, const char **id, size_t *len)
{
	if ((n < ids.next || n >= ids.end) && !ask_for_ids(s, n, false))
		return false;
	while (ids.next < n)
		if (!helper_next_id(s, id, len))
			return false;
	return helper_next_id(s, id, len);
}

static bool
all_zero(const unsigned char *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* The marked messages, a piece of the bitmap at a time; pieces without a mark are left out. */
static int
send_bitmap(struct session *s, enum wire_type type, const unsigned char *bitmap)
{
	size_t at, len;

	for (at = 0; at < s->bitmap_bytes; at += len) {
		len = s->bitmap_bytes - at < BITMAP_BYTES ? s->bitmap_bytes - at : BITMAP_BYTES;
		if (all_zero(bitmap + at, len))
			continue;
		wire_start(&msg, type);
		wire_put_u32(&msg, (uint32_t)(at * 8 + 1));
		wire_put_text(&msg, bitmap + at, len);
		if (wire_send(s->helper, &msg) == -1)
			return -1;
	}
	return 0;
}

bool
helper_update(struct session *s)
{
	uint8_t durable;
	uint32_t removed, left;

	drop_hand(); /* files that are to be removed, too */
	if (send_bitmap(s, WIRE_DELETED, s->deleted) == -1 || send_bitmap(s, WIRE_READ, s->read) == -1) {
		over(s);
		return false;
	}
	wire_start(&msg, WIRE_UPDATE);
	wire_put_u32(&msg, s->last);
	if (ask(s, WIRE_UPDATED, WIRE_UPDATED, patience(s)) != YES)
		return false;
	if (wire_get_u8(&msg, &durable) == -1 || wire_get_u32(&msg, &removed) == -1 ||
	    wire_get_u32(&msg, &left) == -1 || wire_get_end(&msg) == -1) {
		over(s);
		return false;
	}
	s->tally->deleted = removed;
	s->tally->left = left;
	return durable == 1;
}
