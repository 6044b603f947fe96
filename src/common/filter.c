#include "common/filter.h"

#include <errno.h>
#include <linux/landlock.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/syscall_names.h"

static void (*on_refusal)(int number);

static void
handle_sigsys(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	on_refusal(info->si_syscall);
	_exit(1);
}

int
filter_install(const struct sock_filter *filter, unsigned short len, void (*refused)(int number))
{
	struct sigaction sa = { .sa_sigaction = handle_sigsys, .sa_flags = SA_SIGINFO };
	struct sock_fprog program = { len, (struct sock_filter *)(uintptr_t)filter };

	on_refusal = refused;
	if (sigaction(SIGSYS, &sa, NULL) == -1 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/*
 * Rights by ABI version: asking a kernel for one that it does not know is an error (landlock(7)).  ABI 1 (Linux 5.13 to 5.18)
 * refuses every rename from one folder to another, and a Maildir lives by them.
 */
#define OLDEST_ABI 2
static const uint64_t rights_of_abi[] = {
	0,
	0,
	(1ULL << 14) - 1,	/* 2: Linux 5.19, rename across folders */
	(1ULL << 15) - 1,	/* 3: 6.2, truncate */
	(1ULL << 15) - 1,	/* 4: 6.7, TCP, which the seccomp filter has already */
	(1ULL << 16) - 1	/* 5: 6.10, ioctl on devices */
};

static uint64_t handled;

int
filter_landlock_begin(void)
{
	struct landlock_ruleset_attr attr;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < OLDEST_ABI) {
		errno = ENOSYS;
		return -1;
	}
	if (abi > 5)
		abi = 5;
	memset(&attr, 0, sizeof(attr));
	attr.handled_access_fs = handled = rights_of_abi[abi];
	return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
}

int
filter_landlock_allow(int ruleset, int folder, uint64_t rights)
{
	struct landlock_path_beneath_attr attr = { .allowed_access = rights & handled, .parent_fd = folder };

	return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0);
}

int
filter_landlock_end(int ruleset)
{
	int result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0), saved = errno;

	close(ruleset);
	errno = saved;
	return result;
}

int
filter_no_files(void)
{
	int ruleset = filter_landlock_begin();

	if (ruleset == -1)
		return filter_landlock_missing(errno) ? 0 : -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? filter_landlock_end(ruleset) : -1;
}

int
filter_limit(unsigned resource, rlim_t value)
{
	return setrlimit(resource, &(struct rlimit){ value, value });
}

const char *
syscall_name(int number)
{
	if (number < 0 || (size_t)number >= sizeof(names) / sizeof(names[0]) || names[number] == NULL)
		return "unknown";
	return names[number];
}
