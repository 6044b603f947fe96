/* Runs as root, in postern-pam: authentication and account management; no session (nobody sits at a terminal). */
#include "pam/ask_pam.h"

#include <security/pam_appl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "common/logrecord.h"
#include "common/text.h"

/* A stack that has more to say than this wants a person. */
#define MESSAGES 8

struct conversation {
	const struct pam_request *request;
	int passwords;		/* how often it was asked for */
};

/* The password once, the name when it is asked for openly; what modules say is for the administrator, the client hears none. */
static int
answer(struct conversation *c, const struct pam_message *m, struct pam_response *r)
{
	char escaped[256];

	switch (m->msg_style) {
	case PAM_PROMPT_ECHO_OFF:
		r->resp = c->passwords++ == 0 ? strdup(c->request->password) : NULL;
		return r->resp != NULL ? PAM_SUCCESS : PAM_CONV_ERR; /* another question is one we have no answer to */
	case PAM_PROMPT_ECHO_ON:
		r->resp = strdup(c->request->name);
		return r->resp != NULL ? PAM_SUCCESS : PAM_BUF_ERR;
	case PAM_ERROR_MSG:
	case PAM_TEXT_INFO:
		if (m->msg != NULL)
			log_note(LOG_NOTICE, "pam-says text=\"%s\"", text_escape(escaped, sizeof(escaped), m->msg, strlen(m->msg)));
		return PAM_SUCCESS;
	default:
		return PAM_CONV_ERR;
	}
}

/* What is not handed over goes with the process, which has nothing to do then but to say so. */
static int
converse(int n, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	struct pam_response *r;
	int i, result = PAM_SUCCESS;

	if (n < 1 || n > MESSAGES || (r = calloc((size_t)n, sizeof(*r))) == NULL)
		return PAM_CONV_ERR;
	for (i = 0; i < n && result == PAM_SUCCESS; i++)
		result = answer(data, messages[i], &r[i]);
	if (result == PAM_SUCCESS)
		*responses = r;
	return result;
}

/* The helper delays failures itself, alike for all of them (helper/login.c). */
static void
no_delay(__attribute__((unused)) int result, __attribute__((unused)) unsigned microseconds, __attribute__((unused)) void *data)
{
}

static const struct {
	int pam;
	enum verdict verdict;
	const char *reason;
} meanings[] = {
	{ PAM_AUTH_ERR, VERDICT_WRONG, "password" }, { PAM_USER_UNKNOWN, VERDICT_WRONG, "unknown" },
	{ PAM_MAXTRIES, VERDICT_WRONG, "too-many-tries" }, { PAM_PERM_DENIED, VERDICT_WRONG, "denied" },
	{ PAM_ACCT_EXPIRED, VERDICT_WRONG, "expired" }, { PAM_CRED_EXPIRED, VERDICT_WRONG, "expired" },
	{ PAM_AUTHTOK_EXPIRED, VERDICT_WRONG, "password-expired" }, { PAM_NEW_AUTHTOK_REQD, VERDICT_WRONG, "password-expired" },
	{ PAM_CRED_INSUFFICIENT, VERDICT_TEMPORARY, "pam-credentials" }, { PAM_AUTHINFO_UNAVAIL, VERDICT_TEMPORARY, "pam-unavailable" },
	{ PAM_CONV_ERR, VERDICT_PERMANENT, "pam-conversation" }, { PAM_MODULE_UNKNOWN, VERDICT_PERMANENT, "pam-module" },
};

static void
take_result(int result, struct account *account)
{
	size_t i;

	verdict(account, VERDICT_TEMPORARY, "pam-system");
	for (i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].pam == result)
			verdict(account, meanings[i].verdict, meanings[i].reason);
}

static int
run_stack(pam_handle_t *pam, const struct pam_request *request)
{
	int result;

	if (strcmp(request->peer, "local") != 0 &&
	    (result = pam_set_item(pam, PAM_RHOST, request->peer)) != PAM_SUCCESS)
		return result;
	if ((result = pam_set_item(pam, PAM_TTY, "postern")) != PAM_SUCCESS ||
	    (result = pam_set_item(pam, PAM_FAIL_DELAY, (const void *)(uintptr_t)no_delay)) != PAM_SUCCESS ||
	    (result = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK)) != PAM_SUCCESS)
		return result;
	return pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
}

void
ask_pam(const struct pam_request *request, struct account *account)
{
	struct conversation c = { request, 0 };
	const struct pam_conv conv = { converse, &c };
	pam_handle_t *pam = NULL;
	const void *name = NULL;
	int result = pam_start(request->service, request->name, &conv, &pam);

	if (result == PAM_SUCCESS)
		result = run_stack(pam, request);
	if (result == PAM_SUCCESS)
		result = pam_get_item(pam, PAM_USER, &name); /* a module may have changed it */
	if (result != PAM_SUCCESS || name == NULL)
		take_result(result, account);
	else if (snprintf(account->name, sizeof(account->name), "%s", (const char *)name) >= (int)sizeof(account->name))
		verdict(account, VERDICT_WRONG, "name");
	else
		verdict(account, VERDICT_RIGHT, "");
	if (pam != NULL)
		pam_end(pam, result);
}
