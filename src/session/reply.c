#include "session/reply.h"

#include <string.h>

#include "common/number.h"

/* Any reply line fits: 512 octets (RFC 1939, section 3). */
#define REPLY_OCTETS 512

/* A listing leaves in pieces of this size: the client reads one while the next is made, and few pages are touched. */
#define LISTING_BYTES (32 * 1024)

static char *
line_room(struct session *s)
{
	if (s->client.out_len >= LISTING_BYTES)
		client_flush(&s->client);
	return client_room(&s->client, REPLY_OCTETS);
}

/* p: where what was written from start on, the last line_room(), ends. */
static void
end_line(struct session *s, const char *start, char *p)
{
	*p++ = '\r';
	*p++ = '\n';
	client_wrote(&s->client, (size_t)(p - start));
}

enum pop_next
reply(struct session *s, const char *text)
{
	client_put(&s->client, text, strlen(text));
	client_put(&s->client, "\r\n", 2);
	return NEXT_COMMAND;
}

enum pop_next
reply_bad(struct session *s, const char *text)
{
	if (++s->bad_commands >= BAD_COMMANDS)
		return reply_end(s, END_BAD_COMMANDS, "-ERR too many bad commands");
	return reply(s, text);
}

enum pop_next
reply_end(struct session *s, enum session_end end, const char *text)
{
	if (s->tally->end == END_KILLED) /* where the helper broke, that is what ended it */
		s->tally->end = end;
	reply(s, text);
	return NEXT_END;
}

enum pop_next
reply_numbers(struct session *s, const uint64_t *numbers, int count)
{
	char *start = line_room(s), *p = stpcpy(start, "+OK");
	int i;

	for (i = 0; i < count; i++) {
		*p++ = ' ';
		p += number_format(p, numbers[i]);
	}
	end_line(s, start, p);
	return NEXT_COMMAND;
}

void
reply_scan(struct session *s, uint32_t n, uint64_t octets)
{
	char *start = line_room(s), *p = start;

	p += number_format(p, n);
	*p++ = ' ';
	p += number_format(p, octets);
	end_line(s, start, p);
}

void
reply_id(struct session *s, const char *before, uint32_t n, const char *id, size_t id_len)
{
	char *start = line_room(s), *p = stpcpy(start, before);

	p += number_format(p, n);
	*p++ = ' ';
	p = mempcpy(p, id, id_len);
	end_line(s, start, p);
}
