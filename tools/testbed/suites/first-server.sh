#!/bin/bash
# From nothing to a server that answers SSH, down and up again, and back to nothing.
# in: test
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "nothing is there"
prepare
expect "nothing of this copy is on the machine" nothing_left

step "./dev up"
dev up --yes

step "what the new user was promised"
for file in clouds.yaml openrc-admin openrc-demo demo-key; do
	expect "$file is for its owner alone" test "$(stat -c %a "$MERIDIAN_STATE/etc/$file")" = 600
done
expect "SSH into hello" test "$(dev ssh hello hostname)" = hello
expect "the guest took its address by DHCP" dev ssh hello pidof udhcpc
# grep reads to the end: one that stopped at its first match would break the client's pipe.
console_says() { os console log show hello | grep "$1" >/dev/null; }
expect "the console log shows a guest that is ready" console_says 'meridian-guest: ready hello'
id=$(value id server show hello)
disk=$(find "$MERIDIAN_STATE/host" -path "*/servers/$id/*" -type f -name '*root*' | head -n 1)
base=$(qemu-img info -U --output=json "$disk" | sed -n 's/.*"full-backing-filename": "\(.*\)".*/\1/p' | head -n 1)
# The agent opens the image by descriptor, and then no name of it is in the disk: take the cached file.
[ -f "$base" ] || base=$(find "$MERIDIAN_STATE/host/images" -type f -size +1M | head -n 1)
expect "the disk stands on the uploaded image" \
	test "$(sha256sum <"$base")" = "$(sha256sum <"$MERIDIAN_STATE/cache/guest.qcow2")"

step "a second ./dev up changes nothing and is quick"
began=$(now_ms)
dev up --yes >/dev/null
echo "took $(seconds $(($(now_ms) - began)))"
expect "hello is the same server" test "$(value id server show hello)" = "$id"
uptime_before=$(dev ssh hello 'cut -d. -f1 /proc/uptime')

step "a supervisor that is killed takes its services with it, and no guest"
guests=$(guests_running)
kill -9 "$(cat "$MERIDIAN_STATE/run/supervise.pid")"
wait_until 30 "the services to end" no_orphans || fail "services go on without a supervisor: $(orphans_running)"
dev up --yes >/dev/null
expect "the guest went on" test "$(guests_running)" = "$guests"
expect "it answers" test "$(dev ssh hello hostname)" = hello

step "down and up: the guest ended cleanly, and comes back"
dev down
expect "nothing runs" nothing_left
expect "the guest was asked by ACPI and powered itself off" \
	grep -q 'meridian-guest: powering off' "$MERIDIAN_STATE/host/servers/$id/run/console.log"
dev up --yes >/dev/null
expect "hello answers again" test "$(dev ssh hello hostname)" = hello
expect "it was started anew" test "$(dev ssh hello 'cut -d. -f1 /proc/uptime')" -lt $((uptime_before + 100000))
expect "its host keys were kept: the root disk is the same" dev ssh hello test -s /var/lib/meridian-guest/instance-id

step "delete: nothing is left of the server"
os server delete --wait hello
gone() { [ -z "$(guests_running)" ] && [ ! -e "$MERIDIAN_STATE/host/servers/$id" ]; }
wait_until 60 "the host to clean up" gone || fail "process or disk left: $(guests_running) $(ls "$MERIDIAN_STATE/host/servers")"
echo "ok: process and disk are gone"
expect "no port is left but the operators' own" test -z "$(os --os-cloud meridian-admin port list --device-owner compute:zone-1 -f value -c ID)"

step "uninstall"
dev uninstall --yes
expect "nothing of this copy is on the machine" nothing_left
expect_not "the state directory is gone" test -d "$MERIDIAN_STATE"
