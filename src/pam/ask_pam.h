/* PAM: authentication and account management; no session (nobody sits at a terminal). */
#ifndef PAM_ASK_PAM_H
#define PAM_ASK_PAM_H

#include "accounts/pam_request.h"

/* Fills account's name, which a module may have changed, and its verdict.  What modules have to say goes to the log. */
void ask_pam(const struct pam_request *request, struct account *account);

#endif
