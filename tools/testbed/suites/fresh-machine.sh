#!/bin/bash
# A Debian 12 in a chroot where nothing was installed by hand: clone, ./dev up --yes, SSH into hello.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages packages_to_run packages_to_test
is_installed debootstrap || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap
root=/var/lib/meridian-fresh-machine
# As from a login of its own: nothing of this shell's environment goes in.
program=
inside() { env -i HOME=/root TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin ${program:+MERIDIAN_BINARY="$program"} chroot "$root" "$@"; }
leave() {
	[ ! -x "$root/work/meridian/dev" ] || inside /work/meridian/dev uninstall --yes </dev/null || true
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
rm -f "$root/usr/sbin/policy-rc.d"
# As rustup would have put it there for root: the toolchain, and where the machine fetches from.
sysroot=$(cd / && "$(find_cargo | sed 's/cargo$/rustc/')" --print sysroot)
mkdir -p "$root/root/.cargo/bin"
cp -a "$sysroot" "$root/opt/rust"
for program in cargo rustc; do ln -s "/opt/rust/bin/$program" "$root/root/.cargo/bin/$program"; done
for file in /etc/ssl/certs/ca-certificates.crt "$HOME/.cargo/config.toml" /etc/pip.conf; do
	[ -f "$file" ] && install -D "$file" "$root/${file/#$HOME/\/root}"
done
git clone -q "$REPO" "$root/work/meridian"
# To try everything but the build: MERIDIAN_BINARY=…/meridian ./dev verify fresh-machine
if [ -n "${MERIDIAN_BINARY:-}" ]; then
	install -D -m 0755 "$MERIDIAN_BINARY" "$root/opt/meridian"
	program=/opt/meridian
fi
inside /work/meridian/dev up --yes </dev/null
expect "SSH into hello" test "$(inside /work/meridian/dev ssh hello hostname </dev/null)" = hello
step "daemons that came with packages are off"
for daemon in ovs-vswitchd ovsdb-server postgres; do
	others() {
		local pid found=
		for pid in $(pgrep -x "$1"); do
			[ "$(readlink "/proc/$pid/root")" = "$root" ] && ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q /var/lib/meridian- && found=$pid
		done
		[ -n "$found" ]
	}
	expect_not "no $daemon of Debian's runs" others "$daemon"
done
expect_not "the policy that kept them off is gone" test -e "$root/usr/sbin/policy-rc.d"
inside /work/meridian/dev down </dev/null
inside /work/meridian/dev uninstall --yes </dev/null
