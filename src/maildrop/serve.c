/* Runs as the authenticated user.  Trusts nothing that comes over the socket. */
#include "maildrop/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "maildrop/keeper.h"
#include "maildrop/location.h"
#include "maildrop/maildrop.h"
#include "maildrop/sandbox.h"

static struct wire_msg msg;

/* What an answer to a request leads to. */
enum next { GO_ON, FINISHED, BROKEN, WITHHELD };

/*
 * WITHHELD: the sessions of this owner have not taken DESCRIPTORS_UNDER_WAY yet, or less where the limit is lower.  A session that has
 * gone away has FINISHED, as one that says nothing more.
 */
static enum next
say(int session)
{
	if (wire_send(session, &msg) == 0)
		return GO_ON;
	if (errno == EPIPE || errno == ECONNRESET)
		return FINISHED;
	if (errno != ETOOMANYREFS)
		return BROKEN;
	log_note(LOG_ERR, "descriptors error=\"%s\"", strerror(errno));
	return WITHHELD;
}

static enum next
say_gone(int session)
{
	wire_start(&msg, WIRE_GONE);
	return say(session);
}

static void
put_file_state(const struct file_state *state)
{
	wire_put_u64(&msg, state->size);
	wire_put_u64(&msg, (uint64_t)state->mtime_sec);
	wire_put_u64(&msg, (uint64_t)state->mtime_nsec);
	wire_put_u64(&msg, (uint64_t)state->ctime_sec);
	wire_put_u64(&msg, (uint64_t)state->ctime_nsec);
}

static enum next
say_opened(struct maildrop *md, int session)
{
	wire_start(&msg, WIRE_OPENED);
	wire_put_u8(&msg, (uint8_t)md->plan->kind);
	wire_put_u32(&msg, md->count);
	wire_put_u32(&msg, md->last);
	wire_put_u64(&msg, md->octets);
	if (md->plan->kind == KIND_MBOX)
		put_file_state(&md->state);
	if (md->count > 0)
		wire_put_fd(&msg, md->table_fd);
	if (md->count > 0 && md->plan->kind == KIND_MBOX)
		wire_put_fd(&msg, md->fd);
	return say(session);
}

static enum next
say_refused(int session, enum md_result why)
{
	wire_start(&msg, WIRE_REFUSED);
	wire_put_u8(&msg, why == MD_IN_USE ? REFUSED_IN_USE : why == MD_PERMANENT ? REFUSED_PERMANENT : REFUSED_TEMPORARY);
	wire_put_u8(&msg, 0);
	return say(session);
}

static enum next
answer_messages(struct maildrop *md, int session)
{
	uint32_t first, count, n;
	enum next next;
	int fd;

	if (wire_get_u32(&msg, &first) == -1 || wire_get_u32(&msg, &count) == -1 || wire_get_end(&msg) == -1 || first < 1 ||
	    first > md->count || count < 1 || count > WIRE_FDS || count - 1 > md->count - first || md->plan->kind != KIND_MAILDIR)
		return BROKEN;
	wire_start(&msg, WIRE_FILES);
	wire_put_u32(&msg, first);
	for (n = first; n < first + count && md->ops->message(md, n, n > first, &fd) == MD_OK; n++)
		wire_put_fd(&msg, fd);
	if (n == first)
		return say_gone(session);
	next = say(session);
	wire_close_fds(&msg);
	return next == WITHHELD ? say_gone(session) : next;
}

static enum next
answer_verify(struct maildrop *md, int session)
{
	if (wire_get_end(&msg) == -1 || md->plan->kind != KIND_MBOX)
		return BROKEN;
	if (md->ops->verify(md) != MD_OK)
		return say_gone(session);
	wire_start(&msg, WIRE_VERIFIED);
	put_file_state(&md->state);
	return say(session);
}

/* How many unique-ids are in msg. */
static uint32_t ids_put;

static bool
put_id(const char *id, size_t len)
{
	if (wire_put_text(&msg, id, len) == -1)
		return false;
	ids_put++;
	return true;
}

static enum next
say_ids(struct maildrop *md, int session, uint32_t first)
{
	ids_put = 0;
	wire_start(&msg, WIRE_IDS);
	wire_put_u32(&msg, first);
	return md->ops->unique_ids(md, first, put_id) == MD_OK ? say(session) : say_gone(session);
}

static enum next
answer_unique_ids(struct maildrop *md, int session)
{
	enum next next;
	uint32_t first;
	uint8_t all;

	if (wire_get_u32(&msg, &first) == -1 || wire_get_u8(&msg, &all) == -1 || wire_get_end(&msg) == -1 || all > 1 ||
	    first < 1 || first > md->count)
		return BROKEN;
	do {
		next = say_ids(md, session, first);
		first += ids_put;
	} while (next == GO_ON && msg.type == WIRE_IDS && all == 1 && first <= md->count);
	return next;
}

/* Adds a piece of a bitmap.  The session checked the numbers; it may be lying. */
static enum next
take_marks(struct maildrop *md, unsigned char *bitmap)
{
	const char *piece;
	size_t len, i, bytes = (md->count + (size_t)7) / 8;
	uint32_t first;

	if (wire_get_u32(&msg, &first) == -1 || wire_get_text(&msg, &piece, &len) == -1 || wire_get_end(&msg) == -1 ||
	    first < 1 || (first - 1) % 8 != 0 || (first - 1) / 8 > bytes || len > bytes - (first - 1) / 8)
		return BROKEN;
	bitmap += (first - 1) / 8;
	for (i = 0; i < len; i++)
		bitmap[i] |= (unsigned char)piece[i];
	if (md->count % 8 != 0 && (first - 1) / 8 + len == bytes && len > 0 && bitmap[len - 1] >> (md->count % 8) != 0)
		return BROKEN;
	return GO_ON;
}

static enum next
answer_deleted(struct maildrop *md, int session)
{
	(void)session;
	return take_marks(md, md->deleted);
}

static enum next
answer_read(struct maildrop *md, int session)
{
	(void)session;
	return take_marks(md, md->read);
}

static void
close_maildrop(struct maildrop *md)
{
	if (md->ops != NULL)
		md->ops->close(md);
	md->ops = NULL;
}

/* A stop of the service (SIGTERM to all) lets an update that has begun come to its end; kill -9 has the journal. */
static void
hold_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* The session lock is given up before the answer: a client that reconnects on it must find the maildrop free. */
static enum next
answer_update(struct maildrop *md, int session)
{
	uint32_t last, count = md->count;
	enum md_result result;

	if (wire_get_u32(&msg, &last) == -1 || wire_get_end(&msg) == -1 || last > count)
		return BROKEN;
	hold_signals();
	result = md->ops->update(md, last);
	close_maildrop(md);
	wire_start(&msg, WIRE_UPDATED);
	wire_put_u8(&msg, result == MD_OK);
	wire_put_u32(&msg, md->removed);
	wire_put_u32(&msg, count - md->removed);
	return say(session) == GO_ON ? FINISHED : BROKEN;
}

static const struct request {
	uint8_t type;
	enum next (*answer)(struct maildrop *md, int session);
} requests[] = {
	{ WIRE_MESSAGES, answer_messages },
	{ WIRE_VERIFY, answer_verify },
	{ WIRE_UNIQUE_IDS, answer_unique_ids },
	{ WIRE_DELETED, answer_deleted },
	{ WIRE_READ, answer_read },
	{ WIRE_UPDATE, answer_update },
};

static enum next
answer(struct maildrop *md, int session)
{
	size_t i;

	if (msg.nfds > 0) {
		wire_close_fds(&msg); /* descriptors go one way only */
		return BROKEN;
	}
	for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		if (requests[i].type == msg.type)
			return requests[i].answer(md, session);
	return BROKEN;
}

/* A session that goes away has not said QUIT: nothing is removed (RFC 1939, section 6). */
static enum next
answer_requests(struct maildrop *md, int session)
{
	enum next next = GO_ON;
	uint8_t type;
	int got = 1;

	while (next == GO_ON && (got = wire_recv(session, &msg)) == 1) {
		type = msg.type;
		if ((next = answer(md, session)) == BROKEN)
			log_note(LOG_ERR, "session-broken message=%d", type);
	}
	if (got == -1)
		log_note(LOG_ERR, "session-broken error=\"%s\"", strerror(errno));
	return got == -1 ? BROKEN : next;
}

static int
make_bitmaps(struct maildrop *md)
{
	size_t bytes = (md->count + (size_t)7) / 8;
	void *p;

	if (bytes == 0)
		return 0;
	if ((p = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
		return -1;
	md->deleted = p;
	md->read = md->deleted + bytes;
	return 0;
}

static int
serve(int session, const struct maildrop_plan *plan)
{
	struct maildrop md = { .plan = plan, .ops = plan->kind == KIND_MBOX ? &mbox_ops : &maildir_ops, .table_fd = -1,
		.fd = -1 };
	enum md_result result;
	enum next next = BROKEN;

	if (maildrop_sandbox(plan) == -1) {
		log_note(LOG_ERR, "sandbox error=\"%s\"", strerror(errno));
		say_refused(session, MD_TEMPORARY);
		return 1;
	}
	if ((result = md.ops->open(&md)) != MD_OK) {
		say_refused(session, result);
	} else if (make_bitmaps(&md) == -1) {
		log_note(LOG_ERR, "memory error=\"%s\"", strerror(errno));
		say_refused(session, MD_TEMPORARY);
	} else if ((next = say_opened(&md, session)) == GO_ON) {
		next = answer_requests(&md, session);
	} else if (next == WITHHELD) {
		say_refused(session, MD_TEMPORARY);
	}
	close_maildrop(&md);
	return next == BROKEN || next == WITHHELD;
}

int
maildrop_serve(int session, const struct maildrop_owner *owner, int keeper)
{
	static struct location location;
	static char state[PATH_BYTES];
	int there = 0;
	struct maildrop_plan plan = { .user = owner->user, .keeper = keeper, .lock_timeout = owner->lock_timeout };

	if (location_choose(owner, &location) == -1 ||
	    snprintf(state, sizeof(state), "%s/%s", owner->state_directory, owner->user) >= (int)sizeof(state)) {
		log_note(LOG_ERR, "mail-location error=\"not as postern.conf(5) has it, or too long\"");
		say_refused(session, MD_PERMANENT);
		return 1;
	}
	plan.kind = location.kind;
	plan.path = location.path;
	if (plan.kind == KIND_MBOX)
		plan.state = state;
	if (keeper != -1 && plan.kind == KIND_MBOX && (there = keeper_is_there(keeper)) == -1) {
		log_note(LOG_ERR, "lock-keeper error=\"%s\"", strerror(errno));
		say_refused(session, MD_TEMPORARY);
		return 1;
	}
	if (keeper != -1 && there == 0) {
		close(keeper);
		plan.keeper = -1;
	}
	return serve(session, &plan);
}
