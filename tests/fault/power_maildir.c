/*
 * Power loss at a Maildir.  Records which names an UPDATE takes away and makes in new/ and cur/ and where it waits for the
 * disk, and makes the states in which the disk can be found after each of these calls: of what was not synced nothing,
 * everything, the first so many, or any of it.  A move from one folder to the other is two changes, each durable when its
 * folder is synced: if only the folder that the name left has been, the file is nowhere.  Without a sync, what leaves is not
 * written before what comes, as every journaling file system has it.  The index is never synced: any sectors of it are there.
 *
 * Then the next login has to find every message that was not deleted, and after a durable UPDATE none that was.  See
 * workers.h for the arguments.
 */
#include "tracer.h"
#include "workers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIALS 6
#define SECTOR 512u
#define NAMES_MAX 256u
#define EVENTS_MAX 512u

enum what { COME, GO, SYNC };

struct event {
	enum what what;
	char name[TRACED_PATH];		/* "new/1700000000.M1P2.host"; SYNC: "new" */
	uint32_t message;		/* COME, GO: whose name it is */
	bool moved;			/* GO: the event before is the other half */
};

struct link {
	char name[TRACED_PATH];
	uint32_t message;
};

/* Names and the messages they lead to. */
struct links {
	uint32_t count;
	struct link links[NAMES_MAX];
};

static struct {
	uint32_t count, durable;	/* durable: after so many events UPDATE had said so */
	struct event events[EVENTS_MAX];
	struct links before, now;
	struct text index_before;
} history;

/* Each worker has its own process, and in its folder one name more of each message, so that none is lost by unlinking. */
static void
spare_path(char path[512], const struct worker *w, uint32_t message)
{
	snprintf(path, 512, "%s/spare%u", w->place.folder, message);
}

static void
maildir_path(char path[TRACED_PATH + 512], const struct worker *w, const char *name)
{
	snprintf(path, TRACED_PATH + 512, "%s/%s", w->place.path, name);
}

/* --- names --- */

static void
add_link(struct links *l, const char *name, uint32_t message)
{
	if (l->count == NAMES_MAX)
		bail("too many names");
	snprintf(l->links[l->count].name, TRACED_PATH, "%s", name);
	l->links[l->count++].message = message;
}

static uint32_t
find_link(const struct links *l, const char *name)
{
	uint32_t i;

	for (i = 0; i < l->count && strcmp(l->links[i].name, name) != 0; i++)
		;
	return i;
}

static void
remove_link(struct links *l, const char *name)
{
	uint32_t i = find_link(l, name);

	if (i < l->count)
		l->links[i] = l->links[--l->count];
}

/* --- recording --- */

static void
history_begin(const struct worker *w)
{
	char path[TRACED_PATH + 512], spare[512];
	uint32_t i;

	history.count = history.before.count = 0;
	history.durable = UINT32_MAX;
	for (i = 0; i < w->mailbox.count; i++) {
		add_link(&history.before, w->mailbox.stored[i].name, i);
		maildir_path(path, w, w->mailbox.stored[i].name);
		spare_path(spare, w, i);
		if (link(path, spare) == -1)
			bail(spare);
	}
	history.now = history.before;
	maildir_path(path, w, ".postern-index");
	free(history.index_before.p);
	history.index_before = (struct text){ NULL, 0 };
	if (access(path, F_OK) == 0)
		history.index_before = file_read(path);
}

static struct event *
add_event(enum what what, const char *name)
{
	struct event *e = &history.events[history.count];

	if (history.count++ == EVENTS_MAX)
		bail("too many events");
	*e = (struct event){ .what = what };
	snprintf(e->name, sizeof(e->name), "%s", name);
	return e;
}

/* The folder's name, if the descriptor is new/ or cur/. */
static bool
is_folder(pid_t child, uint64_t fd, char name[4])
{
	char path[TRACED_PATH];
	size_t len;

	traced_fd(child, fd, path);
	len = strlen(path);
	if (len < 4 || (strcmp(path + len - 4, "/new") != 0 && strcmp(path + len - 4, "/cur") != 0))
		return false;
	memcpy(name, path + len - 3, 4);
	return true;
}

/* A name in new/ or cur/, from a descriptor and a path. */
static bool
read_name(pid_t child, uint64_t fd, uint64_t address, char name[TRACED_PATH])
{
	char path[TRACED_PATH], folder[4];

	if (!is_folder(child, fd, folder))
		return false;
	traced_path(child, address, path);
	snprintf(name, TRACED_PATH, "%s/%.500s", folder, path);
	return true;
}

static uint32_t
message_of(const char *name)
{
	uint32_t i = find_link(&history.now, name);

	if (i == history.now.count)
		bail(name);
	return history.now.links[i].message;
}

static void
record_going(const char *name, bool moved)
{
	struct event *e = add_event(GO, name);

	e->message = message_of(name);
	e->moved = moved;
	remove_link(&history.now, name);
}

static void
record_coming(const char *name, uint32_t message)
{
	add_event(COME, name)->message = message;
	add_link(&history.now, name, message);
}

static void
record_two(pid_t child, const struct traced_call *call)
{
	char from[TRACED_PATH], to[TRACED_PATH];

	if (!read_name(child, call->args[0], call->args[1], from) || !read_name(child, call->args[2], call->args[3], to))
		return;
	record_coming(to, message_of(from));
	if (call->number != SYS_linkat)
		record_going(from, true);
}

static void
record(void *arg, pid_t child, const struct traced_call *call)
{
	struct worker *w = arg;
	char name[TRACED_PATH];

	if (*w->durable && history.durable == UINT32_MAX)
		history.durable = history.count;
	if (call->result < 0)
		return;
	switch (call->number) {
	case SYS_unlinkat:
		if (read_name(child, call->args[0], call->args[1], name))
			record_going(name, false);
		break;
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_linkat:
		record_two(child, call);
		break;
	case SYS_fsync:
		if (is_folder(child, call->args[0], name))
			add_event(SYNC, name);
		break;
	default:
		break;
	}
}

static enum trace_verdict
let_go(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value)
{
	(void)arg;
	(void)which;
	(void)call;
	(void)value;
	return TRACE_GO_ON;
}

static void
record_update(struct worker *w)
{
	struct tracer tracer = { .before = let_go, .after = record, .arg = w };
	bool killed;

	history_begin(w);
	tracer_run(&tracer, update_body, w, &killed);
	if (!*w->durable || mailbox_found(&w->place, &w->mailbox, 0) != FOUND_AFTER)
		bail("an UPDATE without any crash is wrong");
	if (history.durable == UINT32_MAX)
		history.durable = history.count;
}

/* --- what the disk holds --- */

enum luck { LUCK_NOTHING, LUCK_ALL, LUCK_FIRST, LUCK_ANY };

static bool
is_synced(uint32_t which, uint32_t end)
{
	uint32_t i;

	for (i = which + 1; i < end; i++)
		if (history.events[i].what == SYNC && strncmp(history.events[i].name, history.events[which].name, 3) == 0)
			return true;
	return false;
}

/* The names after the first end events. */
static void
links_after(struct worker *w, uint32_t end, enum luck luck, struct links *links)
{
	uint32_t i, first = luck == LUCK_ALL ? end : luck == LUCK_FIRST ? random_below(&w->random, end + 1) : 0;
	bool there, came = true;

	*links = history.before;
	for (i = 0; i < end; i++) {
		const struct event *e = &history.events[i];

		if (e->what == SYNC)
			continue;
		there = i < first || (luck == LUCK_ANY && random_below(&w->random, 2) == 0);
		if (e->what == GO && e->moved)
			there = there && came;
		there = there || is_synced(i, end);
		came = there;
		if (there && e->what == COME)
			add_link(links, e->name, e->message);
		else if (there)
			remove_link(links, e->name);
	}
}

static void
clear_names(const struct worker *w)
{
	char path[TRACED_PATH + 512];

	maildir_path(path, w, "new");
	clear_folder(path);
	maildir_path(path, w, "cur");
	clear_folder(path);
}

/* The index as it is now or was before, or not at all, or with sectors that were never written. */
static void
spoil_index(struct worker *w)
{
	char path[TRACED_PATH + 512];
	struct text text = { NULL, 0 };
	size_t from;

	maildir_path(path, w, ".postern-index");
	if (access(path, F_OK) == 0 && random_below(&w->random, 3) > 0)
		text = file_read(path);
	else
		text_append(&text, history.index_before.p, history.index_before.len);
	for (from = 0; from < text.len && random_below(&w->random, 2) == 0; from += SECTOR)
		if (random_below(&w->random, 2) == 0)
			memset(text.p + from, 0, text.len - from < SECTOR ? text.len - from : SECTOR);
	if (random_below(&w->random, 3) == 0)
		text.len = random_below(&w->random, (uint32_t)text.len + 1);
	unlink(path);
	if (random_below(&w->random, 4) > 0)
		file_write(path, text);
	maildir_path(path, w, ".postern-index.new");
	if (random_below(&w->random, 2) == 0)
		file_write(path, text);
	free(text.p);
}

static void
lose_power(struct worker *w, uint32_t end, enum luck luck)
{
	static struct links links;
	char path[TRACED_PATH + 512], spare[512];
	uint32_t i;

	links_after(w, end, luck, &links);
	clear_names(w);
	for (i = 0; i < links.count; i++) {
		maildir_path(path, w, links.links[i].name);
		spare_path(spare, w, links.links[i].message);
		if (link(spare, path) == -1)
			bail(path);
	}
	spoil_index(w);
}

/* --- judging --- */

static void
try_state(struct worker *w, uint32_t end, enum luck luck)
{
	late_set late = 0;

	lose_power(w, end, luck);
	mail_comes_in(w, &late, 1);
	count_one(&w->counts->states);
	if (login(w) && is_right(w, late, end >= history.durable))
		return;
	printf("# case %u, event %u of %u, luck %d: not right\n", w->seed, end, history.count, (int)luck);
	fflush(stdout);
	count_one(&w->counts->failures);
}

static void
try_all(struct worker *w)
{
	uint32_t end, i;

	worker_begin(w);
	record_update(w);
	for (end = 0; end <= history.count; end++) {
		try_state(w, end, LUCK_NOTHING);
		try_state(w, end, LUCK_ALL);
		for (i = 2; i < TRIALS; i++)
			try_state(w, end, i % 2 == 0 ? LUCK_FIRST : LUCK_ANY);
	}
}

static void
tell(const struct counts *c)
{
	printf("%u states of the disk tried, %u messages came in\n", c->states, c->appended);
}

static bool
tried(const struct counts *c)
{
	return c->states > 0 && c->parts > 0 && c->appended > 0;
}

int
main(int argc, char **argv)
{
	static const struct fault_test test = { "power_maildir", try_all, 0, 24, tell, tried,
		"no loss of power loses mail, and what was said to be deleted is" };

	return fault_main(&test, argc, argv);
}
