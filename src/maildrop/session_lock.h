/*
 * One POP3 session per maildrop (RFC 1939, section 4: "exclusive-access lock"), by a lock of our own: those of the mbox
 * are held for moments only, and a Maildir has none.  It is tied to an open file, so it dies with the process.
 */
#ifndef MAILDROP_SESSION_LOCK_H
#define MAILDROP_SESSION_LOCK_H

/*
 * Locks the file at path (made if it is not there; never followed through a link; it has to be a regular file of
 * ours).  Tries for about a second, since a client that reconnects at once meets its own last session.  The lock is
 * given up by closing the descriptor returned.  -1 with errno: EAGAIN when another session holds it.
 */
int session_lock_take(const char *path);

#endif
