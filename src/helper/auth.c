/* Runs as root. */
#include "helper/auth.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
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

/* Reads all of len bytes from the child, in so many seconds: a pipe takes and gives them whole.  No signal has a handler here. */
static enum heard
hear(int fd, void *buf, size_t len, int seconds)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = SESSION_SOCKET } };

	if (poll(p, 2, seconds * 1000) < 1)
		return LATE;
	if ((p[1].revents & (POLLHUP | POLLERR)) != 0)
		return ABANDONED;
	return read(fd, buf, len) == (ssize_t)len ? HEARD : SILENT;
}

_Static_assert(sizeof(struct account) <= PIPE_BUF, "an answer could come in pieces: pipe(7)");

/*
 * Ends the child with all it has started; one that has ended by itself keeps its status.  Whom nobody may kill is left to its alarm.
 * The status: SIGKILL is ours, or that of a machine without memory.
 */
static int
end_child(pid_t pid)
{
	int status = SIGKILL;

	if (kill(-pid, SIGKILL) == 0)
		waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void
authenticate(struct attempt *attempt, struct account *account)
{
	enum heard heard;
	int pipefd[2], signal;
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
	heard = hear(pipefd[0], account, sizeof(*account), LOGIN_SECONDS);
	if (heard == HEARD)
		hear(pipefd[0], &end, sizeof(end), 2); /* modules put their things away */
	close(pipefd[0]);
	signal = end_child(pid);
	if (heard == ABANDONED)
		_exit(0);
	if (heard == HEARD)
		account_check(attempt, account);
	else if (heard == LATE)
		verdict(account, VERDICT_TEMPORARY, "timeout");
	else
		verdict(account, VERDICT_TEMPORARY, signal != 0 && signal != SIGKILL ? "crashed" : "failed");
}
