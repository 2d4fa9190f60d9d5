# shellcheck shell=bash
# Building the program, as the person who typed the command.

# Cargo decides what is to be done; it takes a second when nothing changed. A build made by root earlier would
# leave files that the person's own cargo cannot replace: they are handed over first.
stage_build() {
	if [ -n "${MERIDIAN_BINARY:-}" ]; then
		[ -x "$BINARY" ] || { echo "MERIDIAN_BINARY is $BINARY, and there is no such program"; return 1; }
		echo "using $BINARY"
		return 0
	fi
	local cargo
	cargo=$(find_cargo) || { echo "no cargo found"; return 1; }
	cd "$REPO"
	if [ -n "$PERSON" ] && [ -d target ]; then
		find target \! -user "$PERSON" -print -quit | grep -q . && chown -R "$PERSON:$(id -g "$PERSON")" target
	fi
	as_person "$cargo" --version
	# The count of crates, so that the progress says how far it is: cargo draws no bar into a log.
	local total
	total=$(grep -c '^name = ' Cargo.lock)
	local began done_now=0 line
	began=$(now_ms)
	as_person "$cargo" build --release --locked --package meridian 2>&1 |
		while IFS= read -r line; do
			case $line in
			*Compiling*)
				done_now=$((done_now + 1))
				printf '%d of at most %d: %s (%d s)\n' $done_now "$total" "${line#*Compiling }" $((($(now_ms) - began) / 1000))
				;;
			*) printf '%s\n' "$line" ;;
			esac
		done
	[ -x "$BINARY" ] || { echo "cargo ended without $BINARY"; return 1; }
}
