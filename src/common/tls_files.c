#include "common/tls_files.h"

#include <stdio.h>
#include <string.h>

void
tls_files_start(struct tls_files *files, const char *certificates, const char *keys, const char *credentials)
{
	memset(files, 0, sizeof(*files));
	files->certificates = certificates;
	files->keys = keys;
	files->credentials = credentials;
	files->one_file = keys[0] == '\0';
}

/* The next word of *list, which moves behind it; its length, 0 at the end. */
static size_t
next_word(const char **list, const char **word)
{
	size_t len;

	*list += strspn(*list, " \t");
	*word = *list;
	len = strcspn(*list, " \t");
	*list += len;
	return len;
}

static void
make_path(struct tls_files *files, char path[PATH_BYTES], const char *word, size_t len)
{
	int n;

	if (word[0] == '/' || files->credentials == NULL)
		n = snprintf(path, PATH_BYTES, "%.*s", (int)len, word);
	else
		n = snprintf(path, PATH_BYTES, "%s/%.*s", files->credentials, (int)len, word);
	if (n >= PATH_BYTES)
		files->error = "name too long";
	else if (path[0] != '/')
		files->error = "not an absolute path, and there are no credentials: see LoadCredential= in systemd.exec(5)";
}

bool
tls_files_next(struct tls_files *files)
{
	const char *word;
	size_t len = next_word(&files->certificates, &word);

	if (len == 0)
		return false;
	files->error = NULL;
	files->key[0] = '\0';
	make_path(files, files->certificate, word, len);
	if (files->one_file)
		memcpy(files->key, files->certificate, sizeof(files->key));
	else if ((len = next_word(&files->keys, &word)) > 0)
		make_path(files, files->key, word, len);
	else
		files->error = "tls-key names fewer files than tls-certificate";
	return true;
}
