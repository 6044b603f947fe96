/*
 * A postern-pam that stays: PAM's libraries and modules are loaded once, each attempt is a child of its own.  Half of what a login by
 * PAM costs is otherwise the start of glibc and what it maps and relocates for the modules.
 */
#ifndef PAM_STAY_H
#define PAM_STAY_H

/*
 * Serves what connects to descriptor 0: a helper that hands over the descriptors of an attempt.  After each minute it starts itself
 * anew, or ends when nobody has come: whoever holds the socket starts the next.  The status to exit with.
 */
int stay(void);

#endif
