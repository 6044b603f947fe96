/*
 * popbench verify: fetches every message of a maildrop and compares it with what the generator stored.  Never timed.
 *
 * The manifest has one line for each stored message: two digests (digest.h), of the text as it is stored and with an mbox's
 * quoting taken back, as some servers do.  MISSING messages were deleted before; servers that then have rewritten an mbox may
 * show headers of their own.  Compared are also each message's octets with LIST, and STAT with the sum of LIST.  Order is not
 * compared: servers of a Maildir differ in it.
 *
 * Runs in the measuring client.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "popbench.h"
#include "stream.h"

#define WINDOW 100

struct entry {
	uint64_t stored, unquoted;
	bool found;
};

static struct stream client;
static struct entry *entries;
static size_t count;

static int
by_digest(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->stored < y->stored ? -1 : x->stored > y->stored;
}

static void
read_manifest(const char *path)
{
	FILE *f = fopen(path, "r");
	struct entry e = { .found = false };
	size_t room = 0;

	if (f == NULL)
		fail("%s: cannot be opened", path);
	while (fscanf(f, "%" SCNx64 " %" SCNx64, &e.stored, &e.unquoted) == 2) {
		if (count == room) {
			room = room * 2 + 1024;
			if ((entries = realloc(entries, room * sizeof(*entries))) == NULL)
				fail("no memory");
		}
		entries[count++] = e;
	}
	fclose(f);
	qsort(entries, count, sizeof(*entries), by_digest);
}

/* The first entry with this digest; equal ones follow it. */
static size_t
lower_bound(uint64_t sum)
{
	size_t low = 0, high = count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (entries[middle].stored < sum)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Marks an entry that is this message; false if there is none left. */
static bool
mark(uint64_t sum)
{
	size_t i;

	for (i = lower_bound(sum); i < count && entries[i].stored == sum; i++)
		if (!entries[i].found)
			return entries[i].found = true;
	for (i = 0; i < count; i++)
		if (entries[i].unquoted == sum && entries[i].unquoted != entries[i].stored && !entries[i].found)
			return entries[i].found = true;
	return false;
}

/* STAT, then LIST: the octets of each message; sum as STAT says. */
static uint64_t *
fetch_sizes(unsigned long *messages, unsigned long long *stat_octets)
{
	unsigned long i, n;
	uint64_t *sizes;
	size_t len;

	stream_command(&client, "STAT");
	if (sscanf(stream_ok(&client), " %lu %llu", messages, stat_octets) != 2)
		fail("STAT's answer has no numbers");
	if ((sizes = calloc(*messages + 1, sizeof(*sizes))) == NULL)
		fail("no memory");
	stream_command(&client, "LIST");
	stream_ok(&client);
	for (i = 1; i <= *messages; i++)
		if (sscanf(stream_line(&client, &len), "%lu %" SCNu64, &n, &sizes[i]) != 2 || n != i)
			fail("LIST: bad line for message %lu", i);
	if (strcmp(stream_line(&client, &len), ".") != 0)
		fail("LIST: more lines than messages");
	return sizes;
}

/* Headers that mail programs add to an mbox for themselves. */
static bool
own_header(const char *line)
{
	static const char *const names[] = { "Status:", "X-Status:", "X-Keywords:", "X-UID:", "X-UIDL:", "X-IMAPbase:",
		"X-IMAP:", "Content-Length:" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncasecmp(line, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* Reads one message's text; its octets as RFC 1939 counts them. */
static uint64_t
fetch_text(struct digest *d, bool rewritten)
{
	bool header = rewritten;
	uint64_t octets = 0;
	size_t len;
	char *line;

	*d = DIGEST_START;
	stream_ok(&client);
	for (line = stream_line(&client, &len); len != 1 || line[0] != '.'; line = stream_line(&client, &len)) {
		if (line[0] == '.' && len > 1) {
			line++;
			len--;
		}
		octets += len + 2;
		header = header && len > 0;
		if (!header || !own_header(line))
			digest_line(d, line, len);
	}
	return octets;
}

static void
send_window(unsigned long *sent, unsigned long answered, unsigned long messages)
{
	if (*sent - answered > WINDOW / 2)
		return;
	for (; *sent < messages && *sent < answered + WINDOW; ++*sent)
		stream_command(&client, "RETR %lu", *sent + 1);
}

static void
log_in(const char *user)
{
	stream_ok(&client);
	stream_command(&client, "USER %s", user);
	stream_ok(&client);
	stream_command(&client, "PASS %s", BENCH_PASSWORD);
	stream_ok(&client);
}

static unsigned long
not_found(void)
{
	unsigned long n = 0;
	size_t i;

	for (i = 0; i < count; i++)
		n += !entries[i].found;
	return n;
}

int
verify_main(int argc, char **argv)
{
	unsigned long missing = number_argument(argv[3], 4294967295UL), messages, i, sent = 0, bad = 0, wrong = 0;
	unsigned long long stat_octets, sum = 0;
	struct digest d;
	uint64_t *sizes;

	(void)argc;
	read_manifest(argv[2]);
	stream_open(&client, port_argument(argv[0]));
	log_in(argv[1]);
	sizes = fetch_sizes(&messages, &stat_octets);
	for (i = 1; i <= messages; i++) {
		send_window(&sent, i - 1, messages);
		wrong += fetch_text(&d, missing > 0) != sizes[i];
		bad += !mark(d.sum);
		sum += sizes[i];
	}
	stream_command(&client, "QUIT");
	stream_ok(&client);
	printf("{\"messages\": %lu, \"bad\": %lu, \"wrong_sizes\": %lu, \"stat_differs\": %s, \"lost\": %ld}\n", messages, bad,
	    wrong, sum == stat_octets ? "false" : "true", (long)not_found() - (long)missing);
	stream_reset(client.fd);
	free(sizes);
	return 0;
}
