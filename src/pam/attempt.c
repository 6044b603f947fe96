/* Runs as root, and then as the service user. */
#include "pam/attempt.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "accounts/pam_request.h"
#include "common/ioutil.h"
#include "helper/become_user.h"
#include "pam/ask_pam.h"

int
one_attempt(void)
{
	static struct pam_request request;
	static struct account account;
	int answer = fcntl(ANSWER, F_DUPFD_CLOEXEC, MODULES_DESCRIPTORS);

	/* What modules write to the usual descriptors, and the programs that they start, must not be taken for the answer. */
	if (answer == -1 || read_full(REQUEST, &request, sizeof(request)) != IO_DONE || dup2(STDOUT_FILENO, REQUEST) == -1 ||
	    dup2(STDOUT_FILENO, ANSWER) == -1)
		return 1;
	ask_pam(&request, &account);
	explicit_bzero(request.password, sizeof(request.password));
	if (account.verdict == VERDICT_RIGHT) {
		become_service(request.uid, request.gid);
		account_from_system(account.name, &account);
	}
	return write_full(answer, &account, sizeof(account)) == 0 ? 0 : 1;
}
