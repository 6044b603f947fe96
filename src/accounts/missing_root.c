/* Runs as the service user: root is what is missing. */
#include "accounts/missing_root.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

const char *
missing_root(void)
{
	struct stat st;
	struct statvfs vfs;

	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return "no_new_privs is set: a directive of the unit implies it, see postern-helper(8)";
	if (statvfs("/proc/self/exe", &vfs) == 0 && (vfs.f_flag & ST_NOSUID) != 0)
		return "the helper is on a file system mounted nosuid";
	if (stat("/proc/self/exe", &st) == 0 && ((st.st_mode & S_ISUID) == 0 || st.st_uid != 0))
		return "the helper is not setuid root: chown root:" SERVICE_USER " and chmod 4710";
	return "the setuid bit has no effect (user namespace? file system?)";
}
