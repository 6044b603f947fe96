/* Root's one conversation: LOGIN, and how it ends. */
#ifndef HELPER_LOGIN_H
#define HELPER_LOGIN_H

#include "accounts/account.h"
#include "common/wire.h"
#include "helper/sanitize.h"

/*
 * Answers LOGIN until one is right: account is filled in then, and the session has not been answered yet.  Ends the
 * process when the session goes away, after LOGIN_FAILURES wrong ones, and when it cannot be decided.
 */
void login(const struct start *start, const struct settings *settings, struct account *account);

/* The one message root understands; its octets are wiped.  0, or -1 when it is anything else. */
int login_parse(struct wire_msg *m, struct attempt *attempt);

#endif
