/*
 * The helper's second phase with everything in its folders made by hand, and a session that may say anything.  The input:
 * what the mbox or the Maildir's index is, what the state folder has, then the session's messages.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void
put(const char *name, struct fuzz_input piece)
{
	if (piece.len > 0)
		fuzz_file(name, piece.p, piece.len);
}

static void
make_folders(void)
{
	static const char *const names[] = { "state", "Maildir", "Maildir/new", "Maildir/cur", "Maildir/tmp" };
	char path[128];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_folder(), names[i]);
		mkdir(path, 0700);
	}
	fuzz_file("Maildir/new/1700000000.M1.host", "Subject: x\n\nbody\n", 17);
	fuzz_file("Maildir/cur/1700000001.M2.host:2,FS", "Subject: y\n\n.body", 17);
}

static void
remove_what_is_left(void)
{
	static const char *const names[] = { "mbox", "mbox.lock", "state/index", "state/journal", "state/last",
		"state/session.lock", "Maildir/.postern-index" };
	char path[128];
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", fuzz_folder(), names[i]);
		unlink(path);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	bool mbox = fuzz_octet(&in) % 2 == 0;

	remove_what_is_left();
	make_folders();
	put(mbox ? "mbox" : "Maildir/.postern-index", fuzz_part(&in));
	if (mbox) {
		put("state/index", fuzz_part(&in));
		put("state/journal", fuzz_part(&in));
		put("state/last", fuzz_part(&in));
	}
	fuzz_serve(mbox ? "mbox" : "maildir", mbox ? "mbox" : "Maildir", in);
	return 0;
}
