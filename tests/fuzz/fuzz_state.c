/*
 * The state folder of an mbox, made by somebody who knows how: where the input says so, index and journal name the mbox at hand
 * (its inode, size and times, which a fuzzer cannot guess), so that all behind that check is reached.  Then two sessions, the
 * second on what the first has left.  The input: which of them to mend, the mbox, index, journal, last, the session's messages.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "maildrop/journal.h"
#include "maildrop/mbox_index.h"

#define PART_BYTES 16384

/* struct header of maildrop/journal.c begins like this. */
struct journal_start {
	char magic[16];
	unsigned char id[16], nonce[32];
	uint64_t ino, size;
};

enum { MEND_INDEX = 1, MEND_INDEX_GROWN = 2, MEND_JOURNAL = 4, MEND_JOURNAL_SIZE = 8, TWICE = 16 };

static void
put_index(struct fuzz_input piece, const struct stat *st, unsigned mend)
{
	static unsigned char file[sizeof(struct index_header) + PART_BYTES];
	struct index_header h;
	size_t len = piece.len < PART_BYTES ? piece.len : PART_BYTES;

	memset(file, 0, sizeof(h));
	memcpy(file, piece.p, len);
	if ((mend & MEND_INDEX) != 0) {
		memcpy(&h, file, sizeof(h));
		memcpy(h.magic, "postern index 2", sizeof(h.magic));
		h.dev = st->st_dev;
		h.ino = st->st_ino;
		file_state_of(st, &h.state);
		if ((mend & MEND_INDEX_GROWN) != 0)
			h.state.size /= 2;
		h.end = h.state.size;
		h.begin = h.begin < h.end ? h.begin : 0;
		h.count %= 64;
		h.believed %= h.count + 1;
		h.tail_hash = h.records_hash = h.from_hash = h.digests_hash = h.suffixes_hash = h.hash = 0;
		memcpy(file, &h, sizeof(h));
		len = len < sizeof(h) ? sizeof(h) : len;
	}
	if (piece.len > 0)
		fuzz_file("state/index", file, len);
}

/* Its parts stand one behind the other in the input, which would be too long for the fuzzer otherwise; the slots are zeros. */
static void
lay_out_journal(unsigned char *file, size_t size, struct fuzz_input piece)
{
	static const struct { size_t at, len; } parts[] = { { 0, 144 }, { 4096, 80 }, { 8192, 80 }, { 12288, PART_BYTES } };
	struct fuzz_input part;
	size_t i;

	memset(file, 0, size);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		part = fuzz_piece(&piece, parts[i].len);
		memcpy(file + parts[i].at, part.p, part.len);
	}
}

static void
put_journal(struct fuzz_input piece, const struct stat *st, unsigned mend)
{
	static unsigned char file[12288 + PART_BYTES];
	struct journal_start h;

	if (piece.len == 0)
		return;
	lay_out_journal(file, sizeof(file), piece);
	if ((mend & MEND_JOURNAL) != 0) {
		memcpy(&h, file, sizeof(h));
		memcpy(h.magic, "postern journal", sizeof(h.magic));
		h.ino = st->st_ino;
		if ((mend & MEND_JOURNAL_SIZE) != 0)
			h.size = (uint64_t)st->st_size;
		memcpy(file, &h, sizeof(h));
	}
	fuzz_file("state/journal", file, sizeof(file));
}

static void
clean(void)
{
	char path[128];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "%s/mbox.lock", fuzz_folder());
	unlink(path);
	snprintf(path, sizeof(path), "%s/state", fuzz_folder());
	mkdir(path, 0700);
	FUZZ_CHECK((folder = opendir(path)) != NULL);
	while ((entry = readdir(folder)) != NULL)
		unlinkat(dirfd(folder), entry->d_name, 0);
	closedir(folder);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size }, mbox, piece;
	unsigned mend = fuzz_octet(&in);
	struct stat st;

	journal_block_bytes = 4096;
	clean();
	mbox = fuzz_part(&in);
	FUZZ_CHECK(stat(fuzz_file("mbox", mbox.p, mbox.len), &st) == 0);
	piece = fuzz_part(&in);
	put_index(piece, &st, mend);
	put_journal(fuzz_part(&in), &st, mend);
	piece = fuzz_part(&in);
	if (piece.len > 0)
		fuzz_file("state/last", piece.p, piece.len);
	fuzz_serve("mbox", "mbox", in);
	if ((mend & TWICE) != 0)
		fuzz_serve("mbox", "mbox", in);
	return 0;
}
