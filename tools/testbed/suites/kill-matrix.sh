#!/bin/bash
# SIGKILL to control plane, agent and both at every step of create and delete, on simulated hosts.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "every point of every column"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
MERIDIAN_KILL_MATRIX=all RUST_BACKTRACE=0 root_cargo nextest run --locked -p meridian -p simulated_cloud \
	--no-fail-fast --no-capture --color never -E 'binary(kill_matrix)' 2>&1 |
	sed -u 's/^\([0-9]* struck\)/measured: \1/; s/^\( *PASS\)/ok:\1/'
