#!/bin/bash
# Agent, switch and database of the switch killed under traffic, rules taken away under bulk transfers, an underlay that forgets.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=/dev/null
. "$REPO/tools/dev/test.sh"

step "faults under traffic; the gaps are printed"
TOOLS=${SHARED:-$MERIDIAN_STATE}/tools
install_tools
cd "$REPO"
MERIDIAN_FAULT_ROUNDS=5 RUST_BACKTRACE=0 root_cargo nextest run --locked -p host_agent \
	--no-fail-fast --no-capture --color never \
	-E '(binary(data_plane) and (test(faults::) or test(learning::))) or test(switch_tests::)' 2>&1 | sed -u 's/^\( *PASS\)/ok:\1/'
