/* Runs as the authenticated user.  The memory that session and helper share: the records of all messages. */
#include "maildrop/maildrop.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int
md_table_make(struct maildrop *md, uint32_t count)
{
	size_t bytes = (size_t)count * sizeof(struct record);
	void *p;
	int fd;

	md->count = count;
	md->records = NULL;
	md->table_fd = -1;
	if (count == 0)
		return 0;
	if ((fd = memfd_create("postern-table", MFD_CLOEXEC | MFD_ALLOW_SEALING)) == -1)
		return -1;
	if (ftruncate(fd, (off_t)bytes) == -1 ||
	    (p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		close(fd);
		md->count = 0;
		return -1;
	}
	md->records = p;
	md->table_fd = fd;
	return 0;
}
