/* Decimal numbers, without locale and without sign. */
#ifndef COMMON_NUMBER_H
#define COMMON_NUMBER_H

#include <stddef.h>
#include <stdint.h>

/* Room for the digits of any uint64_t. */
#define NUMBER_DIGITS 20

/*
 * Reads the len octets at s as one decimal number: digits only, at least one, leading zeros allowed.
 * A number above UINT64_MAX reads as UINT64_MAX, so that no message-number of a client ever wraps.
 * 0, or -1 if there is anything but digits.
 */
int number_parse(const char *s, size_t len, uint64_t *value);

/* Writes the digits of value to out (NUMBER_DIGITS octets, no NUL) and returns how many they are. */
size_t number_format(char *out, uint64_t value);

#endif
