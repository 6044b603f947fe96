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
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "maildrop/serve.h"

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

static void
serve(struct fuzz_input in)
{
	char mail[160];
	struct maildrop_owner owner = { .user = "state", .home = "/", .mail = mail, .state_directory = fuzz_folder() };
	struct fuzz_input message;
	int pair[2];

	snprintf(mail, sizeof(mail), "maildir:%s/Maildir", fuzz_folder());
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
	while ((message = fuzz_piece(&in, fuzz_octet(&in))).len > 0)
		send(pair[0], message.p, message.len, 0);
	shutdown(pair[0], SHUT_WR);
	maildrop_serve(pair[1], &owner, -1);
	close(pair[0]);
	close(pair[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size }, index;
	size_t len = fuzz_octet(&in);
	unsigned files;

	clean();
	index = fuzz_piece(&in, len << 8 | fuzz_octet(&in));
	if (index.len > 0)
		fuzz_file("Maildir/.postern-index", index.p, index.len);
	for (files = fuzz_octet(&in) % 64; files > 0; files--)
		put_file(&in);
	serve(in);
	serve(in);
	return 0;
}
