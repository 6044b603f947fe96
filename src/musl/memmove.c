/*
 * memcpy(3) and memmove(3) for the lengths that most copies have.  musl's begin each with a string instruction, which takes some 30
 * cycles to get going: copies of a few bytes for 100,000 unique-ids made UIDL twice as slow, and a hash of a password copies 10,000
 * times.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__

#include <emmintrin.h>

/* The compiler must not make a call of these functions out of what they do. */
#ifdef __clang__
#define NO_CALL __attribute__((no_builtin("memcpy", "memmove")))
#else
#define NO_CALL __attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif

/* From this length on the string instruction is as fast. */
#define LONG_COPY 1024

typedef struct { uint64_t v; } __attribute__((packed, may_alias)) word8;
typedef struct { uint32_t v; } __attribute__((packed, may_alias)) word4;
typedef struct { uint16_t v; } __attribute__((packed, may_alias)) word2;

/* Both ends are read before either is written; in the middle they are the same bytes. */
#define COPY_ENDS(type, to, from, n) do { \
		type head = *(const type *)(const void *)(from), tail = *(const type *)(const void *)((from) + (n) - sizeof(type)); \
		*(type *)(void *)(to) = head; \
		*(type *)(void *)((to) + (n) - sizeof(type)) = tail; \
	} while (0)

static inline __attribute__((always_inline)) void
copy_short(unsigned char *to, const unsigned char *from, size_t n)
{
	if (n >= 16)
		COPY_ENDS(__m128i_u, to, from, n);
	else if (n >= 8)
		COPY_ENDS(word8, to, from, n);
	else if (n >= 4)
		COPY_ENDS(word4, to, from, n);
	else if (n >= 2)
		COPY_ENDS(word2, to, from, n);
	else if (n == 1)
		*to = *from;
}

NO_CALL void *
memmove(void *out, const void *in, size_t n)
{
	unsigned char *to = out, *end;
	const unsigned char *from = in;
	__m128i last;
	size_t at;

	if (n <= 32) {
		copy_short(to, from, n);
	} else if ((uintptr_t)to - (uintptr_t)from < n) {	/* to begins inside of what is read: from the end */
		last = _mm_loadu_si128((const __m128i *)(const void *)from);
		for (at = n; at > 16; at -= 16)
			_mm_storeu_si128((__m128i *)(void *)(to + at - 16), _mm_loadu_si128((const __m128i *)(const void *)(from + at - 16)));
		_mm_storeu_si128((__m128i *)(void *)to, last);
	} else if (n < LONG_COPY) {
		last = _mm_loadu_si128((const __m128i *)(const void *)(from + n - 16));
		for (at = 0; at + 16 < n; at += 16)
			_mm_storeu_si128((__m128i *)(void *)(to + at), _mm_loadu_si128((const __m128i *)(const void *)(from + at)));
		_mm_storeu_si128((__m128i *)(void *)(to + n - 16), last);
	} else {
		end = to;
		__asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(n) : : "memory");
	}
	return out;
}

void *memcpy(void *restrict out, const void *restrict in, size_t n) __attribute__((alias("memmove")));

#endif
