/* Runs as the service user, outside of the sandbox. */
#include "session/monitor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/logrecord.h"
#include "common/text.h"
#include "common/wire.h"
#include "session/log.h"

static volatile sig_atomic_t terminated;

static struct {
	pid_t session;			/* -1: gone */
	int session_status;
	char user[256 * 4];		/* who logged in, escaped */
	struct log_record tls;		/* what the handshake came to; its text is empty without one */
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

/* In a user's own run, where the program is. */
static const char *
program_path(const char *variable, const char *installed)
{
	const char *named = getuid() != 0 && getenv("POSTERN_CONF") != NULL ? getenv(variable) : NULL;

	return named != NULL ? named : installed;
}

static void
program_failed(const struct monitor *m, const struct program *p, const char *what, int error)
{
	log_line(LOG_ERR, p->event);
	log_word("rip", m->peer);
	log_text("path", p->path);
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

/* In the place of a helper that is not there: somebody has to mend something. */
static void
refuse_login(const struct monitor *m)
{
	static struct wire_msg refused;

	wire_start(&refused, WIRE_REFUSED);
	wire_put_u8(&refused, REFUSED_PERMANENT);
	wire_put_u8(&refused, 0);
	wire_send(m->helper.end, &refused);
}

static void
start_helper(struct monitor *m)
{
	static char name[] = "postern-helper";
	char *argv[] = { name, NULL };
	const char *failed = program_start(&m->helper, argv, helper_environment(m));
	int error = errno;

	if (failed == NULL)
		return;
	program_failed(m, &m->helper, failed, error);
	refuse_login(m);
}

/* It is given its settings as arguments, so that it need not read the file again; the session hears of a failure by the pair's end. */
static void
start_tls(struct monitor *m)
{
	static char name[] = "postern-tls", credentials[PATH_BYTES + 32];
	static char versions[][4] = { "1.2", "1.3" };
	struct settings settings = *m->settings;
	char *argv[] = { name, settings.tls_certificate, settings.tls_key, versions[settings.tls_minimum_version],
		settings.tls_ticket_secret, NULL };
	char *env[] = { NULL, NULL };
	const char *folder = getenv("CREDENTIALS_DIRECTORY"), *failed;

	if (folder != NULL &&
	    snprintf(credentials, sizeof(credentials), "CREDENTIALS_DIRECTORY=%s", folder) < (int)sizeof(credentials))
		env[0] = credentials;
	if ((failed = program_start(&m->tls, argv, env)) != NULL)
		program_failed(m, &m->tls, failed, errno);
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

	if (log_record_parse(datagram, len, &r) == -1 || r.event == LOG_EVENT_TLS || (!trusted && r.event != LOG_EVENT_NOTE)) {
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

/*
 * The program that holds the key knows no more of the client than what it was told: notes, and one record of what was agreed upon.
 */
static void
log_tls(const struct monitor *m, const char *datagram, size_t len)
{
	struct log_record r;
	char escaped[LOG_BYTES], *quote;
	int parsed = log_record_parse(datagram, len, &r);

	if (parsed == 0 && r.event == LOG_EVENT_TLS) {
		now.tls = r;
		while ((quote = strchr(now.tls.user, '"')) != NULL)
			*quote = '?'; /* it would end the value, and what is behind it would look like ours */
	} else if (parsed == 0 && r.event == LOG_EVENT_NOTE) {
		log_line(r.priority, "tls");
		log_word("rip", m->peer);
		log_raw(r.text);
		log_send();
	} else {
		log_line(LOG_WARNING, "tls-says");
		log_word("rip", m->peer);
		log_text("text", text_escape(escaped, sizeof(escaped), datagram, len));
		log_send();
	}
}

static void
receive_records(struct monitor *m)
{
	static char datagram[sizeof(struct log_record)];
	uid_t sender;
	ssize_t n;

	while ((n = program_heard(&m->helper, datagram, sizeof(datagram), &sender)) >= 0)
		if (n > 0)
			log_helper(m, datagram, (size_t)n, sender);
	while ((n = program_heard(&m->tls, datagram, sizeof(datagram), &sender)) >= 0)
		if (n > 0)
			log_tls(m, datagram, (size_t)n);
}

/* How long to wait in ppoll(2): NULL while the session is there; {0} when the time of what it leaves behind is over. */
static const struct timespec *
time_left(const struct monitor *m)
{
	static struct timespec left;
	static time_t deadline;
	time_t t = seconds_now();

	if (now.session != -1)
		return NULL;
	if (deadline == 0)
		deadline = t + (time_t)(m->settings->lock_timeout + m->settings->idle_timeout) + 1;
	left.tv_sec = deadline > t ? deadline - t : 0;
	return &left;
}

static void
program_gone(struct monitor *m, struct program *p, int status)
{
	char what[32];

	receive_records(m);
	p->pid = -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == PROGRAM_NOT_STARTED)
		program_failed(m, p, "exec", 0); /* where vfork(2) is fork(2), as musl's on aarch64, it has not been seen before */
	if (WIFSIGNALED(status)) {
		snprintf(what, sizeof(what), "killed by signal %d", WTERMSIG(status));
		program_failed(m, p, what, 0);
	}
}

static void
reap(struct monitor *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == now.session) {
			now.session = -1;
			now.session_status = status;
		} else if (pid == m->helper.pid) {
			program_gone(m, &m->helper, status);
		} else if (pid == m->tls.pid) {
			program_gone(m, &m->tls, status);
		}
	}
	if (pid == -1 && errno == ECHILD) {
		now.session = -1;
		m->helper.pid = m->helper.pid > 0 ? -1 : m->helper.pid;
		m->tls.pid = m->tls.pid > 0 ? -1 : m->tls.pid;
	}
}

/* postern-tls says "PROTOCOL CIPHER RESUMED [TRUNCATED]", and the server name that the client asked for. */
static void
log_tls_words(void)
{
	static const char *const keys[] = { "tls", "cipher", "resumed", "truncated" };
	char *word, *rest = now.tls.text;
	size_t i;

	if (rest[0] == '\0')
		return;
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]) && (word = strsep(&rest, " ")) != NULL; i++)
		log_word(keys[i], word);
	log_text("sni", now.tls.user);
}

static void
log_session_end(const struct monitor *m)
{
	static const char *const how[END_COUNT] = { "killed", "quit", "closed", "idle", "stalled", "login-timeout",
		"bad-commands", "login-failures", "refused", "update-failed", "changed", "helper-failed", "no-tls", "sandbox", "error" };
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
	log_tls_words();
	if (end == END_SANDBOX)
		log_word("call", syscall_name(t->refused_call));
	if (WIFSIGNALED(now.session_status) && !stopped)
		log_number("signal", (uint64_t)WTERMSIG(now.session_status));
	log_send();
}

static void
prepare(struct monitor *m)
{
	struct sigaction sa = { .sa_handler = on_signal };
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	sigdelset(&m->unblocked, SIGCHLD);
	sigdelset(&m->unblocked, SIGTERM);
	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	now.session = m->session;
	now.started = seconds_now();
	m->helper.event = "helper-failed";
	m->helper.path = program_path("POSTERN_HELPER", PKGLIBEXECDIR "/postern-helper");
	m->tls.event = "tls-failed";
	m->tls.path = program_path("POSTERN_TLS", PKGLIBEXECDIR "/postern-tls");
	m->helper.log = m->tls.log = -1;
}

/* What is still there when the session is gone and the time is over: a helper is its user's, who can stop it. */
static void
give_up_waiting(struct monitor *m)
{
	if (m->helper.pid > 0)
		program_failed(m, &m->helper, "does not end", 0);
	if (m->tls.pid > 0) {
		program_failed(m, &m->tls, "does not end", 0);
		kill(m->tls.pid, SIGKILL);
	}
}

static void
pass_signal_on(void)
{
	if (terminated && now.session != -1)
		kill(now.session, SIGTERM);
	terminated = 0;
}

/* The session has spoken to it, or is gone. */
static void
answer_session(struct monitor *m, struct program *p, void (*start)(struct monitor *m))
{
	if (program_wanted(p))
		start(m);
	program_release(p);
}

void
monitor_run(struct monitor *m)
{
	struct pollfd p[4];
	int ready;

	prepare(m);
	for (reap(m); now.session != -1 || m->helper.pid > 0 || m->tls.pid > 0; reap(m)) {
		p[0] = (struct pollfd){ .fd = m->helper.end, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = m->tls.end, .events = POLLIN };
		p[2] = (struct pollfd){ .fd = m->helper.log, .events = POLLIN };
		p[3] = (struct pollfd){ .fd = m->tls.log, .events = POLLIN };
		if ((ready = ppoll(p, 4, time_left(m), &m->unblocked)) == 0) {
			give_up_waiting(m);
			break;
		}
		if (ready == -1) {
			pass_signal_on();
			continue;
		}
		if (p[0].revents != 0)
			answer_session(m, &m->helper, start_helper);
		if (p[1].revents != 0)
			answer_session(m, &m->tls, start_tls);
		if (p[2].revents != 0 || p[3].revents != 0)
			receive_records(m);
	}
	log_session_end(m);
}
