/* The mbox backend as serve.c uses it: login, what others do to the file meanwhile, unique-ids, LAST and UPDATE. */
#include "unit.h"
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "common/ioutil.h"
#include "maildrop/journal.h"
#include "maildrop/mbox.h"
#include "maildrop/mbox_index.h"
#include "maildrop/unique_id.h"

static char folder[256], mbox[300], lock[310], state_folder[300], index_file[320];
static struct maildrop_plan plan;

/* --- files --- */

static int
make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "%s/postern-mbox.XXXXXX", test_tmp());
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(mbox, sizeof(mbox), "%s/mbox", folder);
	snprintf(lock, sizeof(lock), "%s/mbox.lock", folder);
	snprintf(state_folder, sizeof(state_folder), "%s/state", folder);
	snprintf(index_file, sizeof(index_file), "%s/index", state_folder);
	plan = (struct maildrop_plan){ .user = "user", .kind = KIND_MBOX, .path = mbox, .state = state_folder, .keeper = -1,
		.lock_timeout = 0 };
	return mkdir(state_folder, 0700);
}

static void
clear(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		if (e->d_type != DT_DIR)
			assert_int_equal(unlinkat(dirfd(dir), e->d_name, 0), 0);
	closedir(dir);
}

static int
clear_all(void **state)
{
	(void)state;
	clear(folder);
	clear(state_folder);
	return 0;
}

static int
remove_folder(void **state)
{
	clear_all(state);
	rmdir(state_folder);
	return rmdir(folder);
}

static void
write_mbox(const char *text, size_t len)
{
	int fd = open(mbox, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd != -1);
	assert_int_equal(write_full(fd, text, len), 0);
	close(fd);
}

static void
append_mbox(const char *text)
{
	int fd = open(mbox, O_WRONLY | O_APPEND);

	assert_true(fd != -1);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
	close(fd);
}

static char *
read_mbox(size_t *len)
{
	int fd = open(mbox, O_RDONLY);
	struct stat st;
	char *p;

	assert_true(fd != -1);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	p = calloc(1, *len + 1);
	assert_non_null(p);
	if (*len > 0)
		assert_int_equal(read_full(fd, p, *len), IO_DONE);
	close(fd);
	return p;
}

static void
assert_mbox(const char *expected)
{
	size_t len;
	char *p = read_mbox(&len);

	assert_string_equal(p, expected);
	free(p);
}

static bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* So that a write from now on has another time. */
static void
let_clock_tick(void)
{
	struct timespec pause = { 0, 25000000 };

	nanosleep(&pause, NULL);
}

/* --- sessions --- */

static unsigned char deleted[4096], read_marks[4096];

static enum md_result
open_session(struct maildrop *md)
{
	*md = (struct maildrop){ .plan = &plan, .ops = &mbox_ops, .table_fd = -1, .fd = -1, .deleted = deleted,
		.read = read_marks };
	memset(deleted, 0, sizeof(deleted));
	return md->ops->open(md);
}

static void
assert_open(struct maildrop *md, uint32_t count)
{
	assert_int_equal(open_session(md), MD_OK);
	assert_int_equal(md->count, count);
}

static void
mark(uint32_t n)
{
	deleted[(n - 1) / 8] |= (unsigned char)(1u << (n - 1) % 8);
}

static void
close_session(struct maildrop *md)
{
	md->ops->close(md);
	assert_false(exists(lock));
}

static char taken_id[UNIQUE_ID_OCTETS + 1];

static bool
take_id(const char *id, size_t len)
{
	assert_in_range(len, 1, UNIQUE_ID_OCTETS);
	memcpy(taken_id, id, len);
	taken_id[len] = '\0';
	return false;
}

/* The id of message n; the caller frees it. */
static char *
id_of(struct maildrop *md, uint32_t n)
{
	assert_int_equal(md->ops->unique_ids(md, n, take_id), MD_OK);
	return strdup(taken_id);
}

/* The ids of a session of its own, up to four. */
static uint32_t
get_ids(char *ids[4])
{
	struct maildrop md;
	uint32_t n, count;

	assert_int_equal(open_session(&md), MD_OK);
	count = md.count;
	assert_true(count <= 4);
	if (count > 0)
		assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	for (n = 0; n < count; n++)
		ids[n] = id_of(&md, n + 1);
	close_session(&md);
	return count;
}

static void
free_ids(char *ids[4], uint32_t count)
{
	while (count > 0)
		free(ids[--count]);
}

#define FROM "From a@example.org Mon Nov 23 10:00:00 2026\n"
#define ONE FROM "Subject: one\n\nfirst\n\n"
#define TWO FROM "Subject: two\n\nsecond\n\n"
#define THREE FROM "Subject: three\n\nthird\n\n"
#define NEW FROM "Subject: new\n\nnew\n\n"

/* 300 messages, 1.2 MB: enough for an index. */
#define MANY 300

static char *
make_many(size_t *len)
{
	char *text = malloc((size_t)MANY * 4200), *p = text;
	int i, line;

	assert_non_null(text);
	for (i = 0; i < MANY; i++) {
		p += sprintf(p, FROM "Subject: %d\n\n", i);
		for (line = 0; line < 55; line++)
			p += sprintf(p, "%068d%c\n", i * 1000 + line, line % 7 == 0 ? '\r' : ' ');
		p += sprintf(p, "\n");
	}
	*len = (size_t)(p - text);
	return text;
}

/* Everything in the table against a scan. */
static void
assert_list(const struct maildrop *md)
{
	struct mbox_list list = { .count = 0 };
	struct mbox_scan *scan = malloc(sizeof(*scan));
	size_t len;
	char *p = read_mbox(&len);

	assert_non_null(scan);
	mbox_scan_begin(scan, &list, 0);
	assert_int_equal(mbox_scan_feed(scan, (unsigned char *)p, len), MBOX_SCAN_OK);
	assert_int_equal(mbox_scan_end(scan), MBOX_SCAN_OK);
	assert_int_equal(md->count, list.count);
	if (list.count > 0)
		assert_memory_equal(md->records, list.records, list.count * sizeof(*list.records));
	assert_int_equal(md->state.size, len);
	mbox_list_free(&list);
	free(scan);
	free(p);
}

/* --- login --- */

static void
test_absent_and_empty(void **state)
{
	struct maildrop md;

	(void)state;
	assert_open(&md, 0);
	assert_int_equal(md.fd, -1);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	assert_false(exists(mbox));
	write_mbox("", 0);
	assert_open(&md, 0);
	close_session(&md);
	write_mbox("\n\n", 2);
	assert_open(&md, 0);
	close_session(&md);
}

static void
test_login(void **state)
{
	struct maildrop md;
	struct stat before, after;
	char byte;

	(void)state;
	write_mbox(ONE TWO, strlen(ONE TWO));
	let_clock_tick();
	assert_int_equal(stat(mbox, &before), 0);
	assert_open(&md, 2);
	assert_list(&md);
	assert_int_equal(md.last, 0);
	assert_int_equal(fcntl(md.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(pread(md.fd, &byte, 1, (off_t)md.records[1].offset), 1);
	assert_int_equal(byte, 'S');
	assert_false(exists(lock));
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	assert_int_equal(md.removed, 0);
	close_session(&md);
	assert_int_equal(stat(mbox, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim));
}

static void
assert_refused(enum md_result expected)
{
	struct maildrop md;

	assert_int_equal(open_session(&md), expected);
	close_session(&md);
}

static void
test_refused_files(void **state)
{
	char other[320];

	(void)state;
	write_mbox("Subject: no mbox\n\n", 18);
	assert_refused(MD_PERMANENT);
	write_mbox(ONE, strlen(ONE));
	snprintf(other, sizeof(other), "%s/other", folder);
	assert_int_equal(link(mbox, other), 0);
	assert_refused(MD_PERMANENT);
	assert_int_equal(unlink(mbox), 0);
	assert_int_equal(symlink(other, mbox), 0);
	assert_refused(MD_PERMANENT);
	assert_int_equal(unlink(mbox), 0);
	assert_int_equal(mkfifo(mbox, 0600), 0);
	assert_refused(MD_PERMANENT);
	assert_int_equal(unlink(mbox), 0);
	assert_int_equal(mkdir(mbox, 0700), 0);
	assert_refused(MD_PERMANENT);
	assert_int_equal(rmdir(mbox), 0);
	if (geteuid() != 0)
		return;
	write_mbox(ONE, strlen(ONE));
	assert_int_equal(chown(mbox, 65534, 65534), 0);
	assert_refused(MD_PERMANENT);
}

static void
test_no_state_folder(void **state)
{
	(void)state;
	write_mbox(ONE, strlen(ONE));
	plan.state = "/nonexistent/state";
	assert_refused(MD_TEMPORARY);
	plan.state = mbox;
	assert_refused(MD_TEMPORARY);
	plan.state = state_folder;
}

/* In another process, since a lock is no obstacle to its owner. */
static enum md_result
open_elsewhere(void)
{
	struct maildrop md;
	pid_t child = fork();
	int status;

	assert_true(child != -1);
	if (child == 0) {
		alarm(30);
		_exit((int)open_session(&md));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return (enum md_result)WEXITSTATUS(status);
}

static void
test_second_session(void **state)
{
	struct maildrop md;

	(void)state;
	write_mbox(ONE, strlen(ONE));
	assert_open(&md, 1);
	assert_int_equal(open_elsewhere(), MD_IN_USE);
	close_session(&md);
	assert_int_equal(open_elsewhere(), MD_OK);
	/* One that is not there is locked as well. */
	assert_int_equal(unlink(mbox), 0);
	assert_open(&md, 0);
	assert_int_equal(open_elsewhere(), MD_IN_USE);
	close_session(&md);
}

/* --- the locks of others --- */

static void
test_foreign_dotlock(void **state)
{
	struct maildrop md;
	int fd;

	(void)state;
	write_mbox(ONE TWO, strlen(ONE TWO));
	fd = open(lock, O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_int_equal(write(fd, "1\n", 2), 2);
	close(fd);
	assert_int_equal(open_elsewhere(), MD_IN_USE);
	assert_int_equal(unlink(lock), 0);
	assert_open(&md, 2);
	fd = open(lock, O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_int_equal(write(fd, "1\n", 2), 2);
	close(fd);
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_TEMPORARY);
	assert_int_equal(md.removed, 0);
	assert_mbox(ONE TWO);
	assert_int_equal(unlink(lock), 0);
	close_session(&md);
}

static void
test_foreign_fcntl(void **state)
{
	struct flock from_end = { .l_type = F_WRLCK, .l_whence = SEEK_END }; /* procmail's */
	struct maildrop md;
	int fd;

	(void)state;
	write_mbox(ONE TWO, strlen(ONE TWO));
	fd = open(mbox, O_RDWR);
	assert_int_equal(fcntl(fd, F_SETLK, &from_end), 0);
	assert_int_equal(open_elsewhere(), MD_IN_USE);
	close(fd);
	assert_open(&md, 2);
	fd = open(mbox, O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &from_end), 0);
	mark(2);
	assert_int_equal(md.ops->update(&md, 0), MD_TEMPORARY);
	close(fd);
	assert_mbox(ONE TWO);
	close_session(&md);
}

/* Other readers are no obstacle to a login, and who only reads leaves no trace for delivery agents to wait for. */
static void
test_reading_beside_readers(void **state)
{
	struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd, watch = inotify_init1(IN_NONBLOCK);
	char event[sizeof(struct inotify_event) + NAME_MAX + 1];
	struct maildrop md;

	(void)state;
	write_mbox(ONE, strlen(ONE));
	fd = open(mbox, O_RDONLY);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &whole), 0);
	assert_true(inotify_add_watch(watch, folder, IN_CREATE) != -1);
	assert_open(&md, 1);
	assert_list(&md);
	assert_int_equal(read(watch, event, sizeof(event)), -1);
	/* Our own lock is gone with the login, the others' is still respected where something is written. */
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_TEMPORARY);
	close(fd);
	whole.l_type = F_WRLCK;
	fd = open(mbox, O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &whole), 0);
	close(fd);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	assert_mbox("");
	assert_true(read(watch, event, sizeof(event)) > 0);
	close_session(&md);
	close(watch);
}

/* Two messages, so far from each other that reading takes longer than many a change: only the digits of their subjects differ. */
#define APART ((size_t)8 << 20)
#define DIGIT (sizeof(FROM "Subject: ") - 1)

static char *
make_distant(void)
{
	char *text = malloc(2 * APART + 1);
	size_t i;

	assert_non_null(text);
	memset(text, 'x', 2 * APART);
	for (i = 79; i < 2 * APART; i += 80)
		text[i] = '\n';
	memcpy(text, FROM "Subject: 0\n\n", DIGIT + 3);
	memcpy(text + APART, "\n\n" FROM "Subject: 0\n\n", 2 + DIGIT + 3);
	text[2 * APART] = '\0';
	return text;
}

static void
pause_us(unsigned us)
{
	nanosleep(&(struct timespec){ 0, (long)us * 1000 }, NULL);
}

/* Gives both messages the same digit, under the dot-lock and no other, until it is killed. */
static void
rewrite_for_ever(void)
{
	int fd = open(mbox, O_WRONLY), held;
	unsigned round = 0;
	char digit;

	for (;; round++) {
		while ((held = open(lock, O_WRONLY | O_CREAT | O_EXCL, 0644)) == -1)
			pause_us(200);
		dprintf(held, "%d\n", (int)getpid());
		close(held);
		digit = (char)('0' + round % 10);
		if (pwrite(fd, &digit, 1, DIGIT) != 1)
			_exit(1);
		pause_us(round * 7919 % 500);
		if (pwrite(fd, &digit, 1, (off_t)(APART + 2 + DIGIT)) != 1 || unlink(lock) == -1)
			_exit(1);
		pause_us(round * 104729 % 3000);
	}
}

/* The digit of message n, by its fingerprint. */
static int
digit_of(const struct maildrop *md, const uint64_t fingerprints[10], uint32_t n)
{
	int digit = 0;

	while (digit < 10 && md->records[n - 1].fingerprint != fingerprints[digit])
		digit++;
	return digit;
}

/* What a login finds is the file as it was at one moment, also beside a program that takes the dot-lock alone. */
static void
test_reading_beside_dotlock_writer(void **state)
{
	uint64_t fingerprints[2][10];
	char *text = make_distant();
	struct maildrop md;
	int i, digit, status, seen = 0;
	pid_t child;

	(void)state;
	for (i = 0; i < 10; i++) {
		text[DIGIT] = text[APART + 2 + DIGIT] = (char)('0' + i);
		write_mbox(text, 2 * APART);
		assert_open(&md, 2);
		fingerprints[0][i] = md.records[0].fingerprint;
		fingerprints[1][i] = md.records[1].fingerprint;
		close_session(&md);
	}
	free(text);
	plan.lock_timeout = 30;
	if ((child = fork()) == 0)
		rewrite_for_ever();
	assert_true(child != -1);
	for (i = 0; i < 100; i++) {
		if (open_session(&md) != MD_OK || md.count != 2 || (digit = digit_of(&md, fingerprints[0], 1)) == 10 ||
		    digit != digit_of(&md, fingerprints[1], 2))
			break;
		seen |= 1 << digit;
		md.ops->close(&md);
	}
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	plan.lock_timeout = 0;
	assert_int_equal(i, 100);
	assert_true((seen & (seen - 1)) != 0);	/* it was rewritten meanwhile */
}

/* --- UPDATE --- */

static void
test_deletions(void **state)
{
	static const char *const texts[3] = { ONE, TWO, THREE };
	static const size_t blocks[] = { 16, 50, 100000 };
	char expected[1000];
	struct maildrop md;
	struct stat before, after;
	unsigned int set, n, i, count;

	(void)state;
	for (i = 0; i < 3; i++)
		for (set = 1; set < 8; set++) {
			journal_block_bytes = blocks[i];
			write_mbox(ONE TWO THREE, strlen(ONE TWO THREE));
			assert_int_equal(stat(mbox, &before), 0);
			assert_open(&md, 3);
			expected[0] = '\0';
			for (n = 1, count = 0; n <= 3; n++)
				if ((set >> (n - 1) & 1) != 0) {
					mark(n);
					count++;
				} else {
					strcat(expected, texts[n - 1]);
				}
			assert_int_equal(md.ops->update(&md, 3), MD_OK);
			assert_int_equal(md.removed, count);
			close_session(&md);
			assert_mbox(expected);
			assert_int_equal(stat(mbox, &after), 0);
			assert_int_equal(before.st_ino, after.st_ino);
			assert_open(&md, 3 - count);
			assert_list(&md);
			assert_int_equal(md.last, 3 - count);
			close_session(&md);
		}
}

static void
test_internal_stays(void **state)
{
	static const char internal[] = "From MAILER-DAEMON Mon Nov 23 10:00:00 2026\n"
		"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
		"X-IMAP: 1234567890 0000000005\n"
		"\n"
		"internal\n"
		"\n";
	char text[1000];
	struct maildrop md;

	(void)state;
	snprintf(text, sizeof(text), "%s%s", internal, ONE TWO);
	write_mbox(text, strlen(text));
	assert_open(&md, 2);
	assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	snprintf(text, sizeof(text), "%s%s", internal, TWO);
	assert_mbox(text);
	assert_open(&md, 1);
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	assert_mbox(internal);
	assert_open(&md, 0);
	assert_int_equal(md.fd, -1);
	close_session(&md);
}

static void
test_appended_meanwhile(void **state)
{
	struct maildrop md;

	(void)state;
	write_mbox(ONE TWO, strlen(ONE TWO));
	assert_open(&md, 2);
	append_mbox(NEW);
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	assert_int_equal(md.removed, 1);
	close_session(&md);
	assert_mbox(TWO NEW);
	assert_open(&md, 2);
	append_mbox(THREE);
	mark(1);
	mark(2);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	assert_mbox(THREE);
}

/* Another program has deleted, or written Status lines; the numbers of the login mean nothing then. */
static void
change_and_delete(bool with_ids, const char *now, uint32_t which, enum md_result result, uint32_t removed,
    const char *expected)
{
	struct maildrop md;

	write_mbox(ONE TWO THREE, strlen(ONE TWO THREE));
	assert_open(&md, 3);
	if (with_ids)
		assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	let_clock_tick();
	write_mbox(now, strlen(now));
	mark(which);
	assert_int_equal(md.ops->update(&md, 0), result);
	assert_int_equal(md.removed, removed);
	close_session(&md);
	assert_mbox(expected);
}

#define TWO_TAGGED FROM "Subject: two\nX-Tag: seen by a filter\n\nsecond\n\n"
#define TWO_READ FROM "Subject: two\nStatus: RO\n\nsecond\n\n"

static void
test_changed_meanwhile(void **state)
{
	int ids;

	(void)state;
	for (ids = 0; ids < 2; ids++) {
		change_and_delete(ids, TWO THREE, 2, MD_OK, 1, THREE);
		change_and_delete(ids, TWO THREE, 1, MD_OK, 1, TWO THREE);
		change_and_delete(ids, ONE THREE, 2, MD_OK, 1, ONE THREE);
		change_and_delete(ids, THREE TWO ONE, 2, MD_OK, 1, THREE ONE);
		change_and_delete(ids, "", 2, MD_OK, 1, "");
		change_and_delete(ids, TWO THREE NEW, 3, MD_OK, 1, TWO NEW);
	}
	/* Digests know it again, content does not: it stays, and that is said. */
	change_and_delete(true, ONE TWO_READ THREE, 2, MD_OK, 1, ONE THREE);
	change_and_delete(false, ONE TWO_READ THREE, 2, MD_TEMPORARY, 0, ONE TWO_READ THREE);
	/* Not found by digest, and something new stands where it was: it may be that with another header line. */
	change_and_delete(true, ONE TWO_TAGGED THREE, 2, MD_TEMPORARY, 0, ONE TWO_TAGGED THREE);
	change_and_delete(true, TWO_READ NEW, 3, MD_TEMPORARY, 0, TWO_READ NEW);
	change_and_delete(true, NEW TWO_READ, 1, MD_TEMPORARY, 0, NEW TWO_READ);
	change_and_delete(true, TWO_READ, 3, MD_OK, 1, TWO_READ);
	change_and_delete(false, ONE TWO NEW, 3, MD_TEMPORARY, 0, ONE TWO NEW);
}

static void
test_equal_ones_changed(void **state)
{
	struct maildrop md;
	int ids;

	(void)state;
	for (ids = 0; ids < 2; ids++) {
		/* One of two is gone, and only one was to be deleted: which one is left? */
		write_mbox(ONE ONE TWO, strlen(ONE ONE TWO));
		assert_open(&md, 3);
		if (ids)
			assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
		let_clock_tick();
		write_mbox(ONE TWO, strlen(ONE TWO));
		mark(1);
		mark(3);
		assert_int_equal(md.ops->update(&md, 0), MD_TEMPORARY);
		assert_int_equal(md.removed, 1);
		close_session(&md);
		assert_mbox(ONE);
		/* Both: no question. */
		write_mbox(ONE ONE TWO, strlen(ONE ONE TWO));
		assert_open(&md, 3);
		if (ids)
			assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
		let_clock_tick();
		write_mbox(ONE TWO, strlen(ONE TWO));
		mark(1);
		mark(2);
		assert_int_equal(md.ops->update(&md, 0), MD_OK);
		assert_int_equal(md.removed, 2);
		close_session(&md);
		assert_mbox(TWO);
	}
}

/* Another file in its place, as old POP3 servers do it: what is deleted is deleted there. */
static void
test_replaced_meanwhile(void **state)
{
	char other[320];
	struct maildrop md;

	(void)state;
	snprintf(other, sizeof(other), "%s/other", folder);
	write_mbox(ONE TWO THREE, strlen(ONE TWO THREE));
	assert_open(&md, 3);
	let_clock_tick();
	assert_int_equal(rename(mbox, other), 0);
	write_mbox(ONE TWO_READ THREE NEW, strlen(ONE TWO_READ THREE NEW));
	assert_int_equal(unlink(other), 0);
	assert_int_equal(md.ops->verify(&md), MD_GONE);
	mark(2);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	assert_mbox(ONE THREE NEW);
	assert_open(&md, 3);
	mark(1);
	assert_int_equal(unlink(mbox), 0);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	assert_int_equal(md.removed, 1);
	close_session(&md);
	assert_false(exists(mbox));
}

/* --- VERIFY --- */

static void
test_verify(void **state)
{
	static const char *const gone[] = { TWO, ONE TWO_READ THREE, ONE, FROM "Subject: ons\n\nfirst\n\n" TWO, "" };
	struct file_state old;
	struct maildrop md;
	size_t i;

	(void)state;
	write_mbox(ONE TWO, strlen(ONE TWO));
	assert_open(&md, 2);
	assert_int_equal(md.ops->verify(&md), MD_OK);
	old = md.state;
	let_clock_tick();
	append_mbox(NEW);
	assert_int_equal(md.ops->verify(&md), MD_OK);
	assert_true(md.state.size == old.size + strlen(NEW));
	assert_int_equal(md.count, 2);
	assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	close_session(&md);
	for (i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		write_mbox(ONE TWO, strlen(ONE TWO));
		assert_open(&md, 2);
		let_clock_tick();
		write_mbox(gone[i], strlen(gone[i]));
		assert_int_equal(md.ops->verify(&md), MD_GONE);
		assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_GONE);
		close_session(&md);
	}
}

/* What came in before VERIFY belongs to no message of the session. */
static void
test_delete_after_verify(void **state)
{
	struct maildrop md;
	int ids;

	(void)state;
	for (ids = 0; ids < 2; ids++) {
		write_mbox(ONE TWO, strlen(ONE TWO));
		assert_open(&md, 2);
		if (ids)
			assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
		let_clock_tick();
		append_mbox("\n" NEW);
		assert_int_equal(md.ops->verify(&md), MD_OK);
		mark(2);
		assert_int_equal(md.ops->update(&md, 0), MD_OK);
		assert_int_equal(md.removed, 1);
		close_session(&md);
		assert_mbox(ONE NEW);
	}
}

/* maildrop(1) writes an empty line before its From_ line: the message before is not another one for that. */
static void
test_verify_empty_line_added(void **state)
{
	struct maildrop md;

	(void)state;
	write_mbox(ONE TWO, strlen(ONE TWO));
	assert_open(&md, 2);
	let_clock_tick();
	append_mbox("\n" NEW);
	assert_int_equal(md.ops->verify(&md), MD_OK);
	close_session(&md);
}

/* --- unique-ids --- */

static void
test_ids_survive(void **state)
{
	char *first[4], *now[4];
	struct maildrop md;
	uint32_t count;

	(void)state;
	write_mbox(ONE ONE TWO, strlen(ONE ONE TWO));
	assert_int_equal(get_ids(first), 3);
	assert_string_equal(first[1] + 32, "-2");
	/* a delivery */
	append_mbox(ONE);
	count = get_ids(now);
	assert_int_equal(count, 4);
	assert_string_equal(now[0], first[0]);
	assert_string_equal(now[1], first[1]);
	assert_string_equal(now[2], first[2]);
	assert_memory_equal(now[3], first[0], 32);
	assert_string_equal(now[3] + 32, "-3");
	free_ids(now, count);
	/* the first of three equal ones goes */
	assert_open(&md, 4);
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	count = get_ids(now);
	assert_int_equal(count, 3);
	assert_string_equal(now[0], first[1]);
	assert_string_equal(now[1], first[2]);
	assert_string_equal(now[2] + 32, "-3");
	free_ids(now, count);
	/* a mail reader writes its notes into all of them, and nobody asks for ids then */
	let_clock_tick();
	write_mbox("", 0);
	append_mbox(FROM "Status: O\nSubject: one\n\nfirst\n\n" TWO_READ FROM "Subject: one\nStatus: O\nX-UID: 3\n\nfirst\n\n");
	assert_open(&md, 3);
	close_session(&md);
	count = get_ids(now);
	assert_int_equal(count, 3);
	assert_string_equal(now[0], first[1]);
	assert_string_equal(now[1], first[2]);
	assert_string_equal(now[2] + 32, "-3");
	free_ids(now, count);
	/* the index is lost: only which of the equal ones is which */
	assert_int_equal(unlink(index_file), 0);
	count = get_ids(now);
	assert_string_equal(now[0], first[0]);
	assert_string_equal(now[1], first[2]);
	free_ids(now, count);
	free_ids(first, 3);
}

/* The first of two equal messages has gone and mail has come; then nobody asks for ids before another one goes, or at all. */
static void
test_ids_after_growth(void **state)
{
	char *first[4], *now[4];
	char *text = malloc(sizeof(ONE ONE TWO) + INDEX_PAYS_BYTES + 2), *p = stpcpy(text, ONE ONE TWO) - 1;
	struct maildrop md;
	uint32_t count, gone;

	memset(p, 'x', INDEX_PAYS_BYTES);
	strcpy(p + INDEX_PAYS_BYTES, "\n\n");
	for (gone = 0; gone < 2; gone++) {
		clear_all(state);
		write_mbox(text, strlen(text));
		assert_int_equal(get_ids(first), 3);
		assert_open(&md, 3);
		mark(1);
		assert_int_equal(md.ops->update(&md, 0), MD_OK);
		close_session(&md);
		append_mbox(NEW NEW);
		assert_open(&md, 4);
		if (gone > 0) {
			mark(3);
			assert_int_equal(md.ops->update(&md, 0), MD_OK);
		}
		close_session(&md);
		count = get_ids(now);
		assert_int_equal(count, 4 - gone);
		assert_string_equal(now[0], first[1]);
		assert_string_equal(now[1], first[2]);
		free_ids(now, count);
		free_ids(first, 3);
	}
	free(text);
}

static void
test_ids_deleted_after_change(void **state)
{
	char *first[4], *now[4];
	struct maildrop md;
	uint32_t count;

	(void)state;
	write_mbox(ONE ONE TWO, strlen(ONE ONE TWO));
	assert_int_equal(get_ids(first), 3);
	assert_open(&md, 3);
	append_mbox(NEW);
	mark(1);
	assert_int_equal(md.ops->update(&md, 0), MD_OK);
	close_session(&md);
	count = get_ids(now);
	assert_int_equal(count, 3);
	assert_string_equal(now[0], first[1]);
	assert_string_equal(now[1], first[2]);
	free_ids(now, count);
	free_ids(first, 3);
}

/* --- the index --- */

static void
test_index_saves_the_scan(void **state)
{
	struct maildrop md;
	size_t len;
	char *text = make_many(&len), *id;
	int fd;

	(void)state;
	write_mbox(text, len);
	assert_open(&md, MANY);
	assert_list(&md);
	close_session(&md);
	assert_true(exists(index_file));
	/* Nobody needs a lock for what has not changed. */
	fd = open(mbox, O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &(struct flock){ .l_type = F_WRLCK }), 0);
	assert_open(&md, MANY);
	assert_list(&md);
	assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	id = id_of(&md, MANY);
	close_session(&md);
	close(fd);
	append_mbox(NEW);
	assert_open(&md, MANY + 1);
	assert_list(&md);
	assert_int_equal(md.ops->unique_ids(&md, MANY, take_id), MD_OK);
	assert_string_equal(taken_id, id);
	mark(1);
	mark(7);
	assert_int_equal(md.ops->update(&md, 10), MD_OK);
	close_session(&md);
	/* After an UPDATE the index is right again. */
	fd = open(mbox, O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &(struct flock){ .l_type = F_WRLCK }), 0);
	assert_open(&md, MANY - 1);
	assert_list(&md);
	assert_int_equal(md.last, 8);
	assert_int_equal(md.ops->unique_ids(&md, MANY - 2, take_id), MD_OK);
	assert_string_equal(taken_id, id);
	close_session(&md);
	close(fd);
	free(id);
	free(text);
}

/* Grown, but also changed before: found out by looking. */
static void
test_index_of_changed_file(void **state)
{
	struct maildrop md;
	size_t len;
	char *text = make_many(&len);

	(void)state;
	write_mbox(text, len);
	assert_open(&md, MANY);
	close_session(&md);
	let_clock_tick();
	write_mbox(TWO, strlen(TWO));
	append_mbox(text);
	assert_open(&md, MANY + 1);
	assert_list(&md);
	close_session(&md);
	/* The same size, another order. */
	let_clock_tick();
	write_mbox(text, len);
	append_mbox(TWO);
	assert_open(&md, MANY + 1);
	assert_list(&md);
	close_session(&md);
	free(text);
}

static unsigned char *
read_index(size_t *len)
{
	int fd = open(index_file, O_RDONLY);
	struct stat st;
	unsigned char *p;

	assert_true(fd != -1);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	p = malloc(*len);
	assert_non_null(p);
	assert_int_equal(read_full(fd, p, *len), IO_DONE);
	close(fd);
	return p;
}

static void
write_index(const unsigned char *p, size_t len)
{
	int fd = open(index_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd != -1);
	assert_int_equal(write_full(fd, p, len), 0);
	close(fd);
}

static void
open_all(const char *id)
{
	struct maildrop md;

	assert_open(&md, MANY);
	assert_list(&md);
	assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	assert_string_equal(taken_id, id);
	close_session(&md);
}

static void
test_broken_index(void **state)
{
	size_t len, index_len, at;
	char *text = make_many(&len), *id;
	struct maildrop md;
	unsigned char *p;

	(void)state;
	write_mbox(text, len);
	free(text);
	assert_open(&md, MANY);
	assert_int_equal(md.ops->unique_ids(&md, 1, take_id), MD_OK);
	id = id_of(&md, 1);
	close_session(&md);
	p = read_index(&index_len);
	for (at = 0; at < index_len; at += at < 200 ? 1 : 97) {
		p[at] ^= 0x10;
		write_index(p, index_len);
		open_all(id);
		p[at] ^= 0x10;
		if (at % 5 == 0) {
			write_index(p, at);
			open_all(id);
		}
	}
	free(p);
	assert_int_equal(unlink(index_file), 0);
	assert_int_equal(symlink(mbox, index_file), 0);
	open_all(id);
	assert_int_equal(unlink(index_file), 0);
	assert_int_equal(mkfifo(index_file, 0600), 0);
	open_all(id);
	free(id);
}

/* All hashes right, the numbers wrong: whatever was wrong with them, the list is true or made anew. */
static void
forge(unsigned char *p, struct index_header *h, size_t record, size_t field, uint64_t value)
{
	struct record *records = (struct record *)(void *)(p + sizeof(*h));

	memcpy((unsigned char *)&records[record] + field * 8, &value, 8);
	h->records_hash = XXH3_64bits(records, h->count * sizeof(*records));
	h->hash = XXH3_64bits(h, offsetof(struct index_header, hash));
	memcpy(p, h, sizeof(*h));
}

static void
test_forged_index(void **state)
{
	static const uint64_t odd[] = { 0, 1, 1000, 1u << 20, INT64_MAX, UINT64_MAX - 1, UINT64_MAX };
	static const size_t places[] = { 0, 1, 100, MANY - 2, MANY - 1 };
	size_t len, index_len, i, k, field;
	char *text = make_many(&len);
	struct maildrop md;
	struct index_header h;
	unsigned char *p, *copy;

	(void)state;
	write_mbox(text, len);
	free(text);
	assert_open(&md, MANY);
	close_session(&md);
	p = read_index(&index_len);
	copy = malloc(index_len);
	assert_non_null(copy);
	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		for (k = 0; k < sizeof(places) / sizeof(places[0]); k++)
			for (field = 0; field < 3; field++) { /* offset, bytes, octets; a wrong fingerprint is found by who reads */
				memcpy(copy, p, index_len);
				memcpy(&h, p, sizeof(h));
				forge(copy, &h, places[k], field, odd[i]);
				write_index(copy, index_len);
				assert_open(&md, MANY);
				assert_list(&md);
				close_session(&md);
			}
	for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) { /* counts */
		memcpy(copy, p, index_len);
		memcpy(&h, p, sizeof(h));
		h.count = odd[i];
		h.hash = XXH3_64bits(&h, offsetof(struct index_header, hash));
		memcpy(copy, &h, sizeof(h));
		write_index(copy, index_len);
		if (odd[i] == 0)
			continue; /* an empty list is sound, and its maker's own */
		assert_open(&md, MANY);
		assert_list(&md);
		close_session(&md);
	}
	free(copy);
	free(p);
}

/* --- LAST --- */

static void
assert_last(uint32_t count, uint32_t last)
{
	struct maildrop md;

	assert_open(&md, count);
	assert_int_equal(md.last, last);
	close_session(&md);
}

static void
test_last(void **state)
{
	struct maildrop md;

	(void)state;
	write_mbox(ONE TWO THREE, strlen(ONE TWO THREE));
	assert_open(&md, 3);
	assert_int_equal(md.ops->update(&md, 2), MD_OK);
	close_session(&md);
	assert_last(3, 2);
	append_mbox(NEW);
	assert_last(4, 2);
	/* Others delete a message before it, and one behind. */
	let_clock_tick();
	write_mbox(TWO NEW, strlen(TWO NEW));
	assert_last(2, 1);
	/* A mail reader writes its notes. */
	let_clock_tick();
	write_mbox(ONE TWO_READ NEW, strlen(ONE TWO_READ NEW));
	assert_last(3, 2);
}

static void
test_last_after_deletions(void **state)
{
	struct maildrop md;

	(void)state;
	write_mbox(ONE TWO THREE NEW, strlen(ONE TWO THREE NEW));
	assert_open(&md, 4);
	mark(1);
	mark(3);
	assert_int_equal(md.ops->update(&md, 3), MD_OK);
	close_session(&md);
	assert_last(2, 1); /* TWO was read, NEW was not */
	assert_open(&md, 2);
	mark(1);
	assert_int_equal(md.ops->update(&md, 1), MD_OK);
	close_session(&md);
	assert_last(1, 0);
	/* With mail that came in between. */
	assert_open(&md, 1);
	append_mbox(ONE);
	mark(1);
	assert_int_equal(md.ops->update(&md, 1), MD_OK);
	close_session(&md);
	assert_last(1, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_absent_and_empty, clear_all),
		cmocka_unit_test_setup(test_login, clear_all),
		cmocka_unit_test_setup(test_refused_files, clear_all),
		cmocka_unit_test_setup(test_no_state_folder, clear_all),
		cmocka_unit_test_setup(test_second_session, clear_all),
		cmocka_unit_test_setup(test_foreign_dotlock, clear_all),
		cmocka_unit_test_setup(test_foreign_fcntl, clear_all),
		cmocka_unit_test_setup(test_reading_beside_readers, clear_all),
		cmocka_unit_test_setup(test_reading_beside_dotlock_writer, clear_all),
		cmocka_unit_test_setup(test_deletions, clear_all),
		cmocka_unit_test_setup(test_internal_stays, clear_all),
		cmocka_unit_test_setup(test_appended_meanwhile, clear_all),
		cmocka_unit_test_setup(test_changed_meanwhile, clear_all),
		cmocka_unit_test_setup(test_equal_ones_changed, clear_all),
		cmocka_unit_test_setup(test_replaced_meanwhile, clear_all),
		cmocka_unit_test_setup(test_verify, clear_all),
		cmocka_unit_test_setup(test_verify_empty_line_added, clear_all),
		cmocka_unit_test_setup(test_delete_after_verify, clear_all),
		cmocka_unit_test_setup(test_ids_survive, clear_all),
		cmocka_unit_test_setup(test_ids_after_growth, clear_all),
		cmocka_unit_test_setup(test_ids_deleted_after_change, clear_all),
		cmocka_unit_test_setup(test_index_saves_the_scan, clear_all),
		cmocka_unit_test_setup(test_index_of_changed_file, clear_all),
		cmocka_unit_test_setup(test_broken_index, clear_all),
		cmocka_unit_test_setup(test_forged_index, clear_all),
		cmocka_unit_test_setup(test_last, clear_all),
		cmocka_unit_test_setup(test_last_after_deletions, clear_all),
	};

	/* Refusals are logged. */
	if (getenv("TEST_LOG") == NULL && freopen("/dev/null", "w", stderr) == NULL)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("mbox", tests, make_folder, remove_folder);
}
