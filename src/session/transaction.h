/* The commands of the TRANSACTION state. */
#ifndef SESSION_TRANSACTION_H
#define SESSION_TRANSACTION_H

#include "session/command.h"

enum pop_next cmd_stat(struct session *s, const struct pop_args *args);
enum pop_next cmd_list(struct session *s, const struct pop_args *args);
enum pop_next cmd_uidl(struct session *s, const struct pop_args *args);
enum pop_next cmd_retr(struct session *s, const struct pop_args *args);
enum pop_next cmd_top(struct session *s, const struct pop_args *args);
enum pop_next cmd_dele(struct session *s, const struct pop_args *args);
enum pop_next cmd_noop(struct session *s, const struct pop_args *args);
enum pop_next cmd_last(struct session *s, const struct pop_args *args);	/* RFC 1225 */
enum pop_next cmd_rset(struct session *s, const struct pop_args *args);
enum pop_next cmd_update(struct session *s, const struct pop_args *args);	/* QUIT */

#endif
