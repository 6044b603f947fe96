/* Runs as root, in the child of one attempt. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "accounts/pam_request.h"
#include "common/ioutil.h"
#include "common/logrecord.h"
#include "common/wire.h"
#include "helper/auth.h"

#define PROGRAM PKGLIBEXECDIR "/postern-pam"

/* One that stays is ready at once.  Where it is not (it is stopped, or its start hangs), nobody waits for it. */
#define READY_MS 3000

/*
 * To one that stays, as root and of this version, go the descriptors that execve(2) would leave it.  From then on this process is there
 * for the helper to kill, and for the kernel then to end the other: nobody writes into the request's pipe any more, and that its last
 * writer is gone is a signal (pam/stay.c).  It ends when the other does.
 */
static void
hand_over(const int request[2])
{
	static struct wire_msg m;
	const struct sockaddr_un where = { .sun_family = AF_UNIX, .sun_path = PAM_SOCKET };
	struct pollfd p = { .fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .events = POLLIN };
	char version[sizeof(PACKAGE_VERSION)];

	if (connect(p.fd, (const struct sockaddr *)&where, sizeof(where)) == 0 && wire_peer_is_root(p.fd) &&
	    poll(&p, 1, READY_MS) == 1 && wire_recv(p.fd, &m) == 1 && m.type == WIRE_READY && wire_get_string(&m, version, sizeof(version)) == 0 &&
	    wire_get_end(&m) == 0 && strcmp(version, PACKAGE_VERSION) == 0) {
		wire_start(&m, WIRE_ATTEMPT);
		wire_put_fd(&m, request[0]);
		wire_put_fd(&m, ANSWER);
		wire_put_fd(&m, STDERR_FILENO);
		if (wire_send(p.fd, &m) == 0 && poll(&p, 1, -1) == 1) {
			close(request[1]); /* before the other end: also one that has closed all its own gets the signal */
			_exit(0);
		}
	}
	close(p.fd);
}

/* That program takes this process's place, and finds the request in a pipe, which has room for it. */
void
auth_pam(const struct attempt *attempt, struct account *account)
{
	struct pam_request r = { .uid = attempt->service_uid, .gid = attempt->service_gid };
	int ask[2];

	snprintf(r.service, sizeof(r.service), "%s", attempt->settings->pam_service);
	snprintf(r.peer, sizeof(r.peer), "%s", attempt->peer);
	snprintf(r.name, sizeof(r.name), "%s", attempt->name);
	snprintf(r.password, sizeof(r.password), "%s", attempt->password);
	if (pipe2(ask, O_CLOEXEC) == 0 && write_full(ask[1], &r, sizeof(r)) == 0) {
		hand_over(ask);
		if (dup2(ask[0], REQUEST) != -1)
			execve(PROGRAM, (char *[]){ (char *)(uintptr_t)"postern-pam", NULL }, environ);
	}
	log_note(LOG_ERR, "pam-program path=\"%s\" error=\"%s\"", PROGRAM, strerror(errno));
	verdict(account, VERDICT_PERMANENT, "pam-program");
}
