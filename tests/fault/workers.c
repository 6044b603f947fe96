#include "workers.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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
work(const char *name, void (*try_case)(struct worker *worker), void *counts, uint32_t *next, uint32_t end)
{
	struct worker w = { .counts = counts, .durable = shared_memory(sizeof(*w.durable)) };

	place_make(&w.place, name);
	while ((w.seed = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < end) {
		mailbox_make(&w.mailbox, w.seed);
		w.random = w.seed * 7919u + 12345u;
		try_case(&w);
		mailbox_free(&w.mailbox);
	}
	place_remove(&w.place);
	fflush(stdout);
	_exit(0);
}

bool
workers_run(const char *name, void (*try_case)(struct worker *worker), void *counts, uint32_t first, uint32_t cases)
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
			work(name, try_case, counts, next, first + cases);
	}
	while (wait(&status) > 0)
		well = well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	return well;
}

void
worker_begin(struct worker *w)
{
	place_clear(&w->place);
	file_write(w->place.mbox, w->mailbox.before);
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

static bool
is_with(struct text found, struct text text, struct text late)
{
	struct text whole = { NULL, 0 };
	bool same;

	text_append(&whole, text.p, text.len);
	text_append(&whole, late.p, late.len);
	same = text_equal(found, whole);
	free(whole.p);
	return same;
}

bool
is_before_or_after(struct worker *w, struct text late, bool durable, uint32_t *befores, uint32_t *afters)
{
	struct text found = file_read(w->place.mbox);
	bool after = is_with(found, w->mailbox.after, late), before = is_with(found, w->mailbox.before, late);

	count_one(after ? afters : befores);
	free(found.p);
	return after || (before && !durable);
}

bool
append_some(struct worker *w, struct text *late, uint32_t n)
{
	struct text message;

	if (random_below(&w->random, 2) == 0)
		return false;
	message = late_message(n);
	file_append(w->place.mbox, message);
	text_append(late, message.p, message.len);
	free(message.p);
	return true;
}
