/*
 * Reading a Maildir that other programs write to all the time.  Runs as the authenticated user.
 *
 * Delivery agents link or rename files into new/; mail readers move them to cur/ and rename them there when flags change;
 * nobody locks.  readdir(3) may miss a name that is renamed while a folder is read, and may show it twice.  So new/ is read
 * before cur/ (the way that messages take), and both are read again until neither has changed meanwhile: then both were as
 * they were read at one instant.  A name that shows up twice is looked at before it counts as two.
 *
 * What a file's name says of its size is not believed.  ",S=" is what fstat(2) tells anyway.  ",W=" (the size with CRLF)
 * comes from the program that delivered; it does not count a missing last line end, and after an import with sed(1) or a
 * conversion it may be wrong altogether, which nobody notices before a RETR has to break off.  Each file is read once in its
 * life instead; the index remembers.
 */
#include "maildrop/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "common/logrecord.h"
#include "common/text.h"
#include "maildrop/octets.h"

#define BUFFER_BYTES ((size_t)256 * 1024)

/* A Maildir that does not keep still for so many readings is shown as it was seen. */
#define TRIES 5

/* Times of files are as coarse as the kernel's tick: 10 ms, twice that to be sure. */
#define TICK_NSEC 20000000

static const char *const folder_names[FOLDERS] = { "new", "cur" };

enum md_result
maildir_failed(const struct maildir *m, const char *what, enum place place, const char *name)
{
	char shown[NAME_MAX * 4 + 1];
	int error = errno;

	log_note(LOG_ERR, "maildir path=\"%s\" file=\"%s%s%s\" action=%s error=\"%s\"", m->shown_path,
	    place < FOLDERS ? folder_names[place] : "", place < FOLDERS && *name != '\0' ? "/" : "",
	    text_escape(shown, sizeof(shown), name, strlen(name)), what, strerror(error));
	switch (error) {
	case EACCES:
	case EPERM:
	case ELOOP:
	case ENOTDIR:
	case EOVERFLOW:
		return MD_PERMANENT;
	default:
		return MD_TEMPORARY;
	}
}

struct entry *
listing_add(struct listing *l, enum place place, const char *name, size_t len)
{
	struct entry *e;

	if (l->texts.used + len + 1 > UINT32_MAX) {
		errno = EOVERFLOW;
		return NULL;
	}
	if (pile_reserve(&l->entries, sizeof(*e)) == -1 || pile_reserve(&l->texts, len + 1) == -1)
		return NULL;
	e = &listing_entries(l)[l->count++];
	l->entries.used += sizeof(*e);
	*e = (struct entry){
		.time = name_time(name, len),
		.text = (uint32_t)l->texts.used,
		.len = (uint8_t)len,
		.base = (uint8_t)name_base(name, len),
		.place = (uint8_t)place,
	};
	memcpy(l->texts.base + l->texts.used, name, len);
	l->texts.base[l->texts.used + len] = '\0';
	l->texts.used += len + 1;
	return e;
}

void
listing_free(struct listing *l)
{
	pile_free(&l->entries);
	pile_free(&l->texts);
	pile_free(&l->buffer);
}

static void
set_count(struct listing *l, uint32_t count)
{
	l->count = count;
	l->entries.used = count * sizeof(struct entry);
}

/* Reading folders */

static void
state_of(struct folder_state *state, const struct stat *st)
{
	*state = (struct folder_state){ st->st_ino, st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec,
		st->st_ctim.tv_nsec };
}

bool
folder_unchanged(const struct folder *f)
{
	struct folder_state now;
	struct stat st;

	if (fstat(f->fd, &st) == -1)
		return false;
	state_of(&now, &st);
	return now.inode == f->state.inode && now.mtime_sec == f->state.mtime_sec &&
	    now.mtime_nsec == f->state.mtime_nsec && now.ctime_sec == f->state.ctime_sec &&
	    now.ctime_nsec == f->state.ctime_nsec;
}

static bool
just_now(int64_t sec, int64_t nsec)
{
	struct timespec now;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec - sec > 1 || sec - now.tv_sec > 1)
		return false;
	age = (now.tv_sec - sec) * 1000000000 + now.tv_nsec - nsec;
	return age < TICK_NSEC && age > -TICK_NSEC;
}

static int
note_state(struct folder *f, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return -1;
	state_of(&f->state, &st);
	f->recent = just_now(f->state.mtime_sec, f->state.mtime_nsec) ||
	    just_now(f->state.ctime_sec, f->state.ctime_nsec);
	clock_gettime(CLOCK_MONOTONIC, &f->taken);
	return 0;
}

/* What a folder's buffer holds.  maildir(5): names that begin with a dot are no messages. */
static int
add_names(struct listing *l, enum place place, size_t bytes)
{
	const struct dirent64 *d;
	struct entry *e;
	size_t pos;

	for (pos = 0; pos < bytes; pos += d->d_reclen) {
		d = (const struct dirent64 *)(const void *)(l->buffer.base + pos);
		if (d->d_name[0] == '.' || (d->d_type != DT_REG && d->d_type != DT_UNKNOWN))
			continue;
		if ((e = listing_add(l, place, d->d_name, strlen(d->d_name))) == NULL)
			return -1;
		e->inode = (uint32_t)d->d_ino;
		e->listed = true;
		l->names_read++;
	}
	return 0;
}

static int
read_names(struct folder *f, struct listing *l, enum place place, int fd)
{
	ssize_t n;

	if (note_state(f, fd) == -1 || pile_reserve(&l->buffer, BUFFER_BYTES) == -1)
		return -1;
	while ((n = getdents64(fd, (void *)l->buffer.base, BUFFER_BYTES)) > 0)
		if (add_names(l, place, (size_t)n) == -1)
			return -1;
	return (int)n;
}

/* Opened anew for each reading: on NFS that is when the client asks the server whether the folder has changed. */
static int
read_folder(struct maildir *m, struct listing *l, enum place place)
{
	struct folder *f = &m->folders[place];
	struct entry *e = listing_entries(l);
	uint32_t i;
	int fd, result;

	f->listed = f->proven = f->partial = false;
	for (i = 0; i < l->count; i++)
		if (e[i].place == place)
			e[i].listed = false;
	if ((fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return -1;
	result = read_names(f, l, place, fd);
	close(fd);
	f->listed = result == 0;
	return result;
}

enum stillness { STILL, MOVING, FAILED };

static bool
is_listed(const struct folder *f, bool certain)
{
	return f->fd == -1 || (f->listed && folder_unchanged(f) && !(certain && f->recent));
}

/*
 * Reads the folders until neither has changed since it was read.  certain: a change must not even hide in a tick of the
 * clock, so that a name that was not found is not there.
 */
static enum stillness
list_folders(struct maildir *m, struct listing *l, bool certain)
{
	static const struct timespec tick = { .tv_nsec = TICK_NSEC };
	bool still;
	int tries, i;

	for (tries = 0; tries < TRIES; tries++) {
		if (tries > 0 && certain && (m->folders[PLACE_NEW].recent || m->folders[PLACE_CUR].recent))
			nanosleep(&tick, NULL);
		for (still = true, i = 0; i < FOLDERS; i++) {
			if (is_listed(&m->folders[i], certain))
				continue;
			still = false;
			if (read_folder(m, l, (enum place)i) == -1) {
				maildir_failed(m, "read", (enum place)i, "");
				return FAILED;
			}
		}
		if (still)
			return STILL;
	}
	return is_listed(&m->folders[PLACE_NEW], certain) && is_listed(&m->folders[PLACE_CUR], certain) ? STILL : MOVING;
}

/* Order */

static int
compare_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

static int
compare_base(const struct entry *a, const struct entry *b, const char *texts)
{
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	return compare_text(texts + a->text, a->base, texts + b->text, b->base);
}

/* Delivery time, base name, then the whole name: what may be one message stands together. */
static int
compare(const void *va, const void *vb, void *vtexts)
{
	const struct entry *a = va, *b = vb;
	const char *texts = vtexts;
	int c;

	if ((c = compare_base(a, b, texts)) != 0)
		return c;
	if ((c = compare_text(texts + a->text, a->len, texts + b->text, b->len)) != 0)
		return c;
	if (a->listed != b->listed)
		return a->listed - b->listed;
	return a->place - b->place;
}

static bool
ascending(const struct listing *l, uint32_t from, uint32_t to)
{
	const struct entry *e = listing_entries(l);

	for (from++; from < to; from++)
		if (compare(&e[from - 1], &e[from], l->texts.base) > 0)
			return false;
	return true;
}

/* The first half is in order, and so is the second. */
static int
merge(struct listing *l, uint32_t half)
{
	const struct entry *a = listing_entries(l), *a_end = a + half, *b = a_end, *b_end = a + l->count;
	struct pile merged = { 0 };
	struct entry *out;

	if (pile_reserve(&merged, l->entries.used) == -1)
		return -1;
	out = (struct entry *)(void *)merged.base;
	while (a < a_end && b < b_end)
		*out++ = compare(a, b, l->texts.base) <= 0 ? *a++ : *b++;
	memcpy(out, a, (size_t)(a_end - a) * sizeof(*out));
	memcpy(out + (a_end - a), b, (size_t)(b_end - b) * sizeof(*out));
	merged.used = l->entries.used;
	pile_free(&l->entries);
	l->entries = merged;
	return 0;
}

/* What the index told is in order already, and mostly all there is. */
static int
put_in_order(struct listing *l)
{
	uint32_t first = l->ordered;

	if (l->count > 0 && !ascending(l, first, l->count))
		qsort_r(listing_entries(l) + first, l->count - first, sizeof(struct entry), compare, l->texts.base);
	if (first > 0 && first < l->count && !ascending(l, first - 1, first + 1) && merge(l, first) == -1)
		return -1;
	l->ordered = l->count;
	return 0;
}

/* The end of the run of entries with the base name of entry i. */
static uint32_t
run_end(const struct listing *l, uint32_t i)
{
	const struct entry *e = listing_entries(l);
	const char *texts = (const char *)l->texts.base;
	uint32_t j = i + 1;

	while (j < l->count && compare_base(&e[i], &e[j], texts) == 0)
		j++;
	return j;
}

/* Which entries are messages */

/* How many entries one message has at most: each reading may have found another name. */
#define NEAR (2 * (TRIES + 1))

/*
 * Copies what is known of the same file under the same base name.  Flags come and go, so the names need not be equal, but
 * the base name is unique: others than the nearest few need no look.
 */
static void
recall(struct entry *run, uint32_t count, uint32_t i)
{
	uint32_t j = i < NEAR ? 0 : i - NEAR;

	for (; j < count && j < i + NEAR; j++) {
		if (run[j].listed || !run[j].known || run[j].inode != run[i].inode)
			continue;
		run[i].bytes = run[j].bytes;
		run[i].octets = run[j].octets;
		run[i].stamp = run[j].stamp;
		run[i].known = true;
		return;
	}
}

enum pair { FIRST_GOES, SECOND_GOES, BOTH_STAY };

/*
 * Two names with one base name.  Most often it was renamed while we read, and one of them is no more.  Two links to one
 * file are a move that somebody did not finish: one message.  Two files are two messages, whatever maildir(5) demands.
 */
static enum pair
look_at_pair(struct maildir *m, const struct listing *l, const struct entry *a, const struct entry *b)
{
	struct stat sa, sb;

	if (fstatat(m->folders[a->place].fd, entry_text(l, a), &sa, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT ? FIRST_GOES : BOTH_STAY;
	if (fstatat(m->folders[b->place].fd, entry_text(l, b), &sb, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT ? SECOND_GOES : BOTH_STAY;
	if (sa.st_dev != sb.st_dev || sa.st_ino != sb.st_ino)
		return BOTH_STAY;
	m->linked = m->folders[PLACE_NEW].partial = m->folders[PLACE_CUR].partial = true;
	return b->place == PLACE_CUR ? FIRST_GOES : SECOND_GOES;
}

/*
 * In a Maildir that does not keep still, the last reading may have missed what an earlier one, or the index, saw.  True if
 * it is under none of these names: removed, or moved on.
 */
static bool
look_again(const struct maildir *m, const struct listing *l, struct entry *run, uint32_t count)
{
	struct stat st;
	uint32_t i;

	for (i = 0; i < count; i++)
		if (run[i].listed)
			return false;
	for (i = 0; i < count && !run[0].listed; i++)
		if (fstatat(m->folders[run[i].place].fd, entry_text(l, &run[i]), &st, AT_SYMLINK_NOFOLLOW) == 0) {
			run[0] = run[i];
			run[0].listed = true;
		}
	return !run[0].listed;
}

/* Moves the messages among count entries of one base name to out.  Returns how many they are. */
static uint32_t
keep_run(struct maildir *m, const struct listing *l, struct entry *run, uint32_t count, struct entry *out)
{
	uint32_t i, kept = 0;
	enum pair pair;

	for (i = 0; i < count; i++)
		if (run[i].listed && !run[i].known)
			recall(run, count, i);
	for (i = 0; i < count; i++) {
		if (!run[i].listed)
			continue;
		pair = kept == 0 ? BOTH_STAY : look_at_pair(m, l, &out[kept - 1], &run[i]);
		if (pair == FIRST_GOES)
			kept--;
		if (pair != SECOND_GOES)
			out[kept++] = run[i];
	}
	return kept;
}

/* From all that was ever seen to what is there now.  True if something may have been missed. */
static bool
keep_listed(struct maildir *m, struct listing *l, bool moving)
{
	struct entry *e = listing_entries(l);
	uint32_t i, end, kept = 0;
	bool missed = false;

	for (i = 0; i < l->count; i = end) {
		end = run_end(l, i);
		if (moving)
			missed |= look_again(m, l, e + i, end - i);
		kept += keep_run(m, l, e + i, end - i, e + kept);
	}
	set_count(l, kept);
	l->ordered = kept;
	return missed;
}

/* Sizes */

/* Reads size bytes, or fewer if the file ends before; a file that grows is not followed.  0, or -1 with errno. */
static int
count_octets(int fd, uint64_t size, struct pile *buffer, struct octets *o)
{
	size_t want;
	ssize_t n;

	*o = (struct octets){ 0 };
	if (pile_reserve(buffer, BUFFER_BYTES) == -1)
		return -1;
	while (o->bytes < size) {
		want = size - o->bytes < BUFFER_BYTES ? (size_t)(size - o->bytes) : BUFFER_BYTES;
		n = pread(fd, buffer->base, want, (off_t)o->bytes);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		octets_add(o, buffer->base, (size_t)n);
	}
	return 0;
}

enum counted { COUNTED, VANISHED, NO_MESSAGE, UNREADABLE, BROKEN };

static enum counted
open_failed(int error)
{
	switch (error) {
	case ENOENT:
		return VANISHED;
	case ELOOP:	/* a link, a socket, a device without a driver: no message */
	case ENXIO:
	case ENODEV:
		return NO_MESSAGE;
	case EACCES:
	case EPERM:
		return UNREADABLE;
	default:
		return BROKEN;
	}
}

static enum counted
count_file(int folder, struct listing *l, struct entry *e)
{
	const char *name = entry_text(l, e);
	enum counted result = BROKEN;
	struct octets o;
	struct stat st;
	int fd;

	if ((fd = openat(folder, name, MESSAGE_OPEN)) == -1)
		return open_failed(errno);
	if (fstat(fd, &st) == -1) {
		result = BROKEN;
	} else if (!S_ISREG(st.st_mode)) {
		result = NO_MESSAGE;
	} else if (count_octets(fd, (uint64_t)st.st_size, &l->buffer, &o) == 0) {
		e->bytes = o.bytes;
		e->octets = octets_total(&o);
		e->stamp = name_stamp(name, e->len, &st);
		e->known = true;
		l->files_read++;
		l->bytes_read += o.bytes;
		result = COUNTED;
	}
	close(fd);
	return result;
}

/* A name that may be used again proves nothing; the file's size and time do. */
static bool
is_still_known(int folder, const struct listing *l, const struct entry *e)
{
	const char *name = entry_text(l, e);
	struct stat st;

	return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size == e->bytes && name_stamp(name, e->len, &st) == e->stamp;
}

/* A file that the user may not read is no message; the log says so once. */
static void
left_out(struct maildir *m, const struct listing *l, const struct entry *e)
{
	struct folder *f = &m->folders[e->place];

	if (!f->partial)
		maildir_failed(m, "open", (enum place)e->place, entry_text(l, e));
	f->partial = true;
}

/* Makes sure that e's sizes are known. */
static enum md_result
count_entry(struct maildir *m, struct listing *l, struct entry *e, bool *vanished)
{
	const struct folder *f = &m->folders[e->place];

	if (e->known && (f->proven || !name_odd(entry_text(l, e), e->len) || is_still_known(f->fd, l, e)))
		return MD_OK;
	e->known = false;
	switch (count_file(f->fd, l, e)) {
	case COUNTED:
	case NO_MESSAGE:
		return MD_OK;
	case VANISHED:
		*vanished = true;
		return MD_OK;
	case UNREADABLE:
		left_out(m, l, e);
		return MD_OK;
	default:
		return maildir_failed(m, "read", (enum place)e->place, entry_text(l, e));
	}
}

static enum md_result
count_entries(struct maildir *m, struct listing *l, bool *vanished)
{
	struct entry *e = listing_entries(l), *end = listing_end(l);
	enum md_result result;

	for (*vanished = false; e < end; e++)
		if ((result = count_entry(m, l, e, vanished)) != MD_OK)
			return result;
	return MD_OK;
}

static void
keep_known(struct listing *l)
{
	struct entry *e = listing_entries(l);
	uint32_t i, kept = 0;

	for (i = 0; i < l->count; i++)
		if (e[i].known)
			e[kept++] = e[i];
	set_count(l, kept);
	l->ordered = kept;
}

/* A file that is not there when it is to be read has been renamed or removed: then the names are read again. */
enum md_result
maildir_scan(struct maildir *m, struct listing *l)
{
	enum stillness stillness;
	enum md_result result;
	bool missed = true, vanished = false;
	int tries;

	maildir_index_list(m, l);
	if (!ascending(l, 0, l->count))
		names_free(&m->names);	/* an index made by hand: its names are not in the order of the messages */
	if (put_in_order(l) == -1)
		return maildir_failed(m, "sort", PLACE_GONE, "");
	for (tries = 0; (missed || vanished) && tries < TRIES; tries++) {
		if (tries > 0)
			m->folders[PLACE_NEW].listed = m->folders[PLACE_CUR].listed = false;
		if ((stillness = list_folders(m, l, false)) == FAILED)
			return MD_TEMPORARY;
		if (put_in_order(l) == -1)
			return maildir_failed(m, "sort", PLACE_GONE, "");
		missed = keep_listed(m, l, stillness == MOVING);
		if ((result = count_entries(m, l, &vanished)) != MD_OK)
			return result;
	}
	if (missed || vanished)
		m->folders[PLACE_NEW].listed = m->folders[PLACE_CUR].listed = false;
	keep_known(l);
	return MD_OK;
}

bool
maildir_still(const struct name *name, const struct record *r, int fd)
{
	struct pile buffer = { 0 };
	struct octets o;
	struct stat st;
	bool same;

	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != r->bytes)
		return false;
	if (name_stamp(name->text, name->len, &st) == name->stamp)
		return true;
	same = count_octets(fd, r->bytes, &buffer, &o) == 0 && o.bytes == r->bytes && octets_total(&o) == r->octets;
	pile_free(&buffer);
	return same;
}

/* Searching for the session's messages */

static int
add_session(const struct maildir *m, struct listing *l)
{
	struct name_cursor c = { 0 };
	struct entry *e;

	while (name_next(&m->names, &c)) {
		if ((e = listing_add(l, c.name.place, c.name.text, c.name.len)) == NULL)
			return -1;
		e->stamp = c.name.stamp;
		e->number = c.next;
	}
	return 0;
}

/* What earlier readings of the folders saw. */
static void
forget_unlisted(struct listing *l)
{
	struct entry *e = listing_entries(l);
	uint32_t i, kept = 0;

	for (i = 0; i < l->count; i++)
		if (e[i].listed || e[i].number > 0)
			e[kept++] = e[i];
	set_count(l, kept);
}

/* Where the session's messages were found: a name of the listing, or a place without one. */
struct found {
	uint32_t entry;
	uint8_t place;
};

/* A message takes the name of a listed entry, which then has number set, so that no other takes it. */
static void
take(struct listing *l, struct found *found, uint32_t message, uint32_t listed)
{
	struct entry *e = listing_entries(l);

	found[e[message].number - 1] = (struct found){ listed, e[listed].place };
	e[listed].number = e[message].number;
	e[message].known = true;
}

/* Entries [i, end) have one full name; there are at most two messages and two files. */
static void
match_names(struct listing *l, struct found *found, uint32_t i, uint32_t end)
{
	struct entry *e = listing_entries(l);
	uint32_t a, b;
	int pass;

	for (pass = 0; pass < FOLDERS; pass++)	/* the one in the same place first */
		for (a = i; a < end; a++)
			for (b = i; b < end && !e[a].listed && !e[a].known; b++)
				if (e[b].listed && e[b].number == 0 && (pass > 0 || e[a].place == e[b].place))
					take(l, found, a, b);
}

/*
 * Entries [i, end) have one base name.  Messages whose name is there keep it; a single one that is left takes the single
 * name that is left, since only its flags or its folder can have changed.  None left: the message is gone.
 */
static void
match_run(struct listing *l, struct found *found, uint32_t i, uint32_t end, bool still)
{
	struct entry *e = listing_entries(l);
	uint32_t a, b, messages = 0, names = 0, message = 0, name = 0;

	for (a = i; a < end; a = b) {
		for (b = a + 1; b < end && e[a].len == e[b].len && strcmp(entry_text(l, &e[a]), entry_text(l, &e[b])) == 0;)
			b++;
		match_names(l, found, a, b);
	}
	for (a = i; a < end; a++) {
		if (e[a].listed && e[a].number == 0) {
			names++;
			name = a;
		} else if (!e[a].listed && !e[a].known) {
			messages++;
			message = a;
		}
	}
	if (messages == 1 && names == 1)
		take(l, found, message, name);
	else
		for (a = i; a < end; a++)
			if (!e[a].listed && !e[a].known)
				found[e[a].number - 1] = (struct found){ a, names == 0 && still ? PLACE_GONE : PLACE_UNCLEAR };
}

/* The session's names anew, in the order of the message-numbers. */
static int
repack(const struct maildir *m, const struct listing *l, const struct found *found, struct names *names)
{
	const struct entry *e = listing_entries(l);
	struct name_cursor old = { 0 };
	const struct entry *now;

	while (name_next(&m->names, &old)) {
		now = &e[found[old.next - 1].entry];
		if (names_add(names, entry_text(l, now), now->len, found[old.next - 1].place, old.name.stamp) == -1)
			return -1;
	}
	return 0;
}

static int
search(struct maildir *m, struct listing *l, struct pile *pile, struct names *names)
{
	enum stillness stillness;
	struct found *found;
	uint32_t i, end;

	m->folders[PLACE_NEW].listed = m->folders[PLACE_CUR].listed = false;
	if (add_session(m, l) == -1 || pile_reserve(pile, m->names.count * sizeof(*found)) == -1 ||
	    (stillness = list_folders(m, l, true)) == FAILED)
		return -1;
	forget_unlisted(l);
	if (put_in_order(l) == -1)
		return -1;
	found = (struct found *)(void *)pile->base;
	for (i = 0; i < l->count; i = end) {
		end = run_end(l, i);
		match_run(l, found, i, end, stillness == STILL);
	}
	return repack(m, l, found, names);
}

int
maildir_search(struct maildir *m)
{
	struct listing l = { 0 };
	struct names names = { 0 };
	struct pile found = { 0 };
	int result = search(m, &l, &found, &names);

	if (result == 0) {
		if (m->first_names.count == 0)
			m->first_names = m->names;
		else
			names_free(&m->names);
		pile_trim(&names.stream);
		pile_trim(&names.blocks);
		m->names = names;
	} else {
		maildir_failed(m, "search", PLACE_GONE, "");
		names_free(&names);
	}
	listing_free(&l);
	pile_free(&found);
	return result;
}
