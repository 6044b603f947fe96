/*
 * Runs as the authenticated user.  The table is written with write(2) and mapped when it is complete: a page that is only
 * written to a file costs a tenth of one that is touched in a mapping, and most sessions look at few records again.
 */
#include "maildrop/maildrop.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/ioutil.h"

int
md_table_add(struct maildrop *md, const struct record *records, size_t count)
{
	size_t i;

	if (count == 0)
		return 0;
	if (count > MESSAGES_MAX - md->count) {
		errno = E2BIG;
		return -1;
	}
	if (md->table_fd == -1 && (md->table_fd = memfd_create("postern-table", MFD_CLOEXEC | MFD_ALLOW_SEALING)) == -1)
		return -1;
	if (write_full(md->table_fd, records, count * sizeof(*records)) == -1)
		return -1;
	for (i = 0; i < count; i++)
		md->octets += records[i].octets;
	md->count += (uint32_t)count;
	return 0;
}

/* A writable mapping would forbid the seal.  Private: before Linux 6.7 a sealed memfd can't be mapped shared, not even to read. */
int
md_table_end(struct maildrop *md)
{
	void *p;

	if (md->count == 0)
		return 0;
	if (fcntl(md->table_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == -1)
		return -1;
	p = mmap(NULL, md->count * sizeof(*md->records), PROT_READ, MAP_PRIVATE, md->table_fd, 0);
	if (p == MAP_FAILED)
		return -1;
	md->records = p;
	return 0;
}

void
md_table_drop(struct maildrop *md)
{
	if (md->records != NULL)
		munmap(md->records, md->count * sizeof(*md->records));
	if (md->table_fd != -1)
		close(md->table_fd);
	md->records = NULL;
	md->table_fd = -1;
	md->count = 0;
	md->octets = 0;
}
