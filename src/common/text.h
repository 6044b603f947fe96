/* Text that a peer chose: what may be a user's name, and how such text stands in the log. */
#ifndef COMMON_TEXT_H
#define COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether the len octets at name could be an account on any machine: 1 to NAME_OCTETS of printable ASCII, no space,
 * no '/' (it becomes part of a path), no ':' (the separator of passwd(5)), no '-' or '.' in front (options, hidden
 * folders, "..").  What fails here is refused before PAM, the name service or a file sees it.
 */
bool name_possible(const char *name, size_t len);

/* Whether they could be a unique-id: 1 to UNIQUE_ID_OCTETS of 0x21 to 0x7E (RFC 1939, section 7). */
bool unique_id_possible(const char *id, size_t len);

/*
 * Copies len octets of src to dst as printable ASCII: octets below 0x20, above 0x7E, '\\' and '"' become \xHH.
 * Cuts at what fits into size bytes, NUL included.  Returns dst.
 */
char *text_escape(char *dst, size_t size, const char *src, size_t len);

#endif
