/* One attempt to log in, from the request to the account. */
#ifndef PAM_ATTEMPT_H
#define PAM_ATTEMPT_H

/*
 * Reads a struct pam_request from descriptor REQUEST, asks PAM, gives up root, asks the name service about the account, and writes a
 * struct account to ANSWER.  The status to exit with; the process is good for nothing else.
 */
int one_attempt(void);

#endif
