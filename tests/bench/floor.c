/*
 * The least that a program started for each connection can do: a greeting, one command, one answer.  Linked dynamically it
 * is the floor that postern is measured against, linked statically the floor below that.  Started by the super-server.
 */
#include <string.h>
#include <unistd.h>

static int
say(const char *text)
{
	size_t len = strlen(text);

	return write(1, text, len) == (ssize_t)len ? 0 : -1;
}

int
main(void)
{
	char line[256];
	ssize_t n;

	if (say("+OK floor\r\n") == -1)
		return 1;
	while ((n = read(0, line, sizeof(line))) > 0)
		if (memchr(line, '\n', (size_t)n) != NULL)
			return say("+OK\r\n") == -1;
	return 1;
}
