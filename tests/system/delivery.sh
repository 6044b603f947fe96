#!/bin/sh
# Delivery tests: installs the build into a copy of this machine that costs nothing (an overlay over / in memory), unpacks the
# delivery agents of Debian there, and runs inside_delivery.py in it, with processes and a network of its own.  Prints TAP.
# Nothing of the machine itself is changed, but for a cache of the agents' packages.
#
# Needs root; without it, or without a tool, all is skipped, with the reason.  POSTERN_NO_SYSTEM=1 skips it too.  For longer
# runs, and for what is left of a failed one, see the variables in inside_delivery.py.

set -eu

cache=/var/cache/postern-tests/delivery
top=${top_builddir:-.}
tests=${top_srcdir:-.}/tests/system
base=''
running=''

# exim4 and postfix conflict, so they are asked for one by one, and unpacked instead of installed.
agents='procmail maildrop exim4-daemon-light dovecot-core mutt'
others='postfix'

skip_all() {
	echo "1..0 # SKIP $*"
	exit 0
}

bail_out() {
	[ ! -s "$base/log" ] || tail -n 40 "$base/log" | sed 's/^/# /'
	echo "Bail out! $*"
	exit 1
}

# Also after a signal, and when nothing was mounted yet.
clean_up() {
	trap '' HUP INT TERM
	[ -n "$base" ] || return 0
	if [ -n "$running" ] && kill "$running" 2>/dev/null; then
		wait "$running" || echo "# the delivery tests were stopped"
	fi
	for mounted in "$base/disk/root" "$base/disk"; do
		if mountpoint -q "$mounted"; then
			umount "$mounted" 2>/dev/null || umount --lazy "$mounted"
		fi
	done
	rm -f "$base/log" "$base/console"
	rmdir "$base/disk" "$base"
}

check_tools() {
	[ -z "${POSTERN_NO_SYSTEM-}" ] || skip_all "POSTERN_NO_SYSTEM is set"
	[ "$(id -u)" = 0 ] || skip_all "not root"
	for tool in systemd-nspawn mountpoint setpriv useradd apt-get dpkg-deb /usr/bin/python3; do
		command -v "$tool" >/dev/null || skip_all "$tool is missing"
	done
	[ -f "$top/Makefile" ] || skip_all "no build in $top: run it with make check"
}

mount_disk() {
	mkdir "$base/disk"
	mount -t tmpfs -o mode=755,size=4g postern-test "$base/disk" 2>"$base/log" || skip_all "cannot mount a tmpfs here"
	mkdir "$base/disk/upper" "$base/disk/work" "$base/disk/root"
	mount -t overlay -o "lowerdir=/,upperdir=$base/disk/upper,workdir=$base/disk/work" postern-test "$root" 2>"$base/log" ||
		skip_all "cannot mount an overlay over / here"
}

# The packages that this machine lacks, with what they depend on.  The machine's package lists may be old or none at all, and
# they are not ours to renew.
download() {
	mkdir -p "$cache/partial" "$cache/lists"
	set -- apt-get -q -y --no-install-recommends -o "Dir::Cache::archives=$cache" -o Debug::NoLocking=1 --download-only
	# shellcheck disable=SC2086  # the lists are words
	"$@" install $agents && "$@" install $others && return 0
	set -- "$@" -o "Dir::State::lists=$cache/lists"
	# shellcheck disable=SC2086
	"$@" update && "$@" install $agents && "$@" install $others
}

fetch_packages() {
	[ ! -e "$cache/complete" ] || return 0
	if ! download >"$base/log" 2>&1; then
		tail -n 5 "$base/log" | sed 's/^/# /'
		skip_all "the delivery agents' packages cannot be had"
	fi
	: >"$cache/complete"
}

# As root of the copy dpkg would run maintainer scripts, which want a running system; and postfix' sendmail shall win.
unpack_packages() {
	for package in "$cache"/*.deb; do
		case $package in
		*/postfix_*) ;;
		*) unpack "$package" || return 1 ;;
		esac
	done
	unpack "$cache"/postfix_*.deb && chroot "$root" ldconfig
}

# Debian's /bin and /lib are links, and stay so.
unpack() {
	dpkg-deb --fsys-tarfile "$1" | tar -x -p --keep-directory-symlink -C "$root"
}

# Where the build wants to be, as a file of NAME=VALUE lines for inside_delivery.py.
print_folders() {
	make -s --no-print-directory -C "$top" -f - postern-folders <<-'MAKE'
		include Makefile
		postern-folders: ; @printf '%s\n' 'server=$(sbindir)/postern' 'helper=$(pkglibexecdir)/postern-helper' \
			'settings=$(sysconfdir)/postern/postern.conf' 'service_user=$(SERVICE_USER)'
	MAKE
}

install_build() {
	unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR
	make -C "$top" install "DESTDIR=$root" && print_folders >"$root/postern/folders"
}

# The copy must not be like the machine: its mailboxes and settings are none of our business.
prepare_root() {
	for path in home var/lib/postern etc/postern var/mail etc/exim4 etc/machine-id; do
		rm -rf "${root:?}/$path"
	done
	mkdir "$root/home" "$root/etc/exim4" "$root/postern"
	install -d -m 2775 -o root -g mail "$root/var/mail"
	cp "$tests"/*.py "$root/postern"
	: >"$root/postern/tap"
	env | sed -n '/^POSTERN_DELIVERY_/p' >"$root/postern/environment"
}

# Where systemd runs the machine, nspawn asks it for a scope of its own; elsewhere it stays in our control group.  What it
# starts has inheritable capabilities, as in some containers: a helper has to get rid of them.
run_inside() {
	keep=--keep-unit
	[ ! -d /run/systemd/system ] || keep=--quiet
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout --kill-after=10 "$((${POSTERN_DELIVERY_SECONDS:-60} * 2 + 400))" \
		systemd-nspawn --quiet --directory="$root" --as-pid2 --register=no "$keep" --private-network --link-journal=no \
		--resolv-conf=off --timezone=off --console=pipe \
		/usr/bin/python3 -B /postern/inside_delivery.py \
		</dev/null >"$base/console" 2>&1 &
	running=$!
	tail -n +1 -f --pid="$running" "$root/postern/tap" &
	shown=$!
	# Not tail in the foreground: a signal for us would have to wait for its end.
	wait "$running" || echo "# systemd-nspawn ended with status $?"
	running=''
	wait "$shown"
}

save_evidence() {
	if [ -n "${POSTERN_DELIVERY_EVIDENCE-}" ] && [ -d "$root/postern/evidence" ]; then
		mkdir -p "$POSTERN_DELIVERY_EVIDENCE"
		cp -R "$root/postern/evidence/." "$POSTERN_DELIVERY_EVIDENCE"
	fi
}

trap clean_up EXIT
trap 'exit 1' HUP INT TERM
check_tools
top=$(cd "$top" && pwd)
base=$(mktemp -d "${TMPDIR:-/tmp}/postern-delivery.XXXXXX")
root=$base/disk/root
mount_disk
fetch_packages
prepare_root
unpack_packages >"$base/log" 2>&1 || bail_out "the delivery agents cannot be unpacked"
install_build >"$base/log" 2>&1 || bail_out "make install failed"
run_inside
save_evidence
if ! grep -q '^1\.\.' "$root/postern/tap"; then
	cat "$base/console" >"$base/log"
	bail_out "the delivery tests did not come to their end"
fi
