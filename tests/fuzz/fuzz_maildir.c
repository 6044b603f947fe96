/*
 * A Maildir whose file names are the input's: any octets but '/' and NUL.  The input: an index, a number of files (folder, name,
 * text), the session's messages.  Two sessions, so that the index that the first one made is read by the second.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const folders[] = { "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp" };
#define FOLDERS_ALL (sizeof(folders) / sizeof(folders[0]))

static void
clean(void)
{
	char path[128 + NAME_MAX];
	struct dirent *entry;
	DIR *folder;
	size_t i;

	for (i = 0; i < FOLDERS_ALL; i++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_folder(), folders[i]);
		mkdir(path, 0700);
		FUZZ_CHECK((folder = opendir(path)) != NULL);
		while ((entry = readdir(folder)) != NULL)
			if (entry->d_type != DT_DIR)
				unlinkat(dirfd(folder), entry->d_name, 0);
		closedir(folder);
	}
}

/* A name may be one that the folder does not take: then it is not there. */
static void
put_file(struct fuzz_input *in)
{
	unsigned folder = fuzz_octet(in) % 3 + 1;
	struct fuzz_input name = fuzz_piece(in, fuzz_octet(in)), text = fuzz_piece(in, fuzz_octet(in));
	char path[128 + NAME_MAX];
	size_t i;
	int fd, used = snprintf(path, sizeof(path), "%s/%s/", fuzz_folder(), folders[folder]);

	for (i = 0; i < name.len; i++)
		path[(size_t)used + i] = name.p[i] == '/' || name.p[i] == '\0' ? '_' : (char)name.p[i];
	path[(size_t)used + i] = '\0';
	if ((fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) == -1)
		return;
	FUZZ_CHECK(write(fd, text.p, text.len) == (ssize_t)text.len);
	close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size }, index;
	unsigned files;

	clean();
	index = fuzz_part(&in);
	if (index.len > 0)
		fuzz_file("Maildir/.postern-index", index.p, index.len);
	for (files = fuzz_octet(&in) % 64; files > 0; files--)
		put_file(&in);
	fuzz_serve("maildir", "Maildir", in);
	fuzz_serve("maildir", "Maildir", in);
	return 0;
}
