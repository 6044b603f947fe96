#include "maildrop/maildir_names.h"

#include <string.h>

#include "common/number.h"

/* The first octet of a name in the stream. */
#define SHARED_START_MAX 63
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
shared_start(const struct name *a, const struct name *b)
{
	size_t n = 0, most = a->len < b->len ? a->len : b->len;

	if (most > SHARED_START_MAX)
		most = SHARED_START_MAX;
	while (n < most && a->text[n] == b->text[n])
		n++;
	return n;
}

/* What is shared at the start is not shared at the end again. */
static size_t
shared_end(const struct name *a, const struct name *b, size_t start)
{
	size_t n = 0, most = (a->len < b->len ? a->len : b->len) - start;

	while (n < most && a->text[a->len - 1 - n] == b->text[b->len - 1 - n])
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

int
names_add(struct names *names, const struct name *name, const struct name *previous)
{
	size_t start = 0, end = 0, middle;
	unsigned char *p;

	if (pile_reserve(&names->stream, ENTRY_BYTES) == -1)
		return -1;
	if (names->count % NAMES_PER_BLOCK != 0) {
		start = shared_start(name, previous);
		end = shared_end(name, previous, start);
	} else if (add_block(names, names->stream.used) == -1) {
		return -1;
	}
	p = names->stream.base + names->stream.used;
	middle = name->len - start - end;
	p[0] = (unsigned char)(start | (size_t)name->place << PLACE_SHIFT);
	p[1] = (unsigned char)end;
	p[2] = (unsigned char)middle;
	memcpy(p + 3, name->text + start, middle);
	middle += varint_put(p + 3 + middle, zigzag(name->stamp - name_time(name->text, name->len)));
	names->stream.used += 3 + middle;
	names->count++;
	return 0;
}

/* Decodes the name at cursor->pos over the one before it.  False if the stream ends in it, or it does not fit. */
static bool
decode(const struct names *names, struct name_cursor *c)
{
	const unsigned char *p = names->stream.base + c->pos, *stream_end = names->stream.base + names->stream.used;
	size_t start, end, middle, used;
	struct name *n = &c->name;
	uint64_t difference;

	if (stream_end - p < 3)
		return false;
	if (c->next % NAMES_PER_BLOCK == 0)
		n->len = 0;
	start = p[0] & SHARED_START_MAX;
	end = p[1];
	middle = p[2];
	if (start + end > n->len || start + middle + end > NAME_MAX || (size_t)(stream_end - p) < 3 + middle)
		return false;
	memmove(n->text + start + middle, n->text + n->len - end, end);
	memcpy(n->text + start, p + 3, middle);
	n->len = start + middle + end;
	n->text[n->len] = '\0';
	n->place = (enum place)(p[0] >> PLACE_SHIFT);
	if ((used = varint_get(p + 3 + middle, stream_end, &difference)) == 0)
		return false;
	n->stamp = unzigzag(difference);	/* name_next() and names_get() add the delivery time */
	c->pos += 3 + middle + used;
	c->next++;
	return true;
}

bool
name_next(const struct names *names, struct name_cursor *c)
{
	if (c->next >= names->count || !decode(names, c))
		return false;
	c->name.stamp += name_time(c->name.text, c->name.len);
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
	c.name.len = 0;
	while (c.next <= n && decode(names, &c))
		;
	c.name.stamp += name_time(c.name.text, c.name.len);
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
