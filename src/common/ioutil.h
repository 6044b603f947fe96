/*
 * Whole reads and writes: interrupted calls are taken up again, short counts are completed.  And descriptors, several at a time.
 * All sizes are bytes.
 */
#ifndef COMMON_IOUTIL_H
#define COMMON_IOUTIL_H

#include <stddef.h>
#include <sys/types.h>

enum io_result {
	IO_DONE,	/* all of it */
	IO_EOF,		/* nothing more to read, and nothing read */
	IO_TORN,	/* the end came in the middle */
	IO_FAILED	/* errno tells */
};

enum io_result read_full(int fd, void *buf, size_t len);
enum io_result pread_full(int fd, void *buf, size_t len, off_t offset);

/* 0, or -1 with errno; part of it may have been written then. */
int write_full(int fd, const void *buf, size_t len);
int pwrite_full(int fd, const void *buf, size_t len, off_t offset);

/* Closes these; -1 is passed over.  Those whose numbers follow one another take one call, as they do that came together. */
void close_all(const int *fds, int count);

#endif
