/*
 * A fuzz target is one function.  libFuzzer calls it (tests/fuzz/run), or standalone.c does with each file of a corpus
 * (make check).  What a target finds wrong itself, it says by abort().
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run when the condition does not hold. */
#define FUZZ_CHECK(condition) \
	do { \
		if (!(condition)) \
			__builtin_trap(); \
	} while (0)

/* The input in pieces, taken from its front; an exhausted one gives zeros and nothing. */
struct fuzz_input {
	const uint8_t *p;
	size_t len;
};

static inline uint8_t
fuzz_octet(struct fuzz_input *in)
{
	if (in->len == 0)
		return 0;
	in->len--;
	return *in->p++;
}

static inline struct fuzz_input
fuzz_piece(struct fuzz_input *in, size_t len)
{
	struct fuzz_input piece = { in->p, len < in->len ? len : in->len };

	in->p += piece.len;
	in->len -= piece.len;
	return piece;
}

/* A piece whose length stands before it, in two octets. */
static inline struct fuzz_input
fuzz_part(struct fuzz_input *in)
{
	size_t len = fuzz_octet(in);

	return fuzz_piece(in, len << 8 | fuzz_octet(in));
}

/* A folder of this process in memory, made at the first call. */
const char *fuzz_folder(void);

/* Puts the octets into a file of that folder and returns its path (static). */
const char *fuzz_file(const char *name, const void *octets, size_t len);

/*
 * Serves the maildrop of that kind ("mbox", "maildir") and name in the folder, with the folder "state" beside it, to a session that
 * sends messages as the input has them: an octet of length, then as many.  In serve.c.
 */
void fuzz_serve(const char *kind, const char *name, struct fuzz_input in);

#endif
