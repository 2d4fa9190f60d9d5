#!/bin/bash
# Two thousand power cuts while SQLite writes: what was acknowledged is there, and the file sound.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "cuts at any instant, any part of what was not synced"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
MERIDIAN_POWER_CUTS=2000 RUST_BACKTRACE=0 root_cargo nextest run --locked -p database \
	--no-fail-fast --no-capture --color never -E 'binary(power_cut)' 2>&1 | sed -u 's/^\( *PASS\)/ok:\1/'
