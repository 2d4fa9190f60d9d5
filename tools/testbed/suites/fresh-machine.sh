#!/bin/bash
# A Debian 12 in a chroot where nothing was installed by hand: clone, ./dev up --yes, SSH into hello.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages packages_to_run packages_to_test
is_installed debootstrap || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap
root=/var/lib/meridian-fresh-machine
leave() {
	chroot "$root" /work/meridian/dev uninstall --yes || true
	for mount in run/netns dev/pts dev proc sys run; do umount -l "$root/$mount" 2>/dev/null || true; done
	rm -rf --one-file-system "$root"
}
if [ -d "$root" ]; then leave; fi
debootstrap --variant=minbase --include=ca-certificates,git bookworm "$root"
trap leave EXIT
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --make-rslave "$root/sys"
mount --bind /dev "$root/dev"
mount -t devpts devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/run"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# As rustup would have put it there for root: the toolchain, and where the machine fetches from.
sysroot=$(cd / && "$(find_cargo | sed 's/cargo$/rustc/')" --print sysroot)
mkdir -p "$root/root/.cargo/bin"
cp -a "$sysroot" "$root/opt/rust"
for program in cargo rustc; do ln -s "/opt/rust/bin/$program" "$root/root/.cargo/bin/$program"; done
for file in /etc/apt/sources.list.d/debian.sources /etc/ssl/certs/ca-certificates.crt "$HOME/.cargo/config.toml" /etc/pip.conf; do
	[ -f "$file" ] && install -D "$file" "$root/${file/#$HOME/\/root}"
done
git clone -q "$REPO" "$root/work/meridian"
HOME=/root chroot "$root" /work/meridian/dev up --yes
expect "SSH into hello" test "$(HOME=/root chroot "$root" /work/meridian/dev ssh hello hostname)" = hello
HOME=/root chroot "$root" /work/meridian/dev down
