#!/bin/bash
# Two copies on one machine, both up at once, share nothing; one goes without disturbing the other.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

first=$MERIDIAN_STATE-one second=$MERIDIAN_STATE-two
one() { MERIDIAN_STATE=$first "$REPO/dev" "$@"; }
two() { MERIDIAN_STATE=$second "$REPO/dev" "$@"; }
one up --yes
two up --yes
expect "the first answers" test "$(one ssh hello hostname)" = hello
expect "the second answers" test "$(two ssh hello hostname)" = hello
two uninstall --yes
expect "the first still answers" test "$(one ssh hello hostname)" = hello
one uninstall --yes
