/* Runs as the authenticated user. */
#include "maildrop/pile.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PILE_FIRST ((size_t)64 * 1024)
#define PAGE ((size_t)4096)	/* of any size that divides the real one's multiples: the kernel rounds up */
#define HUGE_PAGE ((size_t)2 << 20)

static int
resize(struct pile *pile, size_t size)
{
	void *p;

	if (pile->base == NULL)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	else
		p = mremap(pile->base, pile->size, size, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return -1;
	if (size >= HUGE_PAGE)
		madvise(p, size, MADV_HUGEPAGE); /* a wish */
	pile->base = p;
	pile->size = size;
	return 0;
}

int
pile_reserve(struct pile *pile, size_t more)
{
	size_t size = pile->size;

	if (more <= size - pile->used)
		return 0;
	if (more > SIZE_MAX / 4 - pile->used) {
		errno = ENOMEM;
		return -1;
	}
	if (size == 0)
		size = PILE_FIRST;
	while (size - pile->used < more)
		size *= 2;	/* pages that are not touched cost nothing */
	return resize(pile, size);
}

void
pile_trim(struct pile *pile)
{
	size_t size = (pile->used + PAGE - 1) / PAGE * PAGE;

	if (size == 0)
		pile_free(pile);
	else if (size < pile->size)
		resize(pile, size);	/* a mapping that cannot shrink stays as it is */
}

void
pile_free(struct pile *pile)
{
	if (pile->base != NULL)
		munmap(pile->base, pile->size);
	*pile = (struct pile){ 0 };
}

void *
memory_resize(void *old, size_t used, size_t bytes)
{
	void *p;

	if (bytes < HUGE_PAGE / 2)
		return realloc(old, bytes);
	bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	if ((p = aligned_alloc(HUGE_PAGE, bytes)) == NULL)
		return NULL;
	madvise(p, bytes, MADV_HUGEPAGE);
	if (old != NULL)
		memcpy(p, old, used);
	free(old);
	return p;
}
