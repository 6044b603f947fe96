/*
 * limits: what the machine itself can do, measured in the same run as the servers.
 *
 *	limits loopback FILE		the file through a TCP connection on loopback: read, write
 *	limits convert FILE		the same with LF to CRLF and dot-stuffing in between
 *	limits scan FILE		one pass: read, and count line ends and "From " after them with vector compares
 *	limits readdir FOLDER		every name
 *	limits count FOLDER		every name, and every file opened, read, its line ends counted
 *	limits move FILE BYTES		the file moved down in place by that many bytes, cut, synced
 *	limits fsync FILE		4 KiB written and synced
 *
 * Prints one line of JSON: seconds, and bytes where there are some.  Runs as whoever runs the benchmark.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (256 * 1024)
#define MOVE_BLOCK (1024 * 1024)

#if defined(__x86_64__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

typedef unsigned char lanes __attribute__((vector_size(32)));

struct count {
	uint64_t lines, separators;
};

static void __attribute__((noreturn))
fail(const char *what)
{
	fprintf(stderr, "limits: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int
open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd == -1)
		fail(path);
	return fd;
}

static void *
room(size_t bytes)
{
	void *p = malloc(bytes);

	if (p == NULL)
		fail("memory");
	memset(p, 0, bytes); /* pages are there before the clock runs */
	return p;
}

static void
write_all(int fd, const char *p, size_t len)
{
	ssize_t n;

	for (; len > 0; p += n, len -= (size_t)n)
		if ((n = write(fd, p, len)) == -1)
			fail("write");
}

static uint64_t
sum(const lanes *v)
{
	uint64_t total = 0;
	size_t i;

	for (i = 0; i < sizeof(*v); i++)
		total += (*v)[i];
	return total;
}

/* Counts in the first len - 1 bytes, looking at one byte more. */
FOR_EVERY_PROCESSOR static struct count
count_block(const char *p, size_t len)
{
	struct count c = { 0, 0 };
	size_t i = 0, until;

	while (i + 1 + sizeof(lanes) <= len) {
		lanes lf = { 0 }, from = { 0 }, here, after;

		/* A lane counts to 255. */
		until = len - 1 - i > 255 * sizeof(lanes) ? i + 255 * sizeof(lanes) : len - 1;
		for (; i + sizeof(lanes) <= until; i += sizeof(lanes)) {
			memcpy(&here, p + i, sizeof(here));
			memcpy(&after, p + i + 1, sizeof(after));
			lf -= (lanes)(here == '\n');
			from -= (lanes)((here == '\n') & (after == 'F'));
		}
		c.lines += sum(&lf);
		c.separators += sum(&from);
	}
	for (; i + 1 < len; i++) {
		c.lines += p[i] == '\n';
		c.separators += p[i] == '\n' && p[i + 1] == 'F';
	}
	return c;
}

/* Reads the whole file; the last byte of a block is looked at again with the next. */
static uint64_t
scan_descriptor(int fd, char *buf, struct count *total)
{
	uint64_t bytes = 0;
	size_t kept = 0;
	struct count c;
	ssize_t n;

	while ((n = read(fd, buf + kept, BLOCK)) > 0) {
		c = count_block(buf, kept + (size_t)n);
		total->lines += c.lines;
		total->separators += c.separators;
		buf[0] = buf[kept + (size_t)n - 1];
		kept = 1;
		bytes += (uint64_t)n;
	}
	if (n == -1)
		fail("read");
	return bytes;
}

static void
report(double start, uint64_t bytes)
{
	printf("{\"seconds\": %.9f, \"bytes\": %llu}\n", seconds() - start, (unsigned long long)bytes);
}

static void
scan(const char *path, const char *unused)
{
	char *buf = room(BLOCK + 1);
	struct count total = { 0, 0 };
	double start = seconds();
	int fd = open_file(path, O_RDONLY);
	uint64_t bytes = scan_descriptor(fd, buf, &total);

	(void)unused;
	if (total.lines == 0)
		fail("scan found no line");
	report(start, bytes);
}

/* Takes what comes, to its end; then says so with one octet. */
static void __attribute__((noreturn))
drain(int fd)
{
	char *buf = room(BLOCK);
	ssize_t n;

	while ((n = recv(fd, buf, BLOCK, 0)) > 0)
		continue;
	if (n == -1)
		fail("recv");
	write_all(fd, "", 1);
	_exit(0);
}

/* A TCP connection to a child that reads all of it. */
static int
connect_drain(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd, on = 1;

	if (bind(listener, (struct sockaddr *)&addr, len) == -1 || listen(listener, 1) == -1 ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) == -1)
		fail("listen");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&addr, len) == -1)
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	switch (fork()) {
	case -1:
		fail("fork");
	case 0:
		close(fd);
		drain(accept(listener, NULL, NULL));
	}
	close(listener);
	return fd;
}

static void
wait_drained(int fd)
{
	char c;

	shutdown(fd, SHUT_WR);
	if (recv(fd, &c, 1, 0) != 1)
		fail("the reader");
	wait(NULL);
}

static void
loopback(const char *path, const char *unused)
{
	int in = open_file(path, O_RDONLY), out = connect_drain();
	char *buf = room(BLOCK);
	uint64_t bytes = 0;
	double start = seconds();
	ssize_t n;

	(void)unused;
	for (; (n = read(in, buf, BLOCK / 2)) > 0; bytes += (uint64_t)n)
		write_all(out, buf, (size_t)n);
	wait_drained(out);
	report(start, bytes);
}

/*
 * LF to CRLF, and a dot before a dot at a line's beginning.  The plain way: line by line, memchr and memcpy.  *fresh tells
 * whether a line begins.  The octets made.
 */
static size_t
convert_block(char *out, const char *p, size_t len, int *fresh)
{
	const char *end = p + len, *lf;
	char *o = out;
	size_t n;

	while (p < end) {
		if (*fresh && *p == '.')
			*o++ = '.';
		lf = memchr(p, '\n', (size_t)(end - p));
		n = (size_t)((lf != NULL ? lf : end) - p);
		memcpy(o, p, n);
		o += n;
		p += n;
		*fresh = lf != NULL;
		if (lf != NULL) {
			*o++ = '\r';
			*o++ = '\n';
			p++;
		}
	}
	return (size_t)(o - out);
}

static void
convert(const char *path, const char *unused)
{
	int in = open_file(path, O_RDONLY), out = connect_drain(), fresh = 1;
	char *buf = room(BLOCK), *wire = room(3 * BLOCK);
	uint64_t octets = 0;
	double start = seconds();
	size_t made;
	ssize_t n;

	(void)unused;
	for (; (n = read(in, buf, BLOCK)) > 0; octets += made) {
		made = convert_block(wire, buf, (size_t)n, &fresh);
		write_all(out, wire, made);
	}
	wait_drained(out);
	report(start, octets);
}

static DIR *
open_folder(const char *path)
{
	DIR *dir = opendir(path);

	if (dir == NULL)
		fail(path);
	return dir;
}

static void
read_names(const char *path, const char *unused)
{
	double start = seconds();
	DIR *dir = open_folder(path);
	struct dirent *entry;
	uint64_t names = 0;

	(void)unused;
	while ((entry = readdir(dir)) != NULL)
		names += entry->d_name[0] != '.';
	if (names == 0)
		fail("readdir found nothing");
	report(start, 0);
}

static void
count_files(const char *path, const char *unused)
{
	char *buf = room(BLOCK + 1);
	struct count total = { 0, 0 };
	double start = seconds();
	DIR *dir = open_folder(path);
	struct dirent *entry;
	uint64_t bytes = 0;
	int fd;

	(void)unused;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if ((fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC)) == -1)
			fail(entry->d_name);
		bytes += scan_descriptor(fd, buf, &total);
		close(fd);
	}
	if (total.lines == 0)
		fail("count found no line");
	report(start, bytes);
}

static void
move_down(const char *path, const char *distance)
{
	int fd = open_file(path, O_RDWR);
	off_t from = (off_t)strtoull(distance, NULL, 10), to = 0;
	char *buf = room(MOVE_BLOCK);
	double start = seconds();
	ssize_t n;

	for (; (n = pread(fd, buf, MOVE_BLOCK, from)) > 0; from += n, to += n)
		if (pwrite(fd, buf, (size_t)n, to) != n)
			fail("pwrite");
	if (n == -1 || ftruncate(fd, to) == -1 || fsync(fd) == -1)
		fail(path);
	report(start, (uint64_t)to);
}

static void
write_and_sync(const char *path, const char *unused)
{
	int fd = open_file(path, O_WRONLY);
	char block[4096];
	double start;

	(void)unused;
	memset(block, 'x', sizeof(block));
	start = seconds();
	write_all(fd, block, sizeof(block));
	if (fsync(fd) == -1)
		fail("fsync");
	report(start, sizeof(block));
}

static const struct limit {
	const char *name;
	void (*measure)(const char *path, const char *argument);
	int arguments;
} all[] = {
	{ "loopback", loopback, 1 },
	{ "convert", convert, 1 },
	{ "scan", scan, 1 },
	{ "readdir", read_names, 1 },
	{ "count", count_files, 1 },
	{ "move", move_down, 2 },
	{ "fsync", write_and_sync, 1 },
};

int
main(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc > 1 && i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(argv[1], all[i].name) == 0 && argc - 2 == all[i].arguments) {
			all[i].measure(argv[2], argv[3]);
			return 0;
		}
	errno = EINVAL;
	fail("arguments");
}
