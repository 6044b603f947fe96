#include "maildrop/maildir_names.h"

#include <string.h>

#include "common/number.h"

/*
 * A name in the stream:
 *	1 octet: how much of its base name's start it shares with the one before, SHAPED or not, kind << KIND_SHIFT
 *	KIND_OTHER: 1 octet place, 1 octet length of the info (the ':' and what follows), the info
 *	unless SHAPED: 1 octet how much of the base name's end is shared, 1 octet length of the middle
 *	the middle of the base name
 *	what its drift is more than that of the name before, as a zigzag varint
 * SHAPED: the base name is as long as the one before, and shares as much of its end as that one did.
 */
#define SHARED_START_MAX 0x1f
#define SHAPED 0x20
#define KIND_SHIFT 6

/* What nearly all names are, with the flags S or none. */
static const struct kind {
	enum place place;
	const char *info;
	size_t len;
} kinds[] = {
	{ PLACE_NEW, "", 0 },
	{ PLACE_CUR, ":2,S", 4 },
	{ PLACE_CUR, ":2,", 3 },
};
#define KIND_OTHER (sizeof(kinds) / sizeof(kinds[0]))

#define ENTRY_BYTES (5 + NAME_MAX + VARINT_OCTETS)

size_t
varint_put(unsigned char *p, uint64_t value)
{
	size_t n = 0;

	for (; value > 0x7f; value >>= 7)
		p[n++] = (unsigned char)(value | 0x80);
	p[n++] = (unsigned char)value;
	return n;
}

size_t
varint_get(const unsigned char *p, const unsigned char *end, uint64_t *value)
{
	size_t n = 0;

	*value = 0;
	while (p + n < end && n < VARINT_OCTETS) {
		*value |= (uint64_t)(p[n] & 0x7f) << (7 * n);
		if ((p[n++] & 0x80) == 0)
			return n;
	}
	return 0;
}

static size_t
shared_start(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t n = 0, most = a_len < b_len ? a_len : b_len;

	if (most > SHARED_START_MAX)
		most = SHARED_START_MAX;
	while (n < most && a[n] == b[n])
		n++;
	return n;
}

/* What is shared at the start is not shared at the end again. */
static size_t
shared_end(const char *a, size_t a_len, const char *b, size_t b_len, size_t start)
{
	size_t n = 0, most = (a_len < b_len ? a_len : b_len) - start;

	while (n < most && a[a_len - 1 - n] == b[b_len - 1 - n])
		n++;
	return n;
}

/* Small differences of either sign become small numbers. */
static uint64_t
zigzag(uint64_t difference)
{
	return difference << 1 ^ (0 - (difference >> 63));
}

static uint64_t
unzigzag(uint64_t value)
{
	return value >> 1 ^ (0 - (value & 1));
}

static int
add_block(struct names *names, size_t start)
{
	uint32_t at = (uint32_t)start;

	if (start > UINT32_MAX || pile_reserve(&names->blocks, sizeof(at)) == -1)
		return -1;
	memcpy(names->blocks.base + names->blocks.used, &at, sizeof(at));
	names->blocks.used += sizeof(at);
	return 0;
}

static unsigned char *
put_kind(unsigned char *first, unsigned char *p, enum place place, const char *info, size_t len)
{
	size_t kind;

	for (kind = 0; kind < KIND_OTHER; kind++)
		if (place == kinds[kind].place && len == kinds[kind].len && memcmp(info, kinds[kind].info, len) == 0)
			break;
	*first = (unsigned char)(kind << KIND_SHIFT);
	if (kind < KIND_OTHER)
		return p;
	*p++ = (unsigned char)place;
	*p++ = (unsigned char)len;
	memcpy(p, info, len);
	return p + len;
}

static unsigned char *
put_base(struct names *names, unsigned char *first, unsigned char *p, const char *base, size_t len)
{
	struct name_state *last = &names->last;
	size_t start = shared_start(names->last_base, last->base, base, len);
	size_t end = shared_end(names->last_base, last->base, base, len, start);

	*first = (unsigned char)(*first | start);
	if (len == last->base && end >= last->end) {
		*first |= SHAPED;
		end = last->end;
	} else {
		*p++ = (unsigned char)end;
		*p++ = (unsigned char)(len - start - end);
	}
	memcpy(p, base + start, len - start - end);
	memcpy(names->last_base, base, len);
	last->base = len;
	last->end = end;
	return p + (len - start - end);
}

int
names_add(struct names *names, const char *text, size_t len, enum place place, uint64_t stamp)
{
	uint64_t drift = stamp - name_time(text, len);
	size_t base = name_base(text, len);
	unsigned char *first, *p;

	if (names->count % NAMES_PER_BLOCK == 0) {
		names->last = (struct name_state){ 0 };
		if (add_block(names, names->stream.used) == -1)
			return -1;
	}
	if (pile_reserve(&names->stream, ENTRY_BYTES) == -1)
		return -1;
	first = names->stream.base + names->stream.used;
	p = put_kind(first, first + 1, place, text + base, len - base);
	p = put_base(names, first, p, text, base);
	p += varint_put(p, zigzag(drift - names->last.drift));
	names->last.drift = drift;
	names->stream.used = (size_t)(p - names->stream.base);
	names->count++;
	return 0;
}

/* The part of the stream that a name is read from. */
struct input {
	const unsigned char *p, *end;
};

static bool
get_octets(struct input *in, size_t n, const unsigned char **octets)
{
	*octets = in->p;
	if (n > (size_t)(in->end - in->p))
		return false;
	in->p += n;
	return true;
}

static bool
get_kind(struct input *in, unsigned char first, enum place *place, const void **info, size_t *len)
{
	const unsigned char *p;
	size_t kind = first >> KIND_SHIFT;

	if (kind < KIND_OTHER) {
		*place = kinds[kind].place;
		*info = kinds[kind].info;
		*len = kinds[kind].len;
		return true;
	}
	if (!get_octets(in, 2, &p))
		return false;
	*place = (enum place)p[0];
	*len = p[1];
	if (!get_octets(in, *len, &p))
		return false;
	*info = p;
	return true;
}

/* Decodes the base name over the one before it. */
static bool
get_base(struct input *in, unsigned char first, char *text, struct name_state *state)
{
	size_t start = first & SHARED_START_MAX, middle;
	const unsigned char *p;
	size_t end = state->end;

	if ((first & SHAPED) == 0) {
		if (!get_octets(in, 2, &p))
			return false;
		end = p[0];
		middle = p[1];
	}
	if (start + end > state->base)
		return false;
	if ((first & SHAPED) != 0)
		middle = state->base - start - end;
	if (start + middle + end > NAME_MAX || !get_octets(in, middle, &p))
		return false;
	memmove(text + start + middle, text + state->base - end, end);
	memcpy(text + start, p, middle);
	state->base = start + middle + end;
	state->end = end;
	return true;
}

/* Decodes the name at cursor->pos over the one before it.  False if the stream ends in it, or it does not fit. */
static bool
decode(const struct names *names, struct name_cursor *c)
{
	struct input in = { names->stream.base + c->pos, names->stream.base + names->stream.used };
	struct name *n = &c->name;
	const unsigned char *first;
	const void *info;
	size_t len, used;
	uint64_t more;

	if (c->next % NAMES_PER_BLOCK == 0)
		c->state = (struct name_state){ 0 };
	if (!get_octets(&in, 1, &first) || !get_kind(&in, *first, &n->place, &info, &len) ||
	    !get_base(&in, *first, n->text, &c->state) || c->state.base + len > NAME_MAX ||
	    (used = varint_get(in.p, in.end, &more)) == 0)
		return false;
	memcpy(n->text + c->state.base, info, len);
	n->len = c->state.base + len;
	n->text[n->len] = '\0';
	c->state.drift += unzigzag(more);
	c->pos = (size_t)(in.p + used - names->stream.base);
	c->next++;
	return true;
}

bool
name_next(const struct names *names, struct name_cursor *c)
{
	if (c->next >= names->count || !decode(names, c))
		return false;
	c->name.stamp = c->state.drift + name_time(c->name.text, c->name.len);
	return true;
}

void
name_seek(const struct names *names, uint32_t n, struct name_cursor *c)
{
	uint32_t at;

	memcpy(&at, names->blocks.base + n / NAMES_PER_BLOCK * sizeof(at), sizeof(at));
	c->pos = at;
	c->next = n / NAMES_PER_BLOCK * NAMES_PER_BLOCK;
	while (c->next < n && decode(names, c))
		;
}

void
names_get(const struct names *names, uint32_t n, struct name *name)
{
	struct name_cursor c;

	name_seek(names, n, &c);
	name_next(names, &c);
	*name = c.name;
}

int
names_check(struct names *names, uint32_t count)
{
	struct name_cursor c = { 0 };

	while (c.next < count) {
		if (c.next % NAMES_PER_BLOCK == 0 && add_block(names, c.pos) == -1)
			return -1;
		if (!decode(names, &c))
			return -1;
		if (c.name.len == 0 || c.name.text[0] == '.' || c.name.place >= FOLDERS ||
		    strlen(c.name.text) != c.name.len || memchr(c.name.text, '/', c.name.len) != NULL)
			return -1;
	}
	names->count = count;
	return c.pos == names->stream.used ? 0 : -1;
}

void
names_free(struct names *names)
{
	pile_free(&names->stream);
	pile_free(&names->blocks);
	names->count = 0;
}

static size_t
digits(const char *name, size_t len)
{
	size_t n = 0;

	while (n < len && name[n] >= '0' && name[n] <= '9')
		n++;
	return n;
}

uint64_t
name_time(const char *name, size_t len)
{
	uint64_t t;

	return number_parse(name, digits(name, len), &t) == 0 ? t : 0;
}

size_t
name_base(const char *name, size_t len)
{
	const char *colon = memchr(name, ':', len);

	return colon != NULL ? (size_t)(colon - name) : len;
}

const char *
name_flags(const char *name, size_t len)
{
	size_t base = name_base(name, len);

	return len - base >= 3 && memcmp(name + base, ":2,", 3) == 0 ? name + base + 3 : NULL;
}

bool
name_seen(const char *name, size_t len)
{
	const char *flags = name_flags(name, len);

	return flags != NULL && strchr(flags, 'S') != NULL;
}

bool
name_odd(const char *name, size_t len)
{
	size_t n = digits(name, len);

	return n == 0 || n == len || name[n] != '.';
}

uint64_t
name_stamp(const char *name, size_t len, const struct stat *st)
{
	uint64_t seconds = (uint64_t)st->st_mtim.tv_sec;

	return name_odd(name, len) ? seconds * 1000000000 + (uint64_t)st->st_mtim.tv_nsec : seconds;
}
