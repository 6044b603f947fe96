/*
 * Every limit of postern, with the sentence or the program that it comes from.
 * Used by all programs; no code here.
 */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

/* RFC 2449, section 4: a command line is at most 255 octets, CRLF included. */
#define LINE_OCTETS 255

/* RFC 5034, section 4: the 255 do not bind the lines of a SASL exchange.  A PLAIN answer of two names and a
 * password of 255 octets each is 1028 octets of base64. */
#define SASL_LINE_OCTETS 1030

/* RFC 1939, section 3: arguments have up to 40 characters; mail addresses as names are longer (RFC 5321,
 * 4.5.3.1: 64 + 1 + 255), but USER and its CRLF have to fit into LINE_OCTETS. */
#define NAME_OCTETS (LINE_OCTETS - 7)

/* AUTH PLAIN can carry a longer password than PASS; PAM itself ends at 512 (PAM_MAX_RESP_SIZE). */
#define PASSWORD_OCTETS 511

/* RFC 1939, section 7: a unique-id is 1 to 70 characters from 0x21 to 0x7E. */
#define UNIQUE_ID_OCTETS 70

/* Three: what popa3d, OpenSSH and login(1) settled near; more only helps who guesses. */
#define LOGIN_FAILURES 3

/* After this many in a row it is a program that does not speak POP3 (HTTP, a scanner). */
#define BAD_COMMANDS 20

/* A login that PAM has not decided by then is given up with [SYS/TEMP]; clients wait 60 s (Thunderbird) or more. */
#define LOGIN_SECONDS 30

/* A record of the table is 32 bytes (common/table.h): ten million are 320 MB.  More is no mailbox that POP3 can serve. */
#define MESSAGES_MAX 10000000u

/* Longest path of a maildrop, the state folder or the users file. */
#define PATH_BYTES 1024

/* The kernel's socket buffers hold 200 kB: a message of this size never has to wait for room in an empty one.  It takes 900
 * unique-ids, and each message costs both programs a wake-up, 30 us and more on a virtual machine. */
#define WIRE_BYTES 32768

/* Linux adds up the descriptors that are under way between the processes of one user, and refuses more when the sum is above the
 * sender's RLIMIT_NOFILE (unix(7), ETOOMANYREFS); so this limit bounds what all mailboxes of one owner, or all clients that
 * begin TLS, have under way together.  512 sessions (the MaxConnections= of pop3.socket and pop3s.socket) with WIRE_FDS each
 * are 8192; a server with more sessions is started by another program, and has twice the room.  A session that was taken over and
 * takes nothing can have 4400 under way before its socket is full: what others with the same owner get then is [SYS/TEMP]. */
#define DESCRIPTORS_UNDER_WAY 16384

/* One line of the log, kept below what syslogd implementations cut at (RFC 3164: 1024). */
#define LOG_BYTES 1000

#endif
