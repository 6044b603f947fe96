/* Runs as root, or as whom root could not become.  postern-pam's descriptor 3 is no socket: nothing is sent there. */
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/logrecord.h"
#include "common/wire.h"
#include "helper/sanitize.h"

void
give_up(const char *why, ...)
{
	static struct wire_msg m;
	char text[LOG_BYTES];
	va_list ap;

	va_start(ap, why);
	vsnprintf(text, sizeof(text), why, ap);
	va_end(ap);
	log_note(LOG_ERR, "helper-gives-up %s", text);
	wire_start(&m, WIRE_REFUSED);
	wire_put_u8(&m, REFUSED_PERMANENT);
	wire_put_u8(&m, 0);
	wire_send(SESSION_SOCKET, &m);
	_exit(1);
}
