#include "session/transaction.h"

#include <string.h>

#include "session/helper_client.h"
#include "session/records.h"
#include "session/reply.h"
#include "session/transmit.h"

static bool
is_marked(const unsigned char *bitmap, uint32_t n)
{
	return (bitmap[(n - 1) / 8] >> ((n - 1) % 8) & 1) != 0;
}

static void
set_mark(unsigned char *bitmap, uint32_t n)
{
	bitmap[(n - 1) / 8] |= (unsigned char)(1u << ((n - 1) % 8));
}

/* The message that a number names, or 0: none, or one that is marked deleted. */
static uint32_t
find_message(const struct session *s, uint64_t number)
{
	if (number < 1 || number > s->count || is_marked(s->deleted, (uint32_t)number))
		return 0;
	return (uint32_t)number;
}

static enum pop_next
no_such_message(struct session *s)
{
	return reply(s, "-ERR no such message");
}

enum pop_next
cmd_stat(struct session *s, const struct pop_args *args)
{
	(void)args;
	return reply_numbers(s, (const uint64_t[]){ s->live, s->live_octets }, 2);
}

enum pop_next
cmd_list(struct session *s, const struct pop_args *args)
{
	uint32_t n;

	if (args->given) {
		if ((n = find_message(s, args->number)) == 0)
			return no_such_message(s);
		return reply_numbers(s, (const uint64_t[]){ n, record_of(s, n)->octets }, 2);
	}
	reply(s, "+OK scan listing follows");
	for (n = 1; n <= s->count; n++)
		if (!is_marked(s->deleted, n))
			reply_scan(s, n, record_of(s, n)->octets);
	return reply(s, ".");
}

/* An answer that cannot be brought to its final dot. */
static enum pop_next
end_torn(struct session *s)
{
	if (!s->client.gone && s->tally->end == END_KILLED)
		s->tally->end = END_CHANGED;
	return NEXT_END;
}

static enum pop_next
no_unique_ids(struct session *s)
{
	return reply(s, "-ERR [SYS/TEMP] no unique-ids");
}

static enum pop_next
one_id(struct session *s, uint32_t n)
{
	const char *id;
	size_t len;

	if (n == 0)
		return no_such_message(s);
	if (!helper_id(s, n, &id, &len))
		return no_unique_ids(s);
	reply_id(s, "+OK ", n, id, len);
	return NEXT_COMMAND;
}

/* After "+OK" nothing can be refused any more: what is missing then ends the session without the final dot. */
static enum pop_next
all_ids(struct session *s)
{
	const char *id;
	uint32_t n;
	size_t len;

	if (s->count > 0 && !helper_all_ids(s))
		return no_unique_ids(s);
	reply(s, "+OK unique-id listing follows");
	for (n = 1; n <= s->count && !s->client.gone; n++) {
		if (!helper_next_id(s, &id, &len))
			return end_torn(s);
		if (!is_marked(s->deleted, n))
			reply_id(s, "", n, id, len);
	}
	return reply(s, ".");
}

enum pop_next
cmd_uidl(struct session *s, const struct pop_args *args)
{
	return args->given ? one_id(s, find_message(s, args->number)) : all_ids(s);
}

/* 0 when the message is out whole. */
static enum sent
retrieve(struct session *s, uint32_t n, const char *status, uint64_t lines, enum pop_next *next)
{
	enum sent sent = transmit(s, n, status, lines);

	*next = NEXT_COMMAND;
	if (sent == SENT_NOTHING)
		*next = reply(s, "-ERR [SYS/TEMP] message cannot be read");
	if (sent == SENT_TORN)
		*next = end_torn(s);
	return sent;
}

enum pop_next
cmd_retr(struct session *s, const struct pop_args *args)
{
	uint32_t n = find_message(s, args->number);
	enum pop_next next;

	if (n == 0)
		return no_such_message(s);
	if (retrieve(s, n, "+OK message follows", TRANSMIT_ALL, &next) == SENT_ALL) {
		set_mark(s->read, n);
		if (n > s->last)
			s->last = n;
		s->tally->retrieved++;
		s->tally->octets += record_of(s, n)->octets;
	}
	return next;
}

enum pop_next
cmd_top(struct session *s, const struct pop_args *args)
{
	uint32_t n = find_message(s, args->number);
	uint64_t lines = args->lines < TRANSMIT_ALL ? args->lines : TRANSMIT_ALL - 1;
	enum pop_next next;

	if (n == 0)
		return no_such_message(s);
	retrieve(s, n, "+OK top of message follows", lines, &next);
	return next;
}

enum pop_next
cmd_dele(struct session *s, const struct pop_args *args)
{
	uint32_t n = find_message(s, args->number);

	if (n == 0) {
		if (args->number >= 1 && args->number <= s->count)
			return reply(s, "-ERR message already deleted");
		return no_such_message(s);
	}
	set_mark(s->deleted, n);
	s->live--;
	s->live_octets -= record_of(s, n)->octets;
	return reply(s, "+OK message deleted");
}

enum pop_next
cmd_noop(struct session *s, const struct pop_args *args)
{
	(void)args;
	return reply(s, "+OK");
}

enum pop_next
cmd_last(struct session *s, const struct pop_args *args)
{
	(void)args;
	return reply_numbers(s, (const uint64_t[]){ s->last }, 1);
}

enum pop_next
cmd_rset(struct session *s, const struct pop_args *args)
{
	(void)args;
	s->live = s->count;
	s->live_octets = s->octets;
	if (s->count > 0) {
		memset(s->deleted, 0, s->bitmap_bytes);
		memset(s->read, 0, s->bitmap_bytes); /* a Maildir's LAST is made of its read marks */
	}
	s->last = s->last_at_login;
	return reply(s, "+OK");
}

enum pop_next
cmd_update(struct session *s, const struct pop_args *args)
{
	(void)args;
	if (helper_update(s))
		return reply_end(s, END_QUIT, "+OK POP3 server signing off");
	return reply_end(s, END_UPDATE_FAILED, "-ERR [SYS/TEMP] some deleted messages not removed");
}
