/* The walls around the helper's second phase: what a mailbox can make its parser do stays within that mailbox. */
#ifndef MAILDROP_SANDBOX_H
#define MAILDROP_SANDBOX_H

#include "maildrop/serve.h"

/*
 * From here on: no exec, no new processes, no sockets, no other files than the maildrop's folder and the state folder (which is
 * made, if it is missing and we may).  0, or -1 with errno.
 */
int maildrop_sandbox(const struct maildrop_plan *plan);

#endif
