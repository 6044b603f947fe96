#include "mailbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ioutil.h"
#include "maildrop/journal.h"
#include "maildrop/mbox_scan.h"
#include "../unit/folder.h"

uint32_t
random_below(uint64_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)((*state >> 32) % n);
}

_Noreturn void
bail(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(99);
}

/* --- texts and files --- */

void
text_append(struct text *text, const char *p, size_t len)
{
	if ((text->p = realloc(text->p, text->len + len + 1)) == NULL)
		bail("memory");
	memcpy(text->p + text->len, p, len);
	text->len += len;
}

bool
text_equal(struct text a, struct text b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static void
write_to(const char *path, struct text text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	if (fd == -1 || write_full(fd, text.p, text.len) == -1 || close(fd) == -1)
		bail(path);
}

void
file_write(const char *path, struct text text)
{
	write_to(path, text, O_TRUNC);
}

struct text
file_read(const char *path)
{
	struct text text = { NULL, 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1 || (text.p = malloc((size_t)st.st_size + 1)) == NULL)
		bail(path);
	text.len = (size_t)st.st_size;
	if (text.len > 0 && read_full(fd, text.p, text.len) != IO_DONE)
		bail(path);
	close(fd);
	return text;
}

/* --- the place --- */

void
clear_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	if (dir == NULL)
		bail(path);
	while ((e = readdir(dir)) != NULL)
		if (e->d_type != DT_DIR && unlinkat(dirfd(dir), e->d_name, 0) == -1)
			bail(e->d_name);
	closedir(dir);
}

static const struct mailbox_ops *ops_of(enum maildrop_kind kind);

void
place_make(struct place *place, const char *name, enum maildrop_kind kind)
{
	snprintf(place->folder, sizeof(place->folder), "%s/postern-%s.XXXXXX", test_tmp(), name);
	if (mkdtemp(place->folder) == NULL)
		bail(place->folder);
	snprintf(place->path, sizeof(place->path), "%s/mail", place->folder);
	snprintf(place->state, sizeof(place->state), "%s/state", place->folder);
	if (mkdir(place->state, 0700) == -1)
		bail(place->state);
	place->plan = (struct maildrop_plan){ .user = "user", .kind = kind, .path = place->path,
		.state = place->state, .keeper = -1, .lock_timeout = 1 };
	ops_of(kind)->place(place);
}

void
place_remove(struct place *place)
{
	ops_of(place->plan.kind)->unplace(place);
	clear_folder(place->folder);
	clear_folder(place->state);
	if (rmdir(place->state) == -1 || rmdir(place->folder) == -1)
		bail(place->folder);
}

/* --- the mailbox --- */

static void
add_line(struct text *text, uint64_t *seed)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz  .>\t";
	char line[100];
	size_t len = random_below(seed, 70), i;

	for (i = 0; i < len; i++)
		line[i] = letters[random_below(seed, sizeof(letters) - 1)];
	if (random_below(seed, 20) == 0)
		line[len++] = '\r';
	line[len++] = '\n';
	text_append(text, line, len);
}

struct text
random_message(uint64_t *seed, uint32_t n, uint32_t longest)
{
	struct text text = { NULL, 0 };
	uint32_t lines = random_below(seed, longest), i;
	char head[200];
	int len = snprintf(head, sizeof(head), "From a@example.org Mon Nov 23 10:00:%02u 2026\nMessage-ID: <%u@example.org>\n\n",
	    n % 60, n);

	text_append(&text, head, (size_t)len);
	for (i = 0; i < lines; i++)
		add_line(&text, seed);
	text_append(&text, "\n", 1);
	return text;
}

struct text
late_message(uint32_t n)
{
	uint64_t seed = 77 + n;

	return random_message(&seed, 1000 + n, 12);
}

/* --- an mbox --- */

/* Messages of a mailbox that has many. */
#define MANY 40

static void
mbox_nothing(const struct place *place)
{
	(void)place;
}

static void
mbox_make(struct mailbox *mailbox, uint64_t *seed)
{
	static const uint32_t lengths[] = { 1, 3, 12, 40 };
	struct text message;
	uint64_t gap = 0;	/* before the first that moves */
	bool moves = false;
	uint32_t i;

	mailbox->block = 32 + random_below(seed, random_below(seed, 3) == 0 ? 200 : 2000);
	for (i = 0; i < mailbox->count; i++) {
		message = random_message(seed, i, lengths[random_below(seed, mailbox->count >= MANY && i < 6 ? 2 : 4)]);
		text_append(&mailbox->before, message.p, message.len);
		if (!md_marked(mailbox->deleted, i + 1))
			text_append(&mailbox->after, message.p, message.len);
		moves = moves || (gap > 0 && !md_marked(mailbox->deleted, i + 1));
		gap += moves || !md_marked(mailbox->deleted, i + 1) ? 0 : message.len;
		free(message.p);
	}
	if (mailbox->count >= MANY)
		mailbox->block = gap * (4 + random_below(seed, 12));
}

static void
mbox_put(const struct place *place, const struct mailbox *mailbox)
{
	file_write(place->path, mailbox->before);
}

static bool
is_with(struct text found, struct text text, late_set late)
{
	struct text whole = { NULL, 0 }, message;
	uint32_t n;
	bool same;

	text_append(&whole, text.p, text.len);
	for (n = 1; n < 32; n++) {
		if ((late >> n & 1) == 0)
			continue;
		message = late_message(n);
		text_append(&whole, message.p, message.len);
		free(message.p);
	}
	same = text_equal(found, whole);
	free(whole.p);
	return same;
}

static enum found
mbox_found(const struct place *place, const struct mailbox *mailbox, late_set late)
{
	struct text text = file_read(place->path);
	enum found found = is_with(text, mailbox->after, late) ? FOUND_AFTER :
		is_with(text, mailbox->before, late) ? FOUND_BEFORE : FOUND_WRONG;

	free(text.p);
	return found;
}

static void
mbox_deliver(const struct place *place, uint32_t n)
{
	struct text message = late_message(n);

	write_to(place->path, message, O_APPEND);
	free(message.p);
}

/* The records against a scan of the file as it is. */
static bool
mbox_list_is_right(struct maildrop *md, const struct place *place)
{
	struct text text = file_read(place->path);
	struct mbox_scan *scan = malloc(sizeof(*scan));
	struct mbox_list list = { .count = 0 };
	bool right;

	if (scan == NULL)
		bail("memory");
	mbox_scan_begin(scan, &list, 0);
	right = mbox_scan_feed(scan, (const unsigned char *)text.p, text.len) == MBOX_SCAN_OK &&
	    mbox_scan_end(scan) == MBOX_SCAN_OK && list.count == md->count && (list.count == 0 ||
	    memcmp(list.records, md->records, list.count * sizeof(*list.records)) == 0);
	mbox_list_free(&list);
	free(scan);
	free(text.p);
	return right;
}

static const struct mailbox_ops mbox_mailbox = {
	.session = &mbox_ops,
	.place = mbox_nothing,
	.unplace = mbox_nothing,
	.make = mbox_make,
	.put = mbox_put,
	.found = mbox_found,
	.deliver = mbox_deliver,
	.list_is_right = mbox_list_is_right,
};

/* --- either kind --- */

static const struct mailbox_ops *
ops_of(enum maildrop_kind kind)
{
	return kind == KIND_MBOX ? &mbox_mailbox : &maildir_mailbox;
}

/*
 * Few messages or, where that makes a difference, many.  Of many in an mbox few go, so that what is behind them moves in stripes;
 * each state of its disk costs more to try, so not many of them are.
 */
static uint32_t
random_count(enum maildrop_kind kind, uint64_t number, uint64_t *seed)
{
	if (kind == KIND_MAILDIR ? random_below(seed, 4) == 0 : number % 10 == 3)
		return MANY + random_below(seed, 20);
	return 1 + random_below(seed, 10);
}

/* Few or many, small or not, blocks smaller and larger than the messages. */
void
mailbox_make(struct mailbox *mailbox, enum maildrop_kind kind, uint64_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;
	uint32_t i, often;
	bool striped;

	memset(mailbox, 0, sizeof(*mailbox));
	for (i = 0; i < 8; i++)
		random_below(&state, 2);
	mailbox->kind = kind;
	mailbox->count = random_count(kind, seed, &state);
	if ((mailbox->deleted = calloc(2, mailbox->count / 8 + (size_t)1)) == NULL)
		bail("memory");
	mailbox->read = mailbox->deleted + mailbox->count / 8 + 1;
	striped = kind == KIND_MBOX && mailbox->count >= MANY;
	often = striped ? 40 : 2 + random_below(&state, 5);
	i = random_below(&state, striped ? 3 : mailbox->count);
	mailbox->deleted[i / 8] |= (unsigned char)(1u << i % 8);
	/* What is between the two moves before the stripes do, which have the other slot then. */
	if (striped && seed % 20 == 3)
		mailbox->deleted[0] |= (unsigned char)(1u << (i + 2));
	for (i = 0; i < mailbox->count; i++)
		if (random_below(&state, often) == 0)
			mailbox->deleted[i / 8] |= (unsigned char)(1u << i % 8);
	ops_of(kind)->make(mailbox, &state);
}

void
mailbox_free(struct mailbox *mailbox)
{
	uint32_t i;

	for (i = 0; mailbox->stored != NULL && i < mailbox->count; i++)
		free(mailbox->stored[i].text.p);
	free(mailbox->stored);
	free(mailbox->deleted);
	free(mailbox->before.p);
	free(mailbox->after.p);
}

void
mailbox_put(const struct place *place, const struct mailbox *mailbox)
{
	clear_folder(place->folder);
	clear_folder(place->state);
	ops_of(mailbox->kind)->put(place, mailbox);
}

enum found
mailbox_found(const struct place *place, const struct mailbox *mailbox, late_set late)
{
	return ops_of(mailbox->kind)->found(place, mailbox, late);
}

void
mailbox_deliver(const struct place *place, uint32_t n)
{
	ops_of(place->plan.kind)->deliver(place, n);
}

/* --- sessions --- */

static struct maildrop
maildrop_of(const struct place *place)
{
	return (struct maildrop){ .plan = &place->plan, .ops = ops_of(place->plan.kind)->session, .table_fd = -1, .fd = -1 };
}

void
session_update(const struct place *place, const struct mailbox *mailbox, void (*done)(void))
{
	struct maildrop md = maildrop_of(place);

	journal_block_bytes = mailbox->block;
	if (md.ops->open(&md) == MD_OK && md.count == mailbox->count) {
		md.deleted = mailbox->deleted;
		md.read = mailbox->read;
		if (md.ops->update(&md, md.count) == MD_OK)
			done();
	}
	md.ops->close(&md);
}

/* What a session leaves in a folder while it runs, and only then. */
static bool
left_nothing(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	bool clean = true;

	if (dir == NULL)
		bail(path);
	while ((e = readdir(dir)) != NULL) {
		if (strncmp(e->d_name, "journal", 7) != 0 && strcmp(e->d_name, "mail.lock") != 0 &&
		    strncmp(e->d_name, ".lk", 3) != 0)
			continue;
		printf("# left: %s\n", e->d_name);
		clean = false;
	}
	closedir(dir);
	return clean;
}

bool
session_login(const struct place *place)
{
	struct maildrop md = maildrop_of(place);
	enum md_result result = md.ops->open(&md);
	bool right = result == MD_OK && ops_of(place->plan.kind)->list_is_right(&md, place);

	if (!right)
		printf("# login: result %d, %u messages\n", (int)result, (unsigned int)md.count);
	md.ops->close(&md);
	return left_nothing(place->folder) && left_nothing(place->state) && right;
}
