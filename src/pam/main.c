/*
 * postern-pam: the helper's child of one attempt to log in by PAM becomes this program, as root.  What PAM's modules load, leave open,
 * leave in memory or never come back from stays in here; and the helper, which is setuid, loads no library at all.
 */
#include <sys/prctl.h>
#include <sys/socket.h>

#include "accounts/pam_request.h"
#include "pam/attempt.h"
#include "pam/stay.h"

int
main(void)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		return 1;
	/* One that stays has a socket where others have their request. */
	getsockopt(REQUEST, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
	return listening ? stay() : one_attempt();
}
