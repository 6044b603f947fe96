/*
 * postern-pam: the helper's child of one attempt to log in by PAM becomes this program, as root.  What PAM's modules load, leave open,
 * leave in memory or never come back from stays in here; and the helper, which is setuid, loads no library at all.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "helper/become_user.h"
#include "pam/ask_pam.h"

int
main(void)
{
	static struct pam_request request;
	static struct account account;
	int answer = fcntl(ANSWER, F_DUPFD_CLOEXEC, 10);

	/* What modules write to the usual descriptors, and the programs that they start, must not be taken for the answer. */
	if (answer == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 || read_full(REQUEST, &request, sizeof(request)) != IO_DONE ||
	    dup2(STDOUT_FILENO, REQUEST) == -1 || dup2(STDOUT_FILENO, ANSWER) == -1)
		return 1;
	ask_pam(&request, &account);
	explicit_bzero(request.password, sizeof(request.password));
	if (account.verdict == VERDICT_RIGHT) {
		become_service(request.uid, request.gid);
		account_from_system(account.name, &account);
	}
	return write_full(answer, &account, sizeof(account)) == 0 ? 0 : 1;
}
