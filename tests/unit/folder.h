/* Where tests make their folders: TMPDIR, or memory, where waiting for the disk takes no time, or /tmp. */
#ifndef UNIT_FOLDER_H
#define UNIT_FOLDER_H

#include <stdlib.h>
#include <unistd.h>

static inline const char *
test_tmp(void)
{
	const char *tmp = getenv("TMPDIR");

	if (tmp != NULL)
		return tmp;
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

#endif
