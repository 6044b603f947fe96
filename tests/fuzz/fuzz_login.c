/* Root's only message. */
#include "fuzz.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/login.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct attempt attempt;
	static struct wire_msg m;
	int pair[2], got;

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	if (send(pair[0], data, size, 0) == (ssize_t)size && size > 0 && (got = wire_recv(pair[1], &m)) == 1 &&
	    login_parse(&m, &attempt) == 0) {
		FUZZ_CHECK(strlen(attempt.name) <= NAME_OCTETS && strlen(attempt.password) <= PASSWORD_OCTETS);
		FUZZ_CHECK(m.data[0] == 0); /* wiped */
	}
	close(pair[0]);
	close(pair[1]);
	return 0;
}
