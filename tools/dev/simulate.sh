# shellcheck shell=bash
# ./dev simulate: a region on made-up time, as a seed says. See docs/simulation.md.

# The build has the bugs in it that a run may switch on with --bug, each of them asleep.
simulation_build() {
	local cargo
	cargo=$(find_cargo) || { echo "no cargo found"; how_to_get_rust; return 1; }
	(cd "$REPO" && as_person "$cargo" build --quiet --locked --profile simulation --package simulation)
}

simulate() {
	simulation_build || return 1
	"$REPO/target/simulation/simulate" "$@"
}
