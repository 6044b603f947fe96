#!/bin/sh
# What `make install` and `make uninstall` do beyond copying files; its settings come from systemd/Makefile.am.inc.
#
#	rights		owner and mode of the setuid helper, the account it belongs to, the state folders: only when this is
#			an installation by root and for this machine.  Otherwise says what is left to do, and does nothing.
#	pam		the PAM file, unless there is one already
#	uninstall	removes the PAM file if nobody has changed it, and the state folder if it is empty
#
# Runs as whoever types make.
set -eu

pam_file="$DESTDIR$PAMDIR/postern"

say() {
	printf 'postern: %s\n' "$*"
}

# Accounts are for a machine, not for a trial under some folder.
system_prefix() {
	case $PREFIX in
	/usr | /usr/local) return 0 ;;
	*) return 1 ;;
	esac
}

group_exists() {
	getent group "$SERVICE_USER" >/dev/null && getent passwd "$SERVICE_USER" >/dev/null
}

make_account() {
	group_exists && return 0
	system_prefix && command -v systemd-sysusers >/dev/null || return 1
	systemd-sysusers "$(realpath "$SYSUSERS")" && group_exists
}

say_what_is_left() {
	say "left to do, as root on the machine that it is for:"
	if ! group_exists; then
		say "  useradd --system --user-group --home-dir / --shell /usr/sbin/nologin $SERVICE_USER"
	fi
	say "  chown root:$SERVICE_USER $HELPER"
	say "  chmod 4710 $HELPER"
	say "  install -d -m 711 -o root -g root $STATE"
	[ -z "$TLS_STATE" ] || say "  install -d -m 700 -o $SERVICE_USER -g $SERVICE_USER $TLS_STATE"
}

rights() {
	if [ -n "$DESTDIR" ] || [ "$(id -u)" != 0 ] || ! make_account; then
		say_what_is_left
		return 0
	fi
	chown "root:$SERVICE_USER" "$HELPER"	# first: chown takes the setuid bit away
	chmod 4710 "$HELPER"
	install -d -m 711 -o root -g root "$STATE"
	[ -z "$TLS_STATE" ] || install -d -m 700 -o "$SERVICE_USER" -g "$SERVICE_USER" "$TLS_STATE"
}

# Debian's common files are the administrator's choice; where there are none, the password file.
shipped_pam_file() {
	if [ -e "$DESTDIR$PAMDIR/common-auth" ] || [ -e /etc/pam.d/common-auth ]; then
		echo "$SOURCES/src/pam/postern.pam"
	else
		echo "$SOURCES/src/pam/postern.pam.plain"
	fi
}

pam() {
	[ "$PAM" = yes ] || return 0
	if [ -e "$pam_file" ]; then
		say "$pam_file is there already, and stays as it is"
	else
		mkdir -p "$DESTDIR$PAMDIR"
		install -m 644 "$(shipped_pam_file)" "$pam_file"
	fi
	[ "$PAMDIR" = /etc/pam.d ] || say "PAM reads /etc/pam.d only: copy $PAMDIR/postern there, or configure --sysconfdir=/etc"
}

uninstall() {
	if cmp -s "$pam_file" "$SOURCES/src/pam/postern.pam" || cmp -s "$pam_file" "$SOURCES/src/pam/postern.pam.plain"; then
		rm -f "$pam_file"
	elif [ -e "$pam_file" ]; then
		say "$pam_file was changed, and stays"
	fi
	if [ -n "$TLS_STATE" ]; then
		rm -f "$DESTDIR$TLS_STATE/ticket-secret"	# worth nothing: another one is made when it is needed
		[ ! -d "$DESTDIR$TLS_STATE" ] || rmdir "$DESTDIR$TLS_STATE"
	fi
	if [ -d "$DESTDIR$STATE" ] && ! rmdir "$DESTDIR$STATE" 2>/dev/null; then
		say "$DESTDIR$STATE has what the mailbox owners' programs remember, and stays"
	fi
}

case ${1-} in
rights | pam | uninstall) "$1" ;;
*)
	say "install-hook.sh: rights, pam or uninstall"
	exit 2
	;;
esac
