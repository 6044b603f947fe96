/* Runs as the service user, in the sandbox: from the greeting to the end. */
#include "session/session.h"

#include <string.h>

#include "session/command.h"
#include "session/line.h"
#include "session/reply.h"
#include "session/tunnel.h"

/* Before the login there is one deadline for all of it, however busy the client is; later one for each command. */
static int64_t
deadline(const struct session *s)
{
	return s->state == AUTHORIZATION ? s->login_deadline : CLIENT_IDLE;
}

static enum pop_next
next_command(struct session *s)
{
	char *line;
	size_t len;

	if (s->state == AUTHORIZATION && client_clock() >= s->login_deadline) {
		s->client.gone = END_LOGIN_TIMEOUT;
		return NEXT_END;
	}
	switch (line_read(&s->client, LINE_OCTETS, deadline(s), &line, &len)) {
	case LINE_OK:
		return command_run(s, line, len);
	case LINE_TOO_LONG:
		return reply_bad(s, "-ERR line too long");
	case LINE_BAD:
		return reply_bad(s, "-ERR bad character in line");
	default:
		return NEXT_END;
	}
}

void
session_prepare(struct session *s)
{
	client_start(&s->client, 0, 1, s->settings->idle_timeout);
}

static void
serve(struct session *s)
{
	if (s->only_tls)
		tunnel_only(s);
	if (s->client.gone)
		return;
	reply(s, "+OK POP3 server ready");
	while (next_command(s) == NEXT_COMMAND && !s->client.gone && s->tally->end == END_KILLED)
		continue;
}

void
session_run(struct session *s)
{
	s->state = AUTHORIZATION;
	s->table = s->mbox = -1;
	s->login_deadline = client_clock() + (int64_t)s->settings->login_timeout * 1000;
	s->client.write_deadline = s->login_deadline;
	serve(s);
	/* A torn message ends here without its final dot: what is not sent yet stays unsent. */
	if (s->tally->end != END_CHANGED)
		client_flush(&s->client);
	client_end(&s->client, s->tally->end == END_QUIT);
	if (s->tally->end != END_KILLED)
		return;
	s->tally->end = s->client.gone;
	if ((s->client.gone == END_IDLE || s->client.gone == END_STALLED) && s->state == AUTHORIZATION)
		s->tally->end = END_LOGIN_TIMEOUT;
}
