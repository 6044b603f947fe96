/* Runs as root, in a postern-pam that stays.  It listens where only root may connect, and answers nobody else. */
#include "pam/stay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "accounts/pam_request.h"
#include "common/limits.h"
#include "common/wire.h"
#include "pam/attempt.h"

#define PROGRAM PKGLIBEXECDIR "/postern-pam"

/* No library, no module and no program of a version that has been replaced meanwhile is used for longer. */
#define STAYS_SECONDS 60

/* When it ends for want of work, the attempts of the minute before have long been decided. */
_Static_assert(STAYS_SECONDS > LOGIN_SECONDS + 1, "an attempt would be cut off");

/*
 * More than the machine has processors for, with room for those that wait for a server elsewhere.  A password hash takes 16 MiB
 * (yescrypt).  Those of before the last new start are not counted: it can be twice as many (postern-pam.service, TasksMax= and
 * MemoryMax=).
 */
#define ATTEMPTS_AT_ONCE 32

static int running;

/* The service's own log, where a line begins with its priority (sd-daemon(3)); that of an attempt comes with the request. */
static void
complain(const char *what, const char *error)
{
	dprintf(STDERR_FILENO, "<%d>note %s error=\"%s\"\n", LOG_ERR, what, error);
}

static int
no_conversation(__attribute__((unused)) int n, __attribute__((unused)) const struct pam_message **messages,
    __attribute__((unused)) struct pam_response **responses, __attribute__((unused)) void *data)
{
	return PAM_CONV_ERR;
}

/* A handle that is never ended keeps the modules of the usual service; each attempt has its own, and reads PAM's files anew. */
static void
load_modules(void)
{
	static const struct pam_conv conv = { no_conversation, NULL };
	pam_handle_t *kept = NULL;

	pam_start("postern", "root", &conv, &kept);
}

/* A module that has started a thread would wait for it in vain after a fork.  proc(5): a folder for each, and "." and "..". */
static int
has_threads(void)
{
	struct stat tasks;

	return stat("/proc/self/task", &tasks) == -1 || tasks.st_nlink != 3;
}

/*
 * When the helper is gone, or gives up, the kernel ends this process and what it has started: a signal to the process group that
 * no module can catch (fcntl(2), F_SETSIG), when the last writer of the request's pipe is gone.  Not the connection: who sends there may
 * still be about to wake us, with that signal, when what was sent has long been read.  Where root is not the machine's (a user
 * namespace), one that has given it up is out of reach, and the alarm ends it.
 */
static int
end_with(int request)
{
	struct pollfd p = { .fd = request };

	return request == -1 || fcntl(request, F_SETOWN, -getpid()) == -1 || fcntl(request, F_SETSIG, SIGKILL) == -1 ||
	    fcntl(request, F_SETFL, O_ASYNC) == -1 || poll(&p, 1, 0) != 0 ? -1 : 0;
}

/*
 * Takes the descriptors that execve(2) would have left: the request, where to answer, and the log.  Before it has heard which version
 * this is, the helper gives nothing away, and can do without us.  Whoever asks is root, as the socket's mode says; this also holds where
 * somebody loosened it.
 */
static int
take(int connection)
{
	static struct wire_msg m;

	if (!wire_peer_is_root(connection)) {
		complain("pam-refuses", "the caller is not root");
		return -1;
	}
	wire_start(&m, WIRE_READY);
	wire_put_text(&m, PACKAGE_VERSION, strlen(PACKAGE_VERSION));
	if (wire_send(connection, &m) == -1 || wire_recv(connection, &m) != 1 || m.type != WIRE_ATTEMPT || m.nfds != 3) {
		complain("pam-refuses", "the caller has no attempt, or is of another version");
		return -1;
	}
	if (dup2(m.fds[0], REQUEST) == -1 || dup2(m.fds[1], ANSWER) == -1 || dup2(m.fds[2], STDERR_FILENO) == -1)
		return -1;
	wire_close_fds(&m);
	return end_with(fcntl(REQUEST, F_DUPFD_CLOEXEC, MODULES_DESCRIPTORS));
}

/*
 * What one attempt's modules keep there (a Kerberos ticket) the next one's must not find.  Where a container forbids keyrings (EPERM),
 * or the kernel has none, the modules have none either.
 */
static int
have_own_keyring(void)
{
	return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) == -1 && errno != EPERM && errno != ENOSYS ? -1 : 0;
}

/* The connection stays open as long as the attempt lasts. */
static void __attribute__((noreturn))
child(int accepted)
{
	int connection = fcntl(accepted, F_DUPFD_CLOEXEC, MODULES_DESCRIPTORS);
	sigset_t none;

	close(accepted);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	alarm(LOGIN_SECONDS + 1); /* also for one who connects and says nothing */
	if (connection == -1 || setpgid(0, 0) == -1 || have_own_keyring() == -1) {
		complain("pam-refuses", strerror(errno));
		_exit(1);
	}
	_exit(take(connection) == 0 ? one_attempt() : 1);
}

/* Who is not served does without us.  false when nobody was there. */
static bool
serve(void)
{
	int connection = accept4(REQUEST, NULL, NULL, SOCK_CLOEXEC);
	pid_t pid;

	if (connection == -1) {
		if (errno != EAGAIN) {
			complain("pam-refuses", strerror(errno));
			sleep(1); /* what is lacking (ENFILE, ENOMEM) will not be there at once */
		}
		return false;
	}
	if (running >= ATTEMPTS_AT_ONCE)
		complain("pam-refuses", "too many are asking");
	else if ((pid = fork()) == 0)
		child(connection);
	else if (pid == -1)
		complain("pam-refuses", strerror(errno));
	else
		running++;
	close(connection);
	return true;
}

/* What modules have left in an attempt's process group ends with it: the group's number is nobody else's before it is reaped. */
static void
bury(void)
{
	siginfo_t ended;

	while (ended.si_pid = 0, waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0) {
		kill(-ended.si_pid, SIGKILL);
		waitpid(ended.si_pid, NULL, 0);
		if (running > 0)
			running--;
	}
}

static void
wake(__attribute__((unused)) int signal)
{
}

/* As the helper leaves it for one that does not stay.  Descriptors 1 and 3 are /dev/null. */
static int
prepare(void)
{
	sigset_t blocked;

	signal(SIGCHLD, wake);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	return sigprocmask(SIG_BLOCK, &blocked, NULL) == -1 || dup2(STDOUT_FILENO, ANSWER) == -1 ||
	    syscall(SYS_close_range, ANSWER + 1, ~0U, 0) == -1 || fcntl(REQUEST, F_SETFL, O_NONBLOCK) == -1 || clearenv() != 0 ||
	    setenv("PATH", "/usr/bin:/bin", 1) == -1 ? -1 : 0;
}

/* For a minute.  Whether anybody came. */
static bool
serve_all(void)
{
	struct pollfd listener = { .fd = REQUEST, .events = POLLIN };
	struct timespec began, now, left = { 0, 0 };
	sigset_t none;
	bool served = false;

	sigemptyset(&none);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (now = began; now.tv_sec - began.tv_sec < STAYS_SECONDS; clock_gettime(CLOCK_MONOTONIC, &now)) {
		bury();
		left.tv_sec = began.tv_sec + STAYS_SECONDS - now.tv_sec;
		if (ppoll(&listener, 1, &left, &none) == 1)
			served |= serve();
	}
	return served;
}

static int
fail(const char *error)
{
	complain("pam-ends", error);
	return 1;
}

int
stay(void)
{
	if (prepare() == -1)
		return fail(strerror(errno));
	load_modules();
	if (has_threads())
		return fail("a module has started threads: it cannot stay");
	if (!serve_all())
		return 0;
	/* Its children stay its children, and who connects meanwhile waits no longer than for any start of it. */
	execve(PROGRAM, (char *[]){ (char *)(uintptr_t)"postern-pam", NULL }, environ);
	return fail(strerror(errno));
}
