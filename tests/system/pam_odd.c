/*
 * A PAM module of the system tests (check_pam.py), which builds and installs it: misbehaves as its argument says.  Runs where
 * modules run, in the child of the helper that lives for one login, as root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <security/pam_modules.h>

/* Where the test looks for what a module has left, and with what it lets one go on. */
#define LEFT "/run/pam-odd"

static void
note_pid(const char *what)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), LEFT "/%s", what);
	if ((f = fopen(path, "w")) != NULL) {
		fprintf(f, "%ld\n", (long)getpid());
		fclose(f);
	}
}

static void * __attribute__((noreturn))
wait_for_ever(void *data)
{
	(void)data;
	for (;;)
		pause();
}

/* As the modules do whose library talks to a server in the background. */
static void __attribute__((constructor))
start_thread(void)
{
	pthread_t thread;

	if (access("/run/pam-odd-thread", F_OK) == 0)
		pthread_create(&thread, NULL, wait_for_ever, NULL);
}

/* How many of n questions for something secret got an answer. */
static int
ask(pam_handle_t *pam, int n)
{
	const struct pam_conv *conv = NULL;
	struct pam_message text[16];
	const struct pam_message *messages[16];
	struct pam_response *answers = NULL;
	int i, got = 0;

	if (n > 16 || pam_get_item(pam, PAM_CONV, (const void **)&conv) != PAM_SUCCESS || conv == NULL)
		return -1;
	for (i = 0; i < n; i++) {
		text[i] = (struct pam_message){ PAM_PROMPT_ECHO_OFF, "Another one: " };
		messages[i] = &text[i];
	}
	if (conv->conv(n, messages, &answers, conv->appdata_ptr) != PAM_SUCCESS)
		return 0;
	for (i = 0; i < n; i++) {
		got += answers[i].resp != NULL;
		free(answers[i].resp);
	}
	free(answers);
	return got;
}

static int __attribute__((noreturn))
hang(pam_handle_t *pam)
{
	sigset_t all;

	(void)pam;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	note_pid("hang");
	for (;;)
		pause();
}

/* Something that is no answer, where the answer belongs; and then nothing more. */
static int __attribute__((noreturn))
scribble(pam_handle_t *pam)
{
	int fd;

	for (fd = 10; fd < 20; fd++)
		if (write(fd, "x", 1) == -1)
			continue;
	hang(pam);
}

/* The answer can no longer come. */
static int __attribute__((noreturn))
vanish(pam_handle_t *pam)
{
	close_range(0, ~0U, 0);
	hang(pam);
}

static int
stop(pam_handle_t *pam)
{
	(void)pam;
	note_pid("stop");
	raise(SIGSTOP);
	return PAM_SUCCESS;
}

static int __attribute__((noreturn))
crash(pam_handle_t *pam)
{
	(void)pam;
	abort();
}

static int __attribute__((noreturn))
leave_by_exit(pam_handle_t *pam)
{
	(void)pam;
	exit(0);
}

/* fork(2); the parent goes on when the child has called under_way(): before, the login could end, and the child with it. */
static pid_t
fork_and_wait(int ready[2])
{
	char none;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		return -1;
	if (pid != 0) {
		close(ready[1]);
		while (read(ready[0], &none, 1) == -1 && errno == EINTR)
			continue;
		close(ready[0]);
	}
	return pid;
}

static void
under_way(const char *what, const int ready[2])
{
	note_pid(what);
	close(ready[0]);
	close(ready[1]);
}

static int
stay(const char *what, int own_session)
{
	int ready[2];
	pid_t pid = fork_and_wait(ready);

	if (pid != 0)
		return pid == -1 ? PAM_SYSTEM_ERR : PAM_SUCCESS;
	if (own_session)
		setsid();
	under_way(what, ready);
	sleep(600);
	_exit(0);
}

static int
fork_child(pam_handle_t *pam)
{
	(void)pam;
	return stay("fork", 0);
}

static int
fork_daemon(pam_handle_t *pam)
{
	(void)pam;
	return stay("daemon", 1);
}

/* A program in the process group, which has none of the attempt's own descriptors. */
static int
start_program(pam_handle_t *pam)
{
	int ready[2];
	pid_t pid = fork_and_wait(ready);

	(void)pam;
	if (pid != 0)
		return pid == -1 ? PAM_SYSTEM_ERR : PAM_SUCCESS;
	under_way("program", ready);
	execl("/bin/sleep", "sleep", "600", (char *)NULL);
	_exit(1);
}

static int
leak_descriptors(pam_handle_t *pam)
{
	int i;

	(void)pam;
	for (i = 0; i < 100; i++)
		if (open("/etc/shadow", O_RDONLY) == -1)
			break;
	dup2(open("/etc/shadow", O_RDONLY), 0);
	return PAM_SUCCESS;
}

static int
close_descriptors(pam_handle_t *pam)
{
	(void)pam;
	return close_range(0, ~0U, 0) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
}

static int
three_questions(pam_handle_t *pam)
{
	return ask(pam, 3) == 3 ? PAM_SUCCESS : PAM_CONV_ERR;
}

static int
ask_again(pam_handle_t *pam)
{
	return ask(pam, 1) == 1 && ask(pam, 1) == 1 && ask(pam, 1) == 1 ? PAM_SUCCESS : PAM_CONV_ERR;
}

static int
sixteen_questions(pam_handle_t *pam)
{
	return ask(pam, 16) == 16 ? PAM_SUCCESS : PAM_CONV_ERR;
}

static int
become_other(pam_handle_t *pam, const char *name)
{
	return pam_set_item(pam, PAM_USER, name);
}

static int
be_bob(pam_handle_t *pam)
{
	return become_other(pam, "bob");
}

static int
be_root(pam_handle_t *pam)
{
	return become_other(pam, "root");
}

static int
be_a_path(pam_handle_t *pam)
{
	return become_other(pam, "../../etc/alice");
}

static int
print(pam_handle_t *pam)
{
	int fd;

	(void)pam;
	printf("+OK said the module\r\n");
	fflush(stdout);
	fprintf(stderr, "the module complains\nsession-end how=quit user=\"forged\"\n");
	for (fd = 0; fd < 4; fd++)
		if (fd != STDERR_FILENO && write(fd, "\101+OK said the module\r\n", 22) == -1)
			return PAM_SYSTEM_ERR;
	return PAM_SUCCESS;
}

/* The whole process group, and whoever started it. */
static int
kill_others(pam_handle_t *pam)
{
	(void)pam;
	kill(0, SIGTERM);
	return PAM_SUCCESS;
}

static int
change_ids(pam_handle_t *pam)
{
	(void)pam;
	return setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 ? PAM_SUCCESS : PAM_SYSTEM_ERR;
}

/* A process of a mailbox's owner that has the log's socket, as a helper taken over after the login would be. */
static int
forge(pam_handle_t *pam)
{
	static const char *const records[] = { "5:3:bob:password", "6:2:root:pam",
		"6:1::session-end how=quit user=\"root\" rip=192.0.2.1", "6:1::x\nlogin user=\"root\"",
		"login user=\"root\" rip=192.0.2.1 method=pam", "3:1:bob:helper-gives-up" };
	const struct passwd *alice = getpwnam("alice");
	size_t i;

	(void)pam;
	if (alice == NULL || fork() != 0)
		return alice != NULL ? PAM_SUCCESS : PAM_SYSTEM_ERR;
	setsid();
	note_pid("forge");
	if (setresgid(alice->pw_gid, alice->pw_gid, alice->pw_gid) == -1 || setresuid(alice->pw_uid, alice->pw_uid, alice->pw_uid) == -1)
		_exit(1);
	while (access("/run/pam-forge", F_OK) == -1)
		usleep(20000);
	for (i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		if (send(STDERR_FILENO, records[i], strlen(records[i]), 0) == -1)
			_exit(1);
	_exit(0);
}

/* Until the test says go: what the processes hold meanwhile is to be seen. */
static int
wait_for_go(pam_handle_t *pam)
{
	(void)pam;
	note_pid("wait");
	while (access(LEFT "/go", F_OK) == -1 && errno == ENOENT)
		usleep(20000);
	return PAM_SUCCESS;
}

static const struct {
	const char *name;
	int (*run)(pam_handle_t *pam);
} ways[] = { { "hang", hang }, { "scribble", scribble }, { "vanish", vanish }, { "stop", stop }, { "crash", crash },
	{ "exit", leave_by_exit }, { "fork", fork_child },
	{ "daemon", fork_daemon }, { "program", start_program }, { "leak", leak_descriptors }, { "close", close_descriptors },
	{ "three-questions", three_questions }, { "ask-again", ask_again }, { "sixteen-questions", sixteen_questions },
	{ "bob", be_bob }, { "root", be_root }, { "path", be_a_path }, { "print", print }, { "kill", kill_others },
	{ "ids", change_ids }, { "forge", forge }, { "wait", wait_for_go } };

int
pam_sm_authenticate(pam_handle_t *pam, int flags, int argc, const char **argv)
{
	size_t i;

	(void)flags;
	mkdir(LEFT, 0700);
	for (i = 0; argc == 1 && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i].name, argv[0]) == 0)
			return ways[i].run(pam);
	return PAM_SERVICE_ERR;
}

int
pam_sm_setcred(pam_handle_t *pam, int flags, int argc, const char **argv)
{
	(void)pam;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_SUCCESS;
}
