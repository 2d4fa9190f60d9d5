#!/bin/bash
# A user's own image: Debian with systemd and cloud-init, put together as Debian's cloud images are, uploaded and booted.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages packages_to_run packages_to_test
for package in debootstrap fdisk; do
	is_installed $package || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $package
done
image=${SHARED:-$MERIDIAN_STATE}/cache/debian-cloud-init.qcow2
readonly ROOT_MIB=1400

# make_image: the packages that Debian's generic image is made of, as far as booting and logging in goes.
make_image() {
	local work root core partition
	work=$(mktemp -d /var/tmp/meridian-cloud-image.XXXXXX)
	root=$work/root
	# shellcheck disable=SC2064 # the names are known now, and not when the subshell ends
	trap "umount -l '$root/proc' 2>/dev/null || true; rm -rf --one-file-system '$work'" EXIT
	debootstrap --variant=minbase --include=ca-certificates bookworm "$root"
	mount -t proc proc "$root/proc"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 0755 "$root/usr/sbin/policy-rc.d"
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	echo 'LABEL=cloud-root / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1' >"$root/etc/fstab"
	local packages="linux-image-cloud-amd64 systemd-sysv udev dbus openssh-server sudo cloud-init cloud-guest-utils
		netplan.io iproute2 e2fsprogs grub-pc-bin grub-common"
	# shellcheck disable=SC2086 # a list of words
	env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
		chroot "$root" apt-get install -y -q --no-install-recommends $packages
	rm -f "$root/usr/sbin/policy-rc.d" "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/etc/resolv.conf"
	: >"$root/etc/machine-id"
	ln -s /lib/systemd/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/" 2>/dev/null || true
	rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
	local kernel
	kernel=$(basename "$(echo "$root"/boot/vmlinuz-*)" | sed 's/^vmlinuz-//')
	cat >"$work/grub.cfg" <<CONFIG
set root=(hd0,msdos1)
linux /boot/vmlinuz-$kernel root=LABEL=cloud-root ro console=tty0 console=ttyS0,115200 net.ifnames=0
initrd /boot/initrd.img-$kernel
boot
CONFIG
	cp "$work/grub.cfg" "$root/tmp/grub.cfg"
	chroot "$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -c /tmp/grub.cfg -o /tmp/core.img \
		biosdisk part_msdos ext2 linux boot
	mv "$root/tmp/core.img" "$work/core.img"
	rm -f "$root/tmp/grub.cfg"
	umount "$root/proc"
	# Features that GRUB of this release reads.
	mke2fs -q -t ext4 -L cloud-root -O ^metadata_csum_seed,^orphan_file -d "$root" "$work/root.ext4" ${ROOT_MIB}M 2>/dev/null ||
		mke2fs -q -t ext4 -L cloud-root -d "$root" "$work/root.ext4" ${ROOT_MIB}M
	truncate -s $((ROOT_MIB + 1))M "$work/disk.raw"
	echo "start=2048, size=$((ROOT_MIB * 2048)), type=83, bootable" | sfdisk -q "$work/disk.raw"
	head -c 440 "$root/usr/lib/grub/i386-pc/boot.img" | dd of="$work/disk.raw" conv=notrunc status=none
	printf '\x90\x90' | dd of="$work/disk.raw" bs=1 seek=102 conv=notrunc status=none
	dd if="$work/core.img" of="$work/disk.raw" bs=512 seek=1 conv=notrunc status=none
	dd if="$work/root.ext4" of="$work/disk.raw" bs=1M seek=1 conv=notrunc,sparse status=none
	mkdir -p "$(dirname "$image")"
	qemu-img convert -O qcow2 -c "$work/disk.raw" "$image.partial"
	mv "$image.partial" "$image"
}
step "an image of Debian's own packages, with cloud-init"
[ -s "$image" ] || (make_image)
ls -lh "$image"

prepare
trap 'dev uninstall --yes >/dev/null 2>&1 || true' EXIT
dev up --yes

step "upload and boot"
os image create --disk-format qcow2 --container-format bare --file "$image" --min-disk 2 debian >/dev/null
os --os-cloud meridian-admin flavor create --vcpus 2 --ram 1024 --disk 6 own-image >/dev/null
cat >"$MERIDIAN_STATE/user-data" <<'DATA'
#cloud-config
locale: C.UTF-8
write_files:
  - path: /etc/from-user-data
    content: it was read
runcmd:
  - [sh, -c, "echo ran > /etc/ran-once"]
DATA
began=$(now_ms)
os server create --image debian --flavor own-image --network demo --security-group demo --key-name demo \
	--user-data "$MERIDIAN_STATE/user-data" --wait mine >/dev/null
answers() { timeout 20 "$REPO/dev" ssh debian@mine true >/dev/null 2>&1 </dev/null; }
wait_until 1200 "the server to answer SSH" answers || {
	os console log show mine | tail -n 60
	fail "the server does not answer SSH"
}
echo "measured: from 'server create' to SSH $(seconds $(($(now_ms) - began)))"
there() { dev ssh debian@mine "$@" </dev/null; }
expect "cloud-init is done" there sudo cloud-init status --wait
expect "its name is the server's" test "$(there hostname)" = mine
expect "cloud-init found this cloud's data source" test "$(there cloud-id)" = openstack
expect "user data was read" test "$(there cat /etc/from-user-data)" = "it was read"
expect "its commands were run" test "$(there cat /etc/ran-once)" = ran
root_gib() { there df --output=size -BG / | tr -dc '0-9\n' | tail -n 1; }
expect "the root file system has grown to the flavor's disk" test "$(root_gib)" -ge 5
expect "the address came by DHCP" there "networkctl status eth0 | grep -q DHCP4"

step "ACPI: stop and start"
os server stop mine
stopped() { [ "$(value status server show mine)" = SHUTOFF ]; }
wait_until 180 "the server to power off" stopped || fail "it does not power off"
os server start mine
wait_until 600 "the server to answer again" answers || fail "it does not come back"
expect "its disk was kept" test "$(there cat /etc/ran-once)" = ran
os server delete --wait mine
