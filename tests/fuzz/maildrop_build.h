/*
 * In front of every file of fuzz_maildir, fuzz_maildrop and fuzz_state.  A fuzzer cannot guess checksums, so here they are all 0, and what stands behind them in
 * the index and the journal is reached.  Nothing is waited for, and the process has to live on, so it must not lock itself up.
 */
#undef SANDBOX

/* Small mailboxes go the way of large ones. */
#define GROWTH_PAYS_BYTES 1

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <time.h>
#include <xxhash.h>

#undef XXH3_64bits
#define XXH3_64bits(bytes, len) ((void)(bytes), (void)(len), (XXH64_hash_t)0)
#undef XXH3_64bits_digest
#define XXH3_64bits_digest(state) ((void)(state), (XXH64_hash_t)0)

static inline int
fuzz_no_sleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
	(void)clock;
	(void)flags;
	(void)time;
	(void)left;
	return 0;
}

#define clock_nanosleep fuzz_no_sleep
