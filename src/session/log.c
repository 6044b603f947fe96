#include "session/log.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/number.h"

/* A field "POSTERN_KEY=value" for each key, and the five that every entry has. */
#define FIELDS 20
#define FIELD_BYTES 300

static struct {
	int own_fd;
	bool journal;
	int priority;
	size_t len;
	char text[2 * LOG_BYTES];
	int fields;
	char field[FIELDS][FIELD_BYTES];
} line;

/* The journal is for what systemd started; nobody else's lines need the fields. */
void
log_start(int own_fd)
{
	line.own_fd = own_fd;
	line.journal = own_fd == -1 && getenv("INVOCATION_ID") != NULL && access("/run/systemd/journal/socket", W_OK) == 0;
}

static void
add(const char *text)
{
	size_t len = strlen(text), room = sizeof(line.text) - 1 - line.len;

	if (len > room)
		len = room;
	memcpy(line.text + line.len, text, len);
	line.len += len;
	line.text[line.len] = '\0';
}

static void
add_field(const char *key, const char *value)
{
	char *p;

	if (!line.journal || line.fields == FIELDS)
		return;
	p = line.field[line.fields++];
	snprintf(p, FIELD_BYTES, "POSTERN_%s=%s", key, value);
	for (; *p != '='; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

void
log_line(int priority, const char *event)
{
	line.priority = priority;
	line.len = 0;
	line.fields = 0;
	add(event);
	add_field("EVENT", event);
}

void
log_word(const char *key, const char *value)
{
	add(" ");
	add(key);
	add("=");
	add(value);
	add_field(key, value);
}

void
log_text(const char *key, const char *value)
{
	add(" ");
	add(key);
	add("=\"");
	add(value);
	add("\"");
	add_field(key, value);
}

void
log_number(const char *key, uint64_t value)
{
	char digits[NUMBER_DIGITS + 1];

	digits[number_format(digits, value)] = '\0';
	log_word(key, digits);
}

void
log_raw(const char *text)
{
	add(" ");
	add(text);
}

/*
 * libsystemd is loaded at the first line of a process that systemd started, and not linked: it costs 0.8 ms and brings four
 * libraries along, which a connection that logs to syslog need not pay.  0, or -1 when there is no journal to be had.
 */
static int
send_to_journal(void)
{
	static int (*sendv)(const struct iovec *, int);
	struct iovec iov[FIELDS + 4];
	char message[sizeof(line.text) + 8], priority[16];
	void *lib;
	int i, n = 0;

	if (!line.journal)
		return -1;
	if (sendv == NULL) {
		if ((lib = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL)) == NULL)
			return -1;
		*(void **)&sendv = dlsym(lib, "sd_journal_sendv");
		if (sendv == NULL)
			return -1;
	}
	snprintf(message, sizeof(message), "MESSAGE=%s", line.text);
	snprintf(priority, sizeof(priority), "PRIORITY=%d", line.priority);
	iov[n++] = (struct iovec){ message, strlen(message) };
	iov[n++] = (struct iovec){ priority, strlen(priority) };
	iov[n++] = (struct iovec){ (char *)(uintptr_t)"SYSLOG_IDENTIFIER=postern", sizeof("SYSLOG_IDENTIFIER=postern") - 1 };
	iov[n++] = (struct iovec){ (char *)(uintptr_t)"SYSLOG_FACILITY=2", sizeof("SYSLOG_FACILITY=2") - 1 };
	for (i = 0; i < line.fields; i++)
		iov[n++] = (struct iovec){ line.field[i], strlen(line.field[i]) };
	return sendv(iov, n) == 0 ? 0 : -1;
}

void
log_send(void)
{
	static bool open;

	if (line.own_fd != -1) {
		dprintf(line.own_fd, "postern[%ld]: %s\n", (long)getpid(), line.text);
		return;
	}
	if (send_to_journal() == 0)
		return;
	if (!open)
		openlog("postern", LOG_PID | LOG_NDELAY, LOG_MAIL);
	open = true;
	syslog(line.priority, "%s", line.text);
}
