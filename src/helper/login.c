/* Runs as root. */
#include "helper/login.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "common/text.h"
#include "helper/auth.h"

static struct wire_msg msg;

static const char *const method_words[] = { [AUTH_PAM] = "pam", [AUTH_USERS] = "users", [AUTH_SHADOW] = "shadow" };

int
login_parse(struct wire_msg *m, struct attempt *attempt)
{
	uint8_t mechanism;
	bool good = m->type == WIRE_LOGIN && m->nfds == 0 && wire_get_string(m, attempt->name, sizeof(attempt->name)) == 0 &&
	    wire_get_string(m, attempt->password, sizeof(attempt->password)) == 0 && wire_get_u8(m, &mechanism) == 0 &&
	    wire_get_end(m) == 0 && (mechanism == MECHANISM_PASS || mechanism == MECHANISM_PLAIN);

	wire_close_fds(m);
	explicit_bzero(m->data, m->len);
	return good ? 0 : -1;
}

/* Nothing but this process sees a name that can be none. */
static void
try(struct attempt *attempt, struct account *account)
{
	memset(account, 0, sizeof(*account));
	if (!name_possible(attempt->name, strlen(attempt->name)))
		verdict(account, VERDICT_WRONG, "name");
	else
		authenticate(attempt, account);
	explicit_bzero(attempt->password, sizeof(attempt->password));
}

/*
 * Every failure takes failure-delay from its start on: it slows guessing down, and covers how long the decision took, which
 * would tell existing names from others.
 */
static void
delay(const struct timespec *start, unsigned long seconds)
{
	struct pollfd session = { .fd = SESSION_SOCKET };
	struct timespec now;
	long left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = ((long)seconds - (now.tv_sec - start->tv_sec)) * 1000 - (now.tv_nsec - start->tv_nsec) / 1000000;
	if (left > 0 && poll(&session, 1, (int)left) == 1)
		_exit(0); /* it is gone */
}

/* What the session gets to hear; ends the process unless the client may try again. */
static void
fail(const struct attempt *attempt, const struct account *account, const struct timespec *started, bool again)
{
	static const enum refusal refusals[] = { [VERDICT_WRONG] = REFUSED_AUTH, [VERDICT_TEMPORARY] = REFUSED_TEMPORARY,
		[VERDICT_PERMANENT] = REFUSED_PERMANENT };
	bool wrong = account->verdict == VERDICT_WRONG;

	log_event(LOG_EVENT_LOGIN_FAILED, wrong ? LOG_NOTICE : LOG_ERR, attempt->name, strlen(attempt->name), "%s",
	    account->reason);
	if (wrong)
		delay(started, attempt->settings->failure_delay);
	wire_start(&msg, WIRE_REFUSED);
	wire_put_u8(&msg, (uint8_t)refusals[account->verdict]);
	wire_put_u8(&msg, wrong && again);
	if (wire_send(SESSION_SOCKET, &msg) == -1 || !wrong || !again)
		_exit(0);
}

void
login(const struct start *start, const struct settings *settings, struct account *account)
{
	static struct attempt attempt;
	struct timespec started;
	int tries, got;

	attempt = (struct attempt){ .settings = settings, .personal = start->personal, .peer = start->peer,
		.service_uid = start->service_uid, .service_gid = start->service_gid };
	for (tries = 1; (got = wire_recv(SESSION_SOCKET, &msg)) == 1; tries++) {
		clock_gettime(CLOCK_MONOTONIC, &started);
		if (login_parse(&msg, &attempt) == -1) {
			log_note(LOG_ERR, "session-broken message=%d", msg.type);
			_exit(1);
		}
		try(&attempt, account);
		if (account->verdict == VERDICT_RIGHT) {
			log_event(LOG_EVENT_LOGIN, LOG_INFO, account->name, strlen(account->name), "%s",
			    method_words[settings->authentication]);
			return;
		}
		fail(&attempt, account, &started, tries < LOGIN_FAILURES);
	}
	if (got == -1)
		log_note(LOG_ERR, "session-broken error=\"%s\"", strerror(errno));
	_exit(0);
}
