/* Runs as root. */
#include "helper/sanitize.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "common/settings.h"
#include "common/wire.h"

void
give_up(const char *why, ...)
{
	static struct wire_msg m;
	char text[LOG_BYTES];
	va_list ap;

	va_start(ap, why);
	vsnprintf(text, sizeof(text), why, ap);
	va_end(ap);
	log_note(LOG_ERR, "helper-gives-up %s", text);
	wire_start(&m, WIRE_REFUSED);
	wire_put_u8(&m, REFUSED_PERMANENT);
	wire_put_u8(&m, 0);
	wire_send(SESSION_SOCKET, &m);
	_exit(1);
}

/* A file that were opened as descriptor 2 would get the log; 0 and 1 must not be one either. */
static void
fix_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd == -1)
		_exit(1);
	if (fd != SESSION_SOCKET)
		close(fd);
	if (close_range(SESSION_SOCKET + 1, ~0U, 0) == -1)
		_exit(1);
	fcntl(SESSION_SOCKET, F_SETFD, FD_CLOEXEC);
}

/* What the two or three variables we know say; no other is looked at, and none is left. */
static void
fix_environment(struct start *start)
{
	const char *peer = getenv("REMOTE_ADDR");
	unsigned char addr[sizeof(struct in6_addr)];
	bool good = peer != NULL && strlen(peer) < sizeof(start->peer) &&
	    (inet_pton(AF_INET, peer, addr) == 1 || inet_pton(AF_INET6, peer, addr) == 1);

	strcpy(start->peer, good ? peer : "local");
	snprintf(start->settings, sizeof(start->settings), "%s", settings_path());
	start->personal = getuid() != 0 && geteuid() == getuid() && secure_getenv("POSTERN_CONF") != NULL;
	if (clearenv() != 0 || setenv("PATH", "/usr/bin:/bin", 1) == -1 || setenv("LANG", "C", 1) == -1)
		_exit(1);
}

static void
fix_signals(void)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	const struct itimerval off = { { 0, 0 }, { 0, 0 } };
	sigset_t none;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
	sigaction(SIGXFSZ, &sa, NULL); /* a write past the limit is an error like a full disk, not a death in mid-update */
	setitimer(ITIMER_REAL, &off, NULL);
	setitimer(ITIMER_VIRTUAL, &off, NULL);
	setitimer(ITIMER_PROF, &off, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * A caller's low limit must not cut a mailbox short.  Where a hard limit may not be raised (a bounding set without
 * CAP_SYS_RESOURCE, an ordinary user's own run) it stays: the maildrop's code takes any failed call.
 */
static void
fix_limits(void)
{
	static const struct {
		__rlimit_resource_t resource;
		rlim_t value;
	} limits[] = { { RLIMIT_FSIZE, RLIM_INFINITY }, { RLIMIT_CPU, RLIM_INFINITY }, { RLIMIT_AS, RLIM_INFINITY },
		{ RLIMIT_DATA, RLIM_INFINITY }, { RLIMIT_NPROC, RLIM_INFINITY }, { RLIMIT_STACK, 8 << 20 },
		{ RLIMIT_NOFILE, 256 }, { RLIMIT_CORE, 0 } };
	struct rlimit hard;
	size_t i;

	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (setrlimit(limits[i].resource, &(struct rlimit){ limits[i].value, limits[i].value }) == -1 &&
		    getrlimit(limits[i].resource, &hard) == 0)
			setrlimit(limits[i].resource, &(struct rlimit){ hard.rlim_max, hard.rlim_max });
	if (setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		_exit(1);
}

/* Which of the things that void a setuid bit it was. */
static void __attribute__((noreturn))
explain_missing_root(void)
{
	struct stat st;
	struct statvfs vfs;

	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		give_up("error=\"no_new_privs is set: a directive of the unit implies it, see postern-helper(8)\"");
	if (statvfs("/proc/self/exe", &vfs) == 0 && (vfs.f_flag & ST_NOSUID) != 0)
		give_up("error=\"the helper is on a file system mounted nosuid\"");
	if (stat("/proc/self/exe", &st) == 0 && ((st.st_mode & S_ISUID) == 0 || st.st_uid != 0))
		give_up("error=\"the helper is not setuid root: chown root:" SERVICE_USER " and chmod 4710\"");
	give_up("error=\"the setuid bit has no effect (user namespace? file system?)\"");
}

/* The service user, or root.  The mode 4710 keeps others out already; this also holds where somebody loosened it. */
static void
check_caller(void)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	const struct passwd *pw;

	if (getsockopt(SESSION_SOCKET, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1 || peer.pid != getppid() ||
	    peer.uid != getuid())
		give_up("error=\"not started by the monitor\" uid=%ld", (long)getuid());
	if (getuid() == 0)
		return;
	if ((pw = getpwnam(SERVICE_USER)) == NULL || pw->pw_uid != getuid())
		give_up("error=\"caller is not the account " SERVICE_USER "\" uid=%ld", (long)getuid());
	endpwent();
}

static void
check_socket(void)
{
	int domain, type;
	socklen_t len = sizeof(int);

	if (getsockopt(SESSION_SOCKET, SOL_SOCKET, SO_DOMAIN, &domain, &len) == -1 || domain != AF_UNIX ||
	    getsockopt(SESSION_SOCKET, SOL_SOCKET, SO_TYPE, &type, &len) == -1 || type != SOCK_SEQPACKET) {
		log_note(LOG_ERR, "helper-gives-up error=\"descriptor 3 is not the monitor's socket\" uid=%ld", (long)getuid());
		_exit(1);
	}
}

/* All of root, not just its effective half: the service user could send signals to a process of its real uid. */
static void
become_root(void)
{
	if (setgroups(0, NULL) == -1 || setresgid(0, 0, 0) == -1 || setresuid(0, 0, 0) == -1)
		give_up("error=\"cannot change ids (capabilities bounded to less than setuid needs?)\" reason=\"%s\"",
		    strerror(errno));
}

void
sanitize(int argc, struct start *start)
{
	if (argc != 1)
		_exit(1); /* no options; and argc 0 has surprised other programs (CVE-2021-4034) */
	fix_descriptors();
	fix_signals();
	umask(077);
	if (chdir("/") == -1)
		_exit(1);
	setsid();
	check_socket();
	fix_environment(start);
	if (geteuid() != 0 && !start->personal)
		explain_missing_root();
	if (!start->personal) {
		check_caller();
		become_root();
	}
	fix_limits();
}
