/*
 * postern: a POP3 session on descriptors 0 and 1, for inetd, systemd (Accept=yes) or a shell.  Runs as the service user.
 *
 * This file is the start-up, in its order.  Nothing of the client is read before the fork; the child that reads it puts up
 * its sandbox first, the parent becomes the monitor.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "common/number.h"
#include "common/settings.h"
#include "common/tls_files.h"
#include "common/tunnel.h"
#include "session/log.h"
#include "session/monitor.h"
#include "session/peer.h"
#include "session/sandbox.h"
#include "session/session.h"

/* The session's descriptors besides 0 to 2: this, and TUNNEL_SESSION_END where there is TLS. */
#define HELPER_SOCKET 3

/*
 * How much the kernel takes ahead of the network.  With its own megabytes a socket would become writable again only after a third of
 * them are read, and a client that reads 1 kB/s would look as if it read nothing for half an hour.
 */
#define UNSENT_OCTETS (128 * 1024)

/* Descriptors that stay open while the start-up makes its own. */
static int own_log = -1;

static bool
same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A start that cannot go on.  Descriptor 2 is the client's under inetd: what is written there would be read as a reply. */
static void __attribute__((noreturn))
fail(const char *what)
{
	log_line(LOG_ERR, "start-failed");
	log_text("what", what);
	log_text("reason", strerror(errno));
	log_send();
	_exit(1);
}

static void
open_missing_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

static bool
variable_is(const char *name, uint64_t number)
{
	const char *value = getenv(name);
	uint64_t is;

	return value != NULL && number_parse(value, strlen(value), &is) == 0 && is == number;
}

/* systemd without StandardInput=socket passes the connection as descriptor 3, and says so as in sd_listen_fds(3). */
static void
take_passed_socket(void)
{
	int listening;
	socklen_t len = sizeof(listening);

	if (!variable_is("LISTEN_PID", (uint64_t)getpid()) || !variable_is("LISTEN_FDS", 1))
		return; /* not meant for us */
	if (getsockopt(3, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == -1 || listening) {
		errno = EINVAL;
		fail("LISTEN_FDS is no connection: the socket unit needs Accept=yes");
	}
	if (dup2(3, 0) == -1 || dup2(3, 1) == -1)
		fail("taking the socket of LISTEN_FDS");
}

/* Standard error is kept for an ordinary user's own run, where it is not the client; nobody else writes to it. */
static void
put_standard_error_away(void)
{
	int fd;

	if (getuid() != 0 && getenv("POSTERN_CONF") != NULL && !same_file(2, 0) && !same_file(2, 1))
		own_log = fcntl(2, F_DUPFD_CLOEXEC, 10);
	if ((fd = open("/dev/null", O_RDWR)) == -1 || dup2(fd, 2) == -1)
		fail("/dev/null");
	close(fd);
	log_start(own_log);
}

/* inetd.conf may say root; then this is what root does. */
static void
give_up_root(void)
{
	const struct passwd *pw;

	if (getuid() != 0 && geteuid() != 0)
		return;
	errno = 0;
	if ((pw = getpwnam(SERVICE_USER)) == NULL || pw->pw_uid == 0)
		fail("no account " SERVICE_USER " to run as");
	if (setgroups(0, NULL) == -1 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) == -1 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) == -1 || setuid(0) != -1)
		fail("giving up root");
}

/* Broken settings are logged here, where line and key are known; the session then refuses every login. */
static bool
read_settings(struct settings *settings, const char *peer)
{
	char error[512];

	if (settings_read(settings, settings_path(), false, error, sizeof(error)) == 0)
		return true;
	log_line(LOG_ERR, "configuration");
	log_word("rip", peer);
	log_raw(error);
	log_send();
	return false;
}

/* The child, from here to its end. */
static void __attribute__((noreturn))
become_session(struct session *s, int helper)
{
	int last = s->tunnel != -1 ? TUNNEL_SESSION_END : HELPER_SOCKET;

	session_prepare(s);
	/* The helper's pair was made first, so the tunnel is at none of these two places yet, or at its own. */
	if (dup2(helper, HELPER_SOCKET) == -1 || (s->tunnel != -1 && dup2(s->tunnel, TUNNEL_SESSION_END) == -1) ||
	    syscall(SYS_close_range, last + 1, ~0U, 0) == -1 || sandbox_enter(s->tally, 1) == -1) {
		s->tally->end = END_ERROR;
		_exit(1);
	}
	s->helper = HELPER_SOCKET;
	s->tunnel = s->tunnel != -1 ? TUNNEL_SESSION_END : -1;
	session_run(s);
	_exit(0);
}

/* The parent: the client's socket must close when the session ends, not later. */
static void
become_monitor(struct monitor *m, const struct session *s, int session_end)
{
	int fd;

	close(session_end);
	if (s->tunnel != -1)
		close(s->tunnel);
	if ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) == -1 || dup2(fd, 0) == -1 || dup2(fd, 1) == -1) {
		kill(m->session, SIGKILL);
		fail("/dev/null");
	}
	close(fd);
	monitor_run(m);
}

static void
prepare_client(void)
{
	int on = 1, unsent = UNSENT_OCTETS;

	/* An answer leaves in one piece; Nagle would hold its last segment back until an ACK that the client delays by 40 ms. */
	setsockopt(1, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(1, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	signal(SIGPIPE, SIG_IGN);
	/* May be inherited as ignored, and waitpid(2) would find nobody, or a stop would not be heard. */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	umask(077);
}

static void
tls_unavailable(const char *peer, const char *file, const char *error)
{
	log_line(LOG_WARNING, "tls-unavailable");
	log_word("rip", peer);
	if (file != NULL)
		log_text("file", file);
	log_text("error", error);
	log_send();
}

static bool
readable(const char *path, const char *peer)
{
	if (access(path, R_OK) == 0)
		return true;
	tls_unavailable(peer, path, strerror(errno));
	return false;
}

/*
 * Whether there is a certificate with its key that can be read, which costs little to know.  What postern-tls will think of them
 * is seen when it is first needed.
 */
static bool
tls_possible(const struct settings *settings, const char *peer)
{
	struct tls_files files;
	bool possible = false;

	tls_files_start(&files, settings->tls_certificate, settings->tls_key, getenv("CREDENTIALS_DIRECTORY"));
	while (tls_files_next(&files)) {
		if (files.error != NULL)
			tls_unavailable(peer, files.certificate, files.error);
		else if (readable(files.certificate, peer) && readable(files.key, peer))
			possible = true;
	}
	return possible;
}

/* A connection without TLS, which most are on a machine that has none configured, pays one look at the setting for it. */
static void
prepare_tunnel(struct session *s, struct monitor *m)
{
	int pair[2];

	s->tunnel = m->tls.end = -1;
	if (s->settings->tls_certificate[0] == '\0') {
		if (s->only_tls)
			tls_unavailable(m->peer, NULL, "no tls-certificate in postern.conf(5)");
		return;
	}
	s->local = peer_is_local(m->peer);
	if (!tls_possible(s->settings, m->peer))
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		fail("socketpair");
	s->tunnel = pair[0];
	m->tls.end = pair[1];
}

static void __attribute__((noreturn))
run(struct session *s, struct monitor *m)
{
	sigset_t stop;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		fail("socketpair");
	prepare_tunnel(s, m);
	s->tally = mmap(NULL, sizeof(*s->tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->tally == MAP_FAILED)
		fail("mmap");
	/* A stop that comes before the monitor can pass it on must wait until it can. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, &m->unblocked);
	/* Without the handlers of fork(3), which are for threads and write to 13 kB that the two processes could share. */
	if ((m->session = _Fork()) == -1)
		fail("fork");
	if (m->session == 0) {
		sigdelset(&m->unblocked, SIGTERM);
		sigprocmask(SIG_SETMASK, &m->unblocked, NULL);
		become_session(s, pair[0]);
	}
	m->tally = s->tally;
	m->settings = s->settings;
	m->helper.end = pair[1];
	become_monitor(m, s, pair[0]);
	_exit(0); /* not exit(3): nothing is buffered, and its handlers touch pages that nobody needs any more */
}

int
main(int argc, char **argv)
{
	static struct settings settings;
	static struct session session = { .settings = &settings };
	static struct monitor monitor;

	log_start(-1);
	open_missing_descriptors();
	session.only_tls = argc == 2 && strcmp(argv[1], "--tls") == 0;
	if (argc > 1 && !session.only_tls) {
		if (!same_file(2, 0))
			dprintf(2, "usage: postern [--tls]: see postern(8)\n");
		return 2;
	}
	take_passed_socket();
	put_standard_error_away();
	give_up_root();
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		fail("prctl");
	syscall(SYS_close_range, 3, own_log == -1 ? ~0U : (unsigned)own_log - 1, 0);
	peer_find(0, monitor.peer);
	session.settings_broken = !read_settings(&settings, monitor.peer);
	prepare_client();
	run(&session, &monitor);
}
