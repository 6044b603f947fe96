/* Runs as the authenticated user with the spool's group; what begins with keeper_ without that group. */
#include "maildrop/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "maildrop/location.h"
#include "maildrop/sandbox.h"

/* The shortest limit anywhere is Dovecot's: 120 s. */
#define REFRESH_MILLISECONDS 60000

/* What it says first. */
#define READY 'r'
#define NEEDLESS 'n'

/* Answers carry the result and errno, one octet each. */
static int
keeper_answer(int sock, char verb, const char *mailbox)
{
	unsigned char answer[2] = { DOTLOCK_OK, 0 };

	if (verb == 'l') {
		answer[0] = (unsigned char)dotlock_try(mailbox);
		answer[1] = (unsigned char)errno;
	} else if (verb == 'u') {
		dotlock_remove(mailbox);
	} else {
		return -1;
	}
	return send(sock, answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) ? 0 : -1;
}

/* Answers 'l' (try) and 'u' (unlock) until the socket closes; then removes what it holds. */
static void
keep_lock(int sock, const char *mailbox)
{
	struct pollfd ready = { .fd = sock, .events = POLLIN };
	ssize_t n;
	char verb;
	int r;

	for (;;) {
		r = poll(&ready, 1, dotlock_held() ? REFRESH_MILLISECONDS : -1);
		if (r == -1 && errno != EINTR)
			break;
		if (r == 0)
			dotlock_refresh(mailbox);
		if (r <= 0)
			continue;
		n = recv(sock, &verb, 1, 0);
		if (n == -1 && errno == EINTR)
			continue;
		if (n != 1 || keeper_answer(sock, verb, mailbox) == -1)
			break;
	}
	dotlock_remove(mailbox);
}

/*
 * Says that there is a keeper, and waits until something is asked of it, which is left unread: a session that only reads asks nothing,
 * as a rule, and needs neither the keeper's walls nor the process that watches over it.
 */
static bool
is_wanted(int sock)
{
	const char ready = READY;
	struct pollfd asked = { .fd = sock, .events = POLLIN | POLLRDHUP };

	if (send(sock, &ready, sizeof(ready), MSG_NOSIGNAL) != sizeof(ready))
		return false;
	while (poll(&asked, 1, -1) == -1 && errno == EINTR)
		continue;
	return asked.revents == POLLIN;
}

/*
 * Waits for the keeper to end, and removes the lock if it was killed over it: nobody else who is left then may write to the
 * spool.  Should this one be killed, the keeper goes on alone.  It reads nothing before that, so its walls can wait: they cost as
 * much as the fork.
 */
static void
watch(int sock, pid_t keeper, const struct maildrop_plan *plan)
{
	int status = 0;

	close(sock);
	while (waitpid(keeper, &status, 0) == -1 && errno == EINTR)
		continue;
	if (WIFSIGNALED(status) && maildrop_sandbox(plan) == 0)
		dotlock_clean(plan->path);
}

/*
 * The mbox as a name in the folder we are in now; NULL when there is nothing to keep.  The folder is known by what it is: however
 * somebody may have laid the path to it, and may lay it later, locks are made in the spool only.
 */
static const char *
enter_spool(const struct maildrop_owner *owner, const struct stat *spool)
{
	static struct location location;
	struct stat here;
	char *slash;

	if (location_choose(owner, &location) == -1 || location.kind != KIND_MBOX)
		return NULL;
	slash = strrchr(location.path, '/');
	*slash = '\0';
	if (chdir(location.path) == -1 || stat(".", &here) == -1 || here.st_dev != spool->st_dev || here.st_ino != spool->st_ino)
		return NULL;
	return slash + 1;
}

void
maildrop_keep(int sock, const struct maildrop_owner *owner, const struct stat *spool)
{
	const char *name = enter_spool(owner, spool), needless = NEEDLESS;
	char mailbox[PATH_BYTES];
	const struct maildrop_plan plan = { .user = owner->user, .kind = KIND_MBOX, .path = mailbox };
	pid_t keeper;

	if (name == NULL) {
		send(sock, &needless, sizeof(needless), MSG_NOSIGNAL);
		_exit(0);
	}
	snprintf(mailbox, sizeof(mailbox), "./%s", name);
	/* Somebody who stops us all stops the helper too, and that closes the socket. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	if (!is_wanted(sock))
		_exit(0);
	if ((keeper = fork()) == -1)
		_exit(1);
	if (keeper != 0)
		watch(sock, keeper, &plan);
	else if (maildrop_sandbox(&plan) == 0)
		keep_lock(sock, mailbox);
	_exit(0);
}

int
keeper_is_there(int sock)
{
	char said;
	ssize_t n;

	do
		n = recv(sock, &said, sizeof(said), 0);
	while (n == -1 && errno == EINTR);
	if (n == sizeof(said) && (said == READY || said == NEEDLESS))
		return said == READY;
	if (n != -1)
		errno = ECHILD; /* it ended without a word */
	return -1;
}

static enum dotlock_result
keeper_ask(int sock, char verb)
{
	unsigned char answer[2];
	ssize_t n;

	if (send(sock, &verb, 1, MSG_NOSIGNAL) != 1)
		return DOTLOCK_FAILED;
	do
		n = recv(sock, answer, sizeof(answer), MSG_WAITALL);
	while (n == -1 && errno == EINTR);
	if (n != sizeof(answer) || answer[0] > DOTLOCK_FAILED) {
		errno = EPIPE;
		return DOTLOCK_FAILED;
	}
	errno = answer[1];
	return (enum dotlock_result)answer[0];
}

enum dotlock_result
keeper_try(int sock)
{
	return keeper_ask(sock, 'l');
}

void
keeper_remove(int sock)
{
	keeper_ask(sock, 'u');
}
