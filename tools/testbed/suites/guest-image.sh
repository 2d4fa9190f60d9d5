#!/bin/bash
# The guest image: the same bytes twice, small, and boots by itself in bare QEMU.
# in: test
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true; rm -rf "$work"' EXIT
prepare
mkdir -p "$MERIDIAN_STATE/cache/packages"
"$REPO/tools/guest_image/build" "$work/one.qcow2" --cache "$MERIDIAN_STATE/cache/packages"
(umask 077 && cd / && TZ=Asia/Tokyo "$REPO/tools/guest_image/build" "$work/two.qcow2" --cache "$MERIDIAN_STATE/cache/packages")
expect "two builds are the same, byte for byte" cmp "$work/one.qcow2" "$work/two.qcow2"
expect "under 60 MiB" test "$(stat -c %s "$work/one.qcow2")" -lt $((60 * 1048576))

step "boots from its own boot loader in 128 MiB"
qemu-img create -q -f qcow2 -b "$work/one.qcow2" -F qcow2 "$work/disk.qcow2" 1G
began=$(now_ms)
qemu-system-x86_64 -accel tcg,thread=multi -cpu qemu64,+rdrand -machine q35 -m 128 -nodefaults -display none \
	-serial "file:$work/serial" -qmp "unix:$work/qmp,server=on,wait=off" \
	-drive "file=$work/disk.qcow2,if=none,id=root" -device virtio-blk-pci,drive=root \
	-netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci </dev/null &
qemu=$!
wait_until 180 "the guest" grep -q 'meridian-guest: ready' "$work/serial" || { tail "$work/serial"; fail "the guest did not come up"; }
echo "measured: ready after $(seconds $(($(now_ms) - began)))"
printf '{"execute":"qmp_capabilities"}\n{"execute":"system_powerdown"}\n' | timeout 5 socat -t 5 - "UNIX-CONNECT:$work/qmp" >/dev/null || true
ended() { ! kill -0 "$qemu" 2>/dev/null; }
wait_until 60 "the guest to power off" ended || fail "the ACPI power button does nothing"
qemu=
expect "it powered itself off" grep -q 'meridian-guest: powering off' "$work/serial"

step "what it left on its disk"
qemu-img convert -O raw "$work/disk.qcow2" "$work/disk.raw"
dd if="$work/disk.raw" of="$work/root.ext4" bs=1M skip=1 conv=sparse status=none
blocks=$(dumpe2fs -h "$work/root.ext4" 2>/dev/null | sed -n 's/^Block count: *//p')
expect "the file system grew to the disk ($blocks blocks of 4 KiB)" test "$blocks" -gt 260000
expect "the file system is clean" e2fsck -fn "$work/root.ext4"
expect "host keys were written to it" grep -q ssh-ed25519 "$work/serial"
