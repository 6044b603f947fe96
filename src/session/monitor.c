/* Runs as the service user, outside of the sandbox: a setuid program has to be started from here. */
#include "session/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/logrecord.h"
#include "common/text.h"
#include "common/wire.h"
#include "session/log.h"

/* The helper finds its socket here (helper/sanitize.c) and the log on descriptor 2. */
#define HELPER_SOCKET 3

static volatile sig_atomic_t terminated;

static struct {
	pid_t helper;			/* 0: not started, -1: gone */
	pid_t session;			/* -1: gone */
	int session_status;
	int log;			/* where the helper's records arrive; -1 before it is started */
	char user[256 * 4];		/* who logged in, escaped */
	time_t started;			/* CLOCK_MONOTONIC */
} now;

static time_t
seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void
on_signal(int sig)
{
	if (sig == SIGTERM)
		terminated = 1;
}

static const char *
helper_path(void)
{
	const char *named = getuid() != 0 && getenv("POSTERN_CONF") != NULL ? getenv("POSTERN_HELPER") : NULL;

	return named != NULL ? named : PKGLIBEXECDIR "/postern-helper";
}

static void
helper_failed(const struct monitor *m, const char *what, int error)
{
	log_line(LOG_ERR, "helper-failed");
	log_word("rip", m->peer);
	log_text("path", helper_path());
	log_text("error", what);
	if (error != 0)
		log_text("reason", strerror(error));
	log_send();
}

/* What the helper may know: the peer, for PAM and the log; and in a user's own run, where its settings are. */
static char **
helper_environment(const struct monitor *m)
{
	static char remote[PEER_BYTES + 16], conf[PATH_BYTES + 16];
	static char *env[3];
	const char *named = getenv("POSTERN_CONF");
	int n = 0;

	snprintf(remote, sizeof(remote), "REMOTE_ADDR=%s", m->peer);
	env[n++] = remote;
	if (named != NULL && snprintf(conf, sizeof(conf), "POSTERN_CONF=%s", named) < (int)sizeof(conf))
		env[n++] = conf;
	env[n] = NULL;
	return env;
}

/* Readable also means that the session has closed its end; then nothing waits there. */
static bool
message_waits(int fd)
{
	int bytes = 0;

	return ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* In the place of a helper that is not there: somebody has to mend something. */
static void
refuse_login(const struct monitor *m, const char *what, int error)
{
	static struct wire_msg refused;

	helper_failed(m, what, error);
	wire_start(&refused, WIRE_REFUSED);
	wire_put_u8(&refused, REFUSED_PERMANENT);
	wire_put_u8(&refused, 0);
	wire_send(m->helper_end, &refused);
}

static void
start_helper(const struct monitor *m)
{
	static char name[] = "postern-helper";
	char *argv[] = { name, NULL };
	char **env = helper_environment(m);
	const char *path = helper_path();
	int pair[2], on = 1;
	sigset_t none;
	volatile int error = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == -1) {
		helper_failed(m, "socketpair", errno);
		now.helper = -1;
		return;
	}
	sigemptyset(&none);
	now.log = pair[0];
	if ((now.helper = vfork()) == 0) {
		/* The parent sleeps until exec; nothing of it is touched here but descriptors and error. */
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (dup2(m->helper_end, HELPER_SOCKET) == -1 || fcntl(HELPER_SOCKET, F_SETFD, 0) == -1 ||
		    dup2(pair[1], STDERR_FILENO) == -1 || execve(path, argv, env) == -1)
			error = errno;
		_exit(127);
	}
	if (now.helper == -1 || error != 0)
		refuse_login(m, now.helper == -1 ? "fork" : "exec", now.helper == -1 ? errno : error);
	close(pair[1]);
}

static void
log_note_line(const struct monitor *m, const struct log_record *r, bool trusted)
{
	log_line(r->priority, trusted ? "note" : "maildrop");
	if (!trusted)
		log_text("user", now.user);
	log_word("rip", m->peer);
	log_raw(r->text);
	log_send();
}

static void
log_login_line(const struct monitor *m, const struct log_record *r)
{
	log_line(r->priority, r->event == LOG_EVENT_LOGIN ? "login" : "login-failed");
	if (r->event == LOG_EVENT_LOGIN_FAILED)
		log_word("reason", r->text);
	log_text("user", r->user);
	log_word("rip", m->peer);
	if (r->event == LOG_EVENT_LOGIN) {
		log_word("method", r->text);
		snprintf(now.user, sizeof(now.user), "%s", r->user);
	}
	log_send();
}

/*
 * Root's phase (or, in a user's own run, our own uid) is believed; the phase that runs as a mailbox's owner may only add
 * notes, under that user's name.  What is no record is a library's cry on standard error.
 */
static void
log_helper(const struct monitor *m, const char *datagram, size_t len, uid_t sender)
{
	bool trusted = sender == 0 || sender == getuid();
	struct log_record r;
	char escaped[LOG_BYTES];

	if (log_record_parse(datagram, len, &r) == -1 || (!trusted && r.event != LOG_EVENT_NOTE)) {
		log_line(LOG_WARNING, "helper-says");
		log_word("rip", m->peer);
		log_text("text", text_escape(escaped, sizeof(escaped), datagram, len));
		log_send();
	} else if (r.event == LOG_EVENT_NOTE) {
		log_note_line(m, &r, trusted && now.user[0] == '\0');
	} else {
		log_login_line(m, &r);
	}
}

static bool
peer_is_gone(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

/* One datagram with its sender.  False when there is none now. */
static bool
receive_record(const struct monitor *m)
{
	static char datagram[sizeof(struct log_record)];
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { datagram, sizeof(datagram) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	struct cmsghdr *c;
	struct ucred sender = { .uid = (uid_t)-1 };
	ssize_t n = recvmsg(now.log, &msg, MSG_DONTWAIT);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n == -1 || (n == 0 && peer_is_gone(now.log))) {
		close(now.log);
		now.log = -1;
		return false;
	}
	if (n == 0)
		return true; /* a library may write nothing */
	if ((c = CMSG_FIRSTHDR(&msg)) != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&sender, CMSG_DATA(c), sizeof(sender));
	log_helper(m, datagram, (size_t)n, sender.uid);
	return true;
}

static void
receive_records(const struct monitor *m)
{
	while (now.log != -1 && receive_record(m))
		continue;
}

/* How long to wait in ppoll(2): NULL while the session is there; {0} when the helper's time is over. */
static const struct timespec *
time_left(const struct monitor *m)
{
	static struct timespec left;
	static time_t deadline;
	time_t t = seconds_now();

	if (now.session != -1)
		return NULL;
	if (deadline == 0)
		deadline = t + (time_t)m->patience + 1;
	left.tv_sec = deadline > t ? deadline - t : 0;
	return &left;
}

static void
helper_gone(const struct monitor *m, int status)
{
	char what[32];

	receive_records(m);
	now.helper = -1;
	if (WIFSIGNALED(status)) {
		snprintf(what, sizeof(what), "killed by signal %d", WTERMSIG(status));
		helper_failed(m, what, 0);
	}
}

static void
reap(const struct monitor *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == now.session) {
			now.session = -1;
			now.session_status = status;
		} else if (pid == now.helper) {
			helper_gone(m, status);
		}
	}
	if (pid == -1 && errno == ECHILD) {
		now.session = -1;
		if (now.helper > 0)
			now.helper = -1;
	}
}

static void
log_session_end(const struct monitor *m)
{
	static const char *const how[END_COUNT] = { "killed", "quit", "closed", "idle", "stalled", "login-timeout",
		"bad-commands", "login-failures", "refused", "update-failed", "changed", "helper-failed", "sandbox", "error" };
	const struct tally *t = m->tally;
	uint32_t end = t->end < END_COUNT ? t->end : END_KILLED;
	bool bad = end == END_KILLED || end == END_SANDBOX || end == END_HELPER || end == END_ERROR;
	bool stopped = WIFSIGNALED(now.session_status) && WTERMSIG(now.session_status) == SIGTERM;

	log_line(stopped ? LOG_NOTICE : bad ? LOG_ERR : LOG_INFO, "session-end");
	log_word("how", stopped ? "terminated" : how[end]);
	log_text("user", now.user);
	log_word("rip", m->peer);
	log_number("retrieved", t->retrieved);
	log_number("octets", t->octets);
	log_number("deleted", t->deleted);
	log_number("left", t->left);
	log_number("seconds", (uint64_t)(seconds_now() - now.started));
	if (end == END_SANDBOX)
		log_word("call", syscall_name(t->refused_call));
	if (WIFSIGNALED(now.session_status) && !stopped)
		log_number("signal", (uint64_t)WTERMSIG(now.session_status));
	log_send();
}

void
monitor_run(struct monitor *m)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct pollfd p[2];
	int ready;
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	sigdelset(&m->unblocked, SIGCHLD);
	sigdelset(&m->unblocked, SIGTERM);
	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	now.session = m->session;
	now.log = -1;
	now.started = seconds_now();

	for (reap(m); now.session != -1 || now.helper > 0; reap(m)) {
		p[0] = (struct pollfd){ .fd = now.helper == 0 ? m->helper_end : -1, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = now.log, .events = POLLIN };
		if ((ready = ppoll(p, 2, time_left(m), &m->unblocked)) == 0) {
			helper_failed(m, "does not end", 0);
			break;
		}
		if (ready == -1) {
			if (terminated && now.session != -1)
				kill(now.session, SIGTERM);
			terminated = 0;
			continue;
		}
		if ((p[0].revents & POLLIN) != 0 && message_waits(m->helper_end))
			start_helper(m);
		if (p[0].revents != 0) {
			close(m->helper_end); /* the session has it alone, or is gone */
			now.helper = now.helper == 0 ? -1 : now.helper;
		}
		if (p[1].revents != 0)
			receive_records(m);
	}
	log_session_end(m);
}
