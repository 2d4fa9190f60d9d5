#!/bin/bash
# Yesterday's backup is restored under running servers and merged; a cloud moves to PostgreSQL.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "backup, restore, adoption, move"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
RUST_BACKTRACE=0 root_cargo nextest run --locked -p database -p control_plane -p meridian -p simulated_cloud \
	--no-fail-fast --no-capture --color never -E 'test(transfer) | test(adoption) | binary(restore)' 2>&1 |
	sed -u 's/^\( *PASS\)/ok:\1/'
