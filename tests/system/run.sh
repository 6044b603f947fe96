#!/bin/sh
# System tests: installs a fresh build into a copy of this machine that costs nothing (an overlay over / in memory), boots
# systemd in it (systemd-nspawn, no network but lo), runs inside.py there, and prints its TAP.  Nothing of the machine
# itself is changed, but for a cache of three packages that can't be installed together.
#
# Needs root; without it, or without a tool, all is skipped, with the reason.  POSTERN_NO_SYSTEM=1 skips it too.
#
# POSTERN_KERNEL=FOLDER boots the kernel of the linux-image package that is unpacked there, in an emulated machine (emulate.sh),
# for what the machine's own kernel lacks, as Landlock; of the tests, those of check_stages.py.

set -eu

cache=/var/cache/postern-tests
top=${top_builddir:-.}
base=''
booted=''
shown=''

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
	if [ -n "$booted" ] && kill "$booted" 2>/dev/null; then
		wait "$booted" "$shown" || echo "# the booted system was stopped"
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
	for tool in systemd-nspawn mountpoint useradd /usr/bin/python3 journalctl \
		${POSTERN_KERNEL:+qemu-system-x86_64 busybox depmod modprobe cpio}; do
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
	mkdir "$root/postern" "$root/postern/build" "$root/postern/packages"
}

# The sources as a release has them, configured for /usr.
build() {
	unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR
	make -C "$top" distdir distdir="$root/postern/src" || return 1
	chmod -R u+w "$root/postern/src"
	cd "$root/postern/build" || return 1
	../src/configure --prefix=/usr --sysconfdir=/etc --localstatedir=/var \
		--with-systemdsystemunitdir=/usr/lib/systemd/system || return 1
	make -j2 || return 1
	cd /
}

# Three inetds that conflict with each other: unpacked, never installed.
unpack_inetds() {
	mkdir -p "$cache"
	for package in openbsd-inetd inetutils-inetd xinetd; do
		if ! ls "$cache/$package"_*.deb >/dev/null 2>&1; then
			(cd "$cache" && apt-get download "$package") || continue
		fi
		dpkg -x "$(ls "$cache/$package"_*.deb)" "$root/postern/packages/$package"
	done
}

# The copy must not be like the machine: its mounts, services, journal and mailboxes are none of our business.
prepare_root() {
	for path in etc/systemd/system home var/log/journal var/lib/postern etc/postern etc/pam.d/postern var/mail; do
		rm -rf "${root:?}/$path"
	done
	mkdir -p "$root/etc/systemd/system" "$root/etc/systemd/journald.conf.d" "$root/home"
	install -d -m 2775 -o root -g mail "$root/var/mail"
	: >"$root/etc/fstab"
	: >"$root/etc/crypttab"
	: >"$root/etc/hosts.allow"
	: >"$root/etc/hosts.deny"
	tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
	printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/postern.conf"
	for unit in timers.target rsyslog.service syslog.socket systemd-timesyncd.service; do
		ln -s /dev/null "$root/etc/systemd/system/$unit"
	done
	cat >"$root/etc/systemd/system/postern-test.target" <<-'UNIT'
		[Unit]
		Requires=basic.target postern-test.service
		After=basic.target
		AllowIsolate=yes
	UNIT
	cat >"$root/etc/systemd/system/postern-test.service" <<-UNIT
		[Unit]
		After=basic.target
		[Service]
		Type=oneshot
		TimeoutStartSec=infinity
		StandardOutput=file:/postern/output
		StandardError=inherit
		ExecStart=/usr/bin/python3 -B /postern/src/tests/system/inside.py ${POSTERN_KERNEL:+check_stages}
		ExecStopPost=systemctl exit 0
	UNIT
}

# Where systemd runs the machine, nspawn asks it for a scope of its own; elsewhere it stays in our control group.
boot() {
	: >"$root/postern/tap"
	if [ -n "${POSTERN_KERNEL-}" ]; then
		set -- sh "$here/emulate.sh" "$POSTERN_KERNEL" "$root"
	else
		keep=--keep-unit
		[ ! -d /run/systemd/system ] || keep=--quiet
		set -- env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$root" --boot --register=no "$keep" \
			--private-network --link-journal=no --capability=CAP_SYS_RESOURCE --resolv-conf=off --timezone=off \
			--console=pipe systemd.unit=postern-test.target
	fi
	timeout --kill-after=10 "${POSTERN_SYSTEM_SECONDS:-900}" "$@" </dev/null >"$base/console" 2>&1 &
	booted=$!
	tail -n +1 -f --pid="$booted" "$root/postern/tap" &
	shown=$!
	wait "$booted" || echo "# the booted system ended with status $?"
	booted=''
	wait "$shown"
}

trap clean_up EXIT
trap 'exit 1' HUP INT TERM
check_tools
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$top" && pwd)
base=$(mktemp -d "${TMPDIR:-/tmp}/postern-system.XXXXXX")
root=$base/disk/root
mount_disk
build >"$base/log" 2>&1 || bail_out "the build for the system tests failed"
unpack_inetds >"$base/log" 2>&1
prepare_root
boot
[ ! -s "$root/postern/output" ] || sed 's/^/# /' "$root/postern/output"
if ! grep -q '^1\.\.' "$root/postern/tap"; then
	cat "$base/console" >"$base/log"
	bail_out "the booted system did not come to its end"
fi
