/*
 * The Maildir of maildrop.h.  Runs as the authenticated user.
 *
 * Others write to the same folders without a lock: delivery agents add to new/, IMAP servers and mail readers move to cur/,
 * set flags by renaming, and remove.  What a name stands for never changes, so the base name (all before the ':') is the
 * message, and its folder and flags are only where it was seen last: a file that is not there is looked for by its base name
 * before it is called gone.  Files are never changed, only renamed and unlinked.
 *
 * UPDATE unlinks each message by itself.  A session that is killed in the middle has removed some of the messages that its
 * client wanted removed, and has not been acknowledged; there is nothing to recover.  tmp/ is left alone: what was abandoned
 * there is cleared away by delivery agents and mail readers (maildir(5): after 36 hours).
 *
 * A second session is kept out by MAILDIR/.postern-lock, which stays there; a name with a dot in front of the three folders is
 * nothing to a Maildir.
 */
#include "maildrop/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/logrecord.h"
#include "common/text.h"
#include "maildrop/session_lock.h"

#define LOCK_FILE ".postern-lock"

/* How often messages are looked for that others rename meanwhile. */
#define SEARCHES 5

/* Opening */

static enum md_result
open_folder(struct maildir *m, enum place place, const char *name)
{
	int fd = openat(m->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	m->folders[place].fd = fd;
	if (fd == -1)
		return errno == ENOENT ? MD_OK : maildir_failed(m, "open", place, "");
	if (fstat(fd, &st) == -1)
		return maildir_failed(m, "stat", place, "");
	if (st.st_uid == geteuid())
		return MD_OK;
	log_note(LOG_ERR, "maildir path=\"%s\" file=\"%s\" owner=%lu error=\"the folder is not the user's\"", m->shown_path,
	    name, (unsigned long)st.st_uid);
	return MD_PERMANENT;
}

static enum md_result
take_lock(struct maildir *m, const char *path)
{
	char lock_path[PATH_BYTES + sizeof("/" LOCK_FILE)];
	int n = snprintf(lock_path, sizeof(lock_path), "%s/%s", path, LOCK_FILE);

	if (n < 0 || (size_t)n >= sizeof(lock_path)) {
		errno = ENAMETOOLONG;
		return maildir_failed(m, "lock", PLACE_GONE, LOCK_FILE);
	}
	if ((m->lock = session_lock_take(lock_path)) != -1)
		return MD_OK;
	return errno == EAGAIN ? MD_IN_USE : maildir_failed(m, "lock", PLACE_GONE, LOCK_FILE);
}

/* An absent Maildir is an empty one, and stays absent: the delivery agent makes it. */
static enum md_result
open_maildir(struct maildir *m, const char *path)
{
	enum md_result result;

	if ((m->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return errno == ENOENT ? MD_OK : maildir_failed(m, "open", PLACE_GONE, "");
	if ((result = take_lock(m, path)) != MD_OK || (result = open_folder(m, PLACE_NEW, "new")) != MD_OK)
		return result;
	return open_folder(m, PLACE_CUR, "cur");
}

/* The index brought the names, and nothing has changed since. */
static bool
names_kept(const struct maildir *m, const struct listing *l)
{
	return m->folders[PLACE_NEW].proven && m->folders[PLACE_CUR].proven && m->names.count == l->count;
}

static int
keep_names(struct maildir *m, const struct listing *l)
{
	const struct entry *e = listing_entries(l), *end = listing_end(l);

	if (names_kept(m, l))
		return 0;
	names_free(&m->names);
	for (; e < end; e++)
		if (names_add(&m->names, entry_text(l, e), e->len, e->place, e->stamp) == -1)
			return -1;
	pile_trim(&m->names.stream);
	pile_trim(&m->names.blocks);
	return 0;
}

static int
fill_table(struct maildrop *md, const struct listing *l)
{
	const struct entry *e = listing_entries(l), *end = listing_end(l);
	static struct record records[TABLE_PIECE];
	size_t n;

	while (e < end) {
		for (n = 0; n < TABLE_PIECE && e < end; n++, e++) {
			records[n] = (struct record){ .bytes = e->bytes, .octets = e->octets };
			if (name_seen(entry_text(l, e), e->len))
				md->last = md->count + (uint32_t)n + 1;
		}
		if (md_table_add(md, records, n) == -1)
			return -1;
	}
	return md_table_end(md);
}

static enum md_result
scan(struct maildrop *md, struct maildir *m, struct listing *l)
{
	enum md_result result;

	maildir_index_load(m);
	if (maildir_index_table(md, m))
		return MD_OK;
	if ((result = maildir_scan(m, l)) != MD_OK)
		return result;
	if (l->count > MESSAGES_MAX) {
		errno = EOVERFLOW;
		return maildir_failed(m, "count", PLACE_GONE, "");
	}
	if (keep_names(m, l) == -1 || fill_table(md, l) == -1)
		return maildir_failed(m, "table", PLACE_GONE, "");
	maildir_index_save(m, l);
	return MD_OK;
}

static enum md_result
maildir_open(struct maildrop *md)
{
	char shown[PATH_BYTES * 4];
	struct maildir *m = calloc(1, sizeof(*m));
	struct listing l = { 0 };
	enum md_result result;

	if (m == NULL)
		return MD_TEMPORARY;
	md->private = m;
	md->fd = -1;
	m->fd = m->lock = m->folders[PLACE_NEW].fd = m->folders[PLACE_CUR].fd = -1;
	m->shown_path = strdup(text_escape(shown, sizeof(shown), md->plan->path, strlen(md->plan->path)));
	if (m->shown_path == NULL)
		return MD_TEMPORARY;
	if ((result = open_maildir(m, md->plan->path)) == MD_OK)
		result = scan(md, m, &l);
	listing_free(&l);
	pile_free(&m->sizes);
	return result;
}

/* Messages */

/* The descriptor, or -1 with errno; ENOENT if the file is not where it was seen last. */
static int
open_seen(const struct maildir *m, const struct name *name)
{
	if (name->place < FOLDERS)
		return openat(m->folders[name->place].fd, name->text, MESSAGE_OPEN);
	errno = ENOENT;
	return -1;
}

/* One search finds the names of all messages; what it does not find is not looked for again. */
static int
open_message(struct maildir *m, uint32_t n, struct name *name)
{
	int fd;

	names_get(&m->names, n - 1, name);
	if ((fd = open_seen(m, name)) != -1 || errno != ENOENT || name->place >= FOLDERS)
		return fd;
	if (maildir_search(m) == -1)
		return -1;
	names_get(&m->names, n - 1, name);
	return open_seen(m, name);
}

static enum md_result
message_ahead(const struct maildrop *md, uint32_t n, int *fd)
{
	const struct maildir *m = md->private;
	struct name name;

	names_get(&m->names, n - 1, &name);
	if ((*fd = open_seen(m, &name)) == -1)
		return MD_GONE;
	if (maildir_still(&name, &md->records[n - 1], *fd))
		return MD_OK;
	close(*fd);
	*fd = -1;
	return MD_GONE;
}

static enum md_result
maildir_message(struct maildrop *md, uint32_t n, bool ahead, int *fd)
{
	struct maildir *m = md->private;
	char shown[NAME_MAX * 4 + 1];
	struct name name;

	if (ahead)
		return message_ahead(md, n, fd);
	if ((*fd = open_message(m, n, &name)) == -1) {
		if (errno == ENOENT)
			return MD_GONE;
		return maildir_failed(m, "open", name.place, name.text) == MD_PERMANENT ? MD_GONE : MD_TEMPORARY;
	}
	if (maildir_still(&name, &md->records[n - 1], *fd))
		return MD_OK;
	log_note(LOG_WARNING, "maildir path=\"%s\" file=\"%s\" error=\"changed since it was delivered\"", m->shown_path,
	    text_escape(shown, sizeof(shown), name.text, name.len));
	maildir_index_drop(m);
	close(*fd);
	*fd = -1;
	return MD_GONE;
}

static enum md_result
maildir_verify(struct maildrop *md)
{
	(void)md;
	return MD_OK;
}

/* Unique-ids */

/*
 * An id that stands for itself has no ':', since a base name ends there; one that is made begins with this.  So no file can
 * be named to collide with another's.
 */
#define HASHED "hash:"
#define HASHED_BYTES 16

/* procmail, delivering to a folder that it does not take for a Maildir: msg.<inode>, and inodes come again. */
#define PROCMAIL_NAME "msg."

static bool
stands_for_itself(const char *base, size_t len)
{
	return unique_id_possible(base, len) && strncmp(base, PROCMAIL_NAME, strlen(PROCMAIL_NAME)) != 0;
}

/*
 * The hash is over all that tells the message from others and stays: the base name; the whole name and the folder if another
 * file has that base name; size and time where the name can come again.  '/' is in no name, so the parts are distinct.
 */
static size_t
hashed_id(const struct name *name, bool shared, uint64_t bytes, char *out)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = shared ? name->len : name_base(name->text, name->len), i;
	unsigned char digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	char more[64];

	sha256_init(&ctx);
	sha256_update(&ctx, len, (const uint8_t *)name->text);
	if (shared)
		sha256_update(&ctx, 4, (const uint8_t *)(name->place == PLACE_NEW ? "/new" : "/cur"));
	if (strncmp(name->text, PROCMAIL_NAME, strlen(PROCMAIL_NAME)) == 0) {
		snprintf(more, sizeof(more), "/%llu/%llu", (unsigned long long)bytes, (unsigned long long)name->stamp);
		sha256_update(&ctx, strlen(more), (const uint8_t *)more);
	}
	sha256_digest(&ctx, sizeof(digest), digest);
	memcpy(out, HASHED, strlen(HASHED));
	out += strlen(HASHED);
	for (i = 0; i < HASHED_BYTES; i++) {
		*out++ = hex[digest[i] >> 4];
		*out++ = hex[digest[i] & 15];
	}
	return strlen(HASHED) + 2 * (size_t)HASHED_BYTES;
}

/* A name, of no octets where there is none, and how much of it is its base name. */
struct base {
	struct name name;
	size_t len;
};

static bool
same_base(const struct base *a, const struct base *b)
{
	return a->name.len > 0 && b->name.len > 0 && a->len == b->len && memcmp(a->name.text, b->name.text, a->len) == 0;
}

static bool
put_id(const struct base *base, bool shared, const struct record *r, bool (*put)(const char *id, size_t len))
{
	char id[UNIQUE_ID_OCTETS];

	if (!shared && stands_for_itself(base->name.text, base->len))
		return put(base->name.text, base->len);
	return put(id, hashed_id(&base->name, shared, r->bytes, id));
}

static void
next_base(const struct names *names, struct name_cursor *c, struct base *next)
{
	next->name.len = 0;
	if (!name_next(names, c))
		return;
	memcpy(next->name.text, c->name.text, c->name.len + 1);
	next->name.len = c->name.len;
	next->name.place = c->name.place;
	next->name.stamp = c->name.stamp;
	next->len = name_base(next->name.text, next->name.len);
}

/* Messages with one base name stand together. */
static enum md_result
maildir_unique_ids(struct maildrop *md, uint32_t first, bool (*put)(const char *id, size_t len))
{
	struct maildir *m = md->private;
	const struct names *names = m->first_names.count > 0 ? &m->first_names : &m->names;
	struct base ring[2];	/* message n is at n % 2, and the next one comes over the one before */
	struct name_cursor c;
	uint32_t i = first - 1;
	bool like_before, like_next, more = true;

	name_seek(names, i > 0 ? i - 1 : 0, &c);
	ring[(i + 1) % 2].name.len = 0;
	if (i > 0)
		next_base(names, &c, &ring[(i - 1) % 2]);
	next_base(names, &c, &ring[i % 2]);
	like_next = same_base(&ring[0], &ring[1]);
	for (; more && i < md->count; i++) {
		like_before = like_next;
		next_base(names, &c, &ring[(i + 1) % 2]);
		like_next = same_base(&ring[0], &ring[1]);
		more = put_id(&ring[i % 2], like_before || like_next, &md->records[i], put);
	}
	return MD_OK;
}

/* UPDATE */

struct sweep {
	unsigned char *pending;	/* marked messages whose files may still be there */
	bool changed[FOLDERS];	/* need fsync */
	bool failed;		/* something that was to be removed is still there; logged */
};

static void
clear_mark(unsigned char *bitmap, uint32_t n)
{
	bitmap[(n - 1) / 8] &= (unsigned char)~(1u << ((n - 1) % 8));
}

enum removal { REMOVED, NOT_THERE, NOT_REMOVED };

/* Whoever removed a message that is gone, that has to be durable too. */
static enum removal
unlink_message(struct maildir *m, const struct name *name, struct sweep *s)
{
	if (name->place == PLACE_GONE)
		s->changed[PLACE_NEW] = s->changed[PLACE_CUR] = true;
	if (name->place >= FOLDERS)
		return name->place == PLACE_GONE ? REMOVED : NOT_THERE;
	if (unlinkat(m->folders[name->place].fd, name->text, 0) == 0) {
		s->changed[name->place] = true;
		return m->linked ? NOT_THERE : REMOVED;	/* there may be another name of it */
	}
	if (errno == ENOENT)
		return NOT_THERE;
	if (!s->failed)
		maildir_failed(m, "unlink", name->place, name->text);
	return NOT_REMOVED;
}

/* One walk over all names.  Returns how many marked messages have to be looked for. */
static uint32_t
unlink_pending(struct maildrop *md, struct sweep *s)
{
	struct maildir *m = md->private;
	struct name_cursor c = { 0 };
	enum removal removal;
	uint32_t left = 0;

	while (name_next(&m->names, &c)) {
		if (!md_marked(s->pending, c.next))
			continue;
		removal = unlink_message(m, &c.name, s);
		md->removed += removal == REMOVED;
		left += removal == NOT_THERE;
		s->failed |= removal == NOT_REMOVED;
		if (removal != NOT_THERE)
			clear_mark(s->pending, c.next);
	}
	return left;
}

/* What was not where it was seen last is looked for, and unlinked there, until it is gone for certain. */
static void
remove_marked(struct maildrop *md, struct sweep *s)
{
	int searches = 0;

	while (unlink_pending(md, s) > 0) {
		if (searches++ < SEARCHES && maildir_search(md->private) == 0)
			continue;
		log_note(LOG_WARNING, "maildir path=\"%s\" error=\"messages are renamed faster than they can be removed\"",
		    ((struct maildir *)md->private)->shown_path);
		s->failed = true;
		return;
	}
}

/* The name in cur/ with S among its flags, which are in the order of ASCII.  False if it has none that can be told. */
static bool
seen_name(const struct name *name, char *out)
{
	const char *flags = name_flags(name->text, name->len);
	size_t at;

	if (flags == NULL) {
		if (name_base(name->text, name->len) != name->len || name->len + strlen(":2,S") > NAME_MAX)
			return false;
		memcpy(out, name->text, name->len);
		memcpy(out + name->len, ":2,S", sizeof(":2,S"));
		return true;
	}
	for (at = (size_t)(flags - name->text); at < name->len && name->text[at] < 'S';)
		at++;
	if (name->text[at] == 'S') {
		memcpy(out, name->text, name->len + 1);
		return true;
	}
	memcpy(out, name->text, at);
	out[at] = 'S';
	memcpy(out + at + 1, name->text + at, name->len - at + 1);
	return name->len + 1 <= NAME_MAX;
}

#ifndef __GLIBC__
int renameat2(int from, const char *old, int to, const char *name, unsigned flags);	/* musl/glibc_names.c */
#endif

/* Never over another file.  A file system that cannot promise that (NFS) can link, which does. */
static int
rename_new(int from, const char *old, int to, const char *name)
{
	if (renameat2(from, old, to, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (linkat(from, old, to, name, 0) == -1)
		return -1;
	return unlinkat(from, old, 0);
}

/* Notes one message as read.  True if its file is not where it was seen last. */
static bool
mark_seen(struct maildir *m, const struct name *name, struct sweep *s)
{
	char now[NAME_MAX + sizeof(":2,S")];
	int from, to = m->folders[PLACE_CUR].fd;

	if (name->place >= FOLDERS || to == -1 || !seen_name(name, now))
		return false;
	if (name->place == PLACE_CUR && strcmp(now, name->text) == 0)
		return false;
	from = m->folders[name->place].fd;
	if (rename_new(from, name->text, to, now) == -1)
		return errno == ENOENT;
	s->changed[name->place] = s->changed[PLACE_CUR] = true;
	return false;
}

static bool
mark_all(struct maildrop *md, uint32_t last, struct sweep *s)
{
	struct maildir *m = md->private;
	struct name_cursor c = { 0 };
	bool missing = false;

	while (name_next(&m->names, &c))
		if ((md_marked(md->read, c.next) || c.next == last) && !md_marked(md->deleted, c.next))
			missing |= mark_seen(m, &c.name, s);
	return missing;
}

/* Only LAST depends on it, so the client is not told what is in the way; what was renamed meanwhile is looked for once. */
static void
mark_read(struct maildrop *md, uint32_t last, struct sweep *s)
{
	if (mark_all(md, last, s) && maildir_search(md->private) == 0)
		mark_all(md, last, s);
}

/*
 * cur/ first: where a file system makes each folder durable by itself, a file moved from new/ to cur/ must not be gone from
 * the one before it is in the other.
 */
static int
sync_changed(struct maildir *m, const struct sweep *s)
{
	static const enum place order[FOLDERS] = { PLACE_CUR, PLACE_NEW };
	int i, result = 0;

	for (i = 0; i < FOLDERS; i++) {
		enum place place = order[i];

		if (!s->changed[place] || m->folders[place].fd == -1 || fsync(m->folders[place].fd) == 0)
			continue;
		maildir_failed(m, "fsync", place, "");
		result = -1;
	}
	return result;
}

/* The index is not written here: the next session reads the folders that changed, and then knows whether it pays. */
static enum md_result
maildir_update(struct maildrop *md, uint32_t last)
{
	struct maildir *m = md->private;
	size_t bytes = (md->count + (size_t)7) / 8;
	struct sweep s = { 0 };
	int synced;

	if (md->count == 0)
		return MD_OK;
	if ((s.pending = malloc(bytes)) == NULL)
		return MD_TEMPORARY;
	memcpy(s.pending, md->deleted, bytes);
	remove_marked(md, &s);
	mark_read(md, last, &s);
	synced = sync_changed(m, &s);
	if (md->removed == md->count)
		maildir_index_drop(m);
	free(s.pending);
	return s.failed || synced == -1 ? MD_TEMPORARY : MD_OK;
}

static void
maildir_close(struct maildrop *md)
{
	struct maildir *m = md->private;
	int i;

	if (m == NULL)
		return;
	for (i = 0; i < FOLDERS; i++)
		if (m->folders[i].fd != -1)
			close(m->folders[i].fd);
	if (m->lock != -1)
		close(m->lock);
	if (m->fd != -1)
		close(m->fd);
	names_free(&m->names);
	names_free(&m->first_names);
	md_table_drop(md);
	free(m->shown_path);
	free(m);
	md->private = NULL;
}

const struct maildrop_kind_ops maildir_ops = {
	.open = maildir_open,
	.message = maildir_message,
	.verify = maildir_verify,
	.unique_ids = maildir_unique_ids,
	.update = maildir_update,
	.close = maildir_close,
};
