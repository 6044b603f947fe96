/* The commands of the AUTHORIZATION state, and CAPA. */
#ifndef SESSION_AUTHORIZATION_H
#define SESSION_AUTHORIZATION_H

#include "session/command.h"

enum pop_next cmd_user(struct session *s, const struct pop_args *args);
enum pop_next cmd_pass(struct session *s, const struct pop_args *args);
enum pop_next cmd_auth(struct session *s, const struct pop_args *args);	/* RFC 5034 */
enum pop_next cmd_capa(struct session *s, const struct pop_args *args);	/* RFC 2449 */
enum pop_next cmd_stls(struct session *s, const struct pop_args *args);	/* RFC 2595 */
enum pop_next cmd_quit(struct session *s, const struct pop_args *args);

#endif
