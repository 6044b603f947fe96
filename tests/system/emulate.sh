#!/bin/sh
# emulate.sh KERNEL ROOT: boots the kernel of the linux-image package that is unpacked in KERNEL in an emulated machine, with the
# folder ROOT as its root; ROOT/postern alone can be written to, what else is changed stays in the machine's memory.  Ends when
# the machine is switched off.  Without KVM, which hangs where machines are nested: ten times slower.
set -eu

kernel=$1
root=$2
version=$(ls "$kernel/lib/modules")
work=$(dirname "$root")/emulated
packed=$(dirname "$root")/emulated.cpio

# What has to be loaded before there is a root, each after what it needs.
copy_modules() {
	depmod -b "$kernel" "$version"
	for module in virtio_pci 9pnet_virtio 9p overlay; do
		modprobe -d "$kernel" -S "$version" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/modules"
	while read -r path; do
		cp "$path" "$work/"
	done <"$work/modules"
	sed -i 's,.*/,/,' "$work/modules"
}

make_init() {
	cat >"$work/init" <<-'INIT'
		#!/busybox sh
		mount() { /busybox mount "$@" || echo "mount $*: failed"; }
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		mount -t devtmpfs dev /dev
		while read -r module; do
			/busybox insmod "$module" || echo "$module: failed"
		done </modules
		mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /lower
		mount -t tmpfs -o size=3g memory /memory
		/busybox mkdir /memory/upper /memory/work
		mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work root /machine
		mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 postern /machine/postern
		# What lies here on the machine would be removed file by file at the start.
		mount -t tmpfs -o mode=1777 tmp /machine/tmp
		mount -t tmpfs -o mode=1777 tmp /machine/var/tmp
		for folder in proc sys dev; do
			mount --move "/$folder" "/machine/$folder"
		done
		exec /busybox switch_root /machine /lib/systemd/systemd systemd.unit=postern-test.target
	INIT
	chmod 755 "$work/init"
}

share() {
	echo "local,path=$1,mount_tag=$2,security_model=passthrough,multidevs=remap"
}

mkdir "$work"
(cd "$work" && mkdir proc sys dev lower memory machine)
cp "$(command -v busybox)" "$work/busybox"
copy_modules
make_init
(cd "$work" && find . | cpio --quiet -o -H newc) >"$packed"
exec qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 6G -smp 2 -nographic -nic none -no-reboot \
	-kernel "$kernel/boot/vmlinuz-$version" -initrd "$packed" -append 'console=ttyS0 quiet panic=-1' \
	-virtfs "$(share "$root" root),readonly=on" -virtfs "$(share "$root/postern" postern)"
