/* Runs as root; the child that chooses the mail location has become the user. */
#include "helper/auth.h"

#include <crypt.h>
#include <errno.h>
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

/* The verdict first, as root; then, as the user, which mail location exists: root follows no path that a user laid. */
static void __attribute__((noreturn))
child(const struct attempt *attempt, int out)
{
	static struct account account;
	unsigned char location;

	close(SESSION_SOCKET);
	decide(attempt, &account);
	if (write_full(out, &account, sizeof(account)) == -1 || account.verdict != VERDICT_RIGHT)
		_exit(0);
	become_user(&account);
	location = account_choose_location(&account);
	write_full(out, &location, sizeof(location));
	_exit(0);
}

/* read_full() with a deadline, for a child that may hang. */
static bool
read_in_time(int fd, void *buf, size_t len, time_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec now;
	size_t have = 0;
	ssize_t n;
	int ready;

	while (have < len) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= deadline)
			return false;
		ready = poll(&p, 1, (int)(deadline - now.tv_sec) * 1000);
		if (ready == -1 && errno != EINTR)
			return false;
		if (ready != 1)
			continue;
		n = read(fd, (char *)buf + have, len - have);
		if (n == 0 || (n == -1 && errno != EINTR))
			return false;
		have += n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* What became of a child that did not answer. */
static void
explain_silence(struct account *account, int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		verdict(account, VERDICT_TEMPORARY, "timeout");
	else
		verdict(account, VERDICT_TEMPORARY, WIFSIGNALED(status) ? "crashed" : "failed");
}

void
authenticate(const struct attempt *attempt, struct account *account, unsigned char *location)
{
	struct timespec now;
	int pipefd[2], status = 0;
	bool told, chose = false;
	pid_t pid;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (pipe(pipefd) == -1 || (pid = fork()) == -1) {
		verdict(account, VERDICT_TEMPORARY, "fork");
		return;
	}
	if (pid == 0) {
		close(pipefd[0]);
		child(attempt, pipefd[1]);
	}
	close(pipefd[1]);
	told = read_in_time(pipefd[0], account, sizeof(*account), now.tv_sec + LOGIN_SECONDS);
	if (told && account->verdict == VERDICT_RIGHT)
		chose = read_in_time(pipefd[0], location, sizeof(*location), now.tv_sec + LOGIN_SECONDS);
	close(pipefd[0]);
	if (told && (account->verdict != VERDICT_RIGHT || chose)) {
		waitpid(pid, &status, 0);
		return;
	}
	/* Without CAP_KILL, one that has become the user (and hangs in a dead file server) is out of reach: it is left behind. */
	status = SIGKILL;
	if (kill(pid, SIGKILL) == 0)
		waitpid(pid, &status, 0);
	explain_silence(account, status);
}
