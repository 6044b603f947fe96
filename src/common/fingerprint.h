/*
 * Tells whether the octets at a message's place are still that message's.  Session (before it sends) and helper
 * (before it removes) both ask.  Not the unique-id, which clients keep and which is a cryptographic hash; a sender
 * who knows XXH3 gains nothing here, since only programs that rewrite the mailbox can move one message to the place
 * of another.
 */
#ifndef COMMON_FINGERPRINT_H
#define COMMON_FINGERPRINT_H

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <stddef.h>
#include <stdint.h>

/* The first 512 bytes of a message hold its Return-Path, Received or Message-ID in practice. */
#define FINGERPRINT_BYTES 512

/* message: the first bytes of it, at least min(bytes of the message, FINGERPRINT_BYTES) of them. */
static inline uint64_t
fingerprint(const void *message, uint64_t message_bytes)
{
	return XXH3_64bits(message, message_bytes < FINGERPRINT_BYTES ? (size_t)message_bytes : FINGERPRINT_BYTES);
}

#endif
