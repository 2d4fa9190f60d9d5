#!/bin/bash
# A PostgreSQL primary dies under load, and its synchronous standby takes over; the old one comes back.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "transactions, and a whole cloud"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
RUST_BACKTRACE=0 root_cargo nextest run --locked -p database -p meridian -p simulated_cloud \
	--no-fail-fast --no-capture --color never -E 'test(failover) | binary(failover)' 2>&1 | sed -u 's/^\( *PASS\)/ok:\1/'
