/* Runs as the service user, outside of the sandbox: a setuid program has to be started from here. */
#include "session/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The program finds its socket here and the log on descriptor 2. */
#define PROGRAM_SOCKET 3

const char *
program_start(struct program *p, char **argv, char **env)
{
	int pair[2], on = 1;
	sigset_t none;
	volatile int error = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == -1) {
		p->pid = -1;
		return "socketpair";
	}
	sigemptyset(&none);
	p->log = pair[0];
	if ((p->pid = vfork()) == 0) {
		/* The parent sleeps until exec; nothing of it is touched here but descriptors and error. */
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (dup2(p->end, PROGRAM_SOCKET) == -1 || fcntl(PROGRAM_SOCKET, F_SETFD, 0) == -1 ||
		    dup2(pair[1], STDERR_FILENO) == -1 || execve(p->path, argv, env) == -1)
			error = errno;
		_exit(PROGRAM_NOT_STARTED);
	}
	if (p->pid == -1)
		error = errno;
	else if (error != 0)
		waitpid(p->pid, NULL, 0);
	close(pair[1]);
	errno = error;
	if (error == 0)
		return NULL;
	if (p->pid == -1)
		return "fork";
	p->pid = -1;
	return "exec";
}

bool
program_wanted(const struct program *p)
{
	int bytes = 0;

	return ioctl(p->end, FIONREAD, &bytes) == 0 && bytes > 0;
}

void
program_release(struct program *p)
{
	close(p->end);
	p->end = -1;
	if (p->pid == 0)
		p->pid = -1;
}

ssize_t
program_heard(struct program *p, char *datagram, size_t size, uid_t *sender)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { datagram, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	struct cmsghdr *c;
	struct ucred from = { .uid = (uid_t)-1 };
	ssize_t n = p->log == -1 ? -1 : recvmsg(p->log, &msg, MSG_DONTWAIT);

	if (p->log == -1 || (n == -1 && (errno == EAGAIN || errno == EINTR)))
		return -1;
	c = n == -1 ? NULL : CMSG_FIRSTHDR(&msg);
	/* A library may write nothing, which arrives as an empty datagram: it has a sender, and the end has none. */
	if (n == -1 || (n == 0 && c == NULL)) {
		close(p->log);
		p->log = -1;
		return -1;
	}
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&from, CMSG_DATA(c), sizeof(from));
	*sender = from.uid;
	return n;
}
