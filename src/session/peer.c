#include "session/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* 0, or -1 when it is no IPv6 address. */
static int
write_ipv6(const struct in6_addr *addr, char text[PEER_BYTES])
{
	if (IN6_IS_ADDR_V4MAPPED(addr))
		return inet_ntop(AF_INET, &addr->s6_addr[12], text, PEER_BYTES) != NULL ? 0 : -1;
	return inet_ntop(AF_INET6, addr, text, PEER_BYTES) != NULL ? 0 : -1;
}

static int
from_environment(const char *name, char text[PEER_BYTES])
{
	const char *value = getenv(name);
	struct in_addr v4;
	struct in6_addr v6;

	if (value == NULL)
		return -1;
	if (inet_pton(AF_INET, value, &v4) == 1)
		return inet_ntop(AF_INET, &v4, text, PEER_BYTES) != NULL ? 0 : -1;
	return inet_pton(AF_INET6, value, &v6) == 1 ? write_ipv6(&v6, text) : -1;
}

void
peer_find(int fd, char text[PEER_BYTES])
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_storage room;
	} addr;
	socklen_t len = sizeof(addr);

	if (getpeername(fd, &addr.any, &len) == 0) {
		if (addr.any.sa_family == AF_INET &&
		    inet_ntop(AF_INET, &addr.v4.sin_addr, text, PEER_BYTES) != NULL)
			return;
		if (addr.any.sa_family == AF_INET6 && write_ipv6(&addr.v6.sin6_addr, text) == 0)
			return;
	}
	if (from_environment("REMOTE_ADDR", text) == 0 || from_environment("TCPREMOTEIP", text) == 0)
		return;
	strcpy(text, "local");
}

bool
peer_is_local(const char *text)
{
	return strncmp(text, "127.", 4) == 0 || strcmp(text, "::1") == 0 || strcmp(text, "local") == 0;
}
