#include "common/ioutil.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum io_result
read_full(int fd, void *buf, size_t len)
{
	size_t have = 0;
	ssize_t n;

	while (have < len) {
		n = read(fd, (char *)buf + have, len - have);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return IO_FAILED;
		if (n == 0)
			return have == 0 ? IO_EOF : IO_TORN;
		have += (size_t)n;
	}
	return IO_DONE;
}

enum io_result
pread_full(int fd, void *buf, size_t len, off_t offset)
{
	size_t have = 0;
	ssize_t n;

	while (have < len) {
		n = pread(fd, (char *)buf + have, len - have, offset + (off_t)have);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return IO_FAILED;
		if (n == 0)
			return have == 0 ? IO_EOF : IO_TORN;
		have += (size_t)n;
	}
	return IO_DONE;
}

int
write_full(int fd, const void *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write(fd, (const char *)buf + done, len - done);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

int
pwrite_full(int fd, const void *buf, size_t len, off_t offset)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = pwrite(fd, (const char *)buf + done, len - done, offset + (off_t)done);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

void
close_all(const int *fds, int count)
{
	int i, end;

	for (i = 0; i < count; i = end) {
		end = i + 1;
		if (fds[i] == -1)
			continue;
		while (end < count && fds[end] == fds[end - 1] + 1)
			end++;
		syscall(SYS_close_range, (unsigned)fds[i], (unsigned)fds[end - 1], 0);
	}
}
