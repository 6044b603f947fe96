/* A session of the helper's second phase, for the targets that have its whole code: what the input says is all that comes. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "maildrop/serve.h"

void
fuzz_serve(const char *kind, const char *name, struct fuzz_input in)
{
	char mail[160];
	/* The user's name is that of the state folder. */
	const struct maildrop_owner owner = { .user = "state", .home = "/", .mail = mail, .state_directory = fuzz_folder() };
	struct fuzz_input message;
	int pair[2];

	snprintf(mail, sizeof(mail), "%s:%s/%s", kind, fuzz_folder(), name);
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
	while ((message = fuzz_piece(&in, fuzz_octet(&in))).len > 0)
		send(pair[0], message.p, message.len, 0);
	shutdown(pair[0], SHUT_WR);
	maildrop_serve(pair[1], &owner, -1);
	close(pair[0]);
	close(pair[1]);
}
