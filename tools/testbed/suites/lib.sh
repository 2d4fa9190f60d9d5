# shellcheck shell=bash
# (no suite) What the suites share. They get REPO, and MERIDIAN_STATE for a cloud of their own.
set -euo pipefail
: "${REPO:?}" "${MERIDIAN_STATE:?}"
dev() { "$REPO/dev" "$@"; }
# The names of ./dev, without running it.
# shellcheck source=/dev/null
for part in common checks packages build switch cloud client demo remove testbed; do . "$REPO/tools/dev/$part.sh"; done
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
}
