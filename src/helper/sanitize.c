/* Runs as root. */
#include "helper/sanitize.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <syslog.h>
#include <unistd.h>

#include "accounts/missing_root.h"
#include "common/limits.h"
#include "common/logrecord.h"
#include "common/settings.h"
#include "common/wire.h"

/* A file that were opened as descriptor 2 would get the log; 0 and 1 must not be one either. */
static void
fix_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd == -1 || syscall(SYS_close_range, SESSION_SOCKET + 1, ~0U, 0) == -1)
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
	if (clearenv() != 0 || setenv("PATH", "/usr/bin:/bin", 1) == -1)
		_exit(1);
}

static void
fix_signals(void)
{
	const struct itimerval off = { { 0, 0 }, { 0, 0 } };
	sigset_t none;
	int i;

	for (i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a write past the limit is an error like a full disk, not a death in mid-update */
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
	static const struct { unsigned resource; rlim_t value; } limits[] = { { RLIMIT_FSIZE, RLIM_INFINITY },
		{ RLIMIT_CPU, RLIM_INFINITY }, { RLIMIT_AS, RLIM_INFINITY }, { RLIMIT_DATA, RLIM_INFINITY },
		{ RLIMIT_NPROC, RLIM_INFINITY }, { RLIMIT_STACK, 8 << 20 }, { RLIMIT_NOFILE, DESCRIPTORS_UNDER_WAY } };
	struct rlimit have;
	size_t i;

	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (setrlimit(limits[i].resource, &(struct rlimit){ limits[i].value, limits[i].value }) == -1 &&
		    getrlimit(limits[i].resource, &have) == 0)
			setrlimit(limits[i].resource, &(struct rlimit){ have.rlim_max, have.rlim_max });
	if (setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		_exit(1);
}

/*
 * The monitor's pair has its number and user id; another socket has others, and what is no socket has none.  It must be the service
 * user, or root: the mode 4710 keeps others out already, this also holds where somebody loosened it.
 */
static void
check_caller(struct start *start)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	const struct passwd *service = getpwnam(SERVICE_USER);

	if (getsockopt(SESSION_SOCKET, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1 || peer.pid != getppid() ||
	    peer.uid != getuid()) {
		/* Nothing is wrong for good when the monitor was killed meanwhile: the session is not told so. */
		log_note(LOG_ERR, "helper-gives-up error=\"not started by the monitor\" uid=%ld", (long)getuid());
		_exit(1);
	}
	if (service == NULL || (getuid() != 0 && getuid() != service->pw_uid))
		give_up("error=\"caller is not the account " SERVICE_USER "\" uid=%ld", (long)getuid());
	start->service_uid = service->pw_uid;
	start->service_gid = service->pw_gid;
	endpwent();
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
	fix_environment(start);
	start->service_uid = getuid();
	start->service_gid = getgid();
	if (!start->personal) {
		if (geteuid() != 0)
			give_up("error=\"%s\"", missing_root());
		check_caller(start);
		become_root();
	}
	fix_limits(); /* after the change of ids, which may reset what it sets */
}
