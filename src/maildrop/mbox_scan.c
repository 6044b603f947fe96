/* Runs as the authenticated user, on bytes that anybody may have sent. */
#include "maildrop/mbox_scan.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "common/limits.h"
#include "maildrop/pile.h"

/* --- the list --- */

int
mbox_list_make_room(struct mbox_list *list, uint32_t room)
{
	uint16_t *from_bytes;
	struct record *records;

	if (room <= list->room)
		return 0;
	if ((records = memory_resize(list->records, list->count * sizeof(*records), room * sizeof(*records))) == NULL)
		return -1;
	list->records = records;
	if ((from_bytes = realloc(list->from_bytes, room * sizeof(*from_bytes))) == NULL)
		return -1;
	list->from_bytes = from_bytes;
	list->room = room;
	return 0;
}

static int
grow(struct mbox_list *list)
{
	uint32_t room = list->room < 64 ? 64 : list->room * 2;

	if (room > MESSAGES_MAX)
		room = MESSAGES_MAX;
	if (list->count < room)
		return mbox_list_make_room(list, room);
	errno = E2BIG;
	return -1;
}

int
mbox_list_add(struct mbox_list *list)
{
	if (list->count == list->room && grow(list) == -1)
		return -1;
	memset(&list->records[list->count], 0, sizeof(list->records[0]));
	list->from_bytes[list->count] = 0;
	list->count++;
	return 0;
}

void
mbox_list_free(struct mbox_list *list)
{
	free(list->records);
	free(list->from_bytes);
	mbox_list_drop_ids(list);
	memset(list, 0, sizeof(*list));
}

int
mbox_list_make_ids(struct mbox_list *list, uint32_t count)
{
	size_t digests = ((size_t)count + 1) * DIGEST_BYTES, bytes = digests + ((size_t)count + 1) * sizeof(*list->suffixes);
	unsigned char *p = memory_resize(NULL, 0, bytes);

	if (p == NULL)
		return -1;
	memset(p, 0, bytes);
	list->digests = (void *)p;
	list->suffixes = (void *)(p + digests);
	return 0;
}

void
mbox_list_drop_ids(struct mbox_list *list)
{
	free(list->digests);
	list->digests = NULL;
	list->suffixes = NULL;
}

/* --- the From_ line --- */

#define CTIME_BYTES 24

struct word {
	const char *p;
	size_t len;
};

/* Takes the next word of the line that *p .. end holds; an empty one at its end. */
static struct word
next_word(const char **p, const char *end)
{
	struct word w;

	while (*p < end && (**p == ' ' || **p == '\t'))
		(*p)++;
	w.p = *p;
	while (*p < end && **p != ' ' && **p != '\t')
		(*p)++;
	w.len = (size_t)(*p - w.p);
	return w;
}

static bool
word_is(struct word w, const char *text)
{
	return w.len == strlen(text) && strncasecmp(w.p, text, w.len) == 0;
}

/* names: three small letters each.  strncasecmp(3) here would be a tenth of the whole scan. */
static bool
is_one_of(struct word w, const char *names)
{
	if (w.len != 3)
		return false;
	for (; *names != '\0'; names += 3)
		if ((w.p[0] | 0x20) == names[0] && (w.p[1] | 0x20) == names[1] && (w.p[2] | 0x20) == names[2])
			return true;
	return false;
}

static bool
is_weekday(struct word w)
{
	if (w.len == 4 && w.p[3] == ',')
		w.len = 3;
	return is_one_of(w, "sunmontuewedthufrisat");
}

static bool
is_month(struct word w)
{
	return is_one_of(w, "janfebmaraprmayjunjulaugsepoctnovdec");
}

/* shortest to longest digits, min to max. */
static bool
is_number(struct word w, size_t shortest, size_t longest, unsigned int min, unsigned int max)
{
	unsigned int n = 0;
	size_t i;

	if (w.len < shortest || w.len > longest)
		return false;
	for (i = 0; i < w.len; i++) {
		if (w.p[i] < '0' || w.p[i] > '9')
			return false;
		n = n * 10 + (unsigned int)(w.p[i] - '0');
	}
	return n >= min && n <= max;
}

static bool
is_day(struct word w)
{
	return is_number(w, 1, 2, 1, 31);
}

static bool
is_year(struct word w)
{
	return is_number(w, 4, 4, 1900, 9999);
}

/* H:MM, HH:MM, with :SS or without; 60 is a leap second. */
static bool
is_time(struct word w)
{
	const char *colon = memchr(w.p, ':', w.len);
	struct word hour, minute, second;

	if (colon == NULL)
		return false;
	hour = (struct word){ w.p, (size_t)(colon - w.p) };
	minute = (struct word){ colon + 1, w.len - hour.len - 1 };
	second = (struct word){ "00", 2 };
	if (minute.len == 5 && minute.p[2] == ':') {
		second = (struct word){ minute.p + 3, 2 };
		minute.len = 2;
	}
	return is_number(hour, 1, 2, 0, 23) && is_number(minute, 2, 2, 0, 59) && is_number(second, 2, 2, 0, 60);
}

/* +0100, GMT, (CEST) */
static bool
is_zone(struct word w)
{
	size_t i;

	if (w.len == 5 && (w.p[0] == '+' || w.p[0] == '-'))
		return is_number((struct word){ w.p + 1, 4 }, 4, 4, 0, 9999);
	if (w.len > 2 && w.p[0] == '(' && w.p[w.len - 1] == ')')
		w = (struct word){ w.p + 1, w.len - 2 };
	for (i = 0; i < w.len; i++)
		if ((w.p[i] | 0x20) < 'a' || (w.p[i] | 0x20) > 'z')
			return false;
	return w.len >= 1 && w.len <= 5;
}

/* Steps over one zone or two ("MET DST"). */
static void
skip_zone(const char **p, const char *end)
{
	const char *next = *p;
	int i;

	for (i = 0; i < 2 && is_zone(next_word(&next, end)); i++)
		*p = next;
}

/* Nothing more, or " remote from HOST". */
static bool
ends_there(const char *p, const char *end)
{
	struct word w = next_word(&p, end);

	if (w.len == 0)
		return true;
	return word_is(w, "remote") && word_is(next_word(&p, end), "from") && next_word(&p, end).len > 0 &&
	    next_word(&p, end).len == 0;
}

/* What follows a weekday. */
static bool
is_date(const char *p, const char *end)
{
	struct word w = next_word(&p, end);

	if (is_month(w)) {
		if (!is_day(next_word(&p, end)) || !is_time(next_word(&p, end)))
			return false;
		skip_zone(&p, end);
		if (!is_year(next_word(&p, end)))
			return false;
	} else if (!is_day(w) || !is_month(next_word(&p, end)) || !is_year(next_word(&p, end)) ||
	    !is_time(next_word(&p, end))) {
		return false;
	}
	skip_zone(&p, end);
	return ends_there(p, end);
}

/*
 * Whether the line ends in a date as ctime(3) makes it, "Wed Dec  2 05:53:22 1992", behind a space: most do, and a look at the
 * places of its parts takes a third of the time that the words of the line take.
 */
static bool
ends_in_ctime(const char *line, size_t len)
{
	const char *p = line + len - CTIME_BYTES;
	size_t day = p[8] == ' ' ? 1 : 2;

	return p[-1] == ' ' && p[3] == ' ' && p[7] == ' ' && p[10] == ' ' && p[13] == ':' && p[16] == ':' && p[19] == ' ' &&
	    is_weekday((struct word){ p, 3 }) && is_month((struct word){ p + 4, 3 }) && is_day((struct word){ p + 10 - day, day }) &&
	    is_number((struct word){ p + 11, 2 }, 2, 2, 0, 23) && is_number((struct word){ p + 14, 2 }, 2, 2, 0, 59) &&
	    is_number((struct word){ p + 17, 2 }, 2, 2, 0, 60) && is_year((struct word){ p + 20, 4 });
}

/* Senders may hold spaces ("John Doe"@example.org) or be empty, so the date is looked for at every word. */
bool
from_line_valid(const char *line, size_t len)
{
	const char *p = line + 5, *end = line + len;
	struct word w;

	if (len < 5 || memcmp(line, "From ", 5) != 0)
		return false;
	if (len >= 5 + CTIME_BYTES && ends_in_ctime(line, len))
		return true;
	while ((w = next_word(&p, end)).len > 0)
		if (is_weekday(w) && is_date(p, end))
			return true;
	return false;
}

/* --- the loop over all bytes --- */

/* Bit i of each: whether byte i of 64 is that character. */
struct masks {
	uint64_t lf, cr, f;
};

/* Bit 63 and 62: the bytes before the 64 at hand. */
struct carry {
	uint64_t lf, cr;
};

static inline struct carry
carry_from(unsigned char before1, unsigned char before2)
{
	return (struct carry){
		.lf = (uint64_t)(before1 == '\n') << 63 | (uint64_t)(before2 == '\n') << 62,
		.cr = (uint64_t)(before1 == '\r') << 63 | (uint64_t)(before2 == '\r') << 62,
	};
}

/* Counts 64 bytes, or those before a candidate; returns its place or 64. */
static inline __attribute__((always_inline)) size_t
count_64(struct masks m, struct carry *carry, struct line_counts *counts)
{
	uint64_t after_lf = m.lf << 1 | carry->lf >> 63, crlf = m.lf & (m.cr << 1 | carry->cr >> 63);
	uint64_t after2 = (m.lf | m.cr) << 2 | (carry->lf | carry->cr) >> 62, found = m.f & after_lf & after2;
	size_t place = 64;

	if (__builtin_expect(found != 0, 0)) {
		place = (size_t)__builtin_ctzll(found);
		m.lf &= ((uint64_t)1 << place) - 1;
		crlf &= ((uint64_t)1 << place) - 1;
	}
	counts->lfs += (uint64_t)__builtin_popcountll(m.lf);
	counts->crlfs += (uint64_t)__builtin_popcountll(crlf);
	carry->lf = m.lf;
	carry->cr = m.cr;
	return place;
}

/* The same loop for each kind of processor; masks_of(p) looks at 64 bytes. */
#define DEFINE_FIND(name, attributes, masks_of) \
	static attributes size_t \
	name(const unsigned char *bytes, size_t at, size_t len, unsigned char before1, unsigned char before2, \
	    struct line_counts *counts) \
	{ \
		struct carry carry = carry_from(before1, before2); \
		unsigned char rest[64] = { 0 }; \
		size_t place; \
 \
		for (; len - at >= 64; at += 64) \
			if ((place = count_64(masks_of(bytes + at), &carry, counts)) < 64) \
				return at + place; \
		if (at == len) \
			return len; \
		memcpy(rest, bytes + at, len - at); \
		place = count_64(masks_of(rest), &carry, counts); \
		return place < 64 ? at + place : len; \
	}

/* Bit i: whether byte i of the eight is c.  Exact, unlike the shorter tricks. */
static inline uint64_t
mask_8(uint64_t word, unsigned char c)
{
	const uint64_t low7 = UINT64_C(0x7f7f7f7f7f7f7f7f);
	uint64_t x = word ^ UINT64_C(0x0101010101010101) * c;

	x = ~(((x & low7) + low7) | x | low7);
	return ((x >> 7) * UINT64_C(0x0102040810204080)) >> 56;
}

static inline struct masks
masks_portable(const unsigned char *p)
{
	struct masks m = { 0, 0, 0 };
	uint64_t word;
	int i;

	for (i = 0; i < 8; i++) {
		memcpy(&word, p + i * 8, 8);
		word = le64toh(word);
		m.lf |= mask_8(word, '\n') << i * 8;
		m.cr |= mask_8(word, '\r') << i * 8;
		m.f |= mask_8(word, 'F') << i * 8;
	}
	return m;
}

DEFINE_FIND(find_portable, , masks_portable)

#ifdef __x86_64__

static inline __attribute__((always_inline)) uint64_t
mask_sse2(const __m128i v[4], char c)
{
	const __m128i all = _mm_set1_epi8(c);
	uint64_t mask = 0;
	int i;

	for (i = 0; i < 4; i++)
		mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v[i], all)) << i * 16;
	return mask;
}

static inline __attribute__((always_inline)) struct masks
masks_sse2(const unsigned char *p)
{
	__m128i v[4];
	int i;

	for (i = 0; i < 4; i++)
		v[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + i * 16));
	return (struct masks){ mask_sse2(v, '\n'), mask_sse2(v, '\r'), mask_sse2(v, 'F') };
}

DEFINE_FIND(find_sse2, , masks_sse2)

#define AVX2 __attribute__((target("avx2,popcnt,bmi")))

/*
 * Asked when it is first worth it, and no more than that: in a virtual machine each CPUID is an exit to the hypervisor, 10 us and more.  The
 * compiler's built-in asks 20 times before main(), which is 0.2 ms of every login.
 */
static bool
has_avx2(void)
{
	unsigned a, b, c, d, low, high;

	__cpuid(0, a, b, c, d);
	if (a < 7)
		return false;
	__cpuid(1, a, b, c, d);
	if ((c & bit_OSXSAVE) == 0 || (c & bit_POPCNT) == 0)
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	__cpuid_count(7, 0, a, b, c, d);
	return (low & 6) == 6 && (b & bit_AVX2) != 0 && (b & bit_BMI) != 0; /* 6: the kernel keeps SSE's and AVX's registers */
}

static inline AVX2 __attribute__((always_inline)) uint64_t
mask_avx2(__m256i low, __m256i high, char c)
{
	const __m256i all = _mm256_set1_epi8(c);

	return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, all)) |
	    (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, all)) << 32;
}

static inline AVX2 __attribute__((always_inline)) struct masks
masks_avx2(const unsigned char *p)
{
	__m256i low = _mm256_loadu_si256((const __m256i *)(const void *)p);
	__m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));

	return (struct masks){ mask_avx2(low, high, '\n'), mask_avx2(low, high, '\r'), mask_avx2(low, high, 'F') };
}

DEFINE_FIND(find_avx2, AVX2, masks_avx2)

#endif

size_t
mbox_finds(const struct mbox_find **result)
{
	static struct mbox_find finds[] = {
#ifdef __x86_64__
		{ "avx2", find_avx2, false },
		{ "sse2", find_sse2, true },
#endif
		{ "portable", find_portable, true },
	};

#ifdef __x86_64__
	finds[0].usable = has_avx2();
#endif
	*result = finds;
	return sizeof(finds) / sizeof(finds[0]);
}

/* What asking the processor costs is what 64 KiB cost, or more; most mailboxes are not that long. */
#define WORTH_ASKING 65536

static mbox_find_fn *
best_find(size_t bytes)
{
	static mbox_find_fn *best;
	const struct mbox_find *finds;

#ifdef __x86_64__
	if (best == NULL && bytes < WORTH_ASKING)
		return find_sse2;
#endif
	if (best == NULL) {
		mbox_finds(&finds);
		while (!finds->usable)
			finds++;
		best = finds->find;
	}
	return best;
}

/* --- messages --- */

/* The header line at p (end: where the line's bytes end) begins with name, any letter case. */
static bool
line_begins(const char *p, const char *end, const char *name)
{
	size_t len = strlen(name);

	return (size_t)(end - p) >= len && strncasecmp(p, name, len) == 0;
}

/*
 * c-client's internal message: the subject, X-IMAP:, and nothing that a mail system would have put there; a mail that
 * imitates it has a Received: line.
 */
static bool
is_internal(const unsigned char *head, size_t len)
{
	const char *p = (const char *)head, *end = p + len, *lf;
	bool subject = false, base = false;

	for (; p < end && *p != '\n' && *p != '\r'; p = lf + 1) {
		if ((lf = memchr(p, '\n', (size_t)(end - p))) == NULL)
			lf = end - 1;
		if (line_begins(p, lf, "Received:") || line_begins(p, lf, "Return-Path:") ||
		    line_begins(p, lf, "Delivered-To:"))
			return false;
		subject |= line_begins(p, lf, "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA");
		base |= line_begins(p, lf, "X-IMAP:");
	}
	return subject && base;
}

/* The message at hand ends at end, where counts were seen; what follows its empty line stands at next. */
static enum mbox_scan_result
close_message(struct mbox_scan *s, uint64_t end, struct line_counts counts, bool torn, uint64_t next)
{
	uint64_t bytes = end - s->offset;
	struct mbox_list *list = s->list;
	struct record *r;

	s->in_message = false;
	if (s->internal && is_internal(s->head, bytes < s->head_bytes ? (size_t)bytes : s->head_bytes)) {
		list->begin = next;
		return MBOX_SCAN_OK;
	}
	if (mbox_list_add(list) == -1)
		return MBOX_SCAN_FAILED;
	r = &list->records[list->count - 1];
	r->offset = s->offset;
	r->bytes = bytes;
	r->octets = bytes + (counts.lfs - s->at_offset.lfs) - (counts.crlfs - s->at_offset.crlfs) + (torn ? 2 : 0);
	r->fingerprint = fingerprint(s->head, bytes);
	list->from_bytes[list->count - 1] = (uint16_t)(s->offset - s->from);
	return MBOX_SCAN_OK;
}

static void
collect_head(struct mbox_scan *s, const unsigned char *bytes, size_t len)
{
	size_t want = (s->internal ? INTERNAL_BYTES : FINGERPRINT_BYTES);

	want = want > s->head_bytes ? want - s->head_bytes : 0;
	if (len > want)
		len = want;
	if (len > 0)
		memcpy(s->head + s->head_bytes, bytes, len);
	s->head_bytes += len;
}

/* A From_ line of len bytes, line end included, stands at s->line. */
static enum mbox_scan_result
begin_message(struct mbox_scan *s, const char *line, size_t len)
{
	enum mbox_scan_result result = MBOX_SCAN_OK;
	struct line_counts counts = s->at_line;

	if (s->in_message) {
		counts.lfs -= 1;
		counts.crlfs -= s->empty_bytes - 1;
		result = close_message(s, s->line - s->empty_bytes, counts, false, s->line);
	}
	s->from = s->line;
	s->offset = s->line + len;
	s->at_offset = s->at_line;
	if (line[len - 1] == '\n') {
		s->at_offset.lfs++;
		s->at_offset.crlfs += line[len - 2] == '\r';
	}
	s->internal = s->first && len > 19 && memcmp(line, "From MAILER-DAEMON ", 19) == 0;
	s->head_bytes = 0;
	s->first = false;
	s->begun = s->in_message = true;
	return result;
}

/* A whole line that may be a From_ line; rest is what was fed behind it. */
static enum mbox_scan_result
judge_line(struct mbox_scan *s, const char *line, size_t len, const unsigned char *rest, size_t rest_len)
{
	size_t text = len;
	enum mbox_scan_result result;

	s->in_line = false;
	if (text > 0 && line[text - 1] == '\n')
		text--;
	if (text > 0 && line[text - 1] == '\r')
		text--;
	if (!from_line_valid(line, text))
		return s->begun ? MBOX_SCAN_OK : MBOX_SCAN_NOT_MBOX;
	result = begin_message(s, line, len);
	collect_head(s, rest, rest_len);
	return result;
}

/* bytes[at] begins a line that may be a From_ line. */
static enum mbox_scan_result
take_line(struct mbox_scan *s, const unsigned char *bytes, size_t at, size_t len)
{
	const char *line = (const char *)bytes + at;
	size_t have = len - at < FROM_LINE_BYTES ? len - at : FROM_LINE_BYTES, whole;
	const char *lf = memchr(line, '\n', have);

	s->line = s->position + at;
	s->at_line = s->counts;
	if (lf != NULL) {
		whole = (size_t)(lf - line) + 1;
		return judge_line(s, line, whole, bytes + at + whole, len - at - whole);
	}
	if (have == FROM_LINE_BYTES)
		return s->begun ? MBOX_SCAN_OK : MBOX_SCAN_NOT_MBOX;
	memcpy(s->line_head, line, have);
	s->line_bytes = have;
	s->in_line = true;
	return MBOX_SCAN_OK;
}

/* The rest of a line whose beginning came with the piece before. */
static enum mbox_scan_result
continue_line(struct mbox_scan *s, const unsigned char *bytes, size_t len)
{
	size_t n = FROM_LINE_BYTES - s->line_bytes;
	const unsigned char *lf;

	if (n > len)
		n = len;
	if ((lf = memchr(bytes, '\n', n)) != NULL)
		n = (size_t)(lf - bytes) + 1;
	memcpy(s->line_head + s->line_bytes, bytes, n);
	s->line_bytes += n;
	if (lf != NULL)
		return judge_line(s, s->line_head, s->line_bytes, bytes + n, len - n);
	if (s->line_bytes < FROM_LINE_BYTES)
		return MBOX_SCAN_OK;
	s->in_line = false;
	return s->begun ? MBOX_SCAN_OK : MBOX_SCAN_NOT_MBOX;
}

/* The byte i places before bytes[at]. */
static unsigned char
before(const struct mbox_scan *s, const unsigned char *bytes, size_t at, size_t i)
{
	return at >= i ? bytes[at - i] : s->before[i - at - 1];
}

/* Follows an LF that follows an LF or CR: is the line before empty? */
static bool
after_empty_line(struct mbox_scan *s, const unsigned char *bytes, size_t at)
{
	s->empty_bytes = before(s, bytes, at, 2) == '\r' ? 2 : 1;
	return s->empty_bytes == 1 || before(s, bytes, at, 3) == '\n';
}

static enum mbox_scan_result
scan_lines(struct mbox_scan *s, const unsigned char *bytes, size_t at, size_t len)
{
	enum mbox_scan_result result = MBOX_SCAN_OK;
	mbox_find_fn *find = best_find(len - at);

	while (at < len && result == MBOX_SCAN_OK) {
		at = find(bytes, at, len, before(s, bytes, at, 1), before(s, bytes, at, 2), &s->counts);
		if (at < len && after_empty_line(s, bytes, at))
			result = take_line(s, bytes, at, len);
		at++; /* the 'F' itself counts for nothing */
	}
	return result;
}

static void
remember_before(struct mbox_scan *s, const unsigned char *bytes, size_t len)
{
	unsigned char b[3];
	size_t i;

	for (i = 0; i < 3; i++)
		b[i] = before(s, bytes, len, i + 1);
	memcpy(s->before, b, 3);
}

void
mbox_scan_begin(struct mbox_scan *s, struct mbox_list *list, uint64_t position)
{
	memset(s, 0, sizeof(*s));
	s->list = list;
	s->position = position;
	s->first = position == 0;
}

/* Those before the first message; LF and CRLF. */
static size_t
skip_empty_lines(struct mbox_scan *s, const unsigned char *bytes, size_t len)
{
	size_t at;

	for (at = 0; at < len && (bytes[at] == '\n' || (bytes[at] == '\r' && !s->after_cr)); at++)
		s->after_cr = bytes[at] == '\r';
	return at;
}

enum mbox_scan_result
mbox_scan_feed(struct mbox_scan *s, const unsigned char *bytes, size_t len)
{
	enum mbox_scan_result result = MBOX_SCAN_OK;
	size_t at = 0;

	if (len == 0)
		return MBOX_SCAN_OK;
	if (s->in_message)
		collect_head(s, bytes, len);
	if (s->in_line) {
		result = continue_line(s, bytes, len);
	} else if (!s->begun) {
		at = skip_empty_lines(s, bytes, len);
		if (at < len)
			result = s->after_cr ? MBOX_SCAN_NOT_MBOX : take_line(s, bytes, at++, len);
	}
	if (result == MBOX_SCAN_OK)
		result = scan_lines(s, bytes, at, len);
	remember_before(s, bytes, len);
	s->position += len;
	return result;
}

/* At the end of the file: bytes of an empty line that is not part of the message. */
static unsigned int
last_empty_line(const struct mbox_scan *s)
{
	if (s->position == s->offset || s->before[0] != '\n')
		return 0;
	if (s->before[1] == '\n')
		return 1;
	return s->before[1] == '\r' && s->before[2] == '\n' ? 2 : 0;
}

enum mbox_scan_result
mbox_scan_end(struct mbox_scan *s)
{
	enum mbox_scan_result result = MBOX_SCAN_OK;
	struct line_counts counts;
	unsigned int empty;

	if (s->in_line)
		result = judge_line(s, s->line_head, s->line_bytes, NULL, 0);
	else if (s->after_cr)
		result = MBOX_SCAN_NOT_MBOX;
	if (result == MBOX_SCAN_OK && s->in_message) {
		empty = last_empty_line(s);
		counts = s->counts;
		counts.lfs -= empty > 0;
		counts.crlfs -= empty > 1;
		result = close_message(s, s->position - empty, counts,
		    s->position > s->offset && s->before[0] != '\n', s->position);
	}
	s->list->end = s->position;
	return result;
}
