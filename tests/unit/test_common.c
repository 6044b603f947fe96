/* Numbers, names, escaping, records of the log, messages between session and helper. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/ioutil.h"
#include "common/logrecord.h"
#include "common/number.h"
#include "common/text.h"
#include "common/tls_files.h"
#include "common/wire.h"

static void
test_number_parse(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(number_parse("0", 1, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(number_parse("00001", 5, &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(number_parse("18446744073709551615", 20, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(number_parse("18446744073709551616", 20, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(number_parse("99999999999999999999999", 23, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(number_parse("0000000000000000000000000000012", 31, &v), 0);
	assert_int_equal(v, 12);
	assert_int_equal(number_parse("", 0, &v), -1);
	assert_int_equal(number_parse("-1", 2, &v), -1);
	assert_int_equal(number_parse("+1", 2, &v), -1);
	assert_int_equal(number_parse("1x", 2, &v), -1);
	assert_int_equal(number_parse(" 1", 2, &v), -1);
	assert_int_equal(number_parse("1\0", 2, &v), -1);
}

/* What printf(3) makes of it. */
static void
check_number(uint64_t value)
{
	char digits[NUMBER_DIGITS + 1], expected[NUMBER_DIGITS + 1];
	size_t n;

	snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
	n = number_format(digits, value);
	assert_in_range(n, 1, NUMBER_DIGITS);
	digits[n] = '\0';
	assert_string_equal(digits, expected);
}

static void
test_number_format(void **state)
{
	uint64_t power, v;

	(void)state;
	for (v = 0; v < 20000; v++)
		check_number(v);
	for (power = 10; power != 0; power = power <= UINT64_MAX / 10 ? power * 10 : 0) {
		check_number(power - 1);
		check_number(power);
		check_number(power + 1);
	}
	check_number(4294967296u);
	check_number(UINT64_MAX);
}

static void
test_unique_id_possible(void **state)
{
	char id[UNIQUE_ID_OCTETS + 2];
	size_t len, at;
	int c;

	(void)state;
	for (len = 1; len <= UNIQUE_ID_OCTETS; len++) {
		memset(id, len % 2 == 0 ? '!' : '~', sizeof(id));
		assert_true(unique_id_possible(id, len));
		for (at = 0; at < len; at++) {
			for (c = 0; c < 256; c++) {
				id[at] = (char)c;
				if (unique_id_possible(id, len) != (c >= 0x21 && c <= 0x7e))
					fail_msg("octet %d at %zu of %zu", c, at, len);
			}
			id[at] = '~';
		}
	}
	assert_false(unique_id_possible(id, 0));
	assert_false(unique_id_possible(id, UNIQUE_ID_OCTETS + 1));
}

static void
test_name(void **state)
{
	char long_name[NAME_OCTETS + 1];

	(void)state;
	memset(long_name, 'a', sizeof(long_name));
	assert_true(name_possible("alice", 5));
	assert_true(name_possible("alice@example.org", 17));
	assert_true(name_possible("DOM\\alice$", 10));
	assert_true(name_possible(long_name, NAME_OCTETS));
	assert_false(name_possible(long_name, NAME_OCTETS + 1));
	assert_false(name_possible("", 0));
	assert_false(name_possible("a b", 3));
	assert_false(name_possible("../etc", 6));
	assert_false(name_possible("..", 2));
	assert_false(name_possible("a/b", 3));
	assert_false(name_possible("-f", 2));
	assert_false(name_possible("a:b", 3));
	assert_false(name_possible("a\0b", 3));
	assert_false(name_possible("caf\xc3\xa9", 5));
}

static void
test_escape(void **state)
{
	char out[32], tiny[6];

	(void)state;
	assert_string_equal(text_escape(out, sizeof(out), "a\"b\\\n\xff", 6), "a\\x22b\\x5c\\x0a\\xff");
	assert_string_equal(text_escape(tiny, sizeof(tiny), "abcdefgh", 8), "abcde");
	assert_string_equal(text_escape(tiny, sizeof(tiny), "abc\n", 4), "abc");
}

/* log_event() writes to descriptor 2: here a socket, as under the monitor. */
static void
test_log_record(void **state)
{
	struct log_record r;
	char datagram[sizeof(r)];
	int pair[2], old = dup(2);
	ssize_t n;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	dup2(pair[1], 2);
	log_event(LOG_EVENT_LOGIN_FAILED, 5, "e:v\"il\n", 7, "reason %d:%s", 1, "x");
	dup2(old, 2);
	n = recv(pair[0], datagram, sizeof(datagram), 0);
	assert_true(n > 0);
	assert_int_equal(log_record_parse(datagram, (size_t)n, &r), 0);
	assert_int_equal(r.event, LOG_EVENT_LOGIN_FAILED);
	assert_int_equal(r.priority, 5);
	assert_string_equal(r.user, "e?v\\x22il\\x0a");
	assert_string_equal(r.text, "reason 1:x");
	assert_int_equal(log_record_parse("*** stack smashing detected ***", 31, &r), -1);
	assert_int_equal(log_record_parse("9:1::x", 6, &r), -1);
	assert_int_equal(log_record_parse("3:7::x", 6, &r), -1);
	assert_int_equal(log_record_parse("3:1:", 4, &r), -1);
	assert_int_equal(log_record_parse("", 0, &r), -1);
	close(old);
	close(pair[0]);
	close(pair[1]);
}

static void
test_wire_fields(void **state)
{
	static struct wire_msg m;
	int pair[2], fd = open("/dev/null", O_RDONLY);
	const char *text;
	uint64_t u64;
	uint32_t u32;
	uint8_t u8;
	size_t len;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	wire_start(&m, WIRE_OPENED);
	assert_int_equal(wire_put_u8(&m, 7), 0);
	assert_int_equal(wire_put_u32(&m, 70000), 0);
	assert_int_equal(wire_put_u64(&m, 1ull << 40), 0);
	assert_int_equal(wire_put_text(&m, "a\0b", 3), 0);
	assert_int_equal(wire_put_fd(&m, fd), 0);
	assert_int_equal(wire_send(pair[0], &m), 0);
	memset(&m, 0, sizeof(m));
	assert_int_equal(wire_recv(pair[1], &m), 1);
	assert_int_equal(m.type, WIRE_OPENED);
	assert_int_equal(m.nfds, 1);
	assert_int_equal(fcntl(m.fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(wire_get_end(&m), -1);
	assert_true(wire_get_u8(&m, &u8) == 0 && u8 == 7);
	assert_true(wire_get_u32(&m, &u32) == 0 && u32 == 70000);
	assert_true(wire_get_u64(&m, &u64) == 0 && u64 == 1ull << 40);
	assert_int_equal(wire_get_text(&m, &text, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "a\0b", 3);
	assert_int_equal(wire_get_end(&m), -1); /* the descriptor */
	close(m.fds[0]);
	m.fds[0] = -1;
	assert_int_equal(wire_get_end(&m), 0);
	assert_int_equal(wire_get_u8(&m, &u8), -1);
	close(pair[0]);
	assert_int_equal(wire_recv(pair[1], &m), 0);
	close(pair[1]);
	close(fd);
}

/* Which of so many descriptors are open, from first on: '+' and '-'. */
static const char *
open_ones(int first, int count)
{
	static char signs[16];
	int i;

	for (i = 0; i < count; i++)
		signs[i] = fcntl(first + i, F_GETFD) == -1 ? '-' : '+';
	signs[count] = '\0';
	return signs;
}

static void
test_close_all(void **state)
{
	const int first = 100;
	int fds[8], i, null = open("/dev/null", O_RDONLY);

	(void)state;
	for (i = 0; i < 10; i++)
		assert_int_equal(dup2(null, first + i), first + i);
	close_all(NULL, 0);
	fds[0] = -1;
	close_all(fds, 1);
	assert_string_equal(open_ones(first, 10), "++++++++++");
	fds[1] = first;
	close_all(fds, 2);
	assert_string_equal(open_ones(first, 10), "-+++++++++");
	memcpy(fds, (int[]){ first + 1, first + 2, first + 4, -1, first + 5, first + 8, first + 7, first + 9 }, sizeof(fds));
	close_all(fds, 8);
	assert_string_equal(open_ones(first, 10), "---+--+---");
	close(first + 3);
	close(first + 6);
	close(null);
}

static void
test_close_all_and_standard_input(void **state)
{
	const int fds[] = { -1, 0, 1 };
	int kept[2] = { dup(0), dup(1) }, closed;

	(void)state;
	close_all(fds, 2);
	closed = fcntl(0, F_GETFD) == -1 && fcntl(1, F_GETFD) != -1;
	dup2(kept[0], 0);
	close_all(kept, 2);
	assert_true(closed);
}

/* What a hostile peer can send. */
static void
test_wire_hostile(void **state)
{
	static struct wire_msg m;
	static char big[WIRE_BYTES + 100];
	const char *text;
	uint32_t u32;
	size_t len;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(send(pair[0], big, sizeof(big), 0), sizeof(big));
	assert_int_equal(wire_recv(pair[1], &m), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(send(pair[0], "\x01\xff\xff\xff\xff" "abc", 8, 0), 8);
	assert_int_equal(wire_recv(pair[1], &m), 1);
	assert_int_equal(wire_get_text(&m, &text, &len), -1);
	assert_int_equal(send(pair[0], "\x01\x01\x02", 3, 0), 3);
	assert_int_equal(wire_recv(pair[1], &m), 1);
	assert_int_equal(wire_get_u32(&m, &u32), -1);
	wire_start(&m, WIRE_LOGIN);
	assert_int_equal(wire_put_text(&m, big, WIRE_BYTES), -1);
	assert_int_equal(m.len, 0);
	assert_int_equal(wire_put_text(&m, big, WIRE_BYTES - 4), 0);
	assert_int_equal(wire_put_u8(&m, 1), -1);
	close(pair[0]);
	close(pair[1]);
}

/* A text of a peer's as a string: what does not fit, or ends early, is none. */
static void
test_wire_string(void **state)
{
	static struct wire_msg m;
	char out[6];

	(void)state;
	wire_start(&m, WIRE_LOGIN);
	assert_int_equal(wire_put_text(&m, "alice", 5), 0);
	assert_int_equal(wire_get_string(&m, out, sizeof(out)), 0);
	assert_string_equal(out, "alice");
	assert_int_equal(wire_get_string(&m, out, sizeof(out)), -1); /* nothing is left */
	m.pos = 0;
	assert_int_equal(wire_get_string(&m, out, sizeof(out) - 1), -1);
	wire_start(&m, WIRE_LOGIN);
	assert_int_equal(wire_put_text(&m, "al\0ce", 5), 0);
	assert_int_equal(wire_get_string(&m, out, sizeof(out)), -1);
	wire_start(&m, WIRE_LOGIN);
	assert_int_equal(wire_put_text(&m, "", 0), 0);
	assert_int_equal(wire_get_string(&m, out, 1), 0);
	assert_string_equal(out, "");
}

static void
test_syscall_names(void **state)
{
	(void)state;
	assert_string_equal(syscall_name(SYS_openat), "openat");
	assert_string_equal(syscall_name(SYS_execve), "execve");
	assert_string_equal(syscall_name(-1), "unknown");
	assert_string_equal(syscall_name(100000), "unknown");
}

static void
test_tls_files(void **state)
{
	static const char none[] = "not an absolute path, and there are no credentials: see LoadCredential= in systemd.exec(5)";
	struct tls_files f;
	char name[PATH_BYTES + 10];

	(void)state;
	tls_files_start(&f, "/a.crt  b.crt\t/c.crt", " /a.key b.key", "/run/credentials/x");
	assert_true(tls_files_next(&f) && f.error == NULL);
	assert_string_equal(f.certificate, "/a.crt");
	assert_string_equal(f.key, "/a.key");
	assert_true(tls_files_next(&f) && f.error == NULL);
	assert_string_equal(f.certificate, "/run/credentials/x/b.crt");
	assert_string_equal(f.key, "/run/credentials/x/b.key");
	assert_true(tls_files_next(&f));
	assert_string_equal(f.certificate, "/c.crt");
	assert_string_equal(f.error, "tls-key names fewer files than tls-certificate");
	assert_false(tls_files_next(&f));

	tls_files_start(&f, "/a.pem b.pem", "", NULL);
	assert_true(tls_files_next(&f) && f.error == NULL);
	assert_string_equal(f.key, "/a.pem");
	assert_true(tls_files_next(&f));
	assert_string_equal(f.error, none);
	assert_false(tls_files_next(&f));

	tls_files_start(&f, "", "", NULL);
	assert_false(tls_files_next(&f));

	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	tls_files_start(&f, name, "", NULL);
	assert_true(tls_files_next(&f));
	assert_string_equal(f.error, "name too long");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_number_parse), cmocka_unit_test(test_number_format),
		cmocka_unit_test(test_unique_id_possible), cmocka_unit_test(test_name), cmocka_unit_test(test_escape),
		cmocka_unit_test(test_log_record),
		cmocka_unit_test(test_wire_fields), cmocka_unit_test(test_close_all),
		cmocka_unit_test(test_close_all_and_standard_input), cmocka_unit_test(test_wire_hostile),
		cmocka_unit_test(test_wire_string), cmocka_unit_test(test_syscall_names),
		cmocka_unit_test(test_tls_files) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("common", tests, NULL, NULL);
}
