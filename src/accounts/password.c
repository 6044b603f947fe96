/* Runs as the service user, in the child of one attempt. */
#include <crypt.h>
#include <stdlib.h>
#include <string.h>

#include "accounts/account.h"

/* What is no hash ("!", "*", empty) costs what a hash costs, by the method that passwd(1) would use. */
static void
pretend(const char *password, struct crypt_data *data)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];

	if (crypt_gensalt_rn(NULL, 0, NULL, 0, setting, sizeof(setting)) != NULL)
		crypt_r(password, setting, data);
}

bool
password_matches(const char *password, const char *hash)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *made;
	unsigned char differ = 1;
	size_t i, len = strlen(hash);

	if (data == NULL)
		return false;
	made = crypt_r(password, hash, data);
	if (made == NULL || made[0] == '*' || len < 13)
		pretend(password, data);
	else if (strlen(made) == len)
		for (differ = 0, i = 0; i < len; i++)
			differ |= (unsigned char)(made[i] ^ hash[i]);
	explicit_bzero(data, sizeof(*data));
	free(data);
	return differ == 0;
}
