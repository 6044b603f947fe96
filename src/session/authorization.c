#include "session/authorization.h"

#include <string.h>
#include <strings.h>

#include "common/text.h"
#include "session/helper_client.h"
#include "session/line.h"
#include "session/reply.h"
#include "session/tunnel.h"

/*
 * auto: as long as there is no TLS to ask for, a password in clear is what there is.  TLS that is set up but does not work makes no
 * difference: a client that is content with either must not send in clear because a certificate has expired.
 */
static bool
login_allowed(const struct session *s)
{
	if (s->encrypted || s->settings->cleartext_login == CLEARTEXT_ALWAYS)
		return true;
	if (s->settings->cleartext_login == CLEARTEXT_NEVER)
		return false;
	return s->local || s->settings->tls_certificate[0] == '\0';
}

static enum pop_next
refuse_cleartext(struct session *s)
{
	return reply(s, "-ERR no login on a connection that is not encrypted");
}

enum pop_next
cmd_user(struct session *s, const struct pop_args *args)
{
	s->name[0] = '\0';
	if (!login_allowed(s))
		return refuse_cleartext(s);
	if (!name_possible(args->text, args->text_len))
		return reply(s, "-ERR never heard of name");
	memcpy(s->name, args->text, args->text_len + 1);
	return reply(s, "+OK name is welcome here");
}

static const char *
refusal_text(uint8_t why)
{
	switch (why) {
	case REFUSED_AUTH:
		return "-ERR [AUTH] invalid password";
	case REFUSED_IN_USE:
		return "-ERR [IN-USE] unable to lock maildrop";
	case REFUSED_PERMANENT:
		return "-ERR [SYS/PERM] unable to open maildrop";
	default:
		return "-ERR [SYS/TEMP] unable to open maildrop";
	}
}

/* One attempt, by PASS or AUTH.  The password is wiped before the client hears the outcome. */
static enum pop_next
login(struct session *s, const char *name, size_t name_len, char *password, size_t password_len,
    enum login_mechanism mechanism)
{
	struct login_answer answer = { .refusal = REFUSED_AUTH, .again = true };

	if (s->settings_broken)
		answer.refusal = REFUSED_PERMANENT;
	else if (password_len > PASSWORD_OCTETS) /* nobody's: let the helper count and delay it like any other */
		answer = helper_login(s, name, 0, password, 0, mechanism);
	else
		answer = helper_login(s, name, name_len, password, password_len, mechanism);
	explicit_bzero(password, password_len);
	s->name[0] = '\0';
	if (answer.opened) {
		s->state = TRANSACTION;
		s->client.write_deadline = 0;
		return reply(s, "+OK maildrop locked and ready");
	}
	if (answer.refusal == REFUSED_AUTH && answer.again && ++s->failures < LOGIN_FAILURES)
		return reply(s, refusal_text(REFUSED_AUTH));
	return reply_end(s, answer.refusal == REFUSED_AUTH ? END_LOGIN_FAILURES : END_REFUSED,
	    refusal_text(answer.refusal));
}

enum pop_next
cmd_pass(struct session *s, const struct pop_args *args)
{
	if (!login_allowed(s)) {
		explicit_bzero(args->text, args->text_len);
		return refuse_cleartext(s);
	}
	if (s->name[0] == '\0') {
		explicit_bzero(args->text, args->text_len);
		return reply_bad(s, "-ERR USER first");
	}
	return login(s, s->name, strlen(s->name), args->text, args->text_len, MECHANISM_PASS);
}

static int
base64_value(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c != '\0' ? strchr(digits, c) : NULL;

	return p != NULL ? (int)(p - digits) : -1;
}

/*
 * Decodes in place: RFC 4648, section 4, with its padding, and the unused bits zero (section 3.5).  The length, or -1.
 */
static ssize_t
base64_decode(char *text, size_t len)
{
	size_t i, pad = 0, used = 0;
	unsigned bits = 0;
	int v;

	if (len % 4 != 0)
		return -1;
	while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
		pad++;
	for (i = 0; i < len - pad; i++) {
		if ((v = base64_value(text[i])) == -1)
			return -1;
		bits = bits << 6 | (unsigned)v;
		if (i % 4 != 0)
			text[used++] = (char)(bits >> (6 - i % 4 * 2) & 0xff);
	}
	if (pad > 0 && (bits & ((1u << (pad * 2)) - 1)) != 0)
		return -1;
	return (ssize_t)used;
}

/* RFC 4616: authorization identity, NUL, authentication identity, NUL, password.  Only oneself can be asked for. */
static enum pop_next
plain_login(struct session *s, char *text, size_t len)
{
	char *name = memchr(text, '\0', len), *password;
	size_t authzid_len, name_len;

	if (name == NULL || (password = memchr(name + 1, '\0', len - (size_t)(name + 1 - text))) == NULL)
		return reply_bad(s, "-ERR syntax error");
	authzid_len = (size_t)(name++ - text);
	name_len = (size_t)(password++ - name);
	len -= (size_t)(password - text);
	if (memchr(password, '\0', len) != NULL)
		return reply_bad(s, "-ERR syntax error");
	/* A name that can be no account costs and answers what a wrong password does: the helper sees to it. */
	if (name_len > NAME_OCTETS ||
	    (authzid_len > 0 && (authzid_len != name_len || memcmp(text, name, name_len) != 0)))
		name_len = 0;
	return login(s, name, name_len, password, len, MECHANISM_PLAIN);
}

static enum pop_next
plain(struct session *s, char *text, size_t len)
{
	ssize_t decoded;
	enum pop_next next;

	if (len == 1 && text[0] == '=')
		len = 0; /* RFC 5034, section 4: an empty initial response, which PLAIN has no use for */
	decoded = base64_decode(text, len);
	next = decoded == -1 ? reply_bad(s, "-ERR not base64") : plain_login(s, text, (size_t)decoded);
	explicit_bzero(text, len);
	return next;
}

/* The client's answer to "+ ". */
static enum pop_next
plain_continuation(struct session *s)
{
	char *line;
	size_t len;

	client_put(&s->client, "+ \r\n", 4);
	switch (line_read(&s->client, SASL_LINE_OCTETS, s->login_deadline, &line, &len)) {
	case LINE_OK:
		if (len == 1 && line[0] == '*')
			return reply(s, "-ERR authentication cancelled");
		return plain(s, line, len);
	case LINE_TOO_LONG:
		return reply_bad(s, "-ERR line too long");
	case LINE_BAD:
		return reply_bad(s, "-ERR bad character in line");
	default:
		return NEXT_END;
	}
}

enum pop_next
cmd_auth(struct session *s, const struct pop_args *args)
{
	static const char mechanism[] = "PLAIN";
	size_t n = sizeof(mechanism) - 1;

	if (!login_allowed(s)) {
		if (args->given)
			explicit_bzero(args->text, args->text_len);
		return refuse_cleartext(s);
	}
	if (!args->given)
		return reply(s, "+OK mechanisms follow\r\nPLAIN\r\n."); /* what old clients of RFC 1734 ask for */
	if (strncasecmp(args->text, mechanism, n) != 0 || (args->text_len > n && args->text[n] != ' '))
		return reply_bad(s, "-ERR unknown mechanism");
	if (args->text_len == n)
		return plain_continuation(s);
	return plain(s, args->text + n + 1, args->text_len - n - 1);
}

enum pop_next
cmd_capa(struct session *s, const struct pop_args *args)
{
	(void)args;
	reply(s, "+OK capability list follows");
	reply(s, "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER");
	if (login_allowed(s))
		reply(s, "USER\r\nSASL PLAIN");
	if (s->tunnel != -1 && s->state == AUTHORIZATION)
		reply(s, "STLS");
	return reply(s, "IMPLEMENTATION postern\r\n.");
}

enum pop_next
cmd_stls(struct session *s, const struct pop_args *args)
{
	(void)args;
	if (s->encrypted)
		return reply(s, "-ERR TLS is active");
	if (!tunnel_ready(s))
		return reply(s, "-ERR TLS is not available");
	reply(s, "+OK begin TLS negotiation");
	client_flush(&s->client);
	if (!s->client.gone)
		tunnel_begin(s);
	/* RFC 2595, section 4: what the client has said in clear is forgotten, whoever said it. */
	explicit_bzero(s->name, sizeof(s->name));
	return s->client.gone ? NEXT_END : NEXT_COMMAND;
}

enum pop_next
cmd_quit(struct session *s, const struct pop_args *args)
{
	(void)args;
	return reply_end(s, END_QUIT, "+OK POP3 server signing off");
}
