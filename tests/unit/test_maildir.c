/*
 * Maildir, driven through maildir_ops on folders of its own.  Speaks TAP.  Started as root, it goes on as nobody: root may
 * read and write whatever the modes say.
 *
 * Some system calls are defined here in front of libc's, to count them, to let them fail, and to let another program's
 * renames happen between two of ours.
 */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "folder.h"
#include "maildrop/maildir.h"
#include "maildrop/octets.h"

static char top[PATH_MAX];	/* holds all folders of this run */
static char box[PATH_MAX + 32];	/* the Maildir of this test */
static bool foreign;		/* top/foreign/new belongs to root, and we do not */

static struct maildrop md;
static struct maildrop_plan plan = { .user = "alice", .kind = KIND_MAILDIR, .path = box, .keeper = -1 };

/* System calls */

static int fsyncs, unlinks, renames, readings, reads;
static int fail_fsync, fail_unlink, fail_rename, fail_write, fail_table;	/* errno, or 0 */
static int hook_at;						/* which reading of a folder hook comes before */
static void (*hook)(void);
static void (*hook_always)(int fd);				/* comes before each */

static void
calls_reset(void)
{
	fsyncs = unlinks = renames = readings = reads = 0;
	fail_fsync = fail_unlink = fail_rename = fail_write = fail_table = 0;
	hook = NULL;
	hook_always = NULL;
}

static int
failing(int error)
{
	errno = error;
	return -1;
}

int
fsync(int fd)
{
	fsyncs++;
	return fail_fsync != 0 ? failing(fail_fsync) : (int)syscall(SYS_fsync, fd);
}

int
unlinkat(int fd, const char *name, int flags)
{
	unlinks++;
	return fail_unlink != 0 ? failing(fail_unlink) : (int)syscall(SYS_unlinkat, fd, name, flags);
}

int
renameat2(int from, const char *old, int to, const char *name, unsigned int flags)
{
	renames++;
	return fail_rename != 0 ? failing(fail_rename) : (int)syscall(SYS_renameat2, from, old, to, name, flags);
}

ssize_t
write(int fd, const void *buf, size_t len)
{
	int fail = fd <= 2 ? 0 : fcntl(fd, F_GET_SEALS) == 0 ? fail_table : fail_write;

	return fail != 0 ? failing(fail) : (ssize_t)syscall(SYS_write, fd, buf, len);
}

ssize_t
pread(int fd, void *buf, size_t len, off_t offset)
{
	reads++;
	return (ssize_t)syscall(SYS_pread64, fd, buf, len, offset);
}

ssize_t
getdents64(int fd, void *buf, size_t len)
{
	void (*now)(void) = hook;

	if (hook_always != NULL)
		hook_always(fd);
	if (++readings == hook_at && now != NULL) {
		hook = NULL;
		now();
	}
	return (ssize_t)syscall(SYS_getdents64, fd, buf, len);
}

/* Folders and files */

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
make_folder(const char *name)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", box, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static const char *
in_box(const char *name)
{
	static char path[4][PATH_MAX + 600];
	static int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", box, name);
	return p;
}

static int
setup(void **state)
{
	static int number;

	(void)state;
	calls_reset();
	snprintf(box, sizeof(box), "%s/%d", top, number++);
	if (mkdir(box, 0700) == -1)
		return -1;
	make_folder("new");
	make_folder("cur");
	make_folder("tmp");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	calls_reset();
	chmod(in_box("new"), 0700);
	chmod(in_box("cur"), 0700);
	nftw(box, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static void
put_bytes(const char *name, const char *bytes, size_t len)
{
	int fd = open(in_box(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

static void
put(const char *name, const char *text)
{
	put_bytes(name, text, strlen(text));
}

static void
move(const char *from, const char *to)
{
	assert_int_equal(rename(in_box(from), in_box(to)), 0);
}

static bool
is_there(const char *name)
{
	struct stat st;

	return lstat(in_box(name), &st) == 0;
}

static unsigned
files_in(const char *folder)
{
	DIR *dir = opendir(in_box(folder));
	unsigned n = 0;
	struct dirent *d;

	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL)
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

static uint64_t
naive_octets(const char *p, size_t len)
{
	uint64_t octets = 0;
	size_t i;

	for (i = 0; i < len; i++)
		octets += p[i] == '\n' && (i == 0 || p[i - 1] != '\r') ? 2 : 1;
	return octets + (len > 0 && p[len - 1] != '\n' ? 2 : 0);
}

/* Sessions */

static enum md_result
open_box(void)
{
	enum md_result result;

	md = (struct maildrop){ .plan = &plan, .ops = &maildir_ops, .table_fd = -1, .fd = -1 };
	if ((result = maildir_ops.open(&md)) != MD_OK)
		return result;
	md.deleted = calloc(1, md.count / 8 + 1);
	md.read = calloc(1, md.count / 8 + 1);
	return MD_OK;
}

static void
close_box(void)
{
	maildir_ops.close(&md);
	free(md.deleted);
	free(md.read);
	md.deleted = md.read = NULL;
}

static void
expect_messages(uint32_t count)
{
	assert_int_equal(open_box(), MD_OK);
	assert_int_equal(md.count, count);
}

static void
mark(unsigned char *bitmap, uint32_t n)
{
	bitmap[(n - 1) / 8] |= (unsigned char)(1 << ((n - 1) % 8));
}

static const char *taken;
static char taken_ids[8][UNIQUE_ID_OCTETS + 1];

/* Keeps the last eight, so that a caller can compare a few. */
static bool
take_id(const char *id, size_t len)
{
	static unsigned last;
	char *to = taken_ids[last++ % 8];

	assert_in_range(len, 1, UNIQUE_ID_OCTETS);
	memset(to, 0, sizeof(taken_ids[0]));
	memcpy(to, id, len);
	taken = to;
	return false;
}

static const char *
id_of(uint32_t n)
{
	assert_int_equal(maildir_ops.unique_ids(&md, n, take_id), MD_OK);
	return taken;
}

/* Whether message n can be fetched and is text. */
static void
expect_text(uint32_t n, const char *text)
{
	char buf[4096];
	ssize_t len;
	int fd;

	assert_int_equal(maildir_ops.message(&md, n, false, &fd), MD_OK);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	len = read(fd, buf, sizeof(buf));
	close(fd);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(buf, text, strlen(text));
	assert_int_equal(md.records[n - 1].bytes, strlen(text));
	assert_int_equal(md.records[n - 1].octets, naive_octets(text, strlen(text)));
}

static void
expect_gone(uint32_t n)
{
	int fd;

	assert_int_equal(maildir_ops.message(&md, n, false, &fd), MD_GONE);
	assert_int_equal(fd, -1);
}

/* Counting */

static void
octets_of_random_pieces(void **state)
{
	static const char alphabet[] = "\n\n\r\r\n.a\0";
	static char text[20000];
	size_t len, pos, piece, i;
	struct octets o;
	int round;

	(void)state;
	srandom(1);
	for (round = 0; round < 3000; round++) {
		len = (size_t)random() % (round % 10 == 0 ? sizeof(text) : 100);
		for (i = 0; i < len; i++)
			text[i] = alphabet[(size_t)random() % (sizeof(alphabet) - 1)];
		o = (struct octets){ 0 };
		for (pos = 0; pos < len; pos += piece) {
			piece = (size_t)random() % (round % 2 ? 5 : 6000);
			if (piece > len - pos)
				piece = len - pos;
			octets_add(&o, (const unsigned char *)text + pos, piece);
		}
		assert_int_equal(o.bytes, len);
		assert_int_equal(octets_total(&o), naive_octets(text, len));
	}
}

/* 255 times 16 line ends fill the counters of octets_add() to the brim, and one more must not run over. */
static void
octets_of_line_ends_alone(void **state)
{
	static char text[16 * 255 * 3 + 50];
	struct octets o = { 0 };

	(void)state;
	memset(text, '\n', sizeof(text));
	octets_add(&o, (const unsigned char *)text, sizeof(text));
	assert_int_equal(octets_total(&o), 2 * sizeof(text));
}

static void
messages_of_every_kind(void **state)
{
	static const struct {
		const char *name, *bytes;
		size_t len;
	} kinds[] = {
		{ "new/1.empty", "", 0 },
		{ "new/2.plain", "A: b\n\ntext\n", 11 },
		{ "new/3.crlf", "A: b\r\n\r\ntext\r\n", 14 },
		{ "new/4.no-end", "A: b\n\ntext", 10 },
		{ "new/5.nul", "A\0b\n\0\n", 6 },
		{ "new/6.cr", "a\rb\r\r\n\r", 7 },
		{ "cur/7.one:2,S", "x", 1 },
		{ "cur/8.lf:2,", "\n", 1 },
		{ "cur/9.dots", ".\n..\n.", 6 },
	};
	uint32_t i;

	(void)state;
	for (i = 0; i < 9; i++)
		put_bytes(kinds[i].name, kinds[i].bytes, kinds[i].len);
	expect_messages(9);
	for (i = 0; i < 9; i++) {
		assert_int_equal(md.records[i].offset, 0);
		assert_int_equal(md.records[i].fingerprint, 0);
		assert_int_equal(md.records[i].bytes, kinds[i].len);
		assert_int_equal(md.records[i].octets, naive_octets(kinds[i].bytes, kinds[i].len));
	}
	close_box();
}

static void
message_larger_than_the_buffer(void **state)
{
	size_t len = 3000001, i;
	char *text = malloc(len);

	(void)state;
	for (i = 0; i < len; i++)
		text[i] = i % 7919 == 0 ? '\n' : 'x';
	for (i = 262143; i < len; i += 262144) {	/* CRLF across the reads' borders */
		text[i] = '\r';
		text[i + 1 < len ? i + 1 : i] = '\n';
	}
	put_bytes("new/1.big", text, len);
	expect_messages(1);
	assert_int_equal(md.records[0].bytes, len);
	assert_int_equal(md.records[0].octets, naive_octets(text, len));
	close_box();
	free(text);
}

static void
message_of_five_gigabytes(void **state)
{
	int fd = open(in_box("new/1.huge"), O_WRONLY | O_CREAT, 0600);

	(void)state;
	if (ftruncate(fd, INT64_C(5) << 30) == -1) {
		close(fd);
		print_message("# SKIP the file system takes no file of that size\n");
		return;
	}
	close(fd);
	expect_messages(1);
	assert_int_equal(md.records[0].bytes, UINT64_C(5) << 30);
	assert_int_equal(md.records[0].octets, (UINT64_C(5) << 30) + 2);
	close_box();
}

/* Names */

static void
names_packed_and_unpacked(void **state)
{
	static struct name all[5000];
	struct names names = { 0 };
	struct name_cursor c = { 0 };
	struct name one;
	uint32_t i, count = 5000;

	(void)state;
	srandom(2);
	for (i = 0; i < count; i++) {
		struct name *n = &all[i];

		n->len = i % 100 == 0 ? 255 : 1 + (size_t)random() % 255;
		memset(n->text, "ab"[random() % 2], n->len);
		if (i % 2)
			n->len = (size_t)snprintf(n->text, sizeof(n->text), "%ld.M%uP1.host,S=%ld:2,%s",
			    1700000000 + random() % 1000, i, random() % 10000, random() % 2 ? "S" : "");
		n->text[n->len] = '\0';
		n->place = (enum place)(random() % 4);
		n->stamp = i % 5 == 0 ? (uint64_t)random() << 33 : 1700000000 + i;
		assert_int_equal(names_add(&names, n->text, n->len, n->place, n->stamp), 0);
	}
	for (i = 0; i < count; i++) {
		assert_true(name_next(&names, &c));
		names_get(&names, i, &one);
		assert_string_equal(one.text, all[i].text);
		assert_string_equal(c.name.text, all[i].text);
		assert_int_equal(one.len, all[i].len);
		assert_int_equal(one.place, all[i].place);
		assert_int_equal(one.stamp, all[i].stamp);
		assert_int_equal(c.name.stamp, all[i].stamp);
		assert_int_equal(c.next, i + 1);
	}
	assert_false(name_next(&names, &c));
	names_free(&names);
}

static void
names_of_random_octets(void **state)
{
	struct names names;
	struct name_cursor c;
	uint32_t i, n, good = 0;
	size_t used;

	(void)state;
	srandom(3);
	for (i = 0; i < 200000; i++) {
		names = (struct names){ 0 };
		used = (size_t)random() % 60;
		assert_int_equal(pile_reserve(&names.stream, 60), 0);
		for (n = 0; n < used; n++)
			names.stream.base[n] = (unsigned char)(random() % 4 ? random() % 6 : random());
		names.stream.used = used;
		if (names_check(&names, (uint32_t)random() % 5) == 0) {
			c = (struct name_cursor){ 0 };
			while (name_next(&names, &c))
				assert_true(c.name.len > 0 && strchr(c.name.text, '/') == NULL);
			good++;
		}
		names_free(&names);
	}
	assert_true(good > 0);
}

static void
order_by_delivery_time_then_name(void **state)
{
	(void)state;
	put("cur/1000000000.b:2,S", "fifth");
	put("new/1000000000.a", "4444");
	put("new/999999999.z", "333");
	put("cur/17.x:2,", "22");
	put("new/name", "1");
	put("new/99999999999999999999999999.x", "seventh");
	put("cur/1000000000.b2:2,", "six...");
	expect_messages(7);
	expect_text(1, "1");
	expect_text(2, "22");
	expect_text(3, "333");
	expect_text(4, "4444");
	expect_text(5, "fifth");
	expect_text(6, "six...");
	expect_text(7, "seventh");
	close_box();
}

static void
what_is_no_message(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	put("new/1.good", "good\n");
	put("new/.hidden", "x");
	put("tmp/2.undelivered", "x");
	make_folder("new/3.folder");
	make_folder(".Sent");
	assert_int_equal(mkfifo(in_box("new/4.fifo"), 0600), 0);
	assert_int_equal(symlink("/etc/shadow", in_box("cur/5.link:2,S")), 0);
	assert_int_equal(symlink(in_box("new/1.good"), in_box("new/6.link")), 0);
	if (strlen(in_box("new/7.socket")) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, in_box("new/7.socket"));
		assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	}
	close(fd);
	alarm(10);	/* a FIFO must not hold us up */
	expect_messages(1);
	expect_text(1, "good\n");
	close_box();
	alarm(0);
	assert_true(is_there("tmp/2.undelivered"));
}

/* A message is replaced by something else while the session lasts. */
static void
message_becomes_a_link(void **state)
{
	(void)state;
	put("new/1.a", "aaa");
	put("new/2.b", "bbb");
	put("new/3.c", "ccc");
	put("tmp/x", "xxx");
	expect_messages(3);
	assert_int_equal(unlink(in_box("new/1.a")), 0);
	assert_int_equal(symlink("../tmp/x", in_box("new/1.a")), 0);
	assert_int_equal(unlink(in_box("new/2.b")), 0);
	assert_int_equal(mkfifo(in_box("new/2.b"), 0600), 0);
	assert_int_equal(unlink(in_box("new/3.c")), 0);
	make_folder("new/3.c");
	alarm(10);
	expect_gone(1);
	expect_gone(2);
	expect_gone(3);
	alarm(0);
	close_box();
}

static void
folder_that_is_a_link(void **state)
{
	(void)state;
	make_folder("else");
	assert_int_equal(rmdir(in_box("cur")), 0);
	assert_int_equal(symlink("else", in_box("cur")), 0);
	assert_int_equal(open_box(), MD_PERMANENT);
	close_box();
	assert_int_equal(unlink(in_box("cur")), 0);
	put("cur", "a file");
	assert_int_equal(open_box(), MD_PERMANENT);
	close_box();
	assert_int_equal(unlink(in_box("cur")), 0);
}

static void
folder_of_somebody_else(void **state)
{
	char mine[sizeof(box)];

	(void)state;
	if (!foreign) {
		/* skip() of cmocka 1.1.5 says "not ok # SKIP", which is a failure to automake. */
		print_message("# SKIP not started as root: no folder of another user\n");
		return;
	}
	strcpy(mine, box);
	snprintf(box, sizeof(box), "%s/foreign", top);
	assert_int_equal(open_box(), MD_PERMANENT);
	close_box();
	strcpy(box, mine);
}

static void
folder_that_may_not_be_read(void **state)
{
	(void)state;
	put("new/1.a", "a");
	assert_int_equal(chmod(in_box("new"), 0300), 0);
	assert_int_equal(open_box(), MD_PERMANENT);
	close_box();
}

static void
file_that_may_not_be_read(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("new/2.b", "b");
	assert_int_equal(chmod(in_box("new/1.a"), 0), 0);
	expect_messages(1);
	expect_text(1, "b");
	close_box();
	assert_int_equal(chmod(in_box("new/1.a"), 0600), 0);
	expect_messages(2);
	close_box();
}

static void
absent_and_empty(void **state)
{
	char mine[sizeof(box)];

	(void)state;
	expect_messages(0);
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	close_box();
	assert_int_equal(rmdir(in_box("new")), 0);
	expect_messages(0);
	close_box();
	assert_int_equal(rmdir(in_box("cur")), 0);
	expect_messages(0);
	close_box();
	strcpy(mine, box);
	strcat(box, "/absent");
	expect_messages(0);
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	close_box();
	assert_int_equal(access(box, F_OK), -1);
	strcpy(box, mine);
}

static void
second_session(void **state)
{
	struct maildrop first;

	(void)state;
	put("new/1.a", "a");
	expect_messages(1);
	first = md;
	assert_int_equal(open_box(), MD_IN_USE);
	close_box();
	md = first;
	close_box();
	expect_messages(1);
	close_box();
}

static void
lock_that_is_a_link(void **state)
{
	(void)state;
	assert_int_equal(symlink("target", in_box(".postern-lock")), 0);
	assert_int_not_equal(open_box(), MD_OK);
	close_box();
	assert_false(is_there("target"));
}

/* Unique-ids */

static void
ids_that_stand_for_themselves(void **state)
{
	char name[NAME_MAX + 1] = "new/3.";

	(void)state;
	put("new/1.a,S=12", "a");
	put("cur/2.!~:2,S", "b");
	memset(name + 6, 'x', 68);
	put(name, "seventy");
	expect_messages(3);
	assert_string_equal(id_of(1), "1.a,S=12");
	assert_string_equal(id_of(2), "2.!~");
	assert_string_equal(id_of(3), name + 4);
	close_box();
	move("cur/2.!~:2,S", "cur/2.!~:2,FS");
	move("new/1.a,S=12", "cur/1.a,S=12:2,");
	expect_messages(3);
	assert_string_equal(id_of(1), "1.a,S=12");
	assert_string_equal(id_of(2), "2.!~");
	close_box();
}

static void
expect_valid_id(const char *id)
{
	size_t i, len = strlen(id);

	assert_in_range(len, 1, 70);
	for (i = 0; i < len; i++)
		assert_in_range((unsigned char)id[i], 0x21, 0x7e);
}

/* The names that need it, made by a hand that wants two ids to be equal. */
static void
ids_that_are_hashed(void **state)
{
	static const char *const names[] = {
		"new/1.\001\002\033[2J", "new/1.a b", "new/1.\303\244", "new/msg.AbC", "new/:2,S", "new/:2,F", "new/:",
		"cur/4.twice:2,S", "cur/4.twice:2,F", "new/5.both", "cur/5.both", "cur/msg.AbD:2,S",
	};
	char long_name[NAME_MAX + 5] = "new/9.", ids[32][71], again[71], fake[128];
	uint32_t i, j, count = sizeof(names) / sizeof(names[0]) + 1;

	(void)state;
	for (i = 0; i < count - 1; i++)
		put(names[i], names[i]);
	memset(long_name + 6, 'y', NAME_MAX - 2);
	put(long_name, "long");
	expect_messages(count);
	for (i = 0; i < count; i++) {
		expect_valid_id(id_of(i + 1));
		strcpy(ids[i], id_of(i + 1));
		assert_memory_equal(ids[i], "hash:", 5);
		for (j = 0; j < i; j++)
			assert_string_not_equal(ids[i], ids[j]);
	}
	close_box();
	snprintf(fake, sizeof(fake), "new/%s", ids[0]);
	put(fake, "I look like the first");
	expect_messages(count + 1);
	for (i = 1; i <= count + 1; i++)
		for (j = 1; j < i; j++) {
			strcpy(again, id_of(i));
			assert_string_not_equal(again, id_of(j));
		}
	for (j = 0, i = 1; i <= count + 1; i++)
		j += strcmp(id_of(i), ids[0]) == 0;
	assert_int_equal(j, 1);
	close_box();
}

static uint32_t heard;

static bool
is_same_id(const char *id, size_t len)
{
	const char *alone = id_of(++heard);

	assert_int_equal(strlen(alone), len);
	assert_memory_equal(alone, id, len);
	return heard < md.count;
}

/* Two files with one base name, and enough others that ids are looked up in the middle of the packed names. */
static void
ids_from_any_message(void **state)
{
	uint32_t first;
	char name[40];

	(void)state;
	for (first = 0; first < 100; first++) {
		snprintf(name, sizeof(name), "cur/%u.M1P7.host:2,", 1000000000 + first);
		put(name, "text\n");
	}
	put("new/1000000040.twice", "a\n");
	put("cur/1000000040.twice:2,S", "b\n");
	expect_messages(102);
	for (first = 1; first <= md.count; first += 7) {
		heard = first - 1;
		assert_int_equal(maildir_ops.unique_ids(&md, first, is_same_id), MD_OK);
		assert_int_equal(heard, md.count);
	}
	close_box();
}

/* A mail reader moves files of one base name while the session looks for them: ids stay what the client was told. */
static void
ids_stay_in_a_session(void **state)
{
	char ids[3][UNIQUE_ID_OCTETS + 1];
	uint32_t n;
	int fd;

	(void)state;
	put("new/1.a", "one\n");
	put("cur/1.a:2,S", "two\n");
	put("new/2.b", "three\n");
	expect_messages(3);
	for (n = 1; n <= 3; n++)
		strcpy(ids[n - 1], id_of(n));
	assert_string_not_equal(ids[0], ids[1]);
	move("cur/1.a:2,S", "cur/1.a:2,FS");
	move("new/2.b", "cur/2.b:2,");
	for (n = 1; n <= 3; n++)
		if (maildir_ops.message(&md, n, false, &fd) == MD_OK)
			close(fd);
	for (n = 1; n <= 3; n++)
		assert_string_equal(id_of(n), ids[n - 1]);
	close_box();
}

/* What nobody wants yet is opened where it was seen last, or not at all. */
static void
ahead_is_not_looked_for(void **state)
{
	int fd;

	(void)state;
	put("new/1.a", "one\n");
	put("new/2.b", "two\n");
	expect_messages(2);
	move("new/1.a", "cur/1.a:2,");
	assert_int_equal(maildir_ops.message(&md, 1, true, &fd), MD_GONE);
	assert_int_equal(maildir_ops.message(&md, 2, true, &fd), MD_OK);
	close(fd);
	assert_int_equal(truncate(in_box("new/2.b"), 1), 0);
	assert_int_equal(maildir_ops.message(&md, 2, true, &fd), MD_GONE);
	assert_int_equal(fd, -1);
	expect_text(1, "one\n");
	close_box();
}

/* procmail's msg.<inode>: the inode comes again with another message. */
static void
id_of_a_name_that_comes_again(void **state)
{
	char first[71];

	(void)state;
	put("new/msg.xyz", "one\n");
	expect_messages(1);
	strcpy(first, id_of(1));
	close_box();
	move("new/msg.xyz", "cur/msg.xyz:2,S");
	expect_messages(1);
	assert_string_equal(id_of(1), first);
	close_box();
	assert_int_equal(unlink(in_box("cur/msg.xyz:2,S")), 0);
	put("new/msg.xyz", "two\n");
	expect_messages(1);
	expect_text(1, "two\n");
	assert_string_not_equal(id_of(1), first);
	close_box();
}

/* LAST */

static void
last_is_the_highest_seen(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,FS", "b");
	put("cur/3.c:2,T", "c");
	put("new/4.S", "d");
	expect_messages(4);
	assert_int_equal(md.last, 2);
	close_box();
	put("new/5.e:1,S", "e");
	put("cur/6.f:2,S", "f");
	put("cur/7.g:2,Tabc", "g");
	expect_messages(7);
	assert_int_equal(md.last, 6);
	close_box();
}

/* Messages that others move and change */

static void
message_moved_by_others(void **state)
{
	(void)state;
	put("new/1.a", "aaa\n");
	put("cur/2.b:2,", "bb\n");
	put("cur/3.c:2,S", "c\n");
	expect_messages(3);
	move("new/1.a", "cur/1.a:2,");
	move("cur/2.b:2,", "cur/2.b:2,FS");
	move("cur/3.c:2,S", "new/3.c");
	expect_text(1, "aaa\n");
	readings = 0;
	expect_text(2, "bb\n");	/* one search found them all */
	expect_text(3, "c\n");
	assert_int_equal(readings, 0);
	move("cur/1.a:2,", "cur/1.a:2,S");
	expect_text(1, "aaa\n");
	assert_int_equal(unlink(in_box("cur/1.a:2,S")), 0);
	expect_gone(1);
	readings = 0;
	expect_gone(1);
	assert_int_equal(readings, 0);
	expect_text(2, "bb\n");
	close_box();
}

static void
message_changed_in_place(void **state)
{
	static const struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	uint32_t i;
	char name[64];

	(void)state;
	for (i = 1; i <= 200; i++) {
		snprintf(name, sizeof(name), "new/%u.a", i);
		put(name, "one\ntwo\n");
	}
	expect_messages(200);
	assert_true(is_there(INDEX_FILE));
	assert_int_equal(utimensat(AT_FDCWD, in_box("new/1.a"), times, 0), 0);
	expect_text(1, "one\ntwo\n");	/* touched only */
	assert_true(is_there(INDEX_FILE));
	put("new/2.a", "one.two\n");
	assert_int_equal(utimensat(AT_FDCWD, in_box("new/2.a"), times, 0), 0);
	expect_gone(2);
	assert_false(is_there(INDEX_FILE));
	put("new/3.a", "longer than before\n");
	expect_gone(3);
	close_box();
	expect_messages(200);
	expect_text(2, "one.two\n");
	expect_text(3, "longer than before\n");
	close_box();
}

/* UPDATE */

static void
update_of_nothing(void **state)
{
	struct stat before, after;

	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,S", "b");
	expect_messages(2);
	stat(in_box("new"), &before);
	calls_reset();
	assert_int_equal(maildir_ops.update(&md, 2), MD_OK);
	stat(in_box("new"), &after);
	assert_int_equal(fsyncs + unlinks + renames + readings, 0);
	assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim));
	assert_int_equal(md.removed, 0);
	close_box();
	assert_true(is_there("new/1.a"));
}

static void
update_removes_what_is_marked(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("new/2.b", "b");
	put("cur/3.c:2,S", "c");
	put("cur/4.d:2,", "d");
	expect_messages(4);
	put("new/5.e", "delivered meanwhile");
	mark(md.deleted, 2);
	mark(md.deleted, 3);
	calls_reset();
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	assert_int_equal(fsyncs, 2);
	assert_int_equal(md.removed, 2);
	close_box();
	assert_true(is_there("new/1.a") && is_there("cur/4.d:2,") && is_there("new/5.e"));
	assert_int_equal(files_in("new") + files_in("cur"), 3);
}

static void
update_syncs_only_what_changed(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,S", "b");
	expect_messages(2);
	mark(md.deleted, 2);
	calls_reset();
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	assert_int_equal(fsyncs, 1);
	close_box();
}

static void
update_follows_what_others_moved(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,", "b");
	put("cur/3.c:2,", "c");
	put("cur/4.d:2,", "d");
	expect_messages(4);
	move("new/1.a", "cur/1.a:2,F");
	move("cur/2.b:2,", "cur/2.b:2,S");
	assert_int_equal(unlink(in_box("cur/3.c:2,")), 0);
	mark(md.deleted, 1);
	mark(md.deleted, 2);
	mark(md.deleted, 3);
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	assert_int_equal(md.removed, 3);
	close_box();
	assert_int_equal(files_in("new") + files_in("cur"), 1);
	assert_true(is_there("cur/4.d:2,"));
}

/* Another name with the same base name, so that nobody can tell which is the one that was shown. */
static void
update_removes_nothing_unclear(void **state)
{
	(void)state;
	put("cur/1.a:2,", "a");
	put("cur/2.b:2,", "b");
	expect_messages(2);
	move("cur/1.a:2,", "cur/1.a:2,S");
	put("cur/1.a:2,F", "another");
	mark(md.deleted, 1);
	mark(md.deleted, 2);
	assert_int_equal(maildir_ops.update(&md, 0), MD_TEMPORARY);
	assert_int_equal(md.removed, 1);
	close_box();
	assert_true(is_there("cur/1.a:2,S") && is_there("cur/1.a:2,F") && !is_there("cur/2.b:2,"));
}

static void
two_files_of_one_base_name(void **state)
{
	(void)state;
	put("cur/1.a:2,", "first");
	put("cur/1.a:2,S", "second");
	put("new/1.a", "zeroth");
	expect_messages(3);
	expect_text(1, "zeroth");
	expect_text(2, "first");
	expect_text(3, "second");
	mark(md.deleted, 2);
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	close_box();
	assert_true(is_there("new/1.a") && !is_there("cur/1.a:2,") && is_there("cur/1.a:2,S"));
}

/* A mail reader without rename(2) was killed between link and unlink. */
static void
one_file_with_two_names(void **state)
{
	(void)state;
	put("new/1.a", "a\n");
	put("new/2.b", "b\n");
	assert_int_equal(link(in_box("new/1.a"), in_box("cur/1.a:2,S")), 0);
	expect_messages(2);
	assert_string_equal(id_of(1), "1.a");
	expect_text(1, "a\n");
	mark(md.deleted, 1);
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	assert_int_equal(md.removed, 1);
	close_box();
	assert_false(is_there("new/1.a"));
	assert_false(is_there("cur/1.a:2,S"));
	expect_messages(1);
	close_box();
}

static void
update_that_may_not_write(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,S", "b");
	expect_messages(2);
	assert_int_equal(chmod(in_box("new"), 0500), 0);
	mark(md.deleted, 1);
	mark(md.deleted, 2);
	assert_int_equal(maildir_ops.update(&md, 0), MD_TEMPORARY);
	assert_int_equal(md.removed, 1);
	close_box();
	assert_true(is_there("new/1.a"));
	assert_false(is_there("cur/2.b:2,S"));
}

static void
update_with_failing_calls(void **state)
{
	static const int errors[] = { EIO, EROFS, ENOSPC, EDQUOT, EPERM };
	size_t i;

	(void)state;
	put("new/1.a", "a");
	put("new/2.b", "b");
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		expect_messages(2);
		mark(md.deleted, 1);
		mark(md.read, 2);
		fail_unlink = fail_rename = errors[i];
		assert_int_equal(maildir_ops.update(&md, 2), MD_TEMPORARY);
		assert_int_equal(md.removed, 0);
		calls_reset();
		close_box();
		assert_true(is_there("new/1.a") && is_there("new/2.b"));
	}
	expect_messages(2);
	mark(md.deleted, 1);
	fail_fsync = EIO;
	assert_int_equal(maildir_ops.update(&md, 0), MD_TEMPORARY);
	assert_int_equal(md.removed, 1);
	close_box();
}

/* LAST is not worth an error: nothing was to be deleted. */
static void
read_marks_that_fail(void **state)
{
	(void)state;
	put("new/1.a", "a");
	expect_messages(1);
	mark(md.read, 1);
	fail_rename = EACCES;
	assert_int_equal(maildir_ops.update(&md, 1), MD_OK);
	close_box();
	assert_true(is_there("new/1.a"));
}

static void
read_messages_move_to_cur(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,F", "b");
	put("cur/3.c:2,Tab", "c");
	put("cur/4.d:2,S", "d");
	put("new/5.e:2,R", "e");
	put("cur/6.f", "f");
	put("new/7.g:1,x", "g");
	put("new/8.h", "h");
	expect_messages(8);
	memset(md.read, 0x7f, 1);
	calls_reset();
	assert_int_equal(maildir_ops.update(&md, 7), MD_OK);
	assert_int_equal(fsyncs, 2);
	assert_int_equal(md.removed, 0);
	close_box();
	assert_true(is_there("cur/1.a:2,S") && is_there("cur/2.b:2,FS") && is_there("cur/3.c:2,STab") &&
	    is_there("cur/4.d:2,S") && is_there("cur/5.e:2,RS") && is_there("cur/6.f:2,S") && is_there("new/7.g:1,x") &&
	    is_there("new/8.h"));
	expect_messages(8);
	assert_int_equal(md.last, 6);
	close_box();
}

static void
read_marks_follow_and_spare(void **state)
{
	char name[NAME_MAX + 8] = "new/3.", flags[NAME_MAX + 8] = "cur/4.";

	(void)state;
	put("new/1.a", "a");
	put("new/2.b", "b");
	memset(name + 6, 'c', NAME_MAX - 3);	/* no room for ":2,S" */
	put(name, "c");
	memset(flags + 6, 'd', NAME_MAX - 5);
	memcpy(flags + 4 + NAME_MAX - 3, ":2,", 3);
	put(flags, "d");
	expect_messages(4);
	put("cur/1.a:2,S", "another message, not to be overwritten");
	move("new/2.b", "cur/2.b:2,R");
	memset(md.read, 0x0f, 1);
	assert_int_equal(maildir_ops.update(&md, 4), MD_OK);
	close_box();
	assert_true(is_there("new/1.a") && is_there("cur/1.a:2,S") && is_there("cur/2.b:2,RS"));
	assert_true(is_there(name) && is_there(flags));
}

/* NFS has no RENAME_NOREPLACE. */
static void
read_marks_by_link(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("new/2.b", "b");
	expect_messages(2);
	put("cur/2.b:2,S", "not to be overwritten");
	memset(md.read, 3, 1);
	fail_rename = EINVAL;
	assert_int_equal(maildir_ops.update(&md, 2), MD_OK);
	close_box();
	assert_true(is_there("cur/1.a:2,S") && !is_there("new/1.a"));
	assert_true(is_there("cur/2.b:2,S") && is_there("new/2.b"));
}

static void
deleted_messages_are_not_marked(void **state)
{
	(void)state;
	put("new/1.a", "a");
	put("cur/2.b:2,", "b");
	expect_messages(2);
	mark(md.read, 1);
	mark(md.deleted, 1);
	assert_int_equal(maildir_ops.update(&md, 2), MD_OK);
	close_box();
	assert_int_equal(files_in("new"), 0);
	assert_true(is_there("cur/2.b:2,S"));	/* last */
	assert_int_equal(files_in("cur"), 1);
}

/* Renames while the folders are read */

static void
move_some(void)
{
	move("new/1.a", "cur/1.a:2,S");
	move("cur/2.b:2,", "cur/2.b:2,FS");
	move("cur/3.c:2,", "new/3.c");
	put("new/9.z", "delivered\n");
}

static void
renames_while_opening(void **state)
{
	int at;

	(void)state;
	for (at = 1; at <= 5; at++) {
		put("new/1.a", "aaa\n");
		put("cur/2.b:2,", "bb\n");
		put("cur/3.c:2,", "c\n");
		readings = 0;
		hook = move_some;
		hook_at = at;
		assert_int_equal(open_box(), MD_OK);
		assert_true(md.count == 4 || (md.count == 3 && at > 4));
		expect_text(1, "aaa\n");
		expect_text(2, "bb\n");
		expect_text(3, "c\n");
		close_box();
		hook = NULL;
		unlink(in_box("cur/1.a:2,S"));
		unlink(in_box("cur/2.b:2,FS"));
		unlink(in_box("new/3.c"));
		unlink(in_box("new/9.z"));
		unlink(in_box("new/1.a"));
		unlink(in_box("cur/2.b:2,"));
		unlink(in_box("cur/3.c:2,"));
	}
}

static void
move_marked(void)
{
	move("cur/1.a:2,", "cur/1.a:2,F");
}

static void
renames_while_searching(void **state)
{
	int at;

	(void)state;
	for (at = 1; at <= 5; at++) {
		put("new/1.a", "aaa\n");
		put("cur/2.b:2,", "bb\n");
		expect_messages(2);
		move("new/1.a", "cur/1.a:2,");
		mark(md.deleted, 1);
		readings = 0;
		hook = move_marked;
		hook_at = at;
		assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
		assert_int_equal(md.removed, 1);
		close_box();
		if (hook != NULL)
			assert_true(at > 4);
		hook = NULL;
		assert_int_equal(files_in("new") + files_in("cur"), 1);
	}
}

/* Moves message 1 away from the folder that is about to be read. */
static void
evade(int fd)
{
	struct stat now, new;

	if (fstat(fd, &now) == 0 && stat(in_box("new"), &new) == 0 && now.st_ino == new.st_ino)
		rename(in_box("new/1.a"), in_box("cur/1.a:2,"));
	else
		rename(in_box("cur/1.a:2,"), in_box("new/1.a"));
}

/* What no reading shows is not gone: the client is told that it remains. */
static void
update_that_never_finds(void **state)
{
	(void)state;
	put("cur/1.a:2,F", "a");
	put("cur/2.b:2,", "b");
	expect_messages(2);
	move("cur/1.a:2,F", "cur/1.a:2,");
	mark(md.deleted, 1);
	mark(md.deleted, 2);
	hook_always = evade;
	assert_int_equal(maildir_ops.update(&md, 0), MD_TEMPORARY);
	hook_always = NULL;
	assert_int_equal(md.removed, 1);
	close_box();
	expect_messages(1);
	close_box();
}

enum { MOVED = 400 };

/* A mail reader at work: every message is moved several times a second. */
static void
move_for_ever(void)
{
	static const struct timespec pause = { .tv_nsec = 100000 };
	char name[64], other[64];
	uint32_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (i = 0;; i = (i + 7) % MOVED) {
		snprintf(name, sizeof(name), "cur/%u.a:2,", i + 1);
		snprintf(other, sizeof(other), "new/%u.a", i + 1);
		if (rename(in_box(name), in_box(other)) == -1)
			rename(in_box(other), in_box(name));
		nanosleep(&pause, NULL);
	}
}

/*
 * No message is there twice, at any opening.  Without a lock nobody can promise that none is missed while all of them are
 * moved without a pause: usually none is here, one in a thousand under valgrind, which slows the readings but not the
 * renames.  Once the mail reader rests, all are there.
 */
static void
renames_all_the_time(void **state)
{
	enum { OPENINGS = 300 };
	uint32_t i, opening, seen = 0, twice = 0;
	char name[64];
	int status;
	pid_t pid;

	(void)state;
	for (i = 1; i <= MOVED; i++) {
		snprintf(name, sizeof(name), "cur/%u.a:2,", i);
		put(name, "text\n");
	}
	if ((pid = fork()) == 0)
		move_for_ever();
	for (opening = 0; opening < OPENINGS && open_box() == MD_OK; opening++) {
		seen += md.count;
		for (i = 1; i < md.count; i++)
			twice += strcmp(id_of(i), id_of(i + 1)) == 0;
		close_box();
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_int_equal(opening, OPENINGS);
	assert_int_equal(twice, 0);
	print_message("# %u of %u messages missed\n", OPENINGS * MOVED - seen, OPENINGS * MOVED);
	assert_in_range(seen, OPENINGS * MOVED - OPENINGS * MOVED / 100, OPENINGS * MOVED);
	expect_messages(MOVED);
	close_box();
}

/* Half of the messages are deleted under the hands of that reader: they go, the others stay. */
static void
update_while_others_rename(void **state)
{
	char name[64];
	uint32_t i;
	int status;
	pid_t pid;

	(void)state;
	for (i = 1; i <= MOVED; i++) {
		snprintf(name, sizeof(name), "cur/%u.a:2,", i);
		put(name, i % 2 ? "odd\n" : "even\n");
	}
	expect_messages(MOVED);
	memset(md.deleted, 0x55, MOVED / 8);
	memset(md.read, 0xff, MOVED / 8);
	if ((pid = fork()) == 0)
		move_for_ever();
	usleep(50000);
	status = (int)maildir_ops.update(&md, MOVED);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close_box();
	assert_true(status == MD_OK || (status == MD_TEMPORARY && md.removed < MOVED / 2));
	expect_messages(MOVED - md.removed);
	for (i = 1; i <= md.count && status == MD_OK; i++)
		expect_text(i, "even\n");
	close_box();
}

/* The index */

static void
many(uint32_t count, const char *folder)
{
	char name[64], text[64];
	uint32_t i;

	for (i = 1; i <= count; i++) {
		snprintf(name, sizeof(name), "%s/%u.M%uP7.host%s", folder, 1000000000 + i / 3, i, *folder == 'c' ? ":2,S" : "");
		snprintf(text, sizeof(text), "Subject: %u\n\n%.*s\n", i, (int)(i % 20), "....................");
		put(name, text);
	}
}

static struct record *
records_copy(void)
{
	struct record *copy = malloc(md.count * sizeof(*copy));

	memcpy(copy, md.records, md.count * sizeof(*copy));
	return copy;
}

static uint64_t
octets_of(const struct record *records, uint32_t count)
{
	uint64_t octets = 0;

	while (count-- > 0)
		octets += records[count].octets;
	return octets;
}

/* Opens and compares with what a session without index found. */
static void
expect_same(const struct record *records, uint32_t count)
{
	expect_messages(count);
	assert_memory_equal(md.records, records, count * sizeof(*records));
	close_box();
}

static void
index_saves_reading(void **state)
{
	struct record *records;

	(void)state;
	many(300, "cur");
	expect_messages(300);
	assert_true(reads >= 300);
	assert_true(is_there(INDEX_FILE));
	records = records_copy();
	close_box();
	reads = 0;
	expect_same(records, 300);
	assert_int_equal(reads, 0);
	put("new/2000000000.x", "x");
	expect_messages(301);
	assert_int_equal(reads, 1);
	assert_memory_equal(md.records, records, 300 * sizeof(*records));
	expect_text(301, "x");
	close_box();
	assert_int_equal(unlink(in_box("new/2000000000.x")), 0);
	expect_same(records, 300);
	free(records);
}

/* sed -i and its like: the same name, another file. */
static void
index_and_a_file_that_was_replaced(void **state)
{
	(void)state;
	many(300, "cur");
	expect_messages(300);
	close_box();
	put("tmp/x", "something else, and longer than before\n\n\n");
	move("tmp/x", "cur/1000000000.M1P7.host:2,S");
	expect_messages(300);
	expect_text(1, "something else, and longer than before\n\n\n");
	close_box();
}

/* Once the folders are old enough, their times prove that nothing has changed; and that something has. */
static void
index_proves_folders(void **state)
{
	struct record *records;
	char first[71];

	(void)state;
	many(300, "cur");
	many(20, "new");	/* the same base names: two files each */
	put("new/999999999.only", "only\n");
	sleep(5);
	expect_messages(321);
	records = records_copy();
	strcpy(first, id_of(1));
	close_box();
	calls_reset();
	expect_same(records, 321);
	assert_int_equal(reads + readings, 0);
	expect_messages(321);
	assert_string_equal(id_of(1), first);
	expect_text(1, "only\n");
	close_box();

	put("new/2000000000.x", "x");
	calls_reset();
	expect_messages(322);
	assert_int_equal(reads, 1);
	assert_in_range(readings, 1, 4);	/* cur/ is not read again */
	close_box();
	move("cur/1000000000.M1P7.host:2,S", "cur/1000000000.M1P7.host:2,FS");
	expect_messages(322);
	close_box();
	assert_int_equal(unlink(in_box("cur/1000000000.M1P7.host:2,FS")), 0);
	expect_messages(321);
	close_box();
	move("new/2000000000.x", "cur/2000000000.x:2,S");
	expect_messages(321);
	assert_int_equal(md.last, 321);
	close_box();
	free(records);
}

/* Nothing has changed: the table is made of the index alone. */
static void
index_is_all_it_takes(void **state)
{
	struct record *records;

	(void)state;
	many(3000, "cur");
	put("new/999999999.only", "only\n");
	sleep(5);
	expect_messages(3001);
	records = records_copy();
	assert_int_equal(md.last, 3001);
	close_box();
	calls_reset();
	expect_messages(3001);
	assert_int_equal(reads + readings, 0);
	assert_memory_equal(md.records, records, 3001 * sizeof(*records));
	assert_int_equal(md.last, 3001);
	assert_int_equal(md.octets, octets_of(records, 3001));
	expect_text(1, "only\n");
	assert_string_equal(id_of(2), "1000000000.M1P7.host");
	close_box();
	fail_table = ENOMEM;
	assert_int_equal(open_box(), MD_TEMPORARY);
	close_box();
	fail_table = 0;
	expect_same(records, 3001);
	free(records);
}

static char *
slurp(const char *name, size_t *len)
{
	int fd = open(in_box(name), O_RDONLY);
	char *p = malloc(1 << 20);

	assert_int_not_equal(fd, -1);
	*len = (size_t)read(fd, p, 1 << 20);
	close(fd);
	return p;
}

/* As maildir_index.c writes it. */
struct index_header {
	uint64_t version, count, names_bytes, sizes_bytes, names_sum, sizes_sum, vouched[2];
	struct folder_state state[2];
	uint64_t sum;
};

/* Whether the index says that its names are all that the folder holds. */
static void
expect_vouched(uint64_t value, int folder)
{
	size_t len;
	char *index = slurp(INDEX_FILE, &len);

	assert_int_equal(((struct index_header *)(void *)index)->vouched[folder], value);
	free(index);
}

/* A file that could not be read does not make a folder that the index vouches for: chmod(1) does not change it. */
static void
index_does_not_hide_a_file(void **state)
{
	(void)state;
	many(300, "cur");
	put("cur/3000000000.x:2,", "x");
	assert_int_equal(chmod(in_box("cur/3000000000.x:2,"), 0), 0);
	sleep(4);
	expect_messages(300);
	close_box();
	expect_vouched(0, 1);
	assert_int_equal(chmod(in_box("cur/3000000000.x:2,"), 0600), 0);
	expect_messages(301);
	close_box();
}

/* Nor does a file with two names, of which the index has one. */
static void
index_does_not_hide_a_name(void **state)
{
	(void)state;
	many(300, "cur");
	put("new/3000000001.y", "y\n");
	assert_int_equal(link(in_box("new/3000000001.y"), in_box("cur/3000000001.y:2,S")), 0);
	sleep(4);
	expect_messages(301);
	close_box();
	expect_messages(301);
	mark(md.deleted, 301);
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	close_box();
	assert_int_equal(files_in("new"), 0);
	assert_int_equal(files_in("cur"), 300);
}

/* A change in the same tick of the clock would not show in the times of a folder that was just changed. */
static void
index_of_young_folders(void **state)
{
	(void)state;
	many(300, "cur");
	expect_messages(300);
	close_box();
	expect_vouched(0, PLACE_NEW);
	expect_vouched(0, PLACE_CUR);
	sleep(5);
	expect_messages(300);
	close_box();
	expect_vouched(1, PLACE_NEW);
	expect_vouched(1, PLACE_CUR);
}

/* Names that may come again: the file has the same name and inode, and is another message. */
static void
index_asks_odd_names(void **state)
{
	char name[64];
	uint32_t i;

	(void)state;
	for (i = 1; i <= 300; i++) {
		snprintf(name, sizeof(name), "new/msg.%u", i);
		put(name, "first\n");
	}
	expect_messages(300);
	close_box();
	assert_true(is_there(INDEX_FILE));
	put("new/msg.1", "second, in place of the first\n");
	expect_messages(300);
	expect_text(1, "second, in place of the first\n");
	expect_text(2, "first\n");
	close_box();
}

static void
index_damaged_anywhere(void **state)
{
	struct record *records;
	size_t len, i;
	char *index;

	(void)state;
	many(70, "cur");
	expect_messages(70);
	assert_true(is_there(INDEX_FILE));
	records = records_copy();
	close_box();
	index = slurp(INDEX_FILE, &len);
	for (i = 0; i < len; i++) {
		index[i] = (char)(index[i] ^ (1 << i % 8));
		put_bytes(INDEX_FILE, index, len);
		expect_same(records, 70);
		index[i] = (char)(index[i] ^ (1 << i % 8));
	}
	for (i = 0; i < len; i += 1 + i / 50) {
		put_bytes(INDEX_FILE, index, i);
		expect_same(records, 70);
	}
	put_bytes(INDEX_FILE, index, len);
	reads = 0;
	expect_same(records, 70);
	assert_int_equal(reads, 0);
	free(records);
	free(index);
}

static void
put_index(char *index, size_t len)
{
	struct index_header h;

	memcpy(&h, index, sizeof(h));
	assert_true(sizeof(h) + h.names_bytes + h.sizes_bytes == len);
	h.names_sum = XXH3_64bits(index + sizeof(h), h.names_bytes);
	h.sizes_sum = XXH3_64bits(index + sizeof(h) + h.names_bytes, h.sizes_bytes);
	h.sum = XXH3_64bits(&h, offsetof(struct index_header, sum));
	memcpy(index, &h, sizeof(h));
	put_bytes(INDEX_FILE, index, len);
}

/* All sums are right, the rest is not: nothing happens but wrong sizes, and whoever can write it can change the mail. */
static void
index_made_by_hand(void **state)
{
	const size_t lengths = offsetof(struct index_header, names_bytes);
	size_t len, i;
	char *index, *copy;
	int round, fd;

	(void)state;
	many(70, "cur");
	expect_messages(70);
	close_box();
	index = slurp(INDEX_FILE, &len);
	copy = malloc(len);
	srandom(4);
	for (round = 0; round < 4000; round++) {
		memcpy(copy, index, len);
		for (i = 0; i < 1 + (size_t)random() % 4; i++)
			copy[(size_t)random() % len] = (char)(random() % 3 ? random() : "/.\0\377"[random() % 4]);
		memcpy(copy + lengths, index + lengths, 2 * sizeof(uint64_t));
		memset(copy + offsetof(struct index_header, vouched), 0, 2 * sizeof(uint64_t));
		if (round % 2) {	/* and it claims to know the folders */
			((struct index_header *)(void *)copy)->vouched[0] = 1;
			((struct index_header *)(void *)copy)->vouched[1] = 1;
		}
		put_index(copy, len);
		assert_int_equal(open_box(), MD_OK);
		for (i = 1; i <= md.count; i++)
			expect_valid_id(id_of((uint32_t)i));
		for (i = 1; i <= md.count && i < 5; i++)
			if (maildir_ops.message(&md, (uint32_t)i, false, &fd) == MD_OK)
				close(fd);
		close_box();
	}
	free(index);
	free(copy);
}

static void
index_that_points_outside(void **state)
{
	size_t len;
	char *index, *name;

	(void)state;
	many(70, "cur");
	expect_messages(70);
	close_box();
	index = slurp(INDEX_FILE, &len);
	name = memmem(index, len, "1000000000.M1P7", 15);
	assert_non_null(name);
	memcpy(name, "1/../../cur/abc", 15);
	((struct index_header *)(void *)index)->vouched[1] = 1;
	put_index(index, len);
	expect_messages(70);
	assert_string_equal(id_of(1), "1000000000.M1P7.host");
	close_box();
	free(index);
}

static void
index_that_is_no_file(void **state)
{
	(void)state;
	many(300, "cur");
	assert_int_equal(symlink("/etc/passwd", in_box(INDEX_FILE)), 0);
	put(INDEX_FILE ".new", "left by a session that was killed");
	expect_messages(300);
	close_box();
	assert_false(is_there(INDEX_FILE ".new"));
	assert_int_equal(unlink(in_box(INDEX_FILE)), 0);
	assert_int_equal(mkfifo(in_box(INDEX_FILE), 0600), 0);
	alarm(10);
	expect_messages(300);
	close_box();
	alarm(0);
	assert_int_equal(unlink(in_box(INDEX_FILE)), 0);
	make_folder(INDEX_FILE);
	expect_messages(300);
	close_box();
	assert_int_equal(rmdir(in_box(INDEX_FILE)), 0);
	fail_write = ENOSPC;
	expect_messages(300);
	close_box();
	assert_false(is_there(INDEX_FILE));
	assert_false(is_there(INDEX_FILE ".new"));
}

static void
index_goes_with_the_mail(void **state)
{
	(void)state;
	many(300, "cur");
	expect_messages(300);
	assert_true(is_there(INDEX_FILE));
	memset(md.deleted, 0xff, 37);
	md.deleted[37] = 0x0f;
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	assert_int_equal(md.removed, 300);
	close_box();
	assert_false(is_there(INDEX_FILE));
	many(5, "new");
	expect_messages(5);
	close_box();
	assert_false(is_there(INDEX_FILE));	/* too few to pay */
}

static void
a_hundred_thousand_empty_files(void **state)
{
	enum { MESSAGES = 100000 };
	char name[64];
	uint32_t i;
	int folder, fd;

	(void)state;
	folder = open(in_box("new"), O_RDONLY | O_DIRECTORY);
	for (i = 0; i < MESSAGES; i++) {
		snprintf(name, sizeof(name), "%u.M%uP7.host", 1000000000 + i * 7919 % MESSAGES, i);
		assert_int_not_equal(fd = openat(folder, name, O_WRONLY | O_CREAT, 0600), -1);
		close(fd);
	}
	close(folder);
	expect_messages(MESSAGES);
	for (i = 0; i < MESSAGES; i++)
		assert_true(md.records[i].bytes == 0 && md.records[i].octets == 0);
	memset(md.deleted, 0xff, MESSAGES / 8);
	calls_reset();
	assert_int_equal(maildir_ops.update(&md, 0), MD_OK);
	assert_int_equal(md.removed, MESSAGES);
	assert_int_equal(fsyncs, 1);
	close_box();
	assert_int_equal(files_in("new"), 0);
}

/* The folder for all tests, and one that is not ours. */
static void
make_top(void)
{
	char path[PATH_MAX + 64];

	snprintf(top, sizeof(top), "%s/test_maildir.XXXXXX", test_tmp());
	if (mkdtemp(top) == NULL) {
		printf("Bail out! %s: %s\n", top, strerror(errno));
		exit(1);
	}
	if (geteuid() != 0)
		return;
	snprintf(path, sizeof(path), "%s/foreign", top);
	foreign = mkdir(path, 0755) == 0 && chown(path, 65534, 65534) == 0;
	strcat(path, "/new");
	foreign = foreign && mkdir(path, 0755) == 0;
	if (chown(top, 65534, 65534) == -1 || setresgid(65534, 65534, 65534) == -1 || setresuid(65534, 65534, 65534) == -1) {
		printf("Bail out! cannot become nobody: %s\n", strerror(errno));
		exit(1);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(octets_of_random_pieces),
		TEST(octets_of_line_ends_alone),
		TEST(names_packed_and_unpacked),
		TEST(names_of_random_octets),
		TEST(messages_of_every_kind),
		TEST(message_larger_than_the_buffer),
		TEST(message_of_five_gigabytes),
		TEST(order_by_delivery_time_then_name),
		TEST(what_is_no_message),
		TEST(message_becomes_a_link),
		TEST(folder_that_is_a_link),
		TEST(folder_of_somebody_else),
		TEST(folder_that_may_not_be_read),
		TEST(file_that_may_not_be_read),
		TEST(absent_and_empty),
		TEST(second_session),
		TEST(lock_that_is_a_link),
		TEST(ids_that_stand_for_themselves),
		TEST(ids_that_are_hashed),
		TEST(id_of_a_name_that_comes_again),
		TEST(ids_from_any_message),
		TEST(ids_stay_in_a_session),
		TEST(ahead_is_not_looked_for),
		TEST(last_is_the_highest_seen),
		TEST(message_moved_by_others),
		TEST(message_changed_in_place),
		TEST(update_of_nothing),
		TEST(update_removes_what_is_marked),
		TEST(update_syncs_only_what_changed),
		TEST(update_follows_what_others_moved),
		TEST(update_removes_nothing_unclear),
		TEST(two_files_of_one_base_name),
		TEST(one_file_with_two_names),
		TEST(update_that_may_not_write),
		TEST(update_with_failing_calls),
		TEST(read_marks_that_fail),
		TEST(read_messages_move_to_cur),
		TEST(read_marks_follow_and_spare),
		TEST(read_marks_by_link),
		TEST(deleted_messages_are_not_marked),
		TEST(renames_while_opening),
		TEST(renames_while_searching),
		TEST(update_that_never_finds),
		TEST(renames_all_the_time),
		TEST(update_while_others_rename),
		TEST(index_saves_reading),
		TEST(index_and_a_file_that_was_replaced),
		TEST(index_proves_folders),
		TEST(index_is_all_it_takes),
		TEST(index_does_not_hide_a_file),
		TEST(index_does_not_hide_a_name),
		TEST(index_asks_odd_names),
		TEST(index_of_young_folders),
		TEST(index_damaged_anywhere),
		TEST(index_made_by_hand),
		TEST(index_that_points_outside),
		TEST(index_that_is_no_file),
		TEST(index_goes_with_the_mail),
		TEST(a_hundred_thousand_empty_files),
	};
	int failed;

	make_top();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests_name("maildir", tests, NULL, NULL);
	snprintf(box, sizeof(box), "%s", top);
	nftw(box, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed;
}
