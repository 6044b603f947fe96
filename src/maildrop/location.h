/* Where an account's mail is: postern.conf(5), mail-location. */
#ifndef MAILDROP_LOCATION_H
#define MAILDROP_LOCATION_H

#include "maildrop/serve.h"

struct location {
	enum maildrop_kind kind;
	char path[PATH_BYTES];
};

/*
 * As the user, who laid what is found on the way: the first location of owner's list that exists, else the last.  "~" and %u are
 * filled in.  0, or -1 when the list has none, or has one before it that is not as postern.conf(5) wants it.
 */
int location_choose(const struct maildrop_owner *owner, struct location *location);

/* Location number index (from 0) of the list.  1, or 0 when there are no more, or -1 when it is not as it should be. */
int location_parse(const struct maildrop_owner *owner, unsigned index, struct location *location);

#endif
