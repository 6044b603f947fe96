/* postern.conf: defaults, values, and what is refused with which words. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/settings.h"

static char path[] = "/tmp/postern-settings-XXXXXX";
static struct settings settings;
static char error[512];

static int
read_text(const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	assert_true(fd != -1);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	return settings_read(&settings, path, false, error, sizeof(error));
}

static void
refused(const char *text, const char *line, const char *words)
{
	assert_int_equal(read_text(text), -1);
	if (strstr(error, line) == NULL || strstr(error, words) == NULL || strstr(error, path) == NULL)
		fail_msg("\"%s\" was refused with: %s", text, error);
}

static void
test_defaults(void **state)
{
	(void)state;
	assert_int_equal(settings_read(&settings, "/nonexistent/postern.conf", true, error, sizeof(error)), 0);
	assert_string_equal(settings.mail_location, "maildir:~/Maildir mbox:/var/mail/%u");
	assert_int_equal(settings.login_timeout, 60);
	assert_int_equal(settings.idle_timeout, 600);
	assert_int_equal(settings.minimum_uid, 1000);
	assert_int_equal(settings.cleartext_login, CLEARTEXT_AUTO);
}

static void
test_values(void **state)
{
	(void)state;
	assert_int_equal(read_text("# comment\n\nauthentication = users\nminimum-uid=5\n  \nusers-file = /x\n"
	    "cleartext-login = never\nmail-location = mbox:/m/%u\n"), 0);
	assert_int_equal(settings.authentication, AUTH_USERS);
	assert_int_equal(settings.minimum_uid, 5);
	assert_string_equal(settings.users_file, "/x");
	assert_int_equal(settings.cleartext_login, CLEARTEXT_NEVER);
	assert_string_equal(settings.mail_location, "mbox:/m/%u");
}

static void
test_refused(void **state)
{
	char text[400];

	(void)state;
	refused("idle-timeout = 600\nidle-timout = 60\n", "line=2", "key=\"idle-timout\" error=\"unknown key\"");
	refused("nonsense\n", "line=1", "error");
	refused("idle-timeout = 5\n[section]\n", "line=2", "there are no sections");
	refused("idle-timeout = 5\n  6\n", "line=2", "error");
	refused("nonsense\nfoo = 1\n", "line=1", "not name = value");
	refused("idle-timeout = ten\n", "line=1", "key=\"idle-timeout\" error=\"not a number\"");
	refused("idle-timeout = 99999999\n", "line=1", "out of range");
	refused("minimum-uid = 0\n", "line=1", "out of range");
	refused("minimum-uid = -1\n", "line=1", "not a number");
	refused("authentication = magic\n", "line=1", "unknown word");
	refused("users-file = users\n", "line=1", "not an absolute path");
	refused("users-file =\n", "line=1", "not an absolute path");
	refused("mail-location =\n", "line=1", "no value");
	refused("idle-timeout = 5\n\nidle-timeout = 6\n", "line=3", "given twice");
	snprintf(text, sizeof(text), "# x\nmail-location = %0300d\n", 0);
	refused(text, "line=2", "line too long");
}

static void
test_owner(void **state)
{
	(void)state;
	assert_int_equal(read_text("idle-timeout = 5\n"), 0);
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(settings_read(&settings, path, true, error, sizeof(error)), -1);
	assert_non_null(strstr(error, "owned by root"));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(settings_read(&settings, path, true, error, sizeof(error)), getuid() == 0 ? 0 : -1);
	assert_int_equal(settings_read(&settings, "/", false, error, sizeof(error)), -1);
	assert_non_null(strstr(error, "not a regular file"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_defaults), cmocka_unit_test(test_values),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_owner) };
	int fd = mkstemp(path), failures;

	if (fd == -1)
		return 1;
	close(fd);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failures = cmocka_run_group_tests_name("settings", tests, NULL, NULL);
	unlink(path);
	return failures;
}
