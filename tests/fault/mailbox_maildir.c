/* Maildirs for the programs that stop an UPDATE in its middle. */
#include "mailbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "maildrop/octets.h"

static const char *const folders[] = { "tmp", "new", "cur" };

#define FOLDERS_COUNT (sizeof(folders) / sizeof(folders[0]))

static void
path_of(char path[512], const struct place *place, const char *name)
{
	if (snprintf(path, 512, "%s/%s", place->path, name) >= 512)
		bail("a path is too long");
}

static void
maildir_place(const struct place *place)
{
	char path[512];
	size_t i;

	if (mkdir(place->path, 0700) == -1)
		bail(place->path);
	for (i = 0; i < FOLDERS_COUNT; i++) {
		path_of(path, place, folders[i]);
		if (mkdir(path, 0700) == -1)
			bail(path);
	}
}

static void
clear(const struct place *place)
{
	char path[512];
	size_t i;

	for (i = 0; i < FOLDERS_COUNT; i++) {
		path_of(path, place, folders[i]);
		clear_folder(path);
	}
	clear_folder(place->path);
}

static void
maildir_unplace(const struct place *place)
{
	char path[512];
	size_t i;

	clear(place);
	for (i = 0; i < FOLDERS_COUNT; i++) {
		path_of(path, place, folders[i]);
		if (rmdir(path) == -1)
			bail(path);
	}
	if (rmdir(place->path) == -1)
		bail(place->path);
}

/* In the order of the names.  Some messages are equal but for the name, some names tell no time, or the same one. */
static void
maildir_make(struct mailbox *mailbox, uint64_t *seed)
{
	static const char *const flags[] = { "", ":2,", ":2,S", ":2,FR", ":2,RS" };
	uint32_t i, time = 1700000000, text = 0;
	struct stored *s;

	mailbox->indexed = random_below(seed, 2) == 0;
	if ((mailbox->stored = calloc(mailbox->count, sizeof(*mailbox->stored))) == NULL)
		bail("memory");
	for (i = 0; i < mailbox->count; i++) {
		s = &mailbox->stored[i];
		if (random_below(seed, 4) > 0)
			text++;
		time += random_below(seed, 3);
		s->text = random_message(&(uint64_t){ 99 + text }, text, 12);
		if (random_below(seed, 2) == 0)
			snprintf(s->name, sizeof(s->name), "new/%u.M%uP7.host", time, 1000 + i);
		else
			snprintf(s->name, sizeof(s->name), "cur/%u.M%uP7.host%s", time, 1000 + i, flags[random_below(seed, 5)]);
		if (random_below(seed, 2) == 0 && !md_marked(mailbox->deleted, i + 1))
			mailbox->read[i / 8] |= (unsigned char)(1u << i % 8);
	}
}

#define UNFINISHED "tmp/1700000000.M1P1.host"

static void
maildir_put(const struct place *place, const struct mailbox *mailbox)
{
	char path[512];
	uint32_t i;

	clear(place);
	for (i = 0; i < mailbox->count; i++) {
		path_of(path, place, mailbox->stored[i].name);
		file_write(path, mailbox->stored[i].text);
	}
	path_of(path, place, UNFINISHED);
	file_write(path, mailbox->stored[0].text);
}

static void
late_name(char name[80], uint32_t n)
{
	snprintf(name, 80, "new/1900000000.M%uP8.host", n);
}

static void
maildir_deliver(const struct place *place, uint32_t n)
{
	struct text message = late_message(n);
	char name[80], path[512];

	late_name(name, n);
	path_of(path, place, name);
	file_write(path, message);
	free(message.p);
}

/* --- what has become of it --- */

/* The messages found: how often each, those that came late behind the mailbox's own. */
struct sight {
	const struct place *place;
	const struct mailbox *mailbox;
	uint32_t seen[128];
	ino_t inodes[128];
	bool wrong;
};

static bool
same_base(const char *a, const char *b)
{
	size_t len = strcspn(a, ":");

	return strcspn(b, ":") == len && strncmp(a, b, len) == 0;
}

/* Which message bears that base name, and what it holds. */
static uint32_t
find_message(const struct mailbox *mailbox, const char *file, struct text *text)
{
	char name[80];
	uint32_t i;

	for (i = 0; i < mailbox->count; i++) {
		*text = mailbox->stored[i].text;
		if (same_base(mailbox->stored[i].name + strlen("new/"), file))
			return i;
	}
	for (i = 1; i < 32; i++) {
		late_name(name, i);
		if (!same_base(name + strlen("new/"), file))
			continue;
		*text = late_message(i);
		return mailbox->count + i;
	}
	return UINT32_MAX;
}

/* Two links to one file are one message: a move to cur/ that a power failure cut short. */
static void
look_at_file(struct sight *s, const char *path, const char *file)
{
	struct text expected = { NULL, 0 }, text;
	uint32_t i = find_message(s->mailbox, file, &expected);
	struct stat st;

	if (i == UINT32_MAX || lstat(path, &st) == -1) {
		printf("# a file that should not be there: %s\n", path);
		s->wrong = true;
		return;
	}
	text = file_read(path);
	if (!text_equal(text, expected) || (s->seen[i] > 0 && s->inodes[i] != st.st_ino)) {
		printf("# another text, or twice there: %s\n", path);
		s->wrong = true;
	}
	free(text.p);
	if (i >= s->mailbox->count)
		free(expected.p);
	s->seen[i]++;
	s->inodes[i] = st.st_ino;
}

static void
look_at_folder(struct sight *s, const char *folder)
{
	char path[512], file[1024];
	struct dirent *e;
	DIR *dir;

	path_of(path, s->place, folder);
	if ((dir = opendir(path)) == NULL)
		bail(path);
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		look_at_file(s, file, e->d_name);
	}
	closedir(dir);
}

static enum found
judge(const struct sight *s, late_set late)
{
	const struct mailbox *mailbox = s->mailbox;
	uint32_t i, marked = 0, there = 0;
	bool wrong = s->wrong;

	for (i = 0; i < mailbox->count; i++) {
		if (md_marked(mailbox->deleted, i + 1)) {
			marked++;
			there += s->seen[i] > 0;
		} else if (s->seen[i] == 0) {
			printf("# lost: %s\n", mailbox->stored[i].name);
			wrong = true;
		}
	}
	for (i = 1; i < 32; i++)
		wrong |= (s->seen[mailbox->count + i] > 0) != ((late >> i & 1) != 0);
	return wrong ? FOUND_WRONG : there == 0 ? FOUND_AFTER : there == marked ? FOUND_BEFORE : FOUND_PART;
}

static enum found
maildir_found(const struct place *place, const struct mailbox *mailbox, late_set late)
{
	struct sight sight = { .place = place, .mailbox = mailbox };
	char path[512];

	if (mailbox->count + 32 > sizeof(sight.seen) / sizeof(sight.seen[0]))
		bail("too many messages");
	look_at_folder(&sight, "new");
	look_at_folder(&sight, "cur");
	path_of(path, place, UNFINISHED);
	sight.wrong |= access(path, F_OK) == -1;
	return judge(&sight, late);
}

/* --- what a login shows --- */

static bool
is_counted_right(struct maildrop *md, uint32_t n, ino_t *inode)
{
	struct octets octets = { 0 };
	unsigned char buf[4096];
	struct stat st;
	ssize_t got;
	int fd;

	if (md->ops->message(md, n, false, &fd) != MD_OK || fstat(fd, &st) == -1)
		return false;
	while ((got = read(fd, buf, sizeof(buf))) > 0)
		octets_add(&octets, buf, (size_t)got);
	close(fd);
	*inode = st.st_ino;
	return md->records[n - 1].bytes == octets.bytes && md->records[n - 1].octets == octets_total(&octets);
}

static bool
is_in(const ino_t *inodes, uint32_t count, ino_t inode)
{
	while (count > 0)
		if (inodes[--count] == inode)
			return true;
	return false;
}

/* Adds the files of a folder that are not among the inodes yet. */
static void
add_inodes(const struct place *place, const char *folder, ino_t inodes[128], uint32_t *count)
{
	char path[512];
	struct dirent *e;
	DIR *dir;

	path_of(path, place, folder);
	if ((dir = opendir(path)) == NULL)
		bail(path);
	while ((e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.' && !is_in(inodes, *count, e->d_ino) && *count < 128)
			inodes[(*count)++] = e->d_ino;
	closedir(dir);
}

/* Every file is one message, and every message one file, with the right size. */
static bool
maildir_list_is_right(struct maildrop *md, const struct place *place)
{
	ino_t files[128], listed[128];
	uint32_t count = 0, n;

	add_inodes(place, "new", files, &count);
	add_inodes(place, "cur", files, &count);
	if (count != md->count)
		return false;
	for (n = 1; n <= md->count; n++)
		if (!is_counted_right(md, n, &listed[n - 1]) || is_in(listed, n - 1, listed[n - 1]) ||
		    !is_in(files, count, listed[n - 1]))
			return false;
	return true;
}

const struct mailbox_ops maildir_mailbox = {
	.session = &maildir_ops,
	.place = maildir_place,
	.unplace = maildir_unplace,
	.make = maildir_make,
	.put = maildir_put,
	.found = maildir_found,
	.deliver = maildir_deliver,
	.list_is_right = maildir_list_is_right,
};
