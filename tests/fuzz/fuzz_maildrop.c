/*
 * The helper's second phase with everything in its folders made by hand, and a session that may say anything.  The input:
 * what the mbox or the Maildir's index is, what the state folder has, then the session's messages.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "maildrop/serve.h"

static void
put(const char *name, struct fuzz_input piece)
{
	if (piece.len > 0)
		fuzz_file(name, piece.p, piece.len);
}

static struct fuzz_input
part(struct fuzz_input *in)
{
	size_t len = fuzz_octet(in);

	return fuzz_piece(in, len << 8 | fuzz_octet(in));
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
	struct fuzz_input in = { data, size }, message;
	char mail[160];
	/* The user's name is that of the state folder. */
	struct maildrop_owner owner = { .user = "state", .home = "/", .mail = mail, .state_directory = fuzz_folder() };
	bool mbox;
	int pair[2];

	mbox = fuzz_octet(&in) % 2 == 0;
	remove_what_is_left();
	make_folders();
	if (mbox)
		snprintf(mail, sizeof(mail), "mbox:%s/mbox", fuzz_folder());
	else
		snprintf(mail, sizeof(mail), "maildir:%s/Maildir", fuzz_folder());
	put(mbox ? "mbox" : "Maildir/.postern-index", part(&in));
	if (mbox) {
		put("state/index", part(&in));
		put("state/journal", part(&in));
		put("state/last", part(&in));
	}
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
	while ((message = fuzz_piece(&in, fuzz_octet(&in))).len > 0)
		send(pair[0], message.p, message.len, 0);
	shutdown(pair[0], SHUT_WR);
	maildrop_serve(pair[1], &owner, -1);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
