#!/bin/bash
# Measures the API on SQLite and PostgreSQL, the way of a server to its QEMU, and memory. Judges nothing.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "bench/run"
# The image is the one that ./dev up builds, and kept where that keeps it.
cargo=$(find_cargo) || fail "there is no cargo"
GUEST_IMAGE_CACHE=${SHARED:-$MERIDIAN_STATE}/cache CARGO=$cargo PATH=$(dirname "$cargo"):$PATH \
	"$REPO/bench/run" ${BENCH_OPTIONS:-} | sed -u 's/^/measured: /'
expect "nothing is left on the machine" test -z "$(find /var/lib -maxdepth 1 -name 'meridian-bench-*')"
