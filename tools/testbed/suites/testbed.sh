#!/bin/bash
# Three hosts: one tenant's servers reach each other at full size, a twin tenant hears nothing; all is taken down.
# in: test
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prepare
step "./dev testbed --hosts 3"
dev testbed --hosts 3
(
	enter_testbed
	OS_CLIENT_CONFIG_FILE=$STATE/etc/clouds.yaml PYTHONDONTWRITEBYTECODE=1 "$CLIENT/bin/python" "$REPO/tools/testbed/two_tenants.py" \
		--state "$STATE" --namespace-prefix "$PREFIX-h"
)
step "down"
dev testbed down
expect_not "the testbed's state is gone" test -d "$MERIDIAN_STATE/testbed"
testbed_prefix=$(enter_testbed && echo "$PREFIX")
expect_not "no namespace is left" grep -q "^$testbed_prefix-" <(ip netns list)
dev uninstall --yes >/dev/null
expect "nothing of this copy is on the machine" nothing_left
