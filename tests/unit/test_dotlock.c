/* dotlock: made, respected, judged stale, removed by their owners only; and the lock keeper. */
#include "unit.h"
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "maildrop/dotlock.h"
#include "maildrop/keeper.h"

static char folder[256], mbox[300], lock[310];

static int
make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "%s/postern-dotlock.XXXXXX", test_tmp());
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(mbox, sizeof(mbox), "%s/mbox", folder);
	snprintf(lock, sizeof(lock), "%s/mbox.lock", folder);
	return 0;
}

/* Fails when a test has left anything. */
static int
remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

static bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* A lock of somebody else, so many seconds old. */
static void
foreign_lock(const char *content, time_t age)
{
	struct timespec times[2] = { { time(NULL) - age, 0 }, { time(NULL) - age, 0 } };
	FILE *f = fopen(lock, "w");

	assert_non_null(f);
	fputs(content, f);
	fclose(f);
	assert_int_equal(utimensat(AT_FDCWD, lock, times, 0), 0);
}

/* The number of a process that has just ended. */
static pid_t
dead_process(void)
{
	pid_t child = fork();

	assert_true(child != -1);
	if (child == 0)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	return child;
}

static void
test_lock_and_unlock(void **state)
{
	char text[32] = "", expected[32];
	struct stat st;
	FILE *f;

	(void)state;
	assert_int_equal(dotlock_try(mbox), DOTLOCK_OK);
	assert_int_equal(lstat(lock, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_nlink, 1);
	assert_true((st.st_mode & 0444) == 0444);
	f = fopen(lock, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	snprintf(expected, sizeof(expected), "%d\n", (int)getpid());
	assert_string_equal(text, expected);
	assert_int_equal(dotlock_refresh(mbox), 0);
	dotlock_remove(mbox);
	assert_false(exists(lock));
	dotlock_remove(mbox);
}

static void
test_refresh(void **state)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	struct stat st;

	(void)state;
	assert_int_equal(dotlock_try(mbox), DOTLOCK_OK);
	assert_int_equal(utimensat(AT_FDCWD, lock, old, 0), 0);
	assert_int_equal(dotlock_refresh(mbox), 0);
	assert_int_equal(lstat(lock, &st), 0);
	assert_true(st.st_mtim.tv_sec > time(NULL) - 100);
	dotlock_remove(mbox);
	assert_int_equal(dotlock_refresh(mbox), -1);
}

struct judged {
	const char *content;	/* "%d": the number of a process */
	bool alive;		/* that one */
	time_t age;
	enum dotlock_result result;
};

static void
judge(const struct judged *j)
{
	struct utsname host;
	char content[512], format[256];

	assert_int_equal(uname(&host), 0);
	snprintf(format, sizeof(format), "%s", j->content);
	if (strstr(format, "HERE") != NULL)
		snprintf(strstr(format, "HERE"), 100, "%s\n", host.nodename);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(content, sizeof(content), format, (int)(j->alive ? getppid() : dead_process()));
#pragma GCC diagnostic pop
	foreign_lock(content, j->age);
	if (dotlock_try(mbox) != j->result)
		fail_msg("\"%s\" of a process %s, %ld s old: not %d", j->content, j->alive ? "alive" : "dead", (long)j->age,
		    (int)j->result);
	if (j->result == DOTLOCK_OK)
		dotlock_remove(mbox);
	else
		assert_int_equal(unlink(lock), 0);
	assert_false(exists(lock));
}

static void
test_foreign_locks(void **state)
{
	static const struct judged locks[] = {
		{ "%d\n", true, 0, DOTLOCK_HELD },
		{ "%d\n", true, 1000, DOTLOCK_HELD },	/* alive, however slow */
		{ "%d\n", false, 0, DOTLOCK_OK },
		{ "%d", false, 0, DOTLOCK_OK },
		{ "%d:HERE", true, 1000, DOTLOCK_HELD },
		{ "%d:HERE", false, 0, DOTLOCK_OK },
		{ "%d:elsewhere.example.org\n", false, 0, DOTLOCK_HELD },
		{ "%d:elsewhere.example.org\n", false, 400, DOTLOCK_OK },
		{ "", false, 0, DOTLOCK_HELD },
		{ "", false, 400, DOTLOCK_OK },
		{ "0\n", false, 0, DOTLOCK_HELD },	/* liblockfile without L_PID, procmail */
		{ "0\n", false, 400, DOTLOCK_OK },
		{ "-1\n", false, 0, DOTLOCK_HELD },
		{ "99999999999999999999\n", false, 0, DOTLOCK_HELD },
		{ "1 and more", false, 0, DOTLOCK_HELD },
		{ "garbage", false, 400, DOTLOCK_OK },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(locks) / sizeof(locks[0]); i++)
		judge(&locks[i]);
}

/* A number from before the machine was started may be anybody's now. */
static void
test_before_boot(void **state)
{
	struct timespec up;

	(void)state;
	assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &up), 0);
	judge(&(struct judged){ "%d\n", true, up.tv_sec + 1000, DOTLOCK_OK });
}

static void
test_links(void **state)
{
	char target[320];
	FILE *f;

	(void)state;
	snprintf(target, sizeof(target), "%s/target", folder);
	f = fopen(target, "w");
	assert_non_null(f);
	fputs("precious", f);
	fclose(f);
	assert_int_equal(symlink(target, lock), 0);
	assert_int_equal(dotlock_try(mbox), DOTLOCK_HELD);
	assert_true(exists(lock));
	assert_int_equal(unlink(lock), 0);
	/* One to nowhere is no way to make a file there. */
	assert_int_equal(unlink(target), 0);
	assert_int_equal(symlink(target, lock), 0);
	assert_int_equal(dotlock_try(mbox), DOTLOCK_HELD);
	assert_false(exists(target));
	assert_int_equal(unlink(lock), 0);
}

/* Somebody thought our lock stale and made another. */
static void
test_not_ours_any_more(void **state)
{
	(void)state;
	assert_int_equal(dotlock_try(mbox), DOTLOCK_OK);
	assert_int_equal(unlink(lock), 0);
	foreign_lock("1\n", 0);
	assert_int_equal(dotlock_refresh(mbox), -1);
	dotlock_remove(mbox);
	assert_true(exists(lock));
	assert_int_equal(unlink(lock), 0);
}

static void
test_clean(void **state)
{
	char content[32];

	(void)state;
	foreign_lock("1\n", 0);
	dotlock_clean(mbox);
	assert_true(exists(lock));
	snprintf(content, sizeof(content), "%d\n", (int)dead_process());
	foreign_lock(content, 0);
	dotlock_clean(mbox);
	assert_false(exists(lock));
}

static void
test_no_folder(void **state)
{
	char nowhere[320];

	(void)state;
	snprintf(nowhere, sizeof(nowhere), "%s/none/mbox", folder);
	assert_int_equal(dotlock_try(nowhere), DOTLOCK_FAILED);
	assert_int_equal(errno, ENOENT);
}

/* Leaves our lock behind as if we had died with it. */
static void
abandon_lock(void)
{
	char content[32];
	FILE *f;

	snprintf(content, sizeof(content), "%d\n", (int)dead_process());
	if (chmod(lock, 0600) == -1 || (f = fopen(lock, "w")) == NULL)
		_exit(1);
	fputs(content, f);
	fclose(f);
}

/* Many at once, who often meet a stale lock: never two inside. */
static void
contend(volatile int *inside, volatile int *failures, volatile int *turns)
{
	struct timespec pause = { 0, 1000000 };
	int done = 0;

	while (done < 20) {
		if (dotlock_try(mbox) == DOTLOCK_OK) {
			if (__atomic_add_fetch(inside, 1, __ATOMIC_SEQ_CST) != 1)
				__atomic_add_fetch(failures, 1, __ATOMIC_SEQ_CST);
			nanosleep(&pause, NULL);
			__atomic_sub_fetch(inside, 1, __ATOMIC_SEQ_CST);
			if (++done % 3 == 0)
				abandon_lock();
			else
				dotlock_remove(mbox);
			__atomic_add_fetch(turns, 1, __ATOMIC_SEQ_CST);
		}
		nanosleep(&pause, NULL);
	}
}

static void
test_contention(void **state)
{
	volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i, status, well = 0;

	(void)state;
	assert_true(shared != MAP_FAILED);
	for (i = 0; i < 6; i++)
		if (fork() == 0) {
			alarm(60);
			contend(&shared[0], &shared[1], &shared[2]);
			_exit(0);
		}
	for (i = 0; i < 6; i++)
		well += wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	assert_int_equal(well, 6);
	assert_int_equal(shared[1], 0);
	assert_int_equal(shared[2], 120);
	unlink(lock);
	munmap((void *)(uintptr_t)shared, 4096);
}

/* --- the keeper --- */

/* The watcher's number; the keeper is its child.  As if spool were the spool, and the owner's mail in mailbox. */
static pid_t
start_keeper(int *sock, const char *mailbox, const char *spool)
{
	char mail[PATH_BYTES];
	const struct maildrop_owner owner = { .user = "user", .home = "/", .mail = mail };
	struct stat st;
	int pair[2];
	pid_t child;

	snprintf(mail, sizeof(mail), "mbox:%s", mailbox);
	assert_int_equal(stat(spool, &st), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	child = fork();
	assert_true(child != -1);
	if (child == 0) {
		close(pair[0]);
		alarm(60);
		maildrop_keep(pair[1], &owner, &st);
	}
	close(pair[1]);
	*sock = pair[0];
	return child;
}

static pid_t
start_good_keeper(int *sock)
{
	char spool[PATH_BYTES];
	pid_t child;

	strcpy(spool, mbox);
	*strrchr(spool, '/') = '\0';
	child = start_keeper(sock, mbox, spool);
	assert_int_equal(keeper_is_there(*sock), 1);
	return child;
}

/* Whom the lock names. */
static pid_t
lock_names(void)
{
	int pid = 0;
	FILE *f = fopen(lock, "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d\n", &pid), 1);
	fclose(f);
	return pid;
}

static void
test_keeper(void **state)
{
	int sock;
	pid_t child = start_good_keeper(&sock);

	(void)state;
	assert_int_equal(keeper_try(sock), DOTLOCK_OK);
	assert_int_equal(kill(lock_names(), 0), 0);
	keeper_remove(sock);
	assert_false(exists(lock));
	foreign_lock("1\n", 0);
	assert_int_equal(keeper_try(sock), DOTLOCK_HELD);
	assert_int_equal(unlink(lock), 0);
	/* Whoever holds the other end dies: the lock goes, and so does the keeper. */
	assert_int_equal(keeper_try(sock), DOTLOCK_OK);
	close(sock);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_false(exists(lock));
}

/* Its watcher removes the lock. */
static void
test_keeper_killed(void **state)
{
	int sock;
	pid_t child = start_good_keeper(&sock);

	(void)state;
	assert_int_equal(keeper_try(sock), DOTLOCK_OK);
	assert_int_equal(kill(lock_names(), SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_false(exists(lock));
	assert_int_equal(keeper_try(sock), DOTLOCK_FAILED);
	keeper_remove(sock);
	close(sock);
}

/* An mbox that stands elsewhere, or is reached through a link to elsewhere, and one that is none. */
static void
test_keeper_not_in_spool(void **state)
{
	char aside[PATH_BYTES], link_path[PATH_BYTES], in_link[PATH_BYTES * 2];
	int sock;
	pid_t child;

	(void)state;
	snprintf(aside, sizeof(aside), "%.1000s.aside", mbox);
	snprintf(link_path, sizeof(link_path), "%.1000s.link", mbox);
	snprintf(in_link, sizeof(in_link), "%s/mbox", link_path);
	assert_int_equal(mkdir(aside, 0700), 0);
	assert_int_equal(symlink("/", link_path), 0);
	child = start_keeper(&sock, mbox, aside);
	assert_int_equal(keeper_is_there(sock), 0);
	close(sock);
	assert_int_equal(waitpid(child, NULL, 0), child);
	child = start_keeper(&sock, in_link, aside);
	assert_int_equal(keeper_is_there(sock), 0);
	close(sock);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(rmdir(aside), 0);
	assert_int_equal(unlink(link_path), 0);
}

/* One that could not start ends without a word: that is not the same as one that is not needed. */
static void
test_keeper_that_fails(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	close(pair[1]);
	assert_int_equal(keeper_is_there(pair[0]), -1);
	close(pair[0]);
}

static void
test_keeper_nonsense(void **state)
{
	int sock;
	pid_t child = start_good_keeper(&sock);

	(void)state;
	assert_int_equal(keeper_try(sock), DOTLOCK_OK);
	assert_int_equal(send(sock, "x", 1, 0), 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_false(exists(lock));
	close(sock);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock_and_unlock),
		cmocka_unit_test(test_refresh),
		cmocka_unit_test(test_foreign_locks),
		cmocka_unit_test(test_before_boot),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_not_ours_any_more),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_no_folder),
		cmocka_unit_test(test_contention),
		cmocka_unit_test(test_keeper),
		cmocka_unit_test(test_keeper_killed),
		cmocka_unit_test(test_keeper_not_in_spool),
		cmocka_unit_test(test_keeper_that_fails),
		cmocka_unit_test(test_keeper_nonsense),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("dotlock", tests, make_folder, remove_folder);
}
