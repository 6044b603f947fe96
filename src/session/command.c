#include "session/command.h"

#include <string.h>

#include "common/number.h"
#include "session/authorization.h"
#include "session/reply.h"
#include "session/transaction.h"

enum arguments { ARG_NONE, ARG_TEXT, ARG_OPT_TEXT, ARG_MSG, ARG_OPT_MSG, ARG_MSG_LINES };

static const struct pop_command {
	const char *name;
	int states;
	enum arguments arguments;
	enum pop_next (*run)(struct session *s, const struct pop_args *args);
} commands[] = {
	{ "RETR", TRANSACTION, ARG_MSG, cmd_retr },
	{ "DELE", TRANSACTION, ARG_MSG, cmd_dele },
	{ "LIST", TRANSACTION, ARG_OPT_MSG, cmd_list },
	{ "UIDL", TRANSACTION, ARG_OPT_MSG, cmd_uidl },
	{ "TOP", TRANSACTION, ARG_MSG_LINES, cmd_top },
	{ "STAT", TRANSACTION, ARG_NONE, cmd_stat },
	{ "NOOP", TRANSACTION, ARG_NONE, cmd_noop },
	{ "LAST", TRANSACTION, ARG_NONE, cmd_last },
	{ "RSET", TRANSACTION, ARG_NONE, cmd_rset },
	{ "QUIT", TRANSACTION, ARG_NONE, cmd_update },
	{ "QUIT", AUTHORIZATION, ARG_NONE, cmd_quit },
	{ "USER", AUTHORIZATION, ARG_TEXT, cmd_user },
	{ "PASS", AUTHORIZATION, ARG_TEXT, cmd_pass },	/* spaces belong to it */
	{ "AUTH", AUTHORIZATION, ARG_OPT_TEXT, cmd_auth },
	{ "STLS", AUTHORIZATION, ARG_NONE, cmd_stls },
	{ "CAPA", AUTHORIZATION | TRANSACTION, ARG_NONE, cmd_capa },
};

/* In any case (RFC 1939, section 3).  name is of letters: what differs from one in that bit alone is the same letter. */
static bool
is_named(const char *name, const char *line, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (name[i] == '\0' || (line[i] | 0x20) != (name[i] | 0x20))
			return false;
	return name[len] == '\0';
}

/* The row of this name, in this state if there is one for it. */
static const struct pop_command *
find_command(const char *name, size_t len, enum pop_state state)
{
	const struct pop_command *cmd, *other_state = NULL;
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		cmd = &commands[i];
		if (!is_named(cmd->name, name, len))
			continue;
		if ((cmd->states & (int)state) != 0)
			return cmd;
		other_state = cmd;
	}
	return other_state;
}

/* 0, or -1 when the rest of the line is not what the command takes.  rest is NULL when no space came. */
static int
parse_arguments(enum arguments shape, char *rest, size_t len, struct pop_args *args)
{
	char *space;

	memset(args, 0, sizeof(*args));
	args->given = rest != NULL;
	args->text = rest;
	args->text_len = len;
	switch (shape) {
	case ARG_NONE:
		return rest == NULL ? 0 : -1;
	case ARG_TEXT:
		return rest != NULL ? 0 : -1;
	case ARG_OPT_TEXT:
		return 0;
	case ARG_OPT_MSG:
		if (rest == NULL)
			return 0;
		__attribute__((fallthrough));
	case ARG_MSG:
		return rest != NULL ? number_parse(rest, len, &args->number) : -1;
	case ARG_MSG_LINES:
		if (rest == NULL || (space = memchr(rest, ' ', len)) == NULL ||
		    number_parse(rest, (size_t)(space - rest), &args->number) == -1)
			return -1;
		return number_parse(space + 1, len - (size_t)(space + 1 - rest), &args->lines);
	}
	return -1;
}

enum pop_next
command_run(struct session *s, char *line, size_t len)
{
	char *space = memchr(line, ' ', len);
	size_t name_len = space != NULL ? (size_t)(space - line) : len;
	const struct pop_command *cmd = find_command(line, name_len, s->state);
	unsigned bad_before = s->bad_commands;
	struct pop_args args;
	enum pop_next next;

	if (cmd == NULL)
		return reply_bad(s, "-ERR unknown command");
	if ((cmd->states & (int)s->state) == 0)
		return reply_bad(s, "-ERR not in this state");
	if (parse_arguments(cmd->arguments, space != NULL ? space + 1 : NULL, space != NULL ? len - name_len - 1 : 0,
	    &args) == -1)
		return reply_bad(s, "-ERR syntax error");
	next = cmd->run(s, &args);
	if (s->bad_commands == bad_before)
		s->bad_commands = 0;
	return next;
}
