/*
 * The lock keeper: in a spool that only group mail can write (Debian's /var/mail, 2775 root:mail) the user cannot make a dot-lock.
 * The helper, still root, forks this process (uid: the user, gid: the spool's), which knows one path and two verbs; it holds the lock
 * for as long as its socket is open, so a helper that is killed leaves no lock behind.
 */
#ifndef MAILDROP_KEEPER_H
#define MAILDROP_KEEPER_H

#include <sys/stat.h>

#include "maildrop/dotlock.h"
#include "maildrop/serve.h"

/* As the user, with the group of spool: keeps the lock of the mbox that owner's mail is in, if it stands in spool.  Ends the process. */
void maildrop_keep(int sock, const struct maildrop_owner *owner, const struct stat *spool) __attribute__((noreturn));

/*
 * The helper's side.  1: there is a keeper behind sock.  0: none is needed, as the owner's mbox stands elsewhere.  -1 with errno: it
 * could not start, and without it the mbox would go without the lock that others look for.
 */
int keeper_is_there(int sock);

/* As dotlock_try() and dotlock_remove(). */
enum dotlock_result keeper_try(int sock);
void keeper_remove(int sock);

#endif
