#include "workers.h"

#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tracer.h"

#define WORKERS 16

void *
shared_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		bail("mmap");
	return p;
}

void
count_one(uint32_t *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

static void
work(const struct fault_test *test, enum maildrop_kind kind, struct counts *counts, uint32_t *next, uint32_t end)
{
	struct worker w = { .counts = counts, .durable = shared_memory(sizeof(*w.durable)) };

	place_make(&w.place, test->name, kind);
	while ((w.seed = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < end) {
		mailbox_make(&w.mailbox, kind, w.seed);
		w.random = w.seed * 7919u + 12345u;
		test->try_case(&w);
		mailbox_free(&w.mailbox);
	}
	place_remove(&w.place);
	fflush(stdout);
	_exit(0);
}

/* False when one of the processes did not come to its end. */
static bool
run_cases(const struct fault_test *test, enum maildrop_kind kind, struct counts *counts, uint32_t first, uint32_t cases)
{
	uint32_t *next = shared_memory(sizeof(*next));
	bool well = true;
	int status, i;
	pid_t child;

	*next = first;
	fflush(stdout);
	for (i = 0; i < WORKERS; i++) {
		if ((child = fork()) == -1)
			bail("fork");
		if (child == 0)
			work(test, kind, counts, next, first + cases);
	}
	while (wait(&status) > 0)
		well = well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	return well;
}

static const char *const kind_names[] = { [KIND_MBOX] = "mbox", [KIND_MAILDIR] = "Maildir" };

/* Both outcomes have to be seen, or the test would not test. */
static bool
test_kind(const struct fault_test *test, enum maildrop_kind kind, uint32_t first, uint32_t cases)
{
	static int point;
	struct counts *c = shared_memory(sizeof(*c));
	bool well = run_cases(test, kind, c, first, cases) && c->failures == 0 && test->tried(c) && c->befores > 0 &&
		c->afters > 0;

	printf("# %s: %u mailboxes, ", kind_names[kind], (unsigned int)cases);
	test->tell(c);
	printf("# %s: found as before %u times, as after %u, with a part deleted %u, wrong %u\n", kind_names[kind],
	    c->befores, c->afters, c->parts, c->failures);
	printf("%s %d - %s: %s\n", well ? "ok" : "not ok", ++point, kind_names[kind], test->claim);
	return well;
}

int
fault_main(const struct fault_test *test, int argc, char **argv)
{
	uint32_t cases = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
	uint32_t first = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1;
	const char *missing = tracer_missing();
	bool well = true;

	if (missing != NULL) {
		printf("1..0 # SKIP %s\n", missing);
		return 0;
	}
	if (argc == 1)
		printf("1..%d\n", (test->mboxes > 0) + (test->maildirs > 0));
	if (test->mboxes > 0 && (argc == 1 || strcasecmp(argv[1], kind_names[KIND_MBOX]) == 0))
		well = test_kind(test, KIND_MBOX, first, cases > 0 ? cases : test->mboxes);
	if (test->maildirs > 0 && (argc == 1 || strcasecmp(argv[1], kind_names[KIND_MAILDIR]) == 0))
		well = test_kind(test, KIND_MAILDIR, first, cases > 0 ? cases : test->maildirs) && well;
	return well ? 0 : 1;
}

void
worker_begin(struct worker *w)
{
	mailbox_put(&w->place, &w->mailbox);
	if (w->mailbox.indexed && !login(w))
		bail("a login without any crash is wrong");
	*w->durable = false;
}

/* A child's log is of no interest (unless FAULT_LOG is set), and its waiting must not hang the test. */
static void
be_quiet(void)
{
	int fd = open("/dev/null", O_WRONLY);

	if (getenv("FAULT_LOG") == NULL)
		dup2(fd, STDERR_FILENO);
	alarm(60);
}

static volatile bool *durable_flag;

static void
say_durable(void)
{
	*durable_flag = true;
}

void
update_body(void *arg)
{
	struct worker *w = arg;

	be_quiet();
	durable_flag = w->durable;
	session_update(&w->place, &w->mailbox, say_durable);
}

void
login_body(void *arg)
{
	struct worker *w = arg;
	bool well;

	be_quiet();
	well = session_login(&w->place);
	fflush(stdout);
	_exit(well ? 0 : 1);
}

bool
login(struct worker *w)
{
	pid_t child = fork();
	int status;

	if (child == -1)
		bail("fork");
	if (child == 0)
		login_body(w);
	if (waitpid(child, &status, 0) == -1)
		bail("waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool
is_right(struct worker *w, late_set late, bool durable)
{
	enum found found = mailbox_found(&w->place, &w->mailbox, late);

	if (found == FOUND_WRONG)
		return false;
	count_one(found == FOUND_BEFORE ? &w->counts->befores : found == FOUND_AFTER ? &w->counts->afters :
	    &w->counts->parts);
	return found == FOUND_AFTER || !durable;
}

void
mail_comes_in(struct worker *w, late_set *late, uint32_t n)
{
	if (random_below(&w->random, 2) == 0)
		return;
	mailbox_deliver(&w->place, n);
	*late |= (late_set)1 << n;
	count_one(&w->counts->appended);
}
