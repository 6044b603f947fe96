#include "session/log.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include "common/limits.h"

/* A field "POSTERN_KEY=value" for each key, and the five that every entry has. */
#define FIELDS 20
#define FIELD_BYTES 300

static struct {
	int own_fd;
	int priority;
	size_t len;
	char text[2 * LOG_BYTES];
	int fields;
	char field[FIELDS][FIELD_BYTES];
} line;

void
log_start(int own_fd)
{
	line.own_fd = own_fd;
}

__attribute__((format(printf, 1, 2))) static void
add(const char *fmt, ...)
{
	size_t room = sizeof(line.text) - line.len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line.text + line.len, room, fmt, ap);
	va_end(ap);
	line.len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static void
add_field(const char *key, const char *value)
{
	char *p;

	if (line.fields == FIELDS)
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
	add("%s", event);
	add_field("EVENT", event);
}

void
log_word(const char *key, const char *value)
{
	add(" %s=%s", key, value);
	add_field(key, value);
}

void
log_text(const char *key, const char *value)
{
	add(" %s=\"%s\"", key, value);
	add_field(key, value);
}

void
log_number(const char *key, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
	log_word(key, digits);
}

void
log_raw(const char *text)
{
	add(" %s", text);
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

	if (getenv("INVOCATION_ID") == NULL || access("/run/systemd/journal/socket", W_OK) == -1)
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
