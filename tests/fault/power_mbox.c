/*
 * Power loss.  Records what an UPDATE writes and where it waits for the disk, and makes the states in which the disk can be
 * found after each of these calls: all that was synced, and of the rest nothing, everything, or any sectors.  Names
 * (create, rename, unlink) are durable when the folder is synced; before that, the first so many of them are.  Then the
 * next login has to find the mailbox as it was before or after the UPDATE, plus what was appended; and power fails
 * during that recovery, too, and during one after a kill, when what the killed one wrote is still on its way to the disk.
 * See workers.h for the arguments.
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

#define TRIALS 4

/*
 * UPDATE of every 8th mailbox is killed after each of its calls (some, of many), and power fails in one of the first calls of the
 * next login.
 */
#define KILLED_OF 8
#define KILLED_STATES 4
#define SECTOR 512u

/* --- what happened --- */

enum what { WRITE, RESIZE, SYNC, CREATE, RENAME, UNLINK, SYNC_FOLDER };

/* The names that matter; the rest of the state folder is a cache. */
enum name { MBOX, JOURNAL, JOURNAL_NEW, NAMES };

struct event {
	enum what what;
	uint32_t file;			/* of history->files */
	uint64_t at;			/* WRITE: where; RESIZE: to what */
	struct text data;
	enum name name, to;
};

struct file {
	ino_t ino;
	struct text content;		/* when the recording began */
};

#define FILES_MAX 64
#define EVENTS_MAX 20000
#define NOWHERE UINT32_MAX

struct history {
	uint32_t count, files_count;
	uint32_t durable;		/* after so many events UPDATE had said that it was durable */
	struct event events[EVENTS_MAX];
	struct file files[FILES_MAX];
	uint32_t names[NAMES];		/* file or NOWHERE, when the recording began */
	uint32_t now[NAMES];		/* while it goes on */
};

/* Each worker is a process of its own. */
static char paths[NAMES][512];
static struct history *history;

/* --- recording --- */

static void
set_paths(const struct worker *w)
{
	snprintf(paths[MBOX], sizeof(paths[MBOX]), "%s", w->place.path);
	snprintf(paths[JOURNAL], sizeof(paths[JOURNAL]), "%s/journal", w->place.state);
	snprintf(paths[JOURNAL_NEW], sizeof(paths[JOURNAL_NEW]), "%s/journal.new", w->place.state);
}

static uint32_t
add_file(struct history *h, ino_t ino)
{
	if (h->files_count == FILES_MAX)
		bail("too many files");
	h->files[h->files_count] = (struct file){ .ino = ino };
	return h->files_count++;
}

/* Inode numbers are used again: the last file with it is meant. */
static uint32_t
find_file(const struct history *h, ino_t ino)
{
	uint32_t i;

	for (i = h->files_count; i > 0; i--)
		if (ino != 0 && h->files[i - 1].ino == ino)
			return i - 1;
	return NOWHERE;
}

static void
history_clear(struct history *h)
{
	uint32_t i;

	for (i = 0; i < h->count; i++)
		free(h->events[i].data.p);
	for (i = 0; i < h->files_count; i++)
		free(h->files[i].content.p);
	h->count = h->files_count = 0;
	h->durable = NOWHERE;
}

/* What is there now is durable. */
static void
history_begin(void)
{
	struct history *h = history;
	struct stat st;
	int name;

	history_clear(h);
	for (name = 0; name < NAMES; name++) {
		h->names[name] = NOWHERE;
		if (stat(paths[name], &st) == -1)
			continue;
		h->names[name] = add_file(h, st.st_ino);
		h->files[h->names[name]].content = file_read(paths[name]);
	}
	memcpy(h->now, h->names, sizeof(h->now));
}

static struct event *
add_event(struct history *h, enum what what, uint32_t file)
{
	if (h->count == EVENTS_MAX)
		bail("too many events");
	h->events[h->count] = (struct event){ .what = what, .file = file };
	return &h->events[h->count++];
}

/* A path's last part. */
static enum name
read_name(pid_t child, uint64_t address)
{
	static const char *const names[NAMES] = { "mail", "journal", "journal.new" };
	char path[TRACED_PATH], *slash;
	int name;

	traced_path(child, address, path);
	slash = strrchr(path, '/');
	for (name = 0; name < NAMES; name++)
		if (strcmp(slash != NULL ? slash + 1 : path, names[name]) == 0)
			break;
	return (enum name)name;
}

/* The file behind a descriptor of the child; is_folder: it is one. */
static uint32_t
file_of(const struct history *h, pid_t child, uint64_t fd, bool *is_folder)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, (int)fd);
	*is_folder = false;
	if (stat(path, &st) == -1)
		return NOWHERE;
	*is_folder = S_ISDIR(st.st_mode);
	return S_ISREG(st.st_mode) ? find_file(h, st.st_ino) : NOWHERE;
}

static void
record_open(struct history *h, pid_t child, const struct traced_call *call)
{
	enum name name = read_name(child, call->args[1]);
	char path[64];
	struct stat st;

	if (name == NAMES)
		return;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, (int)call->result);
	if (name != JOURNAL_NEW || stat(path, &st) == -1)
		bail("a file was made that should not be");
	h->now[name] = add_file(h, st.st_ino);
	add_event(h, CREATE, h->now[name])->name = name;
}

/* The file that has name loses it.  Its inode number may be used again at once, for a file of no interest. */
static void
forget_file(struct history *h, enum name name)
{
	if (h->now[name] != NOWHERE)
		h->files[h->now[name]].ino = 0;
	h->now[name] = NOWHERE;
}

static void
record_names(struct history *h, pid_t child, const struct traced_call *call)
{
	enum name name = read_name(child, call->args[1]);
	struct event *e;

	if (name == NAMES)
		return;
	e = add_event(h, call->number == SYS_unlinkat ? UNLINK : RENAME, NOWHERE);
	e->name = name;
	if (e->what == UNLINK) {
		forget_file(h, name);
		return;
	}
	if ((e->to = read_name(child, call->args[3])) == NAMES)
		bail("a file was renamed that should not be");
	forget_file(h, e->to);
	h->now[e->to] = h->now[name];
	h->now[name] = NOWHERE;
}

static void
record_content(struct history *h, pid_t child, const struct traced_call *call)
{
	bool is_folder;
	uint32_t file = file_of(h, child, call->args[0], &is_folder);
	struct event *e;

	if (is_folder && (call->number == SYS_fsync || call->number == SYS_fdatasync))
		add_event(h, SYNC_FOLDER, NOWHERE);
	if (file == NOWHERE)
		return;
	switch (call->number) {
	case SYS_write:
		bail("a write without a place");
	case SYS_pwrite64:
		e = add_event(h, WRITE, file);
		e->at = call->args[3];
		e->data = (struct text){ malloc((uint64_t)call->result + 1), (size_t)call->result };
		traced_read(child, call->args[1], e->data.p, e->data.len);
		break;
	case SYS_ftruncate:
		add_event(h, RESIZE, file)->at = call->args[1];
		break;
	case SYS_fallocate:
		add_event(h, RESIZE, file)->at = call->args[2] + call->args[3];
		break;
	case SYS_fsync:
	case SYS_fdatasync:
		add_event(h, SYNC, file);
		break;
	default:
		break;
	}
}

static void
record(void *arg, pid_t child, const struct traced_call *call)
{
	struct worker *w = arg;

	if (*w->durable && history->durable == NOWHERE)
		history->durable = history->count;
	if (call->result < 0)
		return;
	switch (call->number) {
	case SYS_openat:
		record_open(history, child, call);
		break;
	case SYS_renameat:
	case SYS_unlinkat:
		record_names(history, child, call);
		break;
	default:
		record_content(history, child, call);
	}
}

/* The call after which the run is killed; 0: none. */
static uint32_t kill_at;

static enum trace_verdict
let_go(void *arg, uint32_t which, const struct traced_call *call, uint64_t *value)
{
	(void)arg;
	(void)call;
	(void)value;
	return which == kill_at ? TRACE_KILL_AFTER : TRACE_GO_ON;
}

/* Adds a run to the history.  How many calls it made. */
static uint32_t
record_more(struct worker *w, void (*body)(void *arg))
{
	struct tracer tracer = { .before = let_go, .after = record, .arg = w };
	bool killed;
	uint32_t calls = tracer_run(&tracer, body, w, &killed);

	if (*w->durable && history->durable == NOWHERE)
		history->durable = history->count;
	return calls;
}

static uint32_t
record_run(struct worker *w, void (*body)(void *arg))
{
	history_begin();
	return record_more(w, body);
}

/* --- what the disk holds --- */

enum luck { LUCK_NOTHING, LUCK_ALL, LUCK_SOME, LUCKS };

static void
resize(struct text *text, uint64_t len)
{
	if (len > text->len) {
		if ((text->p = realloc(text->p, len + 1)) == NULL)
			bail("memory");
		memset(text->p + text->len, 0, len - text->len);
	}
	text->len = len;
}

static bool
lucky(struct worker *w, enum luck luck)
{
	return luck == LUCK_ALL || (luck == LUCK_SOME && random_below(&w->random, 2) == 0);
}

static void
put_part(struct text *text, const struct event *e, uint64_t from, uint64_t to)
{
	if (text->len < to)
		resize(text, to);
	memcpy(text->p + from, e->data.p + (from - e->at), to - from);
}

/* A write that was not synced: each sector for itself. */
static void
put_sectors(struct worker *w, struct text *text, const struct event *e, enum luck luck)
{
	uint64_t from, to, end = e->at + e->data.len;

	for (from = e->at; from < end; from = to) {
		to = from / SECTOR * SECTOR + SECTOR;
		if (to > end)
			to = end;
		if (lucky(w, luck))
			put_part(text, e, from, to);
	}
}

/* The content of file after the first end events. */
static struct text
content_of(struct worker *w, uint32_t file, uint32_t end, enum luck luck)
{
	const struct history *h = history;
	struct text text = { NULL, 0 };
	uint32_t i, synced = 0;

	text_append(&text, h->files[file].content.p, h->files[file].content.len);
	for (i = 0; i < end; i++)
		if (h->events[i].what == SYNC && h->events[i].file == file)
			synced = i;
	for (i = 0; i < end; i++) {
		const struct event *e = &h->events[i];

		if (e->file != file)
			continue;
		if (e->what == WRITE)
			put_sectors(w, &text, e, i < synced ? LUCK_ALL : luck);
		else if (e->what == RESIZE && lucky(w, i < synced ? LUCK_ALL : luck))
			resize(&text, e->at);
	}
	return text;
}

static bool
is_name_event(const struct event *e)
{
	return e->what == CREATE || e->what == RENAME || e->what == UNLINK;
}

static void
names_after(struct worker *w, uint32_t end, enum luck luck, uint32_t names[NAMES])
{
	const struct history *h = history;
	uint32_t i, synced = 0, pending = 0, many;

	for (i = 0; i < end; i++)
		if (h->events[i].what == SYNC_FOLDER)
			synced = i;
	for (i = synced; i < end; i++)
		pending += is_name_event(&h->events[i]);
	many = luck == LUCK_ALL ? pending : luck == LUCK_NOTHING ? 0 : random_below(&w->random, pending + 1);
	memcpy(names, h->names, sizeof(h->names));
	for (i = 0; i < end; i++) {
		const struct event *e = &h->events[i];

		if (!is_name_event(e))
			continue;
		if (i >= synced && many-- == 0)
			break;
		if (e->what == CREATE) {
			names[e->name] = e->file;
		} else {
			if (e->what == RENAME)
				names[e->to] = names[e->name];
			names[e->name] = NOWHERE;
		}
	}
}

/* Makes the folder what the disk holds when power fails after the first end events. */
static void
lose_power(struct worker *w, uint32_t end, enum luck luck)
{
	uint32_t names[NAMES];
	struct text text;
	int name;

	names_after(w, end, luck, names);
	for (name = MBOX + 1; name < NAMES; name++)
		if (unlink(paths[name]) == -1 && errno != ENOENT)
			bail(paths[name]);
	for (name = 0; name < NAMES; name++) {
		if (names[name] == NOWHERE)
			continue;
		text = content_of(w, names[name], end, luck);
		file_write(paths[name], text); /* the mbox keeps its inode */
		free(text.p);
	}
}

/* --- judging --- */

/* Power fails while the last failure is being recovered from. */
static void
lose_power_again(struct worker *w)
{
	struct history *first = history;

	if ((history = calloc(1, sizeof(*history))) == NULL)
		bail("memory");
	record_run(w, login_body);
	if (history->count > 0) {
		lose_power(w, random_below(&w->random, history->count + 1), (enum luck)random_below(&w->random, LUCKS));
		count_one(&w->counts->nested);
	}
	history_clear(history);
	free(history);
	history = first;
}

static void
try_state(struct worker *w, uint32_t end, enum luck luck)
{
	late_set late = 0;
	bool durable = end >= history->durable;

	lose_power(w, end, luck);
	mail_comes_in(w, &late, 1);
	if (random_below(&w->random, 4) == 0) {
		lose_power_again(w);
		mail_comes_in(w, &late, 2);
	}
	count_one(&w->counts->states);
	if (!login(w) || !is_right(w, late, durable)) {
		printf("# case %u, event %u of %u, luck %d: the mailbox is neither as before nor as after\n", w->seed, end,
		    history->count, (int)luck);
		fflush(stdout);
		count_one(&w->counts->failures);
	}
}

/* UPDATE is killed after so many calls, and power fails while the next login recovers. */
static void
try_killed(struct worker *w, uint32_t calls)
{
	uint32_t killed, end;

	worker_begin(w);
	kill_at = calls;
	record_run(w, update_body);
	kill_at = 0;
	killed = history->count;
	record_more(w, login_body);
	for (end = killed + 1; end <= history->count && end <= killed + KILLED_STATES; end++) {
		try_state(w, end, LUCK_NOTHING);
		try_state(w, end, LUCK_SOME);
	}
}

static void
try_all(struct worker *w)
{
	uint32_t end, i, calls;

	if (history == NULL && (history = calloc(1, sizeof(*history))) == NULL)
		bail("memory");
	set_paths(w);
	worker_begin(w);
	calls = record_run(w, update_body);
	if (!*w->durable)
		bail("an UPDATE without any crash is wrong");
	for (end = 0; end <= history->count; end++) {
		try_state(w, end, LUCK_NOTHING);
		try_state(w, end, LUCK_ALL);
		for (i = 2; i < TRIALS; i++)
			try_state(w, end, LUCK_SOME);
	}
	for (i = 1; w->seed % KILLED_OF == 1 && i <= calls; i += 1 + calls / 100)
		try_killed(w, i);
	history_clear(history);
}

static void
tell(const struct counts *c)
{
	printf("%u states of the disk tried, power lost again in %u recoveries, %u messages came in\n", c->states, c->nested,
	    c->appended);
}

static bool
tried(const struct counts *c)
{
	return c->states > 0 && c->nested > 0 && c->appended > 0;
}

int
main(int argc, char **argv)
{
	static const struct fault_test test = { "power_mbox", try_all, 40, 0, tell, tried,
		"every loss of power leaves the mailbox before or after" };

	return fault_main(&test, argc, argv);
}
