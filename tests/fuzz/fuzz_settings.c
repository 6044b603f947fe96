/* postern.conf(5): any file is read or refused with a line that names it. */
#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

#include "common/settings.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings settings;
	char error[512];
	int result = settings_read(&settings, fuzz_file("conf", data, size), false, error, sizeof(error));

	FUZZ_CHECK(result == 0 || strstr(error, "file=") != NULL);
	FUZZ_CHECK(result == -1 || (settings.minimum_uid >= 1 && settings.users_file[0] == '/' &&
	    settings.state_directory[0] == '/' && settings.mail_location[0] != '\0'));
	return 0;
}
