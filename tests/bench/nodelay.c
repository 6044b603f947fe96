/*
 * LD_PRELOADed into the servers that do not set TCP_NODELAY, so that they can be measured without the 40 ms that Nagle's
 * algorithm and delayed acknowledgements cost them.  The option belongs to the socket and stays across exec.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

static void __attribute__((constructor))
set_nodelay(void)
{
	int on = 1;

	/* Not in the super-server, whose descriptor 1 is no socket.  Programs that the server starts need not do it again. */
	if (setsockopt(1, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0)
		unsetenv("LD_PRELOAD");
}
