# shellcheck shell=bash
# Debian packages: which and why, and installing them without starting anything.

# PACKAGE: REASON, one a line. The first list is for running, the second only for ./dev test.
packages_to_run() {
	cat <<TEXT
qemu-system-x86: runs the guests
qemu-utils: makes and checks disk images
openvswitch-switch: the virtual switch of this host (Meridian runs its own copy of the daemons)
iproute2: network namespaces
iputils-ping: asks the first server whether it is there
openssh-client: logs in to servers
socat: serial consoles
python3-venv: the OpenStack client, in an environment of its own
gcc: links the program and compiles the embedded database
libc6-dev: for gcc
lld: links the program, faster
ca-certificates: fetches the libraries the program is built from
TEXT
	if uses_postgresql; then echo "postgresql-15: keeps the cloud's rows, in a cluster of this cloud's own"; fi
}
packages_to_test() {
	cat <<TEXT
postgresql-15: the second database under test (started by the tests on a socket of their own)
sqlite3: looks into the embedded database behind its back
nftables: cuts hosts off in partition tests
genisoimage: config drives and images of other formats
mtools: reads config drives
ethtool: looks at devices
busybox: asks for leases as a small guest does
slapd: a directory, for tests of LDAP (started by the tests on loopback)
nodejs: runs a certified OpenID provider, for tests of single sign-on
TEXT
	# A Node.js that is not Debian's brings its own, beside which Debian's cannot stand.
	have npm || echo "npm: installs that provider, by its lock file"
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
# missing_packages [LIST…]: names of what is not there; the list for running unless said.
missing_packages() {
	local package list
	for list in "${@:-packages_to_run}"; do
		while IFS=: read -r package _; do
			is_installed "$package" || printf '%s ' "$package"
		done < <($list)
	done
}
print_packages() {
	local package reason
	while IFS=: read -r package reason; do
		is_installed "$package" || printf '%-20s%s\n' "$package" "$reason"
	done < <(packages_to_run)
}

# Units whose daemons Debian's packages start by themselves.
readonly UNITS="slapd.service openvswitch-switch.service ovs-vswitchd.service ovsdb-server.service ovs-record-hostname.service postgresql.service"

# A daemon with an init script alone has a unit that systemd makes of it.
unit_exists() { [ -e "/lib/systemd/system/$1" ] || [ -e "/etc/systemd/system/$1" ] || [ -e "/etc/init.d/${1%.service}" ]; }

# install_packages LIST…: installs what is missing. While apt runs, a policy-rc.d forbids every service to
# start; whatever was there before is put back afterwards, whatever happens. A unit that was not on the machine
# before is then disabled, so that it stays off after a reboot too; a unit that was there is left as it was.
install_packages() {
	local missing before=() unit
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || { echo "nothing to install"; return 0; }
	for unit in $UNITS; do unit_exists "$unit" && before+=("$unit"); done
	local policy=/usr/sbin/policy-rc.d kept=
	if [ -e $policy ] || [ -L $policy ]; then
		kept=$policy.kept-by-meridian
		[ -e "$kept" ] || mv $policy "$kept"
	fi
	# shellcheck disable=SC2064 # the values of now
	trap "rm -f $policy; [ -z '$kept' ] || mv '$kept' $policy" EXIT
	printf '#!/bin/sh\n# Put here by Meridian while it installs packages; removed right after.\nexit 101\n' >$policy
	chmod 0755 $policy
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of words
	if ! apt-get install -y -q --no-install-recommends $missing; then
		apt-get update -q
		# shellcheck disable=SC2086
		apt-get install -y -q --no-install-recommends $missing
	fi
	rm -f $policy
	[ -z "$kept" ] || mv "$kept" $policy
	trap - EXIT
	for unit in $UNITS; do
		case " ${before[*]:-} " in *" $unit "*) continue ;; esac
		unit_exists "$unit" && have systemctl || continue
		systemctl disable "$unit" >/dev/null 2>&1 || true
		tell "$unit came with a package and is kept off: Meridian does not use it"
	done
	mkdir -p "$STATE/etc"
	# shellcheck disable=SC2086
	printf '%s\n' $missing >>"$STATE/etc/packages-installed"
	sort -u -o "$STATE/etc/packages-installed" "$STATE/etc/packages-installed"
}
stage_packages() {
	install_packages packages_to_run
	local missing
	missing=$(missing_packages)
	[ -z "$missing" ] || { echo "still missing: $missing"; return 1; }
}
