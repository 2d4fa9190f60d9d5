#!/bin/bash
# Random faults for FAULTS_SECONDS (an hour): three hosts, twenty servers, two replicas over PostgreSQL.
# in: verify
# FAULTS_SEED repeats a plan of faults; all is looked at after every FAULTS_PAUSE seconds (ten minutes) of them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=${FAULTS_SECONDS:-3600}
seed=${FAULTS_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}

prepare
step "./dev testbed --hosts 3 --database postgresql --replicas 2"
dev testbed --hosts 3 --database postgresql --replicas 2
step "faults for $seconds seconds, seed $seed"
# Outside of what `prepare` and the end delete: the story is for afterwards.
log=${SHARED:-$MERIDIAN_STATE}/log/faults.log
mkdir -p "$(dirname "$log")"
rm -f "$log"
(
	enter_testbed
	OS_CLIENT_CONFIG_FILE=$STATE/etc/clouds.yaml PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 "$CLIENT/bin/python" \
		"$REPO/tools/testbed/faults.py" --state "$STATE" --prefix "$PREFIX" --binary "$BINARY" --repo "$REPO" \
		--seconds "$seconds" --pause-every "${FAULTS_PAUSE:-600}" --seed "$seed" --log "$log"
)
step "down"
dev testbed down
expect_not "the testbed's state is gone" test -d "$MERIDIAN_STATE/testbed"
testbed_prefix=$(enter_testbed && echo "$PREFIX")
expect_not "no namespace is left" grep -q "^$testbed_prefix-" <(ip netns list)
dev uninstall --yes >/dev/null
expect "nothing of this copy is on the machine" nothing_left
