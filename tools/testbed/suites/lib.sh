# shellcheck shell=bash
# (no suite) What the suites share. They get REPO, and MERIDIAN_STATE for a cloud of their own.
set -euo pipefail
: "${REPO:?}" "${MERIDIAN_STATE:?}"
dev() { "$REPO/dev" "$@"; }
# The names of ./dev, without running it.
# shellcheck source=/dev/null
for part in common checks packages build switch postgresql cloud client demo remove testbed; do . "$REPO/tools/dev/$part.sh"; done
trap - INT TERM

# prepare: begins from nothing; what was fetched and built once (the client, the guest image) is not fetched again. SHARED is the
# state directory that has it.
prepare() {
	dev uninstall --yes >/dev/null
	mkdir -p "$MERIDIAN_STATE"
	local part
	for part in client cache; do
		if [ -d "${SHARED:-}/$part" ] && [ ! -e "$MERIDIAN_STATE/$part" ]; then ln -s "$SHARED/$part" "$MERIDIAN_STATE/$part"; fi
	done
}
step() { printf -- '--- %s\n' "$*"; }
fail() {
	printf 'FAILED: %s\n' "$*"
	exit 1
}
# expect WHAT COMMAND…
expect() {
	local what=$1
	shift
	if "$@"; then printf 'ok: %s\n' "$what"; else fail "$what"; fi
}
expect_not() {
	local what=$1
	shift
	if "$@"; then fail "$what"; else printf 'ok: %s\n' "$what"; fi
}
os() { dev openstack "$@"; }
# One value of an object: value NAME openstack-words…
value() {
	local column=$1
	shift
	os "$@" -f value -c "$column"
}
# Nothing of this copy is left on the machine: processes, namespaces, devices.
nothing_left() {
	local found
	found=$(ps -eo pid,args | grep -F "$MERIDIAN_STATE/" | grep -v -e grep -e 'bash ' || true)
	[ -z "$found" ] || { echo "processes: $found"; return 1; }
	found=$(ip netns list | grep "^$PREFIX" || true)
	[ -z "$found" ] || { echo "namespaces: $found"; return 1; }
	found=$(ip -br link | grep "^$PREFIX" || true)
	[ -z "$found" ] || { echo "devices: $found"; return 1; }
	found=$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$PREFIX" 2>/dev/null || true)
	[ -z "$found" ] || { echo "control groups: $found"; return 1; }
}

# fresh_machine DIR: a Debian 12 in a chroot where nothing was installed by hand but a Rust toolchain, as rustup would have put
# it there for root. `inside COMMAND…` runs there as from a login of its own: nothing of this shell's environment goes in.
# To try everything but the build: MERIDIAN_BINARY=…/meridian ./dev verify SUITE
program=
inside() { env -i HOME=/root TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin ${program:+MERIDIAN_BINARY="$program"} chroot "$root" "$@"; }
leave_fresh_machine() {
	[ ! -x "$root/work/meridian/dev" ] || inside /work/meridian/dev uninstall --yes </dev/null || true
	local mount
	for mount in run/netns dev/pts dev proc sys run; do umount -l "$root/$mount" 2>/dev/null || true; done
	rm -rf --one-file-system "$root"
}
fresh_machine() {
	root=$1
	is_installed debootstrap || DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap
	if [ -d "$root" ]; then leave_fresh_machine; fi
	debootstrap --variant=minbase --include=ca-certificates,git bookworm "$root"
	trap leave_fresh_machine EXIT
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --make-rslave "$root/sys"
	mount --bind /dev "$root/dev"
	mount -t devpts devpts "$root/dev/pts"
	mount -t tmpfs tmpfs "$root/run"
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	rm -f "$root/usr/sbin/policy-rc.d"
	# The toolchain, and where this machine fetches from.
	local sysroot name file
	sysroot=$(cd / && "$(find_cargo | sed 's/cargo$/rustc/')" --print sysroot)
	mkdir -p "$root/root/.cargo/bin"
	cp -a "$sysroot" "$root/opt/rust"
	for name in cargo rustc; do ln -s "/opt/rust/bin/$name" "$root/root/.cargo/bin/$name"; done
	for file in /etc/ssl/certs/ca-certificates.crt "$HOME/.cargo/config.toml" /etc/pip.conf; do
		[ -f "$file" ] && install -D "$file" "$root/${file/#$HOME/\/root}"
	done
	if [ -n "${MERIDIAN_BINARY:-}" ]; then
		install -D -m 0755 "$MERIDIAN_BINARY" "$root/opt/meridian"
		program=/opt/meridian
	fi
}
