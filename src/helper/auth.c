/* Runs as root; the child that chooses the mail location has become the user. */
#include "helper/auth.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "helper/account.h"
#include "helper/become_user.h"
#include "helper/sanitize.h"

void
verdict(struct account *account, enum verdict v, const char *reason)
{
	account->verdict = v;
	snprintf(account->reason, sizeof(account->reason), "%s", reason);
}

bool
password_matches(const char *password, const char *hash)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *made;
	unsigned char differ = 1;
	size_t i, len = strlen(hash);

	if (data == NULL)
		return false;
	made = crypt_r(password, hash, data);
	if (made != NULL && made[0] != '*' && strlen(made) == len && len >= 13)
		for (differ = 0, i = 0; i < len; i++)
			differ |= (unsigned char)(made[i] ^ hash[i]);
	explicit_bzero(data, sizeof(*data));
	free(data);
	return differ == 0;
}

static void
decide(const struct attempt *attempt, struct account *account)
{
	static void (*const ways[])(const struct attempt *, struct account *) = {
#ifdef HAVE_PAM
		[AUTH_PAM] = auth_pam,
#endif
		[AUTH_USERS] = auth_users, [AUTH_SHADOW] = auth_shadow };
	enum auth_method method = attempt->settings->authentication;

	memset(account, 0, sizeof(*account));
	if (attempt->personal && method != AUTH_USERS)
		verdict(account, VERDICT_PERMANENT, "needs-users-file");
	else if (ways[method] == NULL)
		verdict(account, VERDICT_PERMANENT, "built-without-pam");
	else
		ways[method](attempt, account);
	if (account->verdict == VERDICT_RIGHT)
		account_check(attempt, account);
}

/*
 * The verdict first, as root; then, as the user, which mail location exists: root follows no path that a user laid.  The session's
 * socket is not this process's to write to, whatever fails here, and no file may get its number.
 */
static void __attribute__((noreturn))
child(struct attempt *attempt, int out)
{
	static struct account account;
	unsigned char location;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (setpgid(0, 0) == -1 || null == -1 || dup2(null, SESSION_SOCKET) == -1)
		_exit(1);
	decide(attempt, &account);
	explicit_bzero(attempt->password, sizeof(attempt->password));
	if (write_full(out, &account, sizeof(account)) == -1 || account.verdict != VERDICT_RIGHT)
		_exit(0);
	alarm(LOGIN_SECONDS + 1); /* the helper may not be able to kill what has become the user (CAP_KILL) */
	become_user(&account);
	location = account_choose_location(&account);
	write_full(out, &location, sizeof(location));
	_exit(0);
}

enum heard {
	HEARD,
	SILENT,		/* it ended without a word */
	LATE,
	ABANDONED	/* the session is gone, and nobody wants to know any more */
};

/* Reads all of len bytes from the child until the deadline (CLOCK_MONOTONIC, seconds). */
static enum heard
hear(int fd, void *buf, size_t len, time_t deadline)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = SESSION_SOCKET } };
	struct timespec now;
	size_t have = 0;
	ssize_t n;

	while (have < len) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= deadline)
			return LATE;
		if (poll(p, 2, (int)(deadline - now.tv_sec) * 1000) < 1)
			continue;
		if ((p[1].revents & (POLLHUP | POLLERR)) != 0)
			return ABANDONED;
		n = read(fd, (char *)buf + have, len - have);
		if (n == 0 || (n == -1 && errno != EINTR))
			return SILENT;
		have += n > 0 ? (size_t)n : 0;
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

static void
explain_silence(struct account *account, enum heard heard, int status)
{
	if (heard == LATE)
		verdict(account, VERDICT_TEMPORARY, "timeout");
	else
		verdict(account, VERDICT_TEMPORARY, WIFSIGNALED(status) ? "crashed" : "failed");
}

void
authenticate(struct attempt *attempt, struct account *account, unsigned char *location)
{
	struct timespec now;
	enum heard heard, rest;
	int pipefd[2], status;
	pid_t pid;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (pipe2(pipefd, O_CLOEXEC) == -1 || (pid = fork()) == -1) {
		verdict(account, VERDICT_TEMPORARY, "fork");
		return;
	}
	if (pid == 0)
		child(attempt, pipefd[1]);
	close(pipefd[1]);
	setpgid(pid, pid); /* whichever of us two is first */
	heard = rest = hear(pipefd[0], account, sizeof(*account), now.tv_sec + LOGIN_SECONDS);
	if (heard == HEARD && account->verdict == VERDICT_RIGHT)
		heard = rest = hear(pipefd[0], location, sizeof(*location), now.tv_sec + LOGIN_SECONDS);
	if (heard == HEARD) {
		char end;

		clock_gettime(CLOCK_MONOTONIC, &now);
		rest = hear(pipefd[0], &end, sizeof(end), now.tv_sec + 2);
	}
	close(pipefd[0]);
	status = end_child(pid, rest);
	if (heard == ABANDONED)
		_exit(0);
	if (heard != HEARD)
		explain_silence(account, heard, status);
}
