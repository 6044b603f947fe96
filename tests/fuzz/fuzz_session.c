/*
 * The session, fed by a client and a helper that may both be hostile.  The input: how many messages the helper sends, each
 * with its length and which descriptors go along, then what the client sends.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fingerprint.h"
#include "session/session.h"

static const char mbox[] = "From a Mon Nov 23 10:00:00 2026\nSubject: x\n\n.body\n\nFrom b Mon Nov 23 10:00:00 2026\n\nsecond";
static int table_fd, mbox_fd;

static int
sealed(const void *p, size_t len)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	FUZZ_CHECK(fd != -1 && write(fd, p, len) == (ssize_t)len);
	FUZZ_CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
	return fd;
}

static void
prepare(void)
{
	struct record records[2] = { { 32, 18, 22, 0 }, { 83, 7, 10, 0 } };

	if (mbox_fd != 0)
		return;
	records[0].fingerprint = fingerprint(mbox + 32, 18);
	records[1].fingerprint = fingerprint(mbox + 83, 7);
	table_fd = sealed(records, sizeof(records));
	mbox_fd = sealed(mbox, sizeof(mbox) - 1);
}

static void
send_message(int sock, struct fuzz_input piece, unsigned which)
{
	static struct wire_msg m;

	if (piece.len == 0)
		return;
	wire_start(&m, (enum wire_type)piece.p[0]);
	m.len = piece.len - 1 < sizeof(m.data) ? piece.len - 1 : sizeof(m.data);
	memcpy(m.data, piece.p + 1, m.len);
	if ((which & 1) != 0)
		wire_put_fd(&m, table_fd);
	if ((which & 2) != 0)
		wire_put_fd(&m, mbox_fd);
	wire_send(sock, &m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings settings = { .login_timeout = 60, .idle_timeout = 600, .cleartext_login = CLEARTEXT_AUTO };
	struct fuzz_input in = { data, size };
	struct tally tally = { 0 };
	struct session s = { .settings = &settings, .tally = &tally, .tunnel = -1 };
	int pair[2], client, null, saved_in = dup(0), saved_out = dup(1);
	unsigned n = fuzz_octet(&in) % 8, which;

	prepare();
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	while (n-- > 0) {
		which = fuzz_octet(&in);
		send_message(pair[1], fuzz_piece(&in, fuzz_octet(&in)), which);
	}
	shutdown(pair[1], SHUT_WR);
	client = memfd_create("client", 0);
	FUZZ_CHECK(write(client, in.p, in.len) == (ssize_t)in.len && lseek(client, 0, SEEK_SET) == 0);
	null = open("/dev/null", O_WRONLY);
	dup2(client, 0);
	dup2(null, 1);
	s.helper = pair[0];
	session_prepare(&s);
	session_run(&s);
	FUZZ_CHECK(tally.end < END_COUNT);
	dup2(saved_in, 0);
	dup2(saved_out, 1);
	if (s.deleted != NULL && s.deleted != MAP_FAILED)
		munmap(s.deleted, 2 * s.bitmap_bytes);
	close_range((unsigned)null + 1, ~0U, 0); /* what the helper gave: the table, an mbox, messages of a Maildir */
	if (s.helper != -1)
		close(pair[0]);
	close(pair[1]);
	close(client);
	close(null);
	close(saved_in);
	close(saved_out);
	return 0;
}
