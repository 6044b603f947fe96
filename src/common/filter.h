/*
 * The two walls around a process that reads what a stranger sends: a seccomp filter made at compile time (libseccomp's
 * run-time compiler costs more than the rest of our start-up), and a Landlock domain.  Used by session,
 * helper and postern-tls.
 */
#ifndef COMMON_FILTER_H
#define COMMON_FILTER_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#elif defined(SANDBOX)
#error "this processor is unknown here: add its AUDIT_ARCH, or configure with --disable-sandbox"
#endif

/* The low half of argument n: both processors are little-endian. */
#define FILTER_ARG(n) ((uint32_t)(offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t)))

/*
 * Another ABI of the same kernel (i386) has other numbers for its calls: killed.  x32 has none that are allowed.
 *
 * The first load is for nothing but the time it takes to install a filter.  The kernel runs a new one for each of some 900 calls, to
 * know those that are allowed whatever their arguments, and leaves each run at the first load of an argument: 31 us instead
 * of 89 for 60 calls.  What that would save afterwards, some 30 ns a call, a session of a few hundred calls does not win back.
 */
#define FILTER_BEGIN \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FILTER_ARG(0)), \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)), \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS), \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

#define FILTER_ALLOW(call) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Allowed when argument n is exactly value. */
#define FILTER_ALLOW_IF(call, n, value) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 4), \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FILTER_ARG(n)), \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

/* Allowed when argument n has none of these bits. */
#define FILTER_ALLOW_WITHOUT(call, n, bits) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 4), \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FILTER_ARG(n)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 1, 0), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

/* Answered with error instead of ending the process: calls that libc tries and can do without. */
#define FILTER_REFUSE(call, error) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

#define FILTER_END BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

/*
 * Sets no_new_privs and installs the filter for good.  A call outside of it runs refused(number) in a signal handler;
 * it must not return.  0, or -1 with errno.
 */
int filter_install(const struct sock_filter *filter, unsigned short len, void (*refused)(int number));

/*
 * Takes every right on files from this process (and its children), but for those on the folders or files that
 * filter_landlock_allow() adds in between.  The kernel may have no Landlock (before 5.19, or switched off): -1 with
 * ENOSYS or EOPNOTSUPP then, and the caller goes on with one wall less.
 */
static inline bool
filter_landlock_missing(int error)
{
	return error == ENOSYS || error == EOPNOTSUPP;
}

int filter_landlock_begin(void);			/* a descriptor, or -1 with errno */
int filter_landlock_allow(int ruleset, int folder, uint64_t rights);	/* LANDLOCK_ACCESS_FS_*; unknown ones are dropped */
int filter_landlock_end(int ruleset);			/* closes it; needs no_new_privs */

/* No right on any file, and no_new_privs, where the kernel has Landlock.  0, or -1 with errno. */
int filter_no_files(void);

/* Both limits, soft and hard.  resource: RLIMIT_*.  0, or -1 with errno. */
int filter_limit(unsigned resource, rlim_t value);

/* The name of a system call, "unknown" for none. */
const char *syscall_name(int number);

#endif
