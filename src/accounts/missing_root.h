/* Why a setuid program is not root. */
#ifndef ACCOUNTS_MISSING_ROOT_H
#define ACCOUNTS_MISSING_ROOT_H

/* Which of the things that void a setuid bit it was, in words for the log.  Runs as whoever started the helper. */
const char *missing_root(void);

#endif
