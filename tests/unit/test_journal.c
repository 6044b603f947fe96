/* journal: what moves where, what an interrupted move leaves, and journals that somebody made by hand. */
#include "unit.h"
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "common/ioutil.h"
#include "maildrop/journal.h"

static char folder[256], mbox[300], journal[300];
static int folder_fd;
static struct maildrop_plan plan;

static uint64_t random_state = 88172645463325252u;

static uint32_t
random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 32) % n);
}

/* A file system without it: takes the place of the C library's. */
static bool no_fallocate;
static unsigned refused;

int
fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (!no_fallocate)
		return (int)syscall(SYS_fallocate, fd, mode, offset, len);
	refused++;
	errno = EOPNOTSUPP;
	return -1;
}

/* --- files --- */

static int
make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "%s/postern-journal.XXXXXX", test_tmp());
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(mbox, sizeof(mbox), "%s/mbox", folder);
	snprintf(journal, sizeof(journal), "%s/journal", folder);
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
	plan = (struct maildrop_plan){ .path = mbox, .keeper = -1 };
	return folder_fd == -1 ? -1 : 0;
}

/* How many files begin with name; removes them. */
static int
clear(const char *name)
{
	DIR *dir = opendir(folder);
	struct dirent *e;
	int count = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		if (strncmp(e->d_name, name, strlen(name)) == 0 && e->d_name[0] != '.') {
			assert_int_equal(unlinkat(dirfd(dir), e->d_name, 0), 0);
			count++;
		}
	closedir(dir);
	return count;
}

static int
remove_folder(void **state)
{
	(void)state;
	clear("");
	close(folder_fd);
	return rmdir(folder);
}

static void
write_file(const char *path, const void *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd != -1);
	assert_int_equal(write_full(fd, p, len), 0);
	close(fd);
}

static void
append_file(const char *path, const void *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	assert_true(fd != -1);
	assert_int_equal(write_full(fd, p, len), 0);
	close(fd);
}

static unsigned char *
read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	unsigned char *p;
	struct stat st;

	assert_true(fd != -1);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	p = malloc(*len + 1);
	assert_non_null(p);
	if (*len > 0)
		assert_int_equal(read_full(fd, p, *len), IO_DONE);
	close(fd);
	return p;
}

static void
assert_file(const char *path, const void *expected, size_t expected_len)
{
	size_t len;
	unsigned char *p = read_file(path, &len);

	assert_int_equal(len, expected_len);
	assert_memory_equal(p, expected, len);
	free(p);
}

static struct mbox_lock
lock_of(int flags)
{
	struct mbox_lock lock = { .plan = &plan };

	lock.fd = open(mbox, flags);
	assert_true(lock.fd != -1);
	assert_int_equal(fstat(lock.fd, &lock.st), 0);
	return lock;
}

/* --- random work --- */

#define SIZE_MAX_ 20000

struct job {
	unsigned char before[SIZE_MAX_], after[SIZE_MAX_];
	struct journal_range ranges[100];
	struct journal_plan plan;
	uint64_t after_len;
};

static void
make_job(struct job *job)
{
	uint64_t at, i;

	job->plan.size = 50 + random_below(SIZE_MAX_ - 50);
	for (i = 0; i < job->plan.size; i++)
		job->before[i] = (unsigned char)random_below(256);
	job->plan.first = random_below((uint32_t)job->plan.size - 40);
	memcpy(job->after, job->before, job->plan.first);
	job->after_len = at = job->plan.first;
	job->plan.count = 0;
	job->plan.ranges = job->ranges;
	while (job->plan.count < 1 || (job->plan.count < 100 && random_below(5) > 0)) {
		uint64_t left = job->plan.size - at, skip = 1 + random_below((uint32_t)left / (random_below(2) == 0 ? 2 : 20) + 1);
		uint64_t bytes;

		if (left < 3 || skip >= left)
			break;
		at += skip;
		bytes = 1 + random_below((uint32_t)(job->plan.size - at));
		job->ranges[job->plan.count++] = (struct journal_range){ at, bytes };
		memcpy(job->after + job->after_len, job->before + at, bytes);
		job->after_len += bytes;
		at += bytes;
	}
	journal_block_bytes = 1 + random_below(random_below(2) == 0 ? 100 : 8000);
	if (job->plan.count == 0)
		make_job(job);
	else if (random_below(3) == 0)	/* a narrow gap, and stripes if enough is behind it */
		journal_block_bytes = (job->ranges[0].from - job->plan.first) * (4 + random_below(100));
}

static void
test_moves(void **state)
{
	static struct job job;
	struct mbox_lock lock;
	struct stat st;
	uint64_t size;
	int i;

	(void)state;
	for (i = 0; i < 500; i++) {
		make_job(&job);
		write_file(mbox, job.before, job.plan.size);
		lock = lock_of(O_RDWR);
		assert_int_equal(journal_move(&lock, folder_fd, &job.plan, &size), 0);
		assert_int_equal(size, job.after_len);
		assert_int_equal(fstat(lock.fd, &st), 0);
		assert_int_equal(st.st_ino, lock.st.st_ino);
		close(lock.fd);
		assert_file(mbox, job.after, job.after_len);
		assert_int_equal(clear("journal"), 0);
	}
}

/* A mailbox that cannot be written to any more: the first entry is durable, nothing is moved. */
static void
interrupt(const struct job *job)
{
	struct mbox_lock lock;
	uint64_t size;

	write_file(mbox, job->before, job->plan.size);
	lock = lock_of(O_RDONLY);
	assert_int_equal(journal_move(&lock, folder_fd, &job->plan, &size), -1);
	assert_int_equal(errno, EBADF);
	close(lock.fd);
	assert_file(mbox, job->before, job->plan.size);
	assert_int_equal(journal_exists(folder_fd), 1);
}

static enum journal_found
recover(void)
{
	struct mbox_lock lock = lock_of(O_RDWR);
	enum journal_found found = journal_recover(&lock, folder_fd);

	close(lock.fd);
	return found;
}

static void
test_recovery(void **state)
{
	static struct job job;
	static unsigned char expected[SIZE_MAX_ + 2000], late[2000];
	size_t late_len;
	int i;

	(void)state;
	memset(late, 'L', sizeof(late));
	for (i = 0; i < 300; i++) {
		make_job(&job);
		interrupt(&job);
		late_len = random_below(2) == 0 ? 0 : random_below(sizeof(late));
		append_file(mbox, late, late_len);
		assert_int_equal(recover(), JOURNAL_RECOVERED);
		memcpy(expected, job.after, job.after_len);
		memcpy(expected + job.after_len, late, late_len);
		assert_file(mbox, expected, job.after_len + late_len);
		assert_int_equal(clear("journal"), 0);
		assert_int_equal(recover(), JOURNAL_NONE);
	}
}

static void
test_other_file(void **state)
{
	static struct job job;
	char moved[320];

	(void)state;
	make_job(&job);
	interrupt(&job);
	/* The old one is kept, so that its inode number is not given away again. */
	snprintf(moved, sizeof(moved), "%s/moved", folder);
	assert_int_equal(rename(mbox, moved), 0);
	write_file(mbox, job.before, job.plan.size);
	assert_int_equal(recover(), JOURNAL_NONE);
	assert_file(mbox, job.before, job.plan.size);
	assert_int_equal(clear("journal.strange-"), 1);
	assert_int_equal(clear("journal"), 0);
	assert_int_equal(unlink(moved), 0);
}

/* Where the numbers stand, and the hash over all before: see struct header and struct entry. */
#define HEADER_NUMBERS 64
#define HEADER_HASH 136
#define ENTRY 4096
#define ENTRY_NUMBERS 16
#define ENTRY_HASH 72
#define RANGES 12288

/* The phases from this on speak of stripes, and of so many bytes for each one in the slot. */
#define PHASE_ROUND 3
#define ROUNDS 16

/* A byte of the stream that is looked at: behind what is at work according to the first entry, or the first that a round reads. */
static uint64_t
looked_at(void)
{
	size_t len;
	unsigned char *p = read_file(journal, &len);
	uint64_t numbers[4];

	assert_true(len >= ENTRY + ENTRY_HASH);
	memcpy(numbers, p + ENTRY + ENTRY_NUMBERS, sizeof(numbers));
	free(p);
	assert_int_equal(numbers[2], 0);
	if (numbers[1] >= PHASE_ROUND)
		return random_below(2) == 0 ? 0 : numbers[3] * ROUNDS;
	return numbers[3];
}

/* Somebody who did not know has rewritten the mailbox: longer, shorter, or with other bytes where it matters. */
static void
test_rewritten(void **state)
{
	static struct job job;
	static unsigned char other[SIZE_MAX_ + 1];
	uint64_t place;
	size_t len;
	int i;

	(void)state;
	for (i = 0; i < 200; i++) {
		make_job(&job);
		interrupt(&job);
		place = looked_at();
		memcpy(other, job.before, job.plan.size);
		len = job.plan.size;
		if (i % 3 == 0)
			len--;
		else if (i % 3 == 1)
			memmove(other + 1, other, len++);
		else if (place < job.ranges[0].bytes)
			other[job.ranges[0].from + place] ^= 1;
		if (i % 3 == 2 && place >= job.ranges[0].bytes) { /* not a place that is looked at */
			clear("journal");
			continue;
		}
		write_file(mbox, other, len);
		assert_int_equal(recover(), JOURNAL_NONE);
		assert_file(mbox, other, len);
		assert_int_equal(clear("journal.strange-"), 1);
		assert_int_equal(clear("journal"), 0);
	}
}

static void
test_torn_or_empty(void **state)
{
	static struct job job;
	unsigned char *p;
	size_t len, at;

	(void)state;
	make_job(&job);
	interrupt(&job);
	p = read_file(journal, &len);
	for (at = 0; at < 250; at++) {
		write_file(journal, p, at);
		assert_int_equal(recover(), JOURNAL_NONE);
		assert_file(mbox, job.before, job.plan.size);
		assert_int_equal(clear("journal.strange-"), 1);
		assert_int_equal(clear("journal"), 0);
	}
	p[4096 + 20] ^= 1; /* the only entry */
	write_file(journal, p, len);
	assert_int_equal(recover(), JOURNAL_NONE);
	assert_file(mbox, job.before, job.plan.size);
	assert_int_equal(clear("journal.strange-"), 1);
	assert_int_equal(clear("journal"), 0);
	free(p);
}

static void
test_not_a_file(void **state)
{
	static struct job job;

	(void)state;
	make_job(&job);
	write_file(mbox, job.before, job.plan.size);
	assert_int_equal(symlink(mbox, journal), 0);
	assert_int_equal(recover(), JOURNAL_NONE);
	assert_int_equal(clear("journal.strange-"), 1);
	assert_int_equal(mkfifo(journal, 0600), 0);
	assert_int_equal(recover(), JOURNAL_NONE);
	assert_int_equal(clear("journal.strange-"), 1);
	assert_file(mbox, job.before, job.plan.size);
}

/* --- by hand --- */

static uint64_t
odd_number(uint64_t now)
{
	static const uint64_t odd[] = { 0, 1, 2, 4095, 4096, 1 << 20, (uint64_t)64 << 20, INT64_MAX, (uint64_t)INT64_MAX + 1,
		UINT64_MAX - 1, UINT64_MAX };

	if (random_below(2) == 0)
		return now + random_below(21) - 10;
	return odd[random_below(sizeof(odd) / sizeof(odd[0]))];
}

static void
spoil_number(unsigned char *p, size_t len, size_t at)
{
	uint64_t n;

	if (at + 8 > len)
		return;
	memcpy(&n, p + at, 8);
	n = odd_number(n);
	memcpy(p + at, &n, 8);
}

static void
put_hash(unsigned char *p, size_t start, size_t hashed)
{
	uint64_t hash = XXH3_64bits(p + start, hashed);

	memcpy(p + start + hashed, &hash, 8);
}

static void
put_all_hashes(unsigned char *p)
{
	uint64_t count, hash;

	memcpy(&count, p + HEADER_NUMBERS + 6 * 8, 8);
	if (count <= 100) {
		hash = XXH3_64bits(p + RANGES, count * 16);
		memcpy(p + HEADER_NUMBERS + 7 * 8, &hash, 8);
	}
	put_hash(p, 0, HEADER_HASH);
	put_hash(p, ENTRY, ENTRY_HASH);
}

/*
 * A forger who makes all hashes right may spoil the mailbox, which is the forger's; the test is that nothing else
 * happens (run it under a checker of memory), and that it ends.
 */
static void
test_forged(void **state)
{
	static struct job job;
	struct rlimit limit = { 64 << 20, 64 << 20 }, old;
	unsigned char *p;
	size_t len;
	int i, k;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit.rlim_max = old.rlim_max;
	for (i = 0; i < 2000; i++) {
		make_job(&job);
		interrupt(&job);
		p = read_file(journal, &len);
		for (k = (int)random_below(3); k >= 0; k--)
			switch (random_below(3)) {
			case 0:
				spoil_number(p, len, HEADER_NUMBERS + random_below(8) * 8);
				break;
			case 1:
				spoil_number(p, len, ENTRY + ENTRY_NUMBERS + random_below(4) * 8);
				break;
			default:
				spoil_number(p, len, RANGES + random_below(job.plan.count * 2) * 8);
			}
		put_all_hashes(p);
		write_file(journal, p, random_below(10) == 0 ? random_below((uint32_t)len) : len);
		free(p);
		setrlimit(RLIMIT_FSIZE, &limit);
		recover();
		setrlimit(RLIMIT_FSIZE, &old);
		clear("journal");
	}
	/* What the layout above says is what the code says: a journal whose hashes are made anew is taken. */
	make_job(&job);
	interrupt(&job);
	p = read_file(journal, &len);
	put_all_hashes(p);
	write_file(journal, p, len);
	free(p);
	assert_int_equal(recover(), JOURNAL_RECOVERED);
	assert_file(mbox, job.after, job.after_len);
	make_job(&job);
	interrupt(&job);
	p = read_file(journal, &len);
	p[HEADER_HASH] ^= 1;
	write_file(journal, p, len);
	free(p);
	assert_int_equal(recover(), JOURNAL_NONE);
	assert_int_equal(clear("journal.strange-"), 1);
}

/* No room for the journal: nothing has happened. */
static void
test_no_room(void **state)
{
	static struct job job;
	struct rlimit limit = { 4096, 0 }, old;
	struct mbox_lock lock;
	uint64_t size;
	int result;

	(void)state;
	make_job(&job);
	write_file(mbox, job.before, job.plan.size);
	lock = lock_of(O_RDWR);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	result = journal_move(&lock, folder_fd, &job.plan, &size);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(result, -1);
	close(lock.fd);
	assert_file(mbox, job.before, job.plan.size);
	assert_int_equal(clear("journal"), 0);
}

static void
test_without_fallocate(void **state)
{
	no_fallocate = true;
	refused = 0;
	test_moves(state);
	test_no_room(state);
	no_fallocate = false;
	assert_true(refused > 500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_recovery),
		cmocka_unit_test(test_other_file),
		cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_torn_or_empty),
		cmocka_unit_test(test_not_a_file),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_without_fallocate),
	};

	signal(SIGXFSZ, SIG_IGN);
	/* Recovery says what it did. */
	if (freopen("/dev/null", "w", stderr) == NULL)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("journal", tests, make_folder, remove_folder);
}
