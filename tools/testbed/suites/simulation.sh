#!/bin/bash
# The simulation on fresh seeds, for SIMULATION_SECONDS (an hour).
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$REPO/tools/dev/simulate.sh"

seconds=${SIMULATION_SECONDS:-3600}
hosts=${SIMULATION_HOSTS:-12}
jobs=${SIMULATION_JOBS:-$(nproc)}

step "building the simulation"
simulation_build
simulate=$REPO/target/simulation/simulate

step "seed 1, twice"
trace_of() { "$simulate" --seed 1 --hosts "$hosts" --minutes 10 | sed -n 's/.*trace \([0-9a-f]*\):.*/\1/p'; }
first=$(trace_of)
expect "the same seed makes the same run, to the last event ($first)" test -n "$first" -a "$first" = "$(trace_of)"

step "fresh seeds with $hosts hosts for $seconds seconds"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$simulate" --seeds fresh --hosts "$hosts" --budget "$seconds" --jobs "$jobs" | tee "$log" || status=$?
expect "no seed found anything" test $status = 0
printf 'measured: %d seeds, ' "$(grep -c '^seed ' "$log")"
awk '/^seed / { for (i = 1; i <= NF; i++) if ($i == "h") hours += $(i - 1) + $(i + 1) / 60 } END { printf "%.0f made-up hours\n", hours }' "$log"
