/*
 * Memory that grows by whole mappings and goes back to the system when it is freed: opening a Maildir takes several
 * times what its session keeps, and a heap would hold on to that for as long as the client stays.  Runs as the
 * authenticated user.  A zeroed struct is an empty pile.
 */
#ifndef MAILDROP_PILE_H
#define MAILDROP_PILE_H

#include <stddef.h>

struct pile {
	unsigned char *base;	/* NULL as long as nothing was reserved; moves when the pile grows */
	size_t used, size;	/* bytes; the caller counts used up */
};

/* Makes room for more bytes behind used.  0, or -1 with errno. */
int pile_reserve(struct pile *pile, size_t more);

/* Gives back the pages behind used. */
void pile_trim(struct pile *pile);

/* Frees all of it; the pile is empty then. */
void pile_free(struct pile *pile);

/*
 * realloc(3), old having used bytes, for what may be hundreds of megabytes.  From one megabyte on, a pile from two, the kernel is
 * asked for huge pages: a page of 4 KiB that is touched first costs 0.3 us and on some virtual machines 10.
 */
void *memory_resize(void *old, size_t used, size_t bytes);

#endif
