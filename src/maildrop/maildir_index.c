/*
 * MAILDIR/.postern-index: what opening the Maildir has found out.  Runs as the authenticated user.
 *
 * A cache: it may be lost, old, damaged or made by hand at any time.  Names and sizes are checked so that nothing in it
 * reaches outside our memory or outside the Maildir; what it claims about the mail of the one user who can write it can
 * only mislead that user, and RETR ends without the final dot when a size is wrong.
 *
 * What is believed:
 * - a file's sizes, when a file of that base name with that inode is there: a base name is never used again and a file
 *   never changed (maildir(5)); odd names are asked for size and time at every opening, all files when they are opened;
 * - a folder's names, when its times are the ones of the index, and were two seconds old when the names were read.  By
 *   then even a file system that counts whole seconds gives a later change another time.  The age is measured by the file
 *   system's own clock, from the time of the index file itself, since the server of a network file system has its own.
 *
 * It is replaced by rename, without fsync; only the holder of the session lock writes it.
 */
#include "maildrop/maildir.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "common/ioutil.h"
#include "common/limits.h"

#define INDEX_NEW INDEX_FILE ".new"

/* Read as a number, it tells the byte order as well as the version. */
#define INDEX_VERSION UINT64_C(0x32786469706f7031)

#define FOLDER_AGE_SEC 2

struct header {
	uint64_t version;
	uint64_t count;
	uint64_t names_bytes;		/* the stream of struct names, right behind the header */
	uint64_t sizes_bytes;		/* per message: inode (32 bits), bytes and octets - bytes as varints */
	uint64_t names_sum, sizes_sum;
	uint64_t vouched[FOLDERS];	/* 1: state and names belong together */
	struct folder_state state[FOLDERS];
	uint64_t sum;			/* of all before it */
};

/* The least and the most that a message takes in either part. */
#define NAME_LEAST 2
#define NAME_MOST (3 + NAME_MAX + VARINT_OCTETS)
#define SIZES_LEAST (4 + 2)
#define SIZES_MOST (4 + 2 * VARINT_OCTETS)

static uint64_t
header_sum(const struct header *h)
{
	return XXH3_64bits(h, offsetof(struct header, sum));
}

/* Every figure is in range before memory is taken for it. */
static bool
plausible(const struct header *h, uint64_t file_bytes)
{
	return h->version == INDEX_VERSION && h->sum == header_sum(h) && h->count > 0 && h->count <= MESSAGES_MAX &&
	    h->names_bytes >= h->count * NAME_LEAST && h->names_bytes <= h->count * NAME_MOST &&
	    h->sizes_bytes >= h->count * SIZES_LEAST && h->sizes_bytes <= h->count * SIZES_MOST &&
	    file_bytes == sizeof(*h) + h->names_bytes + h->sizes_bytes;
}

static int
read_part(int fd, struct pile *part, uint64_t bytes, uint64_t sum)
{
	if (pile_reserve(part, bytes) == -1)
		return -1;
	part->used = bytes;
	pile_trim(part); /* before a huge page comes that reaches behind it: names stay for the session */
	if (read_full(fd, part->base, bytes) != IO_DONE)
		return -1;
	return XXH3_64bits(part->base, bytes) == sum ? 0 : -1;
}

/* A sum of ten million such messages is still a number. */
#define BYTES_MAX (UINT64_C(1) << 40)

/* The sizes of one message at p.  Returns what they take, 0 if they are impossible. */
static size_t
get_sizes(const unsigned char *p, const unsigned char *end, struct entry *e)
{
	size_t pos = sizeof(e->inode), used;
	uint64_t more;

	if ((size_t)(end - p) < pos)
		return 0;
	memcpy(&e->inode, p, sizeof(e->inode));
	if ((used = varint_get(p + pos, end, &e->bytes)) == 0 || e->bytes > BYTES_MAX)
		return 0;
	pos += used;
	if ((used = varint_get(p + pos, end, &more)) == 0 || more > e->bytes + 1)
		return 0;
	e->octets = e->bytes + more;
	return pos + used;
}

/* A walk through the index. */
struct walk {
	struct name_cursor names;
	size_t pos;			/* in sizes */
	struct record record;
	/* the name before */
	char base[NAME_MAX];
	size_t base_len;
	uint64_t time;
};

/* Whether the name at hand is that of a later message than the one before, and no second one of it. */
static bool
is_next(struct walk *w)
{
	const struct name *name = &w->names.name;
	size_t len = name_base(name->text, name->len), shorter = len < w->base_len ? len : w->base_len;
	uint64_t time = name_time(name->text, name->len);
	int c = time != w->time ? (time > w->time) - (time < w->time) : memcmp(name->text, w->base, shorter);

	if (c < 0 || (c == 0 && len <= w->base_len))
		return false;
	memcpy(w->base, name->text, len);
	w->base_len = len;
	w->time = time;
	return true;
}

/* 1; 0 behind the last message; -1 if there is something wrong. */
static int
walk_next(const struct maildir *m, struct walk *w)
{
	const unsigned char *sizes = m->sizes.base;
	struct entry e;
	size_t used;

	if (!name_next(&m->names, &w->names))
		return w->pos == m->sizes.used ? 0 : -1;
	if (!is_next(w) || (used = get_sizes(sizes + w->pos, sizes + m->sizes.used, &e)) == 0)
		return -1;
	w->pos += used;
	w->record = (struct record){ .bytes = e.bytes, .octets = e.octets };
	return 1;
}

static int
fill_table(struct maildrop *md, const struct maildir *m)
{
	static struct record records[TABLE_PIECE];
	struct walk w = { .pos = 0 };
	size_t n = 0;
	int more;

	while ((more = walk_next(m, &w)) == 1) {
		records[n++] = w.record;
		if (name_seen(w.names.name.text, w.names.name.len))
			md->last = w.names.next;
		if (n < TABLE_PIECE)
			continue;
		if (md_table_add(md, records, n) == -1)
			return -1;
		n = 0;
	}
	return more == 0 && md_table_add(md, records, n) == 0 ? md_table_end(md) : -1;
}

bool
maildir_index_table(struct maildrop *md, const struct maildir *m)
{
	if (!m->folders[PLACE_NEW].proven || !m->folders[PLACE_CUR].proven)
		return false;
	if (fill_table(md, m) == 0)
		return true;
	md_table_drop(md);
	md->last = 0;
	return false;
}

static int
fill_listing(const struct maildir *m, struct listing *l)
{
	const unsigned char *p = m->sizes.base, *end = p + m->sizes.used;
	struct name_cursor c = { 0 };
	struct entry *e;
	size_t used;

	while (name_next(&m->names, &c)) {
		if ((e = listing_add(l, c.name.place, c.name.text, c.name.len)) == NULL ||
		    (used = get_sizes(p, end, e)) == 0)
			return -1;
		p += used;
		e->stamp = c.name.stamp;
		e->known = true;
		e->listed = m->folders[e->place].proven;
	}
	l->from_index = l->count;
	return p == end ? 0 : -1;
}

static void
believe_folders(struct maildir *m, const struct header *h, const struct timespec *now)
{
	struct folder *f;
	int i;

	for (i = 0; i < FOLDERS; i++) {
		f = &m->folders[i];
		f->state = h->state[i];
		f->taken = *now;
		f->listed = f->proven = f->fd != -1 && h->vouched[i] == 1 && folder_unchanged(f);
	}
}

static int
load(struct maildir *m, int fd)
{
	struct names *names = &m->names;
	struct timespec now;
	struct header h;
	struct stat st;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    read_full(fd, &h, sizeof(h)) != IO_DONE || !plausible(&h, (uint64_t)st.st_size) ||
	    read_part(fd, &names->stream, h.names_bytes, h.names_sum) == -1 ||
	    read_part(fd, &m->sizes, h.sizes_bytes, h.sizes_sum) == -1 || names_check(names, (uint32_t)h.count) == -1)
		return -1;
	believe_folders(m, &h, &now);
	return 0;
}

static void
forget(struct maildir *m)
{
	int i;

	names_free(&m->names);
	pile_free(&m->sizes);
	for (i = 0; i < FOLDERS; i++)
		m->folders[i].listed = m->folders[i].proven = false;
}

void
maildir_index_load(struct maildir *m)
{
	int fd = openat(m->fd, INDEX_FILE, MESSAGE_OPEN);

	if (fd == -1)
		return;
	if (load(m, fd) == -1)
		forget(m);
	close(fd);
}

void
maildir_index_list(struct maildir *m, struct listing *l)
{
	if (m->names.count > 0 && fill_listing(m, l) == -1) {
		forget(m);
		listing_free(l);
		*l = (struct listing){ 0 };
	}
	pile_free(&m->sizes);
}

void
maildir_index_drop(struct maildir *m)
{
	unlinkat(m->fd, INDEX_FILE, 0);
}

/*
 * In microseconds, as measured: opening and reading a file 3, 3,000 bytes of it 1, reading, ordering and matching a name 1;
 * making the index 100, and 1 for 10 messages.  A mailbox of a few messages never gets one.
 */
static bool
pays(const struct maildir *m, const struct listing *l)
{
	uint64_t saved = 3 * l->files_read + l->bytes_read / 3000, cost = 100 + l->count / 10;

	if (m->folders[PLACE_NEW].listed && m->folders[PLACE_CUR].listed)
		saved += l->names_read;
	return saved > cost || l->from_index / 2 > l->count + 1000;
}

static int
pack_sizes(const struct listing *l, struct pile *sizes)
{
	const struct entry *e = listing_entries(l), *end = listing_end(l);
	unsigned char *p;

	if (pile_reserve(sizes, (size_t)l->count * SIZES_MOST) == -1)
		return -1;
	for (p = sizes->base; e < end; e++) {
		memcpy(p, &e->inode, sizeof(e->inode));
		p += sizeof(e->inode);
		p += varint_put(p, e->bytes);
		p += varint_put(p, e->octets - e->bytes);
	}
	sizes->used = (size_t)(p - sizes->base);
	return 0;
}

/*
 * Whether the folder was at least FOLDER_AGE_SEC old when its names were read: by written, the time that the file system gave
 * to a file now.
 */
static bool
was_old(const struct folder *f, const struct timespec *written)
{
	int64_t elapsed, youngest = f->state.mtime_sec > f->state.ctime_sec ? f->state.mtime_sec : f->state.ctime_sec;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	elapsed = now.tv_sec - f->taken.tv_sec + 1;	/* both rounded down */
	return youngest < written->tv_sec - elapsed - FOLDER_AGE_SEC;
}

static int
make_header(const struct maildir *m, struct header *h, int fd)
{
	const struct folder *f;
	struct stat st;
	int i;

	if (fstat(fd, &st) == -1)
		return -1;
	for (i = 0; i < FOLDERS; i++) {
		f = &m->folders[i];
		h->state[i] = f->state;
		h->vouched[i] = f->listed && !f->partial && (f->proven || was_old(f, &st.st_mtim));
	}
	h->sum = header_sum(h);
	return 0;
}

/* The file was just made, so its time is the file system's now. */
static int
write_index(const struct maildir *m, const struct listing *l, int fd)
{
	const struct pile *names = &m->names.stream;
	struct header h = { .version = INDEX_VERSION, .count = l->count, .names_bytes = names->used };
	struct pile sizes = { 0 };
	int result = -1;

	if (pack_sizes(l, &sizes) == 0) {
		h.sizes_bytes = sizes.used;
		h.names_sum = XXH3_64bits(names->base, names->used);
		h.sizes_sum = XXH3_64bits(sizes.base, sizes.used);
		if (make_header(m, &h, fd) == 0 && write_full(fd, &h, sizeof(h)) == 0 &&
		    write_full(fd, names->base, names->used) == 0 && write_full(fd, sizes.base, sizes.used) == 0)
			result = 0;
	}
	pile_free(&sizes);
	return result;
}

/* A file of that name that is there already was left by a session that was killed. */
static int
create_new(const struct maildir *m)
{
	unlinkat(m->fd, INDEX_NEW, 0);
	return openat(m->fd, INDEX_NEW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

void
maildir_index_save(struct maildir *m, const struct listing *l)
{
	int fd, result;

	if (!pays(m, l))
		return;
	if (l->count == 0) {
		maildir_index_drop(m);
		return;
	}
	if ((fd = create_new(m)) == -1)
		return;
	result = write_index(m, l, fd);
	if (close(fd) == -1 || result == -1 || renameat(m->fd, INDEX_NEW, m->fd, INDEX_FILE) == -1)
		unlinkat(m->fd, INDEX_NEW, 0);
}
