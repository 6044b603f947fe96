/*
 * icount: what one connection that says QUIT to the greeting costs a server that is started for each connection.
 *
 *	icount instructions|calls UID GID PROGRAM [ARGUMENT]...
 *
 * Starts the program as that user with a TCP connection on descriptors 0 and 1, as a super-server does, and counts for it and all its
 * children the instructions in user mode (by single steps: virtual machines have no counters) or the system calls.  The
 * dynamic linker is counted, the super-server is not.  Prints a line of JSON.
 *
 * Runs as root, so that setuid programs and changes of user are what they are otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)
#define AT_CALL (SIGTRAP | 0x80)

static struct {
	bool calls;
	uint64_t steps, stops;
	unsigned processes;
} count;

static void __attribute__((noreturn))
fail(const char *what)
{
	fprintf(stderr, "icount: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The client: after the first line QUIT, then it waits for the end. */
static void __attribute__((noreturn))
talk(int fd)
{
	char buf[512];
	ssize_t n;

	do
		n = recv(fd, buf, sizeof(buf), 0);
	while (n > 0 && memchr(buf, '\n', (size_t)n) == NULL);
	if (n <= 0 || buf[0] != '+' || send(fd, "QUIT\r\n", 6, 0) != 6)
		_exit(1);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		continue;
	_exit(0);
}

/* The server's end of a connection to a client of our own. */
static int
make_connection(pid_t *client)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int theirs;

	if (bind(listener, (struct sockaddr *)&addr, len) == -1 || listen(listener, 1) == -1 ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) == -1 ||
	    connect(ours, (struct sockaddr *)&addr, len) == -1 || (theirs = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) == -1)
		fail("connection");
	if ((*client = fork()) == -1)
		fail("fork");
	if (*client == 0) {
		close(theirs);
		talk(ours);
	}
	close(ours);
	close(listener);
	return theirs;
}

static void __attribute__((noreturn))
become_server(int connection, uid_t uid, gid_t gid, char **argv)
{
	if (setgroups(0, NULL) == -1 || setgid(gid) == -1 || setuid(uid) == -1)
		fail("user");
	if (dup2(connection, 0) == -1 || dup2(connection, 1) == -1 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1)
		fail("server");
	raise(SIGSTOP);
	execv(argv[0], argv);
	fail(argv[0]);
}

static void
go_on(pid_t pid, int signal)
{
	if (ptrace(count.calls ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)signal) == -1 && errno != ESRCH)
		fail("ptrace");
}

/* A stop that only tracing makes is counted or passed over; any other signal is the program's. */
static void
stopped(pid_t pid, int status)
{
	int signal = WSTOPSIG(status);

	if (signal == AT_CALL) {
		count.stops++;
	} else if (signal == SIGTRAP) {
		count.steps += status >> 16 == 0;
	} else if (signal == SIGSTOP) {
		count.processes++; /* a new process begins with one */
	} else {
		go_on(pid, signal);
		return;
	}
	go_on(pid, 0);
}

/* Until the last of our children is gone; the client among them must have had its answers. */
static void
count_all(pid_t server, pid_t client)
{
	int status;
	pid_t pid;

	if (waitpid(server, &status, 0) != server || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, server, NULL, (void *)(uintptr_t)OPTIONS) == -1)
		fail("trace");
	count.processes = 1;
	go_on(server, 0);
	while ((pid = waitpid(-1, &status, __WALL)) > 0)
		if (WIFSTOPPED(status))
			stopped(pid, status);
		else if (pid == client && status != 0)
			fail("the server did not answer");
}

int
main(int argc, char **argv)
{
	pid_t client, server;
	int connection;

	if (argc < 3)
		fail("arguments");
	count.calls = strcmp(argv[1], "calls") == 0;
	errno = 0;
	setenv("TCPREMOTEIP", "127.0.0.1", 1);
	connection = make_connection(&client);
	if ((server = fork()) == -1)
		fail("fork");
	if (server == 0)
		become_server(connection, (uid_t)atoi(argv[2]), (gid_t)atoi(argv[3]), argv + 4);
	close(connection);
	count_all(server, client);
	/* A call stops twice; the last one of each process, its exit, once. */
	printf("{\"processes\": %u, \"instructions\": %llu, \"calls\": %llu}\n", count.processes, (unsigned long long)count.steps,
	    (unsigned long long)(count.stops + count.processes) / 2);
	return 0;
}
