/*
 * The log: one line per event, "event key=value ...", that grep and fail2ban can read.  Only the monitor writes it.  The
 * journal (with fields) when systemd started us, else syslog; an ordinary user's own run logs to its standard error.
 */
#ifndef SESSION_LOG_H
#define SESSION_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* own_fd: where an ordinary user's lines go, or -1 for the system's log. */
void log_start(int own_fd);

/*
 * A line: log_line() first, then its keys in the order they are to stand in, then log_send().  priority is syslog(3)'s.
 * log_text() quotes; its value must be escaped already (text_escape).  log_raw() adds keys that somebody else wrote.
 */
void log_line(int priority, const char *event);
void log_word(const char *key, const char *value);
void log_text(const char *key, const char *value);
void log_number(const char *key, uint64_t value);
void log_raw(const char *text);
void log_send(void);

#endif
