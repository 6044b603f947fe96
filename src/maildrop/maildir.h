/*
 * Maildir: what maildir.c (the operations), maildir_scan.c (the folders, the order, the sizes) and maildir_index.c (the
 * cache) share.  Runs as the authenticated user.
 */
#ifndef MAILDROP_MAILDIR_H
#define MAILDROP_MAILDIR_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "maildrop/maildir_names.h"
#include "maildrop/maildrop.h"
#include "maildrop/pile.h"

/*
 * A folder's identity and times.  Every delivery, removal and rename in it changes the times, so that names read when they
 * were these are the names still.  No device number: front ends on one shared file system see different ones.
 */
struct folder_state {
	uint64_t inode;
	int64_t mtime_sec, mtime_nsec;
	int64_t ctime_sec, ctime_nsec;
};

/* new/ or cur/. */
struct folder {
	int fd;				/* -1: not there, so empty */
	bool listed;			/* the listing has its names, as they were in state */
	bool proven;			/* the index told them, and vouched for state */
	bool partial;			/* a name was left out that may count another time: the index must not vouch */
	bool recent;			/* state was so young that a change after it may bear the same times */
	struct folder_state state;	/* taken before the names were read */
	struct timespec taken;		/* when, by CLOCK_MONOTONIC */
};

/* A name that was seen; while a Maildir is opened or searched. */
struct entry {
	uint64_t time;			/* name_time() */
	uint64_t bytes, octets, stamp;	/* if known */
	uint32_t text;			/* where its name starts in texts */
	uint32_t inode;			/* the low half; names and inode prove that the file is the one of the index */
	uint32_t number;		/* maildir_search(): message n of the session; 0: found in a folder */
	uint8_t len, base;		/* octets of the name and of its base name */
	uint8_t place;
	bool listed : 1;		/* found in its folder by the last reading; otherwise remembered */
	bool known : 1;			/* bytes, octets and stamp are */
};

struct listing {
	struct pile entries;		/* struct entry, count of them */
	struct pile texts;		/* the names, each ended by NUL */
	struct pile buffer;		/* for folders and files */
	uint32_t count;
	uint32_t ordered;		/* the first ones are in order */
	/* what it took, to decide whether an index pays */
	uint64_t names_read, files_read, bytes_read;
	uint32_t from_index;		/* entries that the index had */
};

struct maildir {
	int fd;				/* the Maildir itself; -1: there is none */
	int lock;
	char *shown_path;		/* for the log */
	struct folder folders[FOLDERS];
	struct names names;		/* of message n at n - 1 */
	struct pile sizes;		/* of the names, as the index has them; only while the Maildir is opened */
	struct names first_names;	/* those of the login, once a search has found newer ones: unique-ids are made of them */
	bool linked;			/* a message has two names: a move from new/ to cur/ that was cut short */
};

static inline struct entry *
listing_entries(const struct listing *l)
{
	return (struct entry *)(void *)l->entries.base;
}

static inline struct entry *
listing_end(const struct listing *l)
{
	return l->count == 0 ? listing_entries(l) : listing_entries(l) + l->count;
}

static inline const char *
entry_text(const struct listing *l, const struct entry *e)
{
	return (const char *)l->texts.base + e->text;
}

/* Adds an entry with that name.  NULL with errno when there is no memory, or more names than MESSAGES_MAX. */
struct entry *listing_add(struct listing *l, enum place place, const char *name, size_t len);

void listing_free(struct listing *l);

/* Logs errno with what was tried on name (relative to the Maildir), and tells which result it makes. */
enum md_result maildir_failed(const struct maildir *m, const char *what, enum place place, const char *name);

/*
 * Lists the messages with their sizes, in the order of the message-numbers, into an empty listing.  What the index knows is
 * not read again; every other file is read once.  Sets m->linked.
 */
enum md_result maildir_scan(struct maildir *m, struct listing *l);

/*
 * Looks for all messages by their base names and notes the places and names that they have now.  PLACE_GONE only if the
 * folders were still while they were read.  0, or -1 (logged).
 */
int maildir_search(struct maildir *m);

/* Whether fd, of that name, is still the file that was counted. */
bool maildir_still(const struct name *name, const struct record *r, int fd);

/* Whether the folder is as it was in state. */
bool folder_unchanged(const struct folder *f);

/* Every fstatat(2) and openat(2) of a message's file. */
#define MESSAGE_OPEN (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

#define INDEX_FILE ".postern-index"

/*
 * Fills m->names and m->sizes with what the index has, sets state, listed and proven of the folders that have not changed
 * since.  No index, or one that is damaged: both stay empty.
 */
void maildir_index_load(struct maildir *m);

/* No folder has changed since: makes the table of what the index has.  False if it has to be looked at more closely. */
bool maildir_index_table(struct maildrop *md, const struct maildir *m);

/* Fills the empty listing with what the index has. */
void maildir_index_list(struct maildir *m, struct listing *l);

/* Writes the index if it will save more time than it takes.  It is a cache: errors are ignored. */
void maildir_index_save(struct maildir *m, const struct listing *l);

/* When a file turned out to differ from what the index says. */
void maildir_index_drop(struct maildir *m);

#endif
