#include "maildrop/maildir_names.h"

#include <string.h>

#include "common/number.h"

/*
 * A name in the stream: one octet, the places that it has in common with the name before; unless it is SHAPED, two octets,
 * the octets shared at the end and the length of the middle; the middle; what its drift (the stamp less the delivery time)
 * is more than that of the name before, as a zigzag varint.  SHAPED: as long as the name before, and the same shared end.
 */
#define SHARED_START_MAX 0x1f
#define SHAPED 0x20
#define PLACE_SHIFT 6

#define ENTRY_BYTES (3 + NAME_MAX + VARINT_OCTETS)

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
shared_start(const struct name *a, const char *b, size_t len)
{
	size_t n = 0, most = a->len < len ? a->len : len;

	if (most > SHARED_START_MAX)
		most = SHARED_START_MAX;
	while (n < most && a->text[n] == b[n])
		n++;
	return n;
}

/* What is shared at the start is not shared at the end again. */
static size_t
shared_end(const struct name *a, const char *b, size_t len, size_t start)
{
	size_t n = 0, most = (a->len < len ? a->len : len) - start;

	while (n < most && a->text[a->len - 1 - n] == b[len - 1 - n])
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

/* Puts the octets before the middle to p and sets where the middle starts and what the end is.  Returns the octets. */
static size_t
put_shape(struct names *names, const char *text, size_t len, enum place place, size_t *start, unsigned char *p)
{
	size_t end;

	*start = shared_start(&names->last, text, len);
	end = shared_end(&names->last, text, len, *start);
	p[0] = (unsigned char)(*start | (size_t)place << PLACE_SHIFT);
	if (len == names->last.len && end >= names->last_end) {
		p[0] |= SHAPED;
		return 1;
	}
	names->last_end = end;
	p[1] = (unsigned char)end;
	p[2] = (unsigned char)(len - *start - end);
	return 3;
}

static int
start_block(struct names *names)
{
	names->last.len = names->last_end = 0;
	names->last_drift = 0;
	return add_block(names, names->stream.used);
}

int
names_add(struct names *names, const char *text, size_t len, enum place place, uint64_t stamp)
{
	uint64_t drift = stamp - name_time(text, len);
	size_t start, middle;
	unsigned char *p;

	if (pile_reserve(&names->stream, ENTRY_BYTES) == -1 ||
	    (names->count % NAMES_PER_BLOCK == 0 && start_block(names) == -1))
		return -1;
	p = names->stream.base + names->stream.used;
	p += put_shape(names, text, len, place, &start, p);
	middle = len - start - names->last_end;
	memcpy(p, text + start, middle);
	p += middle;
	p += varint_put(p, zigzag(drift - names->last_drift));
	names->stream.used = (size_t)(p - names->stream.base);
	memcpy(names->last.text, text, len);
	names->last.len = len;
	names->last_drift = drift;
	names->count++;
	return 0;
}

/* Where the middle starts and how long it is, from the octets at *p, which moves on.  False if they do not fit. */
static bool
get_shape(struct name_cursor *c, const unsigned char **p, const unsigned char *stream_end, size_t *start, size_t *middle)
{
	const unsigned char *at = *p;
	bool shaped;

	if (stream_end - at < 3)
		return false;
	*start = at[0] & SHARED_START_MAX;
	shaped = (at[0] & SHAPED) != 0;
	if (!shaped)
		c->end = at[1];
	if (*start + c->end > c->name.len)
		return false;
	*middle = shaped ? c->name.len - *start - c->end : at[2];
	*p += shaped ? 1 : 3;
	return *start + *middle + c->end <= NAME_MAX && *middle <= (size_t)(stream_end - *p);
}

/* Decodes the name at cursor->pos over the one before it.  False if the stream ends in it, or it does not fit. */
static bool
decode(const struct names *names, struct name_cursor *c)
{
	const unsigned char *p = names->stream.base + c->pos, *stream_end = names->stream.base + names->stream.used;
	size_t start, middle, used;
	struct name *n = &c->name;
	uint64_t more;

	if (c->next % NAMES_PER_BLOCK == 0) {
		n->len = c->end = 0;
		c->drift = 0;
	}
	n->place = (enum place)(p < stream_end ? *p >> PLACE_SHIFT : PLACE_GONE);
	if (!get_shape(c, &p, stream_end, &start, &middle))
		return false;
	memmove(n->text + start + middle, n->text + n->len - c->end, c->end);
	memcpy(n->text + start, p, middle);
	n->len = start + middle + c->end;
	n->text[n->len] = '\0';
	if ((used = varint_get(p + middle, stream_end, &more)) == 0)
		return false;
	c->drift += unzigzag(more);
	c->pos = (size_t)(p + middle + used - names->stream.base);
	c->next++;
	return true;
}

bool
name_next(const struct names *names, struct name_cursor *c)
{
	if (c->next >= names->count || !decode(names, c))
		return false;
	c->name.stamp = c->drift + name_time(c->name.text, c->name.len);
	return true;
}

void
names_get(const struct names *names, uint32_t n, struct name *name)
{
	struct name_cursor c;
	uint32_t at;

	memcpy(&at, names->blocks.base + n / NAMES_PER_BLOCK * sizeof(at), sizeof(at));
	c.pos = at;
	c.next = n / NAMES_PER_BLOCK * NAMES_PER_BLOCK;
	while (c.next <= n && decode(names, &c))
		;
	c.name.stamp = c.drift + name_time(c.name.text, c.name.len);
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
