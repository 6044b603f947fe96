/* UPDATE of an mbox (RFC 1939, section 6), and LAST from one session to the next. */
#ifndef MAILDROP_MBOX_UPDATE_H
#define MAILDROP_MBOX_UPDATE_H

#include "maildrop/mbox.h"

enum md_result mbox_update(struct maildrop *md, uint32_t last);

/*
 * The highest message-number that was read before, 0 for none.  The message is known by its content: what others delivered
 * or deleted in between does not shift it.
 */
uint32_t mbox_last_read(const struct mbox *mbox, const struct maildrop *md);

/*
 * Finds messages again.  keys and new_keys: equal for equal messages.  where[i]: the place of message i in the new list;
 * equal messages are taken in their order.  0, or -1 with ENOMEM.
 */
#define MBOX_NOWHERE UINT32_MAX

int mbox_match(const uint64_t *keys, uint32_t count, const uint64_t *new_keys, uint32_t new_count, uint32_t *where);

/* Keys that tell messages apart by their first bytes, size and lines.  NULL with ENOMEM. */
uint64_t *mbox_content_keys(const struct mbox_list *list);

#endif
