/* The settings tls-certificate and tls-key: lists of files, separated by spaces, the key of a certificate at the same place. */
#ifndef COMMON_TLS_FILES_H
#define COMMON_TLS_FILES_H

#include <stdbool.h>

#include "common/limits.h"

struct tls_files {
	char certificate[PATH_BYTES];
	char key[PATH_BYTES];		/* the same where tls-key is empty: both stand in one file */
	const char *error;		/* NULL, or what is wrong with the lists; the names are as far as they go */
	/* for tls_files_next(): */
	const char *certificates, *keys, *credentials;
	bool one_file;
};

/*
 * A name without '/' in front is that of a credential of systemd's (LoadCredential=): a file in the folder credentials, which
 * is NULL if there are none.
 */
void tls_files_start(struct tls_files *files, const char *certificates, const char *keys, const char *credentials);

/* The next pair.  False when there is none. */
bool tls_files_next(struct tls_files *files);

#endif
