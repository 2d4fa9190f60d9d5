# shellcheck shell=bash
# What `./dev up` says before it does anything, and the checks that would otherwise fail half-way.

readonly MEMORY_WANTED_MIB=3500 MEMORY_LEAST_MIB=1800
readonly DISK_BUILD_MIB=4500 DISK_STATE_MIB=1500

rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPO/Cargo.toml"; }

# version_at_least HAVE WANT
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

free_mib() {
	local path=$1
	while [ ! -d "$path" ]; do path=$(dirname "$path"); done
	df -Pm "$path" | awk 'NR == 2 { print $4 }'
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The API's port and the gateway's (the next one): the first free pair from a place that the copy's tag
# chooses, so that two copies started together do not race for the same one.
choose_ports() {
	[ -n "$(recall api_port)" ] && return 0
	local port=$((20000 + 0x$(hash_of "$STATE" 4) % 10000))
	port=$((port / 2 * 2))
	until port_is_free $port && port_is_free $((port + 1)); do
		port=$((port + 2))
		[ $port -lt 32000 ] || die "no two free ports between 20000 and 32000"
	done
	remember api_port $port
}

# 198.18.0.0/15 is set aside for networks inside one laboratory (RFC 2544): a /30 of it joins the machine to
# the namespace in which it is a host.
choose_link_addresses() {
	[ -n "$(recall link_outside)" ] && return 0
	local slot=$((0x$(hash_of "$STATE" 4) % 32768)) base
	while :; do
		base=$((slot * 4))
		local net="198.$((18 + base / 65536)).$((base / 256 % 256))"
		if ! have ip || ! ip -o address | grep -qF "inet $net.$((base % 256 + 1))/"; then break; fi
		slot=$(((slot + 1) % 32768))
	done
	remember link_outside "$net.$((base % 256 + 1))"
	remember link_inside "$net.$((base % 256 + 2))"
}

find_cargo() {
	local home
	if [ -n "$PERSON" ]; then
		home=$(getent passwd "$PERSON" | cut -d: -f6)
	else
		home=$HOME
	fi
	local candidate
	for candidate in "${CARGO:-}" "${CARGO_HOME:-$home/.cargo}/bin/cargo" "$(command -v cargo || true)" /usr/local/cargo/bin/cargo; do
		if [ -n "$candidate" ] && as_person test -x "$candidate"; then
			echo "$candidate"
			return 0
		fi
	done
	return 1
}

how_to_get_rust() {
	cat <<TEXT
  Debian 12's own cargo is 0.66, too old. As ${PERSON:-your ordinary user}, get a current one with rustup:
      curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain $(rust_wanted)
  It installs into ~/.cargo and ~/.rustup and changes nothing else. Then run ./dev up again.
TEXT
}

check_rust() {
	local cargo version
	if ! cargo=$(find_cargo); then
		echo "  ✗ Rust: no cargo found for ${PERSON:-root}"
		how_to_get_rust
		return 1
	fi
	version=$(cd "$REPO" && as_person "$cargo" --version 2>/dev/null | awk '{ print $2 }')
	if ! version_at_least "${version:-0}" "$(rust_wanted)"; then
		echo "  ✗ Rust: $cargo is version ${version:-unknown}; $(rust_wanted) or newer is needed"
		how_to_get_rust
		return 1
	fi
	echo "  ✓ Rust: cargo $version"
}

check_machine() {
	local failed=0 memory disk
	. /etc/os-release
	if [ "${ID:-}" = debian ] && [ "${VERSION_ID:-0}" -ge 12 ] 2>/dev/null; then
		echo "  ✓ ${PRETTY_NAME}"
	else
		echo "  ✗ ${PRETTY_NAME:-this system}: Debian 12 is what Meridian is made for and tried on"
		failed=1
	fi
	[ "$(uname -m)" = x86_64 ] || { echo "  ✗ $(uname -m): only x86-64 is supported"; failed=1; }
	memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
	if [ "$memory" -lt $MEMORY_LEAST_MIB ]; then
		echo "  ✗ memory: $memory MiB; 4 GiB are enough, below 2 GiB the build fails"
		failed=1
	elif [ "$memory" -lt $MEMORY_WANTED_MIB ]; then
		echo "  ! memory: $memory MiB; 4 GiB are advised, the build may be slow"
	else
		echo "  ✓ memory: $memory MiB"
	fi
	disk=$(free_mib "$REPO")
	if [ -n "${MERIDIAN_BINARY:-}" ]; then
		:
	elif [ ! -x "$BINARY" ] && [ "$disk" -lt $DISK_BUILD_MIB ]; then
		echo "  ✗ disk: $disk MiB free for the build in $REPO; it needs $DISK_BUILD_MIB"
		failed=1
	else
		echo "  ✓ disk: $disk MiB free for the build"
	fi
	disk=$(free_mib "$STATE")
	if [ "$disk" -lt $DISK_STATE_MIB ]; then
		echo "  ✗ disk: $disk MiB free for $STATE; it needs $DISK_STATE_MIB"
		failed=1
	fi
	if [ ! -c /dev/net/tun ] && ! modprobe -q tun 2>/dev/null; then
		echo "  ✗ /dev/net/tun is missing and the tun module does not load: guests would have no network"
		failed=1
	fi
	check_rust || failed=1
	local port
	port=$(recall api_port)
	if [ -n "$port" ] && ! cloud_is_up && ! port_is_free "$port"; then
		echo "  ✗ port $port, chosen for this cloud earlier, is in use by something that is not this cloud: find it with 'ss -ltnp', end it, and run ./dev up again"
		failed=1
	else
		echo "  ✓ ports: ${port:-chosen among free ones}"
	fi
	return $failed
}

print_plan() {
	local missing
	missing=$(missing_packages)
	echo "Meridian will be set up on this machine."
	echo
	echo "What will be done (about $([ -x "$BINARY" ] && echo "1 minute" || echo "10 to 15 minutes, most of it compiling")):"
	if [ -n "$missing" ]; then
		echo "  install Debian packages (without their recommendations; their services stay off):"
		print_packages | sed 's/^/      /'
	else
		echo "  install Debian packages: none, all are there"
	fi
	cat <<TEXT
  $(if [ -n "${MERIDIAN_BINARY:-}" ]; then echo "use the program $BINARY"; else echo "build the program in $REPO/target (as ${PERSON:-root})"; fi)
  keep everything else in $STATE: keys, database (${DATABASE:-sqlite}), images, guests' disks, logs, the OpenStack client
  run a control plane (API on ${1:-127.0.0.1}, loopback unless told) and this machine as a host
  make the network namespace $NAMESPACE with Open vSwitch in it, and the device $PREFIX-up that leads there
  boot a server 'hello' and log in to it
Nothing else on the machine is changed. './dev uninstall' takes it all away again.
TEXT
	echo
	echo "Checks:"
}
