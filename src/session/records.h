/*
 * The records of the messages (common/table.h), as the session reads them: by pieces, from the sealed memfd that the helper
 * gave.  They are not mapped: a page that is looked at for the first time in a mapping costs more than it does to copy it, and
 * LIST looks at all of them.
 */
#ifndef SESSION_RECORDS_H
#define SESSION_RECORDS_H

#include "session/session.h"

/*
 * Takes the table, which must be sealed against all changes and have s->count records, one at least.  0, or -1 if it is not what it
 * should be; fd is closed then.
 */
int records_take(struct session *s, int fd);

/*
 * The record of message n, which is there (1 to s->count), until the next call.  A table that cannot be read any more, as when
 * the page was swapped out and does not come back, ends the process.
 */
const struct record *record_of(struct session *s, uint32_t n);

#endif
