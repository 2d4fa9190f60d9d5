#!/bin/bash
# OpenStack's own tests of networks (tempest with Neutron's plugin), without routers and the outside, against a control plane of
# its own and a host that has joined and does nothing.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The share of the list that must pass, in percent.
wanted=${CONFORMANCE_WANTED:-97}
filter=${CONFORMANCE_FILTER:-'test_(networks|ports|subnets|subnetpools|security_groups|address_|allowed_address|tag|extension_driver_port_security|shared_network|dhcp_ipv6|timestamp|revisions|quotas|network_ip)'}
# What needs routers, the outside, QoS or trunks, which this cloud does not have yet: counted apart. Every test of DHCPv6 lists the
# routers to clean up after itself.
later='(Router|WithL3|QosPolicy|Trunk|ResourceRequest|NetworksTestDHCPv6)|test_external_network_visibility|filter_by_router_id'

step "what judges"
runner=${MERIDIAN_SHARED:-}/conformance/run.sh
[ -x "$runner" ] || fail "tempest's runner is not here: MERIDIAN_SHARED must name a directory with conformance/run.sh"
echo "ok: $runner"

step "a control plane"
root=$MERIDIAN_STATE/conformance-network
rm -rf "$root"
mkdir -p "$root"
BINARY=${MERIDIAN_BINARY:-$BINARY}
[ -x "$BINARY" ] || stage_build
ports=$(python3 -c 'import socket
held = [socket.socket() for _ in range(2)]
for one in held: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))')
read -r port gateway <<<"$ports"
"$BINARY" init --state "$root" --listen "127.0.0.1:$port" --gateway-listen "127.0.0.1:$gateway" >/dev/null
"$BINARY" control-plane --state "$root" >"$root/log.txt" 2>&1 &
control_plane=$!
trap 'kill $control_plane 2>/dev/null || true' EXIT
answers() { curl -sf --cacert "$root/pki/ca.pem" "https://127.0.0.1:$port/healthz" >/dev/null; }
expect "it answers" wait_until 60 "the control plane" answers

step "a host"
# It joins, so that it is listed and ports can name it; no agent runs.
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$root/host.key" -subj /CN=host-1 \
	-out "$root/host.csr" 2>/dev/null
"$BINARY" host token --state "$root" | tail -1 >"$root/token"
joined() {
	python3 -c 'import json, sys
token, csr = (open(path).read() for path in sys.argv[1:])
print(json.dumps({"token": token.strip(), "name": "host-1", "csr": csr}))' "$root/token" "$root/host.csr" |
		curl -sf --cacert "$root/pki/ca.pem" -H 'content-type: application/json' --data-binary @- \
			"https://127.0.0.1:$gateway/host/v1/enrol" >"$root/enrolled.json"
}
expect "it joins" joined

export OS_CLIENT_CONFIG_FILE=$root/etc/clouds.yaml OS_CLOUD=meridian-admin SSL_CERT_FILE=$root/pki/ca.pem

step "what OpenStack's own gate gives"
# Higher default quotas, which are an operator's to set, and the cloud's subnet pools.
python3 - "$root/db/meridian.sqlite" <<'PYTHON'
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60)
for resource, limit in [("security_group", 150), ("security_group_rule", 1000)]:
    database.execute("UPDATE quota_defaults SET max_value = ? WHERE resource = ?", (limit, resource))
database.commit()
PYTHON
token=$(python3 - "$OS_CLIENT_CONFIG_FILE" "$port" "$root/pki/ca.pem" <<'PYTHON'
import json, re, ssl, sys, urllib.request
text = open(sys.argv[1]).read()
cloud = text[text.index("meridian-admin:"):]
password = re.search(r"password:\s*[\"']?([^\s\"']+)", cloud).group(1)
name = re.search(r"username:\s*[\"']?([^\s\"']+)", cloud).group(1)
user = {"name": name, "domain": {"name": "Default"}, "password": password}
body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
                 "scope": {"project": {"name": "admin", "domain": {"name": "Default"}}}}}
request = urllib.request.Request(f"https://127.0.0.1:{sys.argv[2]}/identity/v3/auth/tokens", json.dumps(body).encode(),
                                 {"content-type": "application/json"})
answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=sys.argv[3]))
print(answer.headers["x-subject-token"])
PYTHON
)
pool() {
	curl -sf --cacert "$root/pki/ca.pem" -H "x-auth-token: $token" -H 'content-type: application/json' \
		-d "{\"subnetpool\": {\"name\": \"$1\", \"prefixes\": [\"$2\"], \"default_prefixlen\": $3, \"min_prefixlen\": $4, \
		     \"is_default\": true, \"shared\": true}}" "https://127.0.0.1:$port/network/v2.0/subnetpools" >/dev/null
}
expect "the cloud's pools" pool shared-default-subnetpool-v4 10.0.0.0/22 26 8
expect "of both versions" pool shared-default-subnetpool-v6 fd12:67:1::/56 64 64

step "network"
export CONFORMANCE_OUT=$root/results AREA_TIMEOUT=${AREA_TIMEOUT:-9000}
"$runner" network --filter "$filter" --concurrency "${CONFORMANCE_CONCURRENCY:-2}" ${CONFORMANCE_OPTIONS:-} >/dev/null
sed 's/^/measured: /' "$root/results/summary.txt"
sed 's/^/measured: failed: /' "$root/results/network/failed.txt" | cut -c1-300
[ ! -s "$root/results/network/skipped.txt" ] || sed 's/^/measured: skipped: /' "$root/results/network/skipped.txt" | cut -c1-300
kill $control_plane
wait $control_plane || true

# The whole list, and without what comes later.
python3 - "$root/results/network/result.json" "$later" "$wanted" <<'PYTHON'
import json, re, sys
tests, later, wanted = json.load(open(sys.argv[1]))["tests"], re.compile(sys.argv[2]), float(sys.argv[3])
now = {name: test["outcome"] == "passed" for name, test in tests.items() if not later.search(name)}
score = 100 * sum(now.values()) / max(1, len(now))
print(f"measured: without routers, the outside, QoS and trunks: {sum(now.values())} of {len(now)}, {score:.1f} %")
if score < wanted:
    print(f"FAILED: {score:.1f} %, at least {wanted} % is wanted")
    sys.exit(1)
print(f"ok: {score:.1f} %, at least {wanted} % is wanted")
PYTHON
