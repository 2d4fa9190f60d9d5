#!/bin/bash
# SIGKILL to control plane and agent of a cloud with real guests, at a tenth of all steps of create and delete (KILL_PART=all: at all).
# in: test
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Each commit's hash picks one of ten parts; ten hashes that end differently cover every step.
readonly KILL_PARTS=10
hash=$(git -c safe.directory='*' -C "$REPO" rev-parse HEAD 2>/dev/null || echo 0)
parts=${KILL_PART:-$((0x${hash:0:8} % KILL_PARTS))}
if [ "$parts" = all ]; then parts=$(seq 0 $((KILL_PARTS - 1))); fi

# Only a debug build can be killed at a chosen step; the release build must not have that.
build_debug() {
	local cargo
	cargo=$(find_cargo) || return 1
	(cd "$REPO" && as_person "$cargo" build --locked --package meridian)
}
debug=$REPO/target/debug/meridian
if [ ! -x "$debug" ] || ! grep -q MERIDIAN_KILL_POINTS "$debug"; then build_debug; fi
release=$REPO/target/release/meridian
if [ -x "$release" ]; then expect_not "the release build has no kill points" grep -q MERIDIAN_KILL_POINTS "$release"; fi

prepare
mkdir -p "$MERIDIAN_STATE/run/kill-points"
export MERIDIAN_BINARY=$debug MERIDIAN_KILL_POINTS=$MERIDIAN_STATE/run/kill-points
BINARY=$debug
step "a cloud that can be killed at every step"
dev up --yes
for part in $parts; do
	step "part $part of $KILL_PARTS"
	OS_CLIENT_CONFIG_FILE=$STATE/etc/clouds.yaml PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 "$CLIENT/bin/python" \
		"$REPO/tools/testbed/kill_points.py" --state "$STATE" --prefix "$PREFIX" --part "$part" --parts $KILL_PARTS
done
expect "hello still answers" test "$(dev ssh hello hostname)" = hello

step "Open vSwitch crashes under running guests"
before=$(guests_running)
for daemon in ovs-vswitchd ovsdb-server; do
	pid=$(cat "$STATE/run/ovs/$daemon.pid")
	# A crash, after which its monitor starts it again; a SIGKILL would end the monitor as well.
	kill -SEGV "$pid"
	restarted() { [ "$(cat "$STATE/run/ovs/$daemon.pid" 2>/dev/null || echo "$pid")" != "$pid" ]; }
	wait_until 30 "$daemon's monitor to start it again" restarted
	answers() { [ "$(timeout 20 "$REPO/dev" ssh hello hostname 2>/dev/null)" = hello ]; }
	wait_until 60 "hello to answer again" answers || fail "hello does not answer after $daemon crashed"
	echo "ok: hello answers again after $daemon crashed"
done
expect "its guest was not touched" test "$(guests_running)" = "$before"
dev uninstall --yes >/dev/null
expect "nothing of this copy is on the machine" nothing_left
