/*
 * Names of glibc that musl has not, or others for.  libcrypt.a, libnettle.a and libinih.a were compiled for glibc, with FORTIFY and large
 * files, and from glibc 2.38 on with C23's strtoul(3); all the rest of what they call is ISO C and POSIX, with the same types on both.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef fopen64
FILE *fopen64(const char *path, const char *mode);	/* musl has it, too, before 1.2.4 */
unsigned long __isoc23_strtoul(const char *text, char **end, int base);

int renameat2(int from, const char *old, int to, const char *name, unsigned flags);
int __snprintf_chk(char *out, size_t size, int flag, size_t room, const char *format, ...) __attribute__((format(printf, 5, 6)));
int __fprintf_chk(FILE *f, int flag, const char *format, ...);
void __explicit_bzero_chk(void *p, size_t len, size_t room);
void arc4random_buf(void *p, size_t len);

int
__snprintf_chk(char *out, size_t size, int flag, size_t room, const char *format, ...)
{
	va_list ap;
	int n;

	(void)flag;
	va_start(ap, format);
	n = vsnprintf(out, size < room ? size : room, format, ap);
	va_end(ap);
	return n;
}

/* nettle's account of the processor's features, if NETTLE_FAT_VERBOSE asks for it: the helper has no such variable. */
int
__fprintf_chk(FILE *f, int flag, const char *format, ...)
{
	(void)f;
	(void)flag;
	(void)format;
	return -1;
}

void
__explicit_bzero_chk(void *p, size_t len, size_t room)
{
	explicit_bzero(p, len < room ? len : room);
}

/* For salts, of at most 64 bytes: getentropy(3) does not fail up to 256. */
void
arc4random_buf(void *p, size_t len)
{
	if (getentropy(p, len) == -1)
		__builtin_trap();
}

FILE *
fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

unsigned long
__isoc23_strtoul(const char *text, char **end, int base)
{
	return strtoul(text, end, base);
}

int
renameat2(int from, const char *old, int to, const char *name, unsigned flags)
{
	return (int)syscall(SYS_renameat2, from, old, to, name, flags);
}
