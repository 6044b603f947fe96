/*
 * Is it their password?  Asked in a child of the helper that lives for one attempt: what is loaded, left open, left in memory or
 * never comes back goes with it.  Only PAM is asked as root, by a program of its own, postern-pam.
 */
#ifndef HELPER_AUTH_H
#define HELPER_AUTH_H

#include "accounts/account.h"

/*
 * One attempt with a time limit of LOGIN_SECONDS: fills account (name, ids, home, mail) and its verdict.  Ends the process when the
 * session goes away meanwhile.
 */
void authenticate(struct attempt *attempt, struct account *account);

/* The three ways; in the child. */
void auth_pam(const struct attempt *attempt, struct account *account);
void auth_users(const struct attempt *attempt, struct account *account);
void auth_shadow(const struct attempt *attempt, struct account *account);

#endif
