/* Runs as the service user, in the child of one attempt. */
#include <stdlib.h>
#include <string.h>

#include "accounts/account.h"

/* Of libxcrypt's crypt(3), which is here also where the C library is musl; musl's <crypt.h> has only what its own crypt(3) does. */
char *crypt_ra(const char *phrase, const char *setting, void **data, int *size);
char *crypt_gensalt_ra(const char *prefix, unsigned long count, const char *random, int bytes);

/* What is no hash ("!", "*", empty) costs what a hash costs, by the method that passwd(1) would use. */
static void
pretend(const char *password, void **data, int *size)
{
	char *setting = crypt_gensalt_ra(NULL, 0, NULL, 0);

	if (setting != NULL)
		crypt_ra(password, setting, data, size);
	free(setting);
}

bool
password_matches(const char *password, const char *hash)
{
	void *data = NULL;
	int size = 0;
	const char *made = crypt_ra(password, hash, &data, &size);
	unsigned char differ = 1;
	size_t i, len = strlen(hash);

	if (made == NULL || made[0] == '*' || len < 13)
		pretend(password, &data, &size);
	else if (strlen(made) == len)
		for (differ = 0, i = 0; i < len; i++)
			differ |= (unsigned char)(made[i] ^ hash[i]);
	if (data != NULL)
		explicit_bzero(data, (size_t)size);
	free(data);
	return differ == 0;
}
