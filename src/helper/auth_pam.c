/* Runs as root, in the child of one attempt. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "accounts/pam_request.h"
#include "common/ioutil.h"
#include "common/logrecord.h"
#include "helper/auth.h"

#define PROGRAM PKGLIBEXECDIR "/postern-pam"

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
	if (pipe(ask) == 0 && write_full(ask[1], &r, sizeof(r)) == 0 && dup2(ask[0], REQUEST) != -1 && close(ask[0]) == 0 &&
	    close(ask[1]) == 0)
		execve(PROGRAM, (char *[]){ (char *)(uintptr_t)"postern-pam", NULL }, environ);
	log_note(LOG_ERR, "pam-program path=\"%s\" error=\"%s\"", PROGRAM, strerror(errno));
	verdict(account, VERDICT_PERMANENT, "pam-program");
}
