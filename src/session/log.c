#include "session/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/number.h"

#define JOURNAL "/run/systemd/journal/socket"
#define SYSLOG "/dev/log"

/* Room for the fields of an entry; session-end has the most of them, 17. */
#define FIELDS_BYTES 6000

static struct {
	int own_fd;
	bool journal;
	int priority;
	size_t len;
	char text[2 * LOG_BYTES];
	size_t fields_len;
	char fields[FIELDS_BYTES];	/* "POSTERN_KEY=value", a line for each key */
} line;

/* The journal is for what systemd started; nobody else's lines need the fields. */
void
log_start(int own_fd)
{
	line.own_fd = own_fd;
	line.journal = own_fd == -1 && getenv("INVOCATION_ID") != NULL && access(JOURNAL, W_OK) == 0;
}

/* A line's end in it would begin another line, or a field of its own in the journal. */
static void
add(const char *text)
{
	for (; *text != '\0' && line.len < sizeof(line.text) - 1; text++)
		line.text[line.len++] = *text != '\n' ? *text : ' ';
	line.text[line.len] = '\0';
}

/* Whole or not at all; with the same care. */
static void
add_field(const char *key, const char *value)
{
	char *p = line.fields + line.fields_len;
	size_t room = sizeof(line.fields) - line.fields_len;
	int n;

	if (!line.journal || (n = snprintf(p, room, "POSTERN_%s=%s\n", key, value)) < 0 || (size_t)n >= room)
		return;
	for (; *p != '='; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	for (; p[1] != '\0'; p++)
		if (*p == '\n')
			*p = ' ';
	line.fields_len += (size_t)n;
}

void
log_line(int priority, const char *event)
{
	line.priority = priority;
	line.len = 0;
	line.fields_len = 0;
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

/* One message.  A socket for each, so that whoever listens there may be started anew meanwhile.  0, or -1 with errno. */
static int
send_to(const char *path, int type, struct iovec *iov, unsigned short n)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const struct msghdr message = { .msg_iov = iov, .msg_iovlen = n };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0), result = -1, error;

	if (fd == -1)
		return -1;
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0 && sendmsg(fd, &message, MSG_NOSIGNAL) != -1)
		result = 0;
	error = errno;
	close(fd);
	errno = error;
	return result;
}

/*
 * The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), a line for each field.  libsystemd says the same, but loading it
 * costs 0.8 ms and four libraries, which is more than all the rest of a connection.
 */
static int
send_to_journal(void)
{
	char head[128];
	int n = snprintf(head, sizeof(head), "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=postern\nMESSAGE=", line.priority,
	    LOG_FAC(LOG_MAIL));
	struct iovec iov[] = { { head, (size_t)n }, { line.text, line.len }, { (char *)(uintptr_t)"\n", 1 },
		{ line.fields, line.fields_len } };

	return send_to(JOURNAL, SOCK_DGRAM, iov, 4);
}

/*
 * RFC 3164 without a time: every syslogd has a clock of its own, while musl's syslog(3) says UTC where local time is meant, and cuts
 * at 1024 octets.  Where /dev/log is a stream, as s6 has it, a NUL ends the message, as from glibc.
 */
static void
send_to_syslog(void)
{
	char head[64];
	int n = snprintf(head, sizeof(head), "<%d>postern[%ld]: ", LOG_MAIL | line.priority, (long)getpid());
	struct iovec iov[] = { { head, (size_t)n }, { line.text, line.len }, { (char *)(uintptr_t)"", 1 } };

	if (send_to(SYSLOG, SOCK_DGRAM, iov, 2) == -1 && errno == EPROTOTYPE)
		send_to(SYSLOG, SOCK_STREAM, iov, 3);
}

void
log_send(void)
{
	if (line.own_fd != -1)
		dprintf(line.own_fd, "postern[%ld]: %s\n", (long)getpid(), line.text);
	else if (!line.journal || send_to_journal() == -1)
		send_to_syslog();
}
