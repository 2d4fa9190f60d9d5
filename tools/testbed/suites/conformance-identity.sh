#!/bin/bash
# OpenStack's own tests of identity and of its roles (tempest with Keystone's plugin), against a control plane of its own.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Areas and the share of each list that must pass, in percent.
wanted() { case $1 in identity) echo 99 ;; rbac) echo 98 ;; *) echo 100 ;; esac; }
areas=(${CONFORMANCE_AREAS:-identity rbac})

step "what judges"
runner=${MERIDIAN_SHARED:-}/conformance/run.sh
[ -x "$runner" ] || fail "tempest's runner is not here: MERIDIAN_SHARED must name a directory with conformance/run.sh"
echo "ok: $runner"

step "a control plane"
root=$MERIDIAN_STATE/conformance
rm -rf "$root"
mkdir -p "$root"
[ -x "$BINARY" ] || stage_build
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$BINARY" init --state "$root" --listen "127.0.0.1:$port" >/dev/null
"$BINARY" control-plane --state "$root" >"$root/log.txt" 2>&1 &
control_plane=$!
trap 'kill $control_plane 2>/dev/null || true' EXIT
answers() { curl -sf --cacert "$root/pki/ca.pem" "https://127.0.0.1:$port/healthz" >/dev/null; }
expect "it answers" wait_until 60 "the control plane" answers

export OS_CLIENT_CONFIG_FILE=$root/etc/clouds.yaml OS_CLOUD=meridian-admin
# The plugin's clients of federation are told of no authority; they take the system's, which is this for them.
export SSL_CERT_FILE=$root/pki/ca.pem
export CONFORMANCE_OUT=$root/results AREA_TIMEOUT=${AREA_TIMEOUT:-9000}
status=0
for area in "${areas[@]}"; do
	step "$area"
	"$runner" "$area" --concurrency 2 ${CONFORMANCE_OPTIONS:-} >/dev/null
	sed 's/^/measured: /' "$root/results/summary.txt"
	# The name of the test and the first line of its error.
	sed 's/^/measured: failed: /' "$root/results/$area/failed.txt" | cut -c1-300
	score=$(awk -v area="$area" '$1 == area { print $NF + 0 }' "$root/results/summary.txt")
	if awk -v score="${score:-0}" -v wanted="$(wanted "$area")" 'BEGIN { exit !(score >= wanted) }'; then
		echo "ok: $area reaches $score %, at least $(wanted "$area") is wanted"
	else
		echo "FAILED: $area reaches ${score:-0} %, at least $(wanted "$area") is wanted"
		status=1
	fi
done
kill $control_plane
wait $control_plane || true
exit $status
