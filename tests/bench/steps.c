/*
 * popbench steps: one session, its steps timed.  Runs in the measuring client.
 *
 *	open		PASS sent to STAT answered (the connection, greeting and USER are not timed)
 *	list, uidl	the whole list
 *	each:MS		RETR one by one from message 1, for MS milliseconds at most
 *	pipe:MS		the same with many commands under way
 *	retr:N		message N
 *	half:N		half of message N, then a pause as with hold, then the rest
 *	dele:N		DELE N
 *	deleall		DELE of every message, many commands under way
 *	quit		to the answer, and to the connection's end
 *	drop		the end without QUIT
 *	hold		a pause: prints "held" and waits for a line
 *
 * The JSON has for each step its times in milliseconds, and what was moved.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "popbench.h"
#include "stream.h"

/* Commands under way at most.  They and their short answers fit into the socket buffers, so sending never waits. */
#define WINDOW 200

static struct stream client;
static unsigned long messages;
static double started;		/* PASS was sent */
static FILE *report;		/* in memory: standard output is for the pauses until all is done */
static bool first_value = true;

static void __attribute__((format(printf, 2, 3)))
value(const char *name, const char *format, ...)
{
	va_list ap;

	fprintf(report, "%s\"%s\": ", first_value ? "{" : ", ", name);
	first_value = false;
	va_start(ap, format);
	vfprintf(report, format, ap);
	va_end(ap);
}

static void
milliseconds(const char *name, double since_us)
{
	value(name, "%.4f", (now_us() - since_us) / 1e3);
}

static void
step_open(unsigned long unused)
{
	unsigned long long octets;

	(void)unused;
	started = now_us();
	stream_command(&client, "PASS %s", BENCH_PASSWORD);
	stream_ok(&client);
	stream_command(&client, "STAT");
	if (sscanf(stream_ok(&client), " %lu %llu", &messages, &octets) != 2)
		fail("STAT's answer has no numbers");
	milliseconds("open", started);
	value("messages", "%lu", messages);
	value("octets", "%llu", octets);
}

static void
listing(const char *command, const char *name)
{
	double start = now_us();

	stream_command(&client, "%s", command);
	stream_ok(&client);
	stream_skip_text(&client);
	milliseconds(name, start);
}

static void
step_list(unsigned long unused)
{
	(void)unused;
	listing("LIST", "list");
}

static void
step_uidl(unsigned long unused)
{
	(void)unused;
	listing("UIDL", "uidl");
}

static void
transferred(const char *name, unsigned long count, double start)
{
	value(name, "{\"messages\": %lu, \"octets\": %llu, \"ms\": %.4f}", count, (unsigned long long)client.taken,
	    (now_us() - start) / 1e3);
}

static void
step_each(unsigned long ms)
{
	double start = now_us();
	unsigned long n;

	client.taken = 0;
	for (n = 0; n < messages && now_us() - start < (double)ms * 1e3; n++) {
		stream_command(&client, "RETR %lu", n + 1);
		stream_ok(&client);
		stream_skip_text(&client);
	}
	transferred("each", n, start);
}

/* Sends commands for messages first to last - 1 in one piece. */
static void
send_batch(const char *command, unsigned long first, unsigned long last)
{
	char text[WINDOW * 32];
	size_t used = 0;

	for (; first < last; first++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %lu\r\n", command, first + 1);
	stream_send(&client, text, used);
}

/*
 * Sends command for every message and takes the answers; no more commands are sent once the time (in milliseconds, 0: any)
 * is over.  Returns how many were answered.
 */
static unsigned long
pipeline(const char *command, bool texts, unsigned long ms)
{
	double until = now_us() + (double)ms * 1e3;
	unsigned long sent = 0, answered = 0, goal = messages;

	while (answered < goal) {
		if (ms != 0 && now_us() >= until)
			goal = sent;
		if (sent - answered <= WINDOW / 2 && sent < goal) {
			unsigned long last = answered + WINDOW < goal ? answered + WINDOW : goal;

			send_batch(command, sent, last);
			sent = last;
		}
		if (answered == goal)
			break;
		stream_ok(&client);
		if (texts)
			stream_skip_text(&client);
		answered++;
	}
	return answered;
}

static void
step_pipe(unsigned long ms)
{
	double start = now_us();

	client.taken = 0;
	transferred("pipe", pipeline("RETR", true, ms), start);
}

static void
step_retr(unsigned long n)
{
	double start = now_us();

	client.taken = 0;
	stream_command(&client, "RETR %lu", n);
	stream_ok(&client);
	stream_skip_text(&client);
	transferred("retr", 1, start);
}

static void
step_half(unsigned long n)
{
	unsigned long long octets;

	stream_command(&client, "LIST %lu", n);
	if (sscanf(stream_ok(&client), " %*u %llu", &octets) != 1)
		fail("LIST's answer has no numbers");
	stream_command(&client, "RETR %lu", n);
	stream_ok(&client);
	stream_skip_part(&client, octets / 2);
	hold();
	stream_skip_rest(&client);
}

static void
step_dele(unsigned long n)
{
	stream_command(&client, "DELE %lu", n);
	stream_ok(&client);
}

static void
step_deleall(unsigned long unused)
{
	double start = now_us();

	(void)unused;
	pipeline("DELE", false, 0);
	milliseconds("dele", start);
}

static void
step_quit(unsigned long unused)
{
	double start = now_us();

	(void)unused;
	stream_command(&client, "QUIT");
	stream_ok(&client);
	milliseconds("quit", start);
	stream_wait_end(&client);
	milliseconds("closed", start);
	milliseconds("session", started);
	stream_reset(client.fd);
}

static void
step_drop(unsigned long unused)
{
	(void)unused;
	stream_reset(client.fd);
}

static void
step_hold(unsigned long unused)
{
	(void)unused;
	hold();
}

static const struct step {
	const char *name;
	void (*run)(unsigned long argument);
	bool argument;
} steps[] = {
	{ "open", step_open, false },
	{ "list", step_list, false },
	{ "uidl", step_uidl, false },
	{ "each", step_each, true },
	{ "pipe", step_pipe, true },
	{ "retr", step_retr, true },
	{ "half", step_half, true },
	{ "dele", step_dele, true },
	{ "deleall", step_deleall, false },
	{ "quit", step_quit, false },
	{ "drop", step_drop, false },
	{ "hold", step_hold, false },
};

static void
run_step(const char *text)
{
	const char *colon = strchr(text, ':');
	size_t i, len = colon != NULL ? (size_t)(colon - text) : strlen(text);

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (strlen(steps[i].name) == len && memcmp(steps[i].name, text, len) == 0 &&
		    steps[i].argument == (colon != NULL)) {
			steps[i].run(colon != NULL ? number_argument(colon + 1, 4294967295UL) : 0);
			return;
		}
	fail("no such step: %s", text);
}

int
steps_main(int argc, char **argv)
{
	char *text = NULL;
	size_t size;
	int i;

	if ((report = open_memstream(&text, &size)) == NULL)
		fail("no memory");
	stream_open(&client, port_argument(argv[0]));
	stream_ok(&client);
	stream_command(&client, "USER %s", argv[1]);
	stream_ok(&client);
	for (i = 2; i < argc; i++)
		run_step(argv[i]);
	fputs(first_value ? "{}" : "}", report);
	if (fclose(report) == EOF)
		fail("no memory");
	puts(text);
	free(text);
	return 0;
}
