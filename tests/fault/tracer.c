#include "tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <elf.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mailbox.h"

/* The calls by which the mail store changes.  Opening counts when it makes or empties a file. */
static bool
changes(const struct traced_call *call)
{
	switch (call->number) {
	case SYS_openat:
		return (call->args[2] & (O_CREAT | O_TRUNC)) != 0;
	case SYS_write:
	case SYS_pwrite64:
	case SYS_ftruncate:
	case SYS_fallocate:
	case SYS_fsync:
	case SYS_fdatasync:
	case SYS_fchmod:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_unlinkat:
	case SYS_linkat:
	case SYS_utimensat:
#ifdef SYS_rename
	case SYS_rename:
	case SYS_unlink:
	case SYS_link:
#endif
		return true;
	default:
		return false;
	}
}

static bool
looks(const struct traced_call *call)
{
	switch (call->number) {
	case SYS_openat:
	case SYS_read:
	case SYS_getdents64:
	case SYS_pread64:
	case SYS_fstat:
	case SYS_newfstatat:
	case SYS_fcntl:
	case SYS_memfd_create:
	case SYS_mmap:
#ifdef SYS_lstat
	case SYS_lstat:
#endif
#ifdef SYS_open
	case SYS_open:
#endif
		return true;
	default:
		return false;
	}
}

/* --- registers: third argument, number of the call, result --- */

static void
get_registers(pid_t child, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };

	if (ptrace(PTRACE_GETREGSET, child, (void *)NT_PRSTATUS, &iov) == -1)
		bail("PTRACE_GETREGSET");
}

static void
set_registers(pid_t child, struct user_regs_struct *regs)
{
	struct iovec iov = { regs, sizeof(*regs) };

	if (ptrace(PTRACE_SETREGSET, child, (void *)NT_PRSTATUS, &iov) == -1)
		bail("PTRACE_SETREGSET");
}

static void
set_length(pid_t child, uint64_t length)
{
	struct user_regs_struct regs;

	get_registers(child, &regs);
#if defined(__x86_64__)
	regs.rdx = length;
#elif defined(__aarch64__)
	regs.regs[2] = length;
#endif
	set_registers(child, &regs);
}

/* Becomes getpid(2), which does nothing and passes every filter. */
static void
cancel_call(pid_t child)
{
#if defined(__x86_64__)
	struct user_regs_struct regs;

	get_registers(child, &regs);
	regs.orig_rax = SYS_getpid;
	set_registers(child, &regs);
#elif defined(__aarch64__)
	int none = SYS_getpid;
	struct iovec iov = { &none, sizeof(none) };

	if (ptrace(PTRACE_SETREGSET, child, (void *)NT_ARM_SYSTEM_CALL, &iov) == -1)
		bail("PTRACE_SETREGSET");
#endif
}

static void
set_result(pid_t child, int64_t result)
{
	struct user_regs_struct regs;

	get_registers(child, &regs);
#if defined(__x86_64__)
	regs.rax = (unsigned long long)result;
#elif defined(__aarch64__)
	regs.regs[0] = (unsigned long long)result;
#endif
	set_registers(child, &regs);
}

/* --- stops --- */

/* Lets the child run to its next stop; false when it is no more. */
static bool
next_stop(pid_t child, int *status)
{
	int signal = 0;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, child, NULL, (void *)(intptr_t)signal) == -1 || waitpid(child, status, 0) == -1)
			bail("ptrace");
		if (!WIFSTOPPED(*status))
			return false;
		if (WSTOPSIG(*status) == (SIGTRAP | 0x80))
			return true;
		signal = *status >> 16 == 0 ? WSTOPSIG(*status) : 0; /* exec is no signal */
	}
}

static bool
get_entry(pid_t child, struct traced_call *call)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof(info), &info) <= 0)
		bail("PTRACE_GET_SYSCALL_INFO");
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	call->number = info.entry.nr;
	memcpy(call->args, info.entry.args, sizeof(call->args));
	call->writes = call->number == SYS_write || call->number == SYS_pwrite64;
	return true;
}

static void
get_exit(pid_t child, struct traced_call *call)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *)sizeof(info), &info) <= 0)
		bail("PTRACE_GET_SYSCALL_INFO");
	call->result = info.op == PTRACE_SYSCALL_INFO_EXIT ? info.exit.rval : -1;
}

static pid_t
start(void (*body)(void *arg), void *arg)
{
	pid_t child = fork();
	int status;

	if (child == -1)
		bail("fork");
	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
			_exit(98);
		raise(SIGSTOP);
		body(arg);
		_exit(0);
	}
	if (waitpid(child, &status, 0) == -1 || !WIFSTOPPED(status))
		bail("the traced child did not stop");
	if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)) == -1)
		bail("PTRACE_SETOPTIONS");
	return child;
}

uint32_t
tracer_run(const struct tracer *tracer, void (*body)(void *arg), void *body_arg, bool *killed)
{
	pid_t child = start(body, body_arg);
	enum trace_verdict verdict;
	struct traced_call call;
	bool begun = tracer->from == 0;
	uint32_t calls = 0;
	uint64_t value = 0;
	int status;

	*killed = false;
	while (next_stop(child, &status)) {
		if (!get_entry(child, &call))
			continue;
		begun = begun || call.number == tracer->from;
		if (!begun || (!changes(&call) && !(tracer->reads && looks(&call))))
			continue;
		calls++;
		verdict = tracer->before(tracer->arg, calls, &call, &value);
		if (verdict == TRACE_TEAR)
			set_length(child, value);
		if (verdict == TRACE_FAIL)
			cancel_call(child);
		if (!next_stop(child, &status))
			break;
		if (verdict == TRACE_FAIL)
			set_result(child, -(int64_t)value);
		get_exit(child, &call);
		if (tracer->after != NULL)
			tracer->after(tracer->arg, child, &call);
		if (verdict == TRACE_KILL_AFTER || verdict == TRACE_TEAR) {
			*killed = true;
			kill(child, SIGKILL);
			if (waitpid(child, &status, 0) == -1)
				bail("waitpid");
			return calls;
		}
	}
	if (!WIFEXITED(status))
		bail("the traced child was killed by somebody else");
	return calls;
}

bool
traced_can_fail(const struct traced_call *call, int error)
{
	switch (call->number) {
	case SYS_pread64:
	case SYS_read:
	case SYS_fstat:
	case SYS_newfstatat:
		return error == EIO || (error == EINTR && call->number != SYS_fstat && call->number != SYS_newfstatat);
	case SYS_getdents64:
		return error == EIO;
	case SYS_fcntl:
		return error == EIO || error == ENOLCK;
	case SYS_mmap:
	case SYS_memfd_create:
		return error == ENOMEM;
	case SYS_fsync:
	case SYS_fdatasync:
		return error == EIO || error == ENOSPC || error == EDQUOT;
	case SYS_write:
	case SYS_pwrite64:
		return error != ENOMEM && error != ENOLCK && error != EROFS;
	default:
		return error != EINTR && error != EFBIG && error != ENOLCK && error != ENOMEM;
	}
}

void
traced_read(pid_t child, uint64_t address, void *to, size_t len)
{
	struct iovec here = { to, len }, there = { (void *)(uintptr_t)address, len };

	if (to == NULL || process_vm_readv(child, &here, 1, &there, 1, 0) != (ssize_t)len)
		bail("process_vm_readv");
}

/* Word by word, since a page may end before 511 bytes do. */
void
traced_path(pid_t child, uint64_t address, char path[TRACED_PATH])
{
	size_t at;
	long word;

	memset(path, 0, TRACED_PATH);
	for (at = 0; at + sizeof(word) < TRACED_PATH && memchr(path, '\0', at) == NULL; at += sizeof(word)) {
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, child, (void *)(uintptr_t)(address + at), NULL);
		if (errno != 0)
			return;
		memcpy(path + at, &word, sizeof(word));
	}
}

void
traced_fd(pid_t child, uint64_t fd, char path[TRACED_PATH])
{
	char name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/%d/fd/%d", (int)child, (int)fd);
	n = readlink(name, path, TRACED_PATH - 1);
	path[n > 0 ? n : 0] = '\0';
}

const char *
tracer_missing(void)
{
	pid_t child;
	int status;

#if !defined(__x86_64__) && !defined(__aarch64__)
	return "system calls of this processor are not known here";
#endif
	if ((child = fork()) == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1);
	if (child == -1 || waitpid(child, &status, 0) == -1 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return "ptrace is not allowed";
	return NULL;
}
