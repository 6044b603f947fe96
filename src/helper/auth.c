/* Runs as root. */
#include "helper/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "accounts/pam_request.h"
#include "common/ioutil.h"
#include "helper/account.h"
#include "helper/sanitize.h"

static void
decide(const struct attempt *attempt, struct account *account)
{
	static void (*const ways[])(const struct attempt *, struct account *) = {
#ifdef HAVE_PAM
		[AUTH_PAM] = auth_pam,
#endif
		[AUTH_USERS] = auth_users, [AUTH_SHADOW] = auth_shadow };
	enum auth_method method = attempt->settings->authentication;

	if (attempt->personal && method != AUTH_USERS)
		verdict(account, VERDICT_PERMANENT, "needs-users-file");
	else if (ways[method] == NULL)
		verdict(account, VERDICT_PERMANENT, "built-without-pam");
	else
		ways[method](attempt, account);
}

/*
 * The answer's pipe is where the session's socket was, which is not this process's to write to.  The alarm is for one that is nobody
 * the helper could kill: it has given up root, and the service may lack CAP_KILL.
 */
static void __attribute__((noreturn))
child(struct attempt *attempt, int out)
{
	static struct account account;

	/* A helper that is stopped leaves nobody behind who waits for a module. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 || setpgid(0, 0) == -1 || dup2(out, ANSWER) == -1)
		_exit(1);
	alarm(LOGIN_SECONDS + 1);
	decide(attempt, &account);
	write_full(ANSWER, &account, sizeof(account));
	_exit(0);
}

/* SILENT: it ended without a word.  ABANDONED: the session is gone, and nobody wants to know any more. */
enum heard { HEARD, SILENT, LATE, ABANDONED };

/* Reads all of len bytes from the child, in so many seconds. */
static enum heard
hear(int fd, void *buf, size_t len, time_t seconds)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = SESSION_SOCKET } };
	struct timespec began, now;
	size_t have = 0;
	ssize_t n;

	for (clock_gettime(CLOCK_MONOTONIC, &began); have < len; have += n > 0 ? (size_t)n : 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - began.tv_sec >= seconds)
			return LATE;
		n = 0;
		if (poll(p, 2, (int)(began.tv_sec + seconds - now.tv_sec) * 1000) < 1)
			continue;
		if ((p[1].revents & (POLLHUP | POLLERR)) != 0)
			return ABANDONED;
		n = read(fd, (char *)buf + have, len - have);
		if (n == 0 || (n == -1 && errno != EINTR))
			return SILENT;
	}
	return HEARD;
}

/* Ends the child with all it has started, unless it has ended.  Its status; one that cannot be reached is left behind. */
static int
end_child(pid_t pid, enum heard heard)
{
	int status = SIGKILL;

	if (heard == SILENT || kill(-pid, SIGKILL) == 0)
		while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
			continue;
	return status;
}

void
authenticate(struct attempt *attempt, struct account *account)
{
	enum heard heard, rest;
	int pipefd[2], status;
	pid_t pid;
	char end;

	if (pipe2(pipefd, O_CLOEXEC) == -1 || (pid = fork()) == -1) {
		verdict(account, VERDICT_TEMPORARY, "fork");
		return;
	}
	if (pid == 0)
		child(attempt, pipefd[1]);
	close(pipefd[1]);
	setpgid(pid, pid); /* whichever of us two is first */
	heard = rest = hear(pipefd[0], account, sizeof(*account), LOGIN_SECONDS);
	if (heard == HEARD)
		rest = hear(pipefd[0], &end, sizeof(end), 2); /* modules put their things away */
	close(pipefd[0]);
	status = end_child(pid, rest);
	if (heard == ABANDONED)
		_exit(0);
	if (heard == HEARD)
		account_check(attempt, account);
	else if (heard == LATE)
		verdict(account, VERDICT_TEMPORARY, "timeout");
	else
		verdict(account, VERDICT_TEMPORARY, WIFSIGNALED(status) ? "crashed" : "failed");
}
