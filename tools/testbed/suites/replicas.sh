#!/bin/bash
# Two replicas over PostgreSQL; one killed, stopped or cut off at every step of every workflow.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "every step, with the database away for a minute"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
MERIDIAN_REPLICAS=all RUST_BACKTRACE=0 root_cargo nextest run --locked -p meridian -p simulated_cloud \
	--no-fail-fast --no-capture --color never -E 'binary(replicas)' 2>&1 | sed -u 's/^\( *PASS\)/ok:\1/'
