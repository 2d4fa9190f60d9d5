#!/bin/bash
# A Debian 12 in a chroot where nothing was installed by hand: clone, ./dev up --yes, SSH into hello.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages packages_to_run packages_to_test
fresh_machine /var/lib/meridian-fresh-machine
git clone -q "$REPO" "$root/work/meridian"
began=$(now_ms)
inside /work/meridian/dev up --yes </dev/null
echo "measured: ./dev up, ${program:+without building, }$(seconds $(($(now_ms) - began)))"
expect "SSH into hello" test "$(inside /work/meridian/dev ssh hello hostname </dev/null)" = hello
step "daemons that came with packages are off"
for daemon in ovs-vswitchd ovsdb-server postgres; do
	others() {
		local pid found=
		for pid in $(pgrep -x "$1"); do
			[ "$(readlink "/proc/$pid/root")" = "$root" ] && ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q /var/lib/meridian- && found=$pid
		done
		[ -n "$found" ]
	}
	expect_not "no $daemon of Debian's runs" others "$daemon"
done
expect_not "the policy that kept them off is gone" test -e "$root/usr/sbin/policy-rc.d"
inside /work/meridian/dev down </dev/null
inside /work/meridian/dev uninstall --yes </dev/null
