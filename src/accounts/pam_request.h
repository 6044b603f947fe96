/*
 * What the helper asks postern-pam about one attempt; a struct account comes back.  The two belong to one installation, so the bytes
 * of the structures are the message.
 */
#ifndef ACCOUNTS_PAM_REQUEST_H
#define ACCOUNTS_PAM_REQUEST_H

#include "accounts/account.h"

/* postern-pam's descriptors when it starts; 2 is the log. */
#define REQUEST 0
#define ANSWER 3

/* Modules, and what they start, may use those below. */
#define MODULES_DESCRIPTORS 10

/* Where one that stays is asked, if one does (systemd/postern-pam.socket): a SOCK_SEQPACKET socket that only root may connect to. */
#define PAM_SOCKET "/run/postern-pam"

struct pam_request {
	uid_t uid;			/* the service user: asks the name service */
	gid_t gid;
	char service[SETTING_BYTES];
	char peer[64];			/* numeric address, or "local" */
	char name[NAME_OCTETS + 1];
	char password[PASSWORD_OCTETS + 1];
};

#endif
