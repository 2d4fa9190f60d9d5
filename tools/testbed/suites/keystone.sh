#!/bin/bash
# Who is who, measured beside a real Keystone with 10,000 people in one run. Judges nothing.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "what is needed"
[ -f "${MERIDIAN_SHARED:-}/peer/load.py" ] ||
	fail "the real services' scripts are not here: MERIDIAN_SHARED must name a directory with peer/load.py"
[ -x "${PEER:-}/venv/bin/python" ] ||
	fail "the real services are not installed: PEER must name the directory where MERIDIAN_SHARED/peer/00-install.sh put them"
bin=${BIN:-$REPO/target/release}
if [ -z "${BIN:-}" ]; then
	(cd "$REPO" && as_person "$(find_cargo)" build --release --locked -p meridian -p simulated_cloud)
fi
expect "the programs are built" test -x "$bin/meridian" -a -x "$bin/simulated-host"

step "Keystone, then this cloud"
IDENTITY=1 BIN=$bin OUT=$MERIDIAN_STATE/keystone.jsonl "$REPO/bench/peer.sh" ${KEYSTONE_OPTIONS:-} | sed -u 's/^/measured: /'
