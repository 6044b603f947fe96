/*
 * popbench: the only client of the benchmark.  While it measures, it looks for nothing but the end of a reply.
 *
 * Runs as whoever runs the benchmark; talks to 127.0.0.1 only.  Exit status 0, a line of JSON: measured; 1, a line on
 * standard error: the server did not do what was asked.
 */
#include "popbench.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stream.h"

/* A server that never answers must not stop the benchmark for good. */
#define LONGEST_SECONDS 900

static const struct mode {
	const char *name;
	int (*run)(int argc, char **argv);
	int least;		/* arguments */
} modes[] = {
	{ "rate", rate_main, 3 },
	{ "hold", hold_main, 2 },
	{ "steps", steps_main, 3 },
	{ "verify", verify_main, 4 },
};

void
hold(void)
{
	char c;

	puts("held");
	fflush(stdout);
	while (read(0, &c, 1) == 1 && c != '\n')
		continue;
}

int
main(int argc, char **argv)
{
	size_t i;

	alarm(LONGEST_SECONDS);
	for (i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(argv[1], modes[i].name) == 0 && argc - 2 >= modes[i].least)
			return modes[i].run(argc - 2, argv + 2);
	fail("rate PORT CONCURRENCY MILLISECONDS [PREFIX] | hold PORT COUNT [PREFIX] | steps PORT USER STEP... | "
	     "verify PORT USER MANIFEST MISSING");
}
