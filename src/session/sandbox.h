/* The session's walls, put up before the first octet of the client is read. */
#ifndef SESSION_SANDBOX_H
#define SESSION_SANDBOX_H

#include "session/tally.h"

/* From here on: no files, no network, no processes; descriptors only from the helper.  0, or -1 with errno. */
int sandbox_enter(struct tally *tally, int out);

#endif
