#!/bin/bash
# What guests and the underlay may try, over and over: each frame first shown to arrive where it is allowed.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "attacks from guests and from the underlay, and random clouds through a real switch"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
MERIDIAN_ATTACK_ROUNDS=20 RUST_BACKTRACE=0 root_cargo nextest run --locked -p flow_compiler -p host_agent \
	--no-fail-fast --no-capture --color never \
	-E '(binary(data_plane) and test(attack::)) or (binary(pipeline) and not test(mutants))' 2>&1 | sed -u 's/^\( *PASS\)/ok:\1/'
