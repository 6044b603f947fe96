/* Runs a fuzz target over the files of its corpus folder, for compilers without libFuzzer.  TAP. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
run_file(const char *folder, const char *name)
{
	static uint8_t data[1 << 20];
	char path[2048];
	FILE *f;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if ((f = fopen(path, "rb")) == NULL)
		return -1;
	len = fread(data, 1, sizeof(data), f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, len);
	return 0;
}

int
main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *target = slash != NULL ? slash + 1 : argv[0];
	const char *top = getenv("top_srcdir");
	char folder[900];
	struct dirent *d;
	unsigned count = 0;
	DIR *dir;

	if (strncmp(target, "lt-", 3) == 0)
		target += 3;
	if (argc > 1)
		snprintf(folder, sizeof(folder), "%s", argv[1]);
	else
		snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", top != NULL ? top : ".", target + strlen("fuzz_"));
	if ((dir = opendir(folder)) == NULL) {
		printf("1..1\nnot ok 1 - %s: no corpus in %s\n", target, folder);
		return 1;
	}
	while ((d = readdir(dir)) != NULL)
		if (d->d_name[0] != '.' && run_file(folder, d->d_name) == 0)
			count++;
	closedir(dir);
	printf("1..1\n%sok 1 - %s: %u inputs\n", count > 0 ? "" : "not ", target, count);
	return count == 0;
}
