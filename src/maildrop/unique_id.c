/* Runs as the authenticated user, on headers that anybody may have written. */
#include "maildrop/unique_id.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "common/ioutil.h"
#include "common/number.h"

/* --- the digest --- */

/* Whether line begins with name, which is in small letters, in any case.  strncasecmp(3) here would be a fifth of it all. */
static bool
begins_with(const char *line, const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (line[i] != name[i] && (line[i] < 'A' || line[i] > 'Z' || (line[i] | 0x20) != name[i]))
			return false;
	return true;
}

/* Whether a header line (up to its LF) is one that mail programs rewrite: the name in any case, blanks before ':'. */
static bool
is_rewritten(const char *line, size_t len)
{
#define NAME(name) { name, sizeof(name) - 1 }
	static const struct { const char *name; size_t len; } names[] = { NAME("status"), NAME("x-status"), NAME("x-keywords"),
		NAME("x-uid"), NAME("x-imap"), NAME("x-imapbase"), NAME("content-length"), NAME("lines"), NAME("x-uidl") };
#undef NAME
	size_t i, n;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		n = names[i].len;
		if (len <= n || !begins_with(line, names[i].name, n))
			continue;
		while (n < len && (line[n] == ' ' || line[n] == '\t'))
			n++;
		if (n < len && line[n] == ':')
			return true;
	}
	return false;
}

struct digestion {
	struct sha256_ctx sha;
	size_t room;	/* of DIGESTED_BYTES */
};

static void
digest_add(struct digestion *d, const char *from, const char *to)
{
	size_t len = (size_t)(to - from);

	if (len > d->room)
		len = d->room;
	sha256_update(&d->sha, len, (const uint8_t *)from);
	d->room -= len;
}

static bool
is_empty_line(const char *line, const char *lf)
{
	return lf != NULL && (lf == line || (lf == line + 1 && *line == '\r'));
}

/* True when the header's end was seen. */
static bool
digest_header(struct digestion *d, const char *p, const char *end)
{
	const char *kept = p, *lf;
	bool skipping = false, skip;

	for (; p < end; p = lf != NULL ? lf + 1 : end) {
		lf = memchr(p, '\n', (size_t)(end - p));
		if (is_empty_line(p, lf))
			break;
		if (*p != ' ' && *p != '\t') { /* else a folded line, which goes with the one before */
			skip = is_rewritten(p, (size_t)((lf != NULL ? lf : end) - p));
			if (skip && !skipping)
				digest_add(d, kept, p);
			if (!skip && skipping)
				kept = p;
			skipping = skip;
		}
	}
	if (!skipping)
		digest_add(d, kept, p);
	return p < end;
}

static bool
digest_text(const char *text, size_t from_bytes, size_t len, unsigned char digest[DIGEST_BYTES])
{
	struct digestion d = { .room = DIGESTED_BYTES };
	bool ended;

	sha256_init(&d.sha);
	digest_add(&d, text, text + from_bytes);
	ended = digest_header(&d, text + from_bytes, text + len);
	sha256_digest(&d.sha, DIGEST_BYTES, digest);
	return ended || d.room == 0;
}

void
unique_id_digest(const char *text, size_t from_bytes, size_t len, unsigned char digest[DIGEST_BYTES])
{
	digest_text(text, from_bytes, len, digest);
}

/* --- reading --- */

/* A longer header ends here, so that a mailbox of one gigabyte without an empty line is not read as one. */
#define READ_BYTES (2 * DIGESTED_BYTES)

/* How much is read at first: a header; or many messages, when they are small and all are wanted. */
#define HEADER_BYTES 8192
#define SMALL_MESSAGE 32768

struct reader {
	int fd;
	uint64_t start;
	size_t len;
	char *buf;	/* READ_BYTES */
	size_t ahead;	/* how much is read at once where messages are small: the next one may be wanted, too */
};

/* Makes need bytes at position readable, more are read if that is cheap. */
static const char *
reader_get(struct reader *r, uint64_t position, size_t need, size_t want)
{
	if (position >= r->start && position - r->start <= r->len && r->len - (position - r->start) >= need)
		return r->buf + (position - r->start);
	r->start = position;
	r->len = 0;
	switch (pread_full(r->fd, r->buf, want, (off_t)position)) {
	case IO_DONE:
		break;
	case IO_FAILED:
		return NULL;
	default:
		errno = ESTALE;
		return NULL;
	}
	r->len = want;
	return r->buf;
}

static size_t
least(size_t a, uint64_t b)
{
	return a < b ? a : (size_t)b;
}

static int
read_digest(struct reader *r, const struct mbox_list *list, uint32_t i, unsigned char digest[DIGEST_BYTES])
{
	uint64_t from = list->records[i].offset - list->from_bytes[i];
	uint64_t len = list->from_bytes[i] + list->records[i].bytes, left = list->end - from;
	size_t need = least(HEADER_BYTES, len);
	const char *text = reader_get(r, from, need, len < SMALL_MESSAGE ? least(r->ahead, left) : need);

	if (text == NULL)
		return -1;
	if (digest_text(text, list->from_bytes[i], need, digest) || need == len)
		return 0;
	need = least(READ_BYTES, len);
	if ((text = reader_get(r, from, need, need)) == NULL)
		return -1;
	digest_text(text, list->from_bytes[i], need, digest);
	return 0;
}

static int
read_digests(struct mbox_list *list, int fd)
{
	struct reader r = { .fd = fd, .ahead = READ_BYTES };
	uint32_t i;
	int result = 0;

	if ((r.buf = malloc(READ_BYTES)) == NULL)
		return -1;
	for (i = 0; i < list->count && result == 0; i++)
		if (list->suffixes[i] == 0)
			result = read_digest(&r, list, i, list->digests[i]);
	free(r.buf);
	return result;
}

int
unique_id_read(const struct mbox_list *list, uint32_t i, int fd, unsigned char digest[DIGEST_BYTES])
{
	struct reader r = { .fd = fd, .ahead = HEADER_BYTES };
	int result;

	if ((r.buf = malloc(READ_BYTES)) == NULL)
		return -1;
	result = read_digest(&r, list, i, digest);
	free(r.buf);
	return result;
}

int
unique_id_complete(struct mbox_list *list, int fd, const struct earlier_ids *earlier)
{
	if ((list->digests == NULL && mbox_list_make_ids(list, list->count) == -1) || read_digests(list, fd) == -1)
		return -1;
	return unique_id_number(list, earlier);
}

/* --- equal ones --- */

/* A hash table from digests to numbers from 1, 0 being an empty place.  Digests are random, so their bits serve. */
struct places {
	uint32_t mask;
	uint32_t *place;
};

static int
places_make(struct places *t, uint32_t count)
{
	for (t->mask = 15; t->mask / 2 < count; t->mask = t->mask * 2 + 1)
		;
	t->place = calloc((size_t)t->mask + 1, sizeof(*t->place));
	return t->place != NULL ? 0 : -1;
}

/* The place of digest, or the empty one where it belongs. */
static uint32_t *
places_find(const struct places *t, unsigned char (*digests)[DIGEST_BYTES], const unsigned char *digest)
{
	uint32_t at;

	memcpy(&at, digest, sizeof(at));
	for (at &= t->mask; t->place[at] != 0; at = (at + 1) & t->mask)
		if (memcmp(digests[t->place[at] - 1], digest, DIGEST_BYTES) == 0)
			break;
	return &t->place[at];
}

/* Gives the suffixes of messages seen earlier back.  next[i] chains those with equal digests, in their order. */
static int
take_earlier(struct mbox_list *list, const struct earlier_ids *earlier)
{
	uint32_t *next = calloc((size_t)earlier->count + 1, sizeof(*next)), *place, i;
	struct places t = { 0, NULL };
	int result = -1;

	if (next == NULL || places_make(&t, earlier->count) == -1)
		goto done;
	for (i = earlier->count; i > 0; i--) {
		if (earlier->suffixes[i - 1] == 0)
			continue;
		place = places_find(&t, earlier->digests, earlier->digests[i - 1]);
		next[i - 1] = *place;
		*place = i;
	}
	for (i = 0; i < list->count; i++) {
		if (list->suffixes[i] != 0)
			continue;
		place = places_find(&t, earlier->digests, list->digests[i]);
		if (*place == 0 || earlier->suffixes[*place - 1] == 0)
			continue;
		list->suffixes[i] = earlier->suffixes[*place - 1];
		if (next[*place - 1] != 0)
			*place = next[*place - 1];
		else
			earlier->suffixes[*place - 1] = 0; /* stays in the table: an empty place would cut others off */
	}
	result = 0;
done:
	free(next);
	free(t.place);
	return result;
}

/* Suffixes of equal messages rise in file order; what does not is no work of ours and is given anew. */
static void
number(struct mbox_list *list, const struct places *t, uint32_t *highest)
{
	uint32_t *place, i;

	for (i = 0; i < list->count; i++) {
		place = places_find(t, list->digests, list->digests[i]);
		if (*place == 0)
			*place = i + 1;
		if (list->suffixes[i] > highest[*place - 1] && list->suffixes[i] <= INT32_MAX)
			highest[*place - 1] = list->suffixes[i];
		else
			list->suffixes[i] = 0;
	}
	for (i = 0; i < list->count; i++)
		if (list->suffixes[i] == 0)
			list->suffixes[i] = ++highest[*places_find(t, list->digests, list->digests[i]) - 1];
}

int
unique_id_number(struct mbox_list *list, const struct earlier_ids *earlier)
{
	uint32_t *highest = calloc((size_t)list->count + 1, sizeof(*highest));
	struct places t = { 0, NULL };
	int result = -1;

	if (highest != NULL && places_make(&t, list->count) == 0 &&
	    (earlier == NULL || earlier->count == 0 || take_earlier(list, earlier) == 0)) {
		number(list, &t, highest);
		result = 0;
	}
	free(highest);
	free(t.place);
	return result;
}

size_t
unique_id_text(const struct mbox_list *list, uint32_t i, char *out)
{
	static const char hex[] = "0123456789abcdef";
	size_t n, len = 0;

	for (n = 0; n < DIGEST_BYTES; n++) {
		out[len++] = hex[list->digests[i][n] >> 4];
		out[len++] = hex[list->digests[i][n] & 15];
	}
	if (list->suffixes[i] > 1) {
		out[len++] = '-';
		len += number_format(out + len, list->suffixes[i]);
	}
	out[len] = '\0';
	return len;
}
