/*
 * mailgen: the benchmark's mailboxes.  The same arguments make the same messages, byte for byte, on every machine.
 *
 *	mailgen mbox FILE MANIFEST COUNT BYTES SHAPE SEED
 *	mailgen maildir FOLDER MANIFEST COUNT BYTES SHAPE SEED
 *	mailgen append-mbox FILE BYTES SEED	delivers one more message
 *	mailgen append-maildir FOLDER BYTES SEED
 *
 * COUNT messages of about BYTES each (from half to one and a half of that; a single one has BYTES); SHAPE is text, or
 * attachment: a short text and base64.  MANIFEST is for popbench verify.  A Maildir gets names as Postfix makes them, the last ten messages in new/
 * and all others, read, in cur/.  The texts have what a server must look out for: lines that begin with a dot, and with
 * "From " in an mbox's quoting, empty lines, 8-bit characters.
 *
 * Runs as whoever runs the benchmark.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "digest.h"

#define UNREAD 10

/* The time of a message, in its date, its file's name and its file's times: all in the past, and all different. */
#define EPOCH 1700000000L
#define INTERVAL 6

/* One message while it is written. */
struct message {
	FILE *out;
	struct digest stored, unquoted;
	uint64_t bytes;
};

static uint64_t state;

static void __attribute__((noreturn, format(printf, 1, 2)))
fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("mailgen: ", stderr);
	vfprintf(stderr, format, ap);
	fprintf(stderr, ": %s\n", strerror(errno));
	va_end(ap);
	exit(1);
}

/* xorshift64*: the same everywhere. */
static uint64_t
next_number(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned
below(unsigned limit)
{
	return (unsigned)((next_number() >> 32) % limit);
}

static void
put_line(struct message *m, const char *line, size_t len)
{
	bool quoted = len > 5 && memcmp(line, ">From ", 6) == 0;

	if (fwrite(line, 1, len, m->out) != len || putc('\n', m->out) == EOF)
		fail("write");
	digest_line(&m->stored, line, len);
	digest_line(&m->unquoted, line + quoted, len - quoted);
	m->bytes += len + 1;
}

static void __attribute__((format(printf, 2, 3)))
put(struct message *m, const char *format, ...)
{
	char line[300];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	put_line(m, line, (size_t)n);
}

static const struct tm *
date(long number)
{
	time_t when = EPOCH + number * INTERVAL;

	return gmtime(&when);
}

static const char *
mail_date(char buf[64], long number)
{
	strftime(buf, 64, "%a, %d %b %Y %H:%M:%S +0000", date(number));
	return buf;
}

static void
put_headers(struct message *m, long number, bool attachment)
{
	char buf[64];
	unsigned from = below(1000);

	put(m, "Return-Path: <sender%u@example.org>", from);
	put(m, "Received: from mx.example.org (mx.example.org [192.0.2.%u])", below(254) + 1);
	put(m, "\tby mail.example.com (Postfix) with ESMTPS id %012" PRIX64, next_number() >> 16);
	put(m, "\tfor <reader@example.com>; %s", mail_date(buf, number));
	put(m, "Date: %s", mail_date(buf, number));
	put(m, "From: Sender %u <sender%u@example.org>", from, from);
	put(m, "To: reader@example.com");
	put(m, "Message-ID: <%ld.%016" PRIx64 "@mx.example.org>", number, next_number());
	put(m, "Subject: Message %ld of a mailbox that is only made to be measured", number);
	put(m, "MIME-Version: 1.0");
	if (attachment)
		put(m, "Content-Type: multipart/mixed; boundary=\"=-frontier\"");
	else
		put(m, "Content-Type: text/plain; charset=iso-8859-1");
	put(m, "X-Spam-Status: No, score=-1.9 required=5.0 tests=BAYES_00,RCVD_IN_DNSWL_NONE");
	put(m, "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101");
	put_line(m, "", 0);
}

static void
put_text_line(struct message *m)
{
	static const char *const words[] = { "mailbox", "the", "of", "a", "delivered", "session", "is", "octets", "message",
		"server", "to", "and", "gr\374\337e", "every", "answer", "line", "which", "read", "with", "from" };
	char line[100];
	size_t used = 0, want = 40 + below(36);
	unsigned special = below(200);

	if (special < 5)
		line[used++] = '.';
	else if (special == 5)
		used = (size_t)sprintf(line, ">From ");
	while (used < want) {
		const char *word = words[below(sizeof(words) / sizeof(words[0]))];

		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s ", word);
	}
	put_line(m, line, used - 1);
}

static void
put_text(struct message *m, uint64_t bytes)
{
	while (m->bytes < bytes)
		if (below(12) == 0)
			put_line(m, "", 0);
		else
			put_text_line(m);
	put_text_line(m);
}

static void
put_base64(struct message *m, uint64_t bytes)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char line[76];
	uint64_t bits = 0;
	unsigned i;

	while (m->bytes < bytes) {
		for (i = 0; i < sizeof(line); i++, bits >>= 6) {
			if (i % 10 == 0)
				bits = next_number();
			line[i] = digits[bits & 63];
		}
		put_line(m, line, sizeof(line));
	}
}

static void
put_attachment(struct message *m, uint64_t bytes)
{
	put(m, "--=-frontier");
	put(m, "Content-Type: text/plain; charset=iso-8859-1");
	put_line(m, "", 0);
	put_text(m, m->bytes + 1500);
	put(m, "--=-frontier");
	put(m, "Content-Type: application/octet-stream; name=\"file.bin\"");
	put(m, "Content-Transfer-Encoding: base64");
	put_line(m, "", 0);
	put_base64(m, bytes);
	put(m, "--=-frontier--");
}

struct plan {
	const char *place, *manifest;
	long count;
	uint64_t bytes;
	bool attachment;
	uint64_t seed;
};

/* Message number, 0 and up; seeded by itself, so that it is the same in a smaller mailbox. */
static struct message
write_message(FILE *out, const struct plan *plan, long number)
{
	struct message m = { out, DIGEST_START, DIGEST_START, 0 };
	uint64_t bytes = plan->bytes;

	state = (plan->seed * 1000003 + (uint64_t)number + 1) * UINT64_C(0x9e3779b97f4a7c15);
	next_number();
	if (plan->count > 1)
		bytes = bytes / 2 + next_number() % (bytes + 1);
	put_headers(&m, number, plan->attachment);
	if (plan->attachment)
		put_attachment(&m, bytes);
	else
		put_text(&m, bytes);
	return m;
}

static void
write_from_line(FILE *out, long number)
{
	char buf[64];

	strftime(buf, sizeof(buf), "%a %b %e %H:%M:%S %Y", date(number));
	fprintf(out, "From sender@example.org  %s\n", buf);
}

static void
set_time(int fd, long number)
{
	struct timespec times[2] = { { EPOCH + number * INTERVAL, 0 }, { EPOCH + number * INTERVAL, 0 } };

	if (futimens(fd, times) == -1)
		fail("futimens");
}

static void
close_file(FILE *f, const char *path, long number)
{
	if (fflush(f) == EOF)
		fail("%s", path);
	set_time(fileno(f), number);
	if (fclose(f) == EOF)
		fail("%s", path);
}

static FILE *
open_file(const char *path, const char *mode)
{
	FILE *f = fopen(path, mode);

	if (f == NULL)
		fail("%s", path);
	return f;
}

/* As Postfix names them: seconds, device and inode, microseconds, host.  Inodes are only counted here. */
static void
file_name(char *path, size_t size, const char *folder, long number, bool unread)
{
	snprintf(path, size, "%s/%s/%ld.Vfd01I%lxM%06ld.mx%s", folder, unread ? "new" : "cur", EPOCH + number * INTERVAL,
	    0x2a0000 + number, number * 7919 % 1000000, unread ? "" : ":2,S");
}

static void
make_folders(const char *folder)
{
	static const char *const parts[] = { "", "/tmp", "/new", "/cur" };
	char path[4096];
	size_t i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", folder, parts[i]);
		if (mkdir(path, 0700) == -1 && errno != EEXIST)
			fail("%s", path);
	}
}

static void
note(FILE *manifest, const struct message *m)
{
	fprintf(manifest, "%016" PRIx64 " %016" PRIx64 "\n", m->stored.sum, m->unquoted.sum);
}

static void
make_mbox(const struct plan *plan)
{
	FILE *out = open_file(plan->place, "w"), *manifest = open_file(plan->manifest, "w");
	struct message m;
	long i;

	for (i = 0; i < plan->count; i++) {
		write_from_line(out, i);
		m = write_message(out, plan, i);
		putc('\n', out);
		note(manifest, &m);
	}
	close_file(out, plan->place, plan->count);
	if (fclose(manifest) == EOF)
		fail("%s", plan->manifest);
}

static struct message
make_file(const struct plan *plan, long number, bool unread)
{
	char path[4096];
	struct message m;
	FILE *out;

	file_name(path, sizeof(path), plan->place, number, unread);
	out = open_file(path, "w");
	m = write_message(out, plan, number);
	close_file(out, path, number);
	return m;
}

static void
make_maildir(const struct plan *plan)
{
	FILE *manifest = open_file(plan->manifest, "w");
	struct message m;
	long i;

	make_folders(plan->place);
	for (i = 0; i < plan->count; i++) {
		m = make_file(plan, i, plan->count - i <= UNREAD);
		note(manifest, &m);
	}
	if (fclose(manifest) == EOF)
		fail("%s", plan->manifest);
}

/* The number of an appended message: newer than those of the largest mailbox. */
#define APPENDED 1200000L

/* The file's time goes on by a second and stays in the past: some servers wait for a file that changed just now. */
static void
append_mbox(const struct plan *plan)
{
	FILE *out = open_file(plan->place, "a");
	struct stat st;

	if (fstat(fileno(out), &st) == -1)
		fail("%s", plan->place);
	write_from_line(out, APPENDED);
	write_message(out, plan, APPENDED);
	putc('\n', out);
	if (fflush(out) == EOF)
		fail("%s", plan->place);
	st.st_mtim.tv_sec++;
	if (futimens(fileno(out), (struct timespec[2]){ st.st_atim, st.st_mtim }) == -1 || fclose(out) == EOF)
		fail("%s", plan->place);
}

static void
append_maildir(const struct plan *plan)
{
	make_file(plan, APPENDED, true);
}

static uint64_t
number(const char *text)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0') {
		errno = EINVAL;
		fail("%s", text);
	}
	return n;
}

int
main(int argc, char **argv)
{
	struct plan plan = { .count = 1 };
	bool append = argc == 5 && strncmp(argv[1], "append-", 7) == 0;

	if (argc != 8 && !append) {
		errno = EINVAL;
		fail("arguments");
	}
	plan.place = argv[2];
	plan.manifest = argv[3];
	plan.seed = number(argv[argc - 1]);
	plan.bytes = number(argv[append ? 3 : 5]);
	if (!append) {
		plan.count = (long)number(argv[4]);
		plan.attachment = strcmp(argv[6], "attachment") == 0;
	}
	if (strcmp(argv[1], "mbox") == 0)
		make_mbox(&plan);
	else if (strcmp(argv[1], "maildir") == 0)
		make_maildir(&plan);
	else if (strcmp(argv[1], "append-mbox") == 0)
		append_mbox(&plan);
	else
		append_maildir(&plan);
	return 0;
}
