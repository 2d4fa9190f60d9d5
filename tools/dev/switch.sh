# shellcheck shell=bash
# The namespace in which this machine is a host, and Open vSwitch in it.
#
#   machine                              │ namespace PREFIX-host
#   control plane ── PREFIX-up ══════════╪══ PREFIX-dn ── host agent, QEMU, taps
#   (API on loopback)        veth, a /30 │       ovsdb-server, ovs-vswitchd: bridge PREFIX-br
#
# A namespace of its own, because Open vSwitch's userspace datapath always makes a device called ovs-netdev:
# there can be one such switch in a namespace, and the machine's own may have one already.

# in_namespace NAME COMMAND…: unlike `ip netns exec` this keeps the mounts, so that namespaces which the
# command makes are seen by everyone.
in_namespace() {
	local name=$1
	shift
	nsenter "--net=/run/netns/$name" -- "$@"
}
# `ip -n` would do, but it rearranges mounts and so fails where / is not a mount (a plain chroot).
ip_in() {
	local name=$1
	shift
	in_namespace "$name" ip "$@"
}
namespace_exists() { ip netns list 2>/dev/null | awk '{ print $1 }' | grep -qxF "$1"; }

# make_namespace NAME: with its loopback up and without IPv6 chatter from devices that are no one's.
make_namespace() {
	namespace_exists "$1" && return 0
	ip netns add "$1"
	in_namespace "$1" ip link set lo up
}

# ovs_run DIRECTORY PROGRAM …: an OVS program that finds everything below DIRECTORY and nothing elsewhere.
ovs_run() {
	local run=$1
	shift
	OVS_RUNDIR=$run OVS_DBDIR=$run OVS_LOGDIR=$run OVS_SYSCONFDIR=$run "$@"
}

# ovs_start NAMESPACE RUN LOG: both daemons, each watched by a monitor of its own that restarts it when it dies.
ovs_start() {
	local namespace=$1 run=$2 log=$3
	mkdir -p "$run" "$log"
	if ! alive "$(cat "$run/ovsdb-server.pid" 2>/dev/null)" "$run/conf.db"; then
		[ -f "$run/conf.db" ] || ovs_run "$run" ovsdb-tool create "$run/conf.db" /usr/share/openvswitch/vswitch.ovsschema
		ovs_run "$run" in_namespace "$namespace" ovsdb-server "$run/conf.db" --remote="punix:$run/db.sock" \
			--pidfile="$run/ovsdb-server.pid" --unixctl="$run/ovsdb-server.ctl" --log-file="$log/ovsdb-server.log" \
			-vconsole:off --no-chdir --detach --monitor
		ovs_run "$run" ovs-vsctl --timeout=10 --db="unix:$run/db.sock" --no-wait init
	fi
	if ! alive "$(cat "$run/ovs-vswitchd.pid" 2>/dev/null)" "$run/db.sock"; then
		ovs_run "$run" in_namespace "$namespace" ovs-vswitchd "unix:$run/db.sock" --disable-system \
			--pidfile="$run/ovs-vswitchd.pid" --unixctl="$run/ovs-vswitchd.ctl" --log-file="$log/ovs-vswitchd.log" \
			-vconsole:off --no-chdir --detach --monitor
	fi
}

# ovs_stop RUN: ends both (the monitors see a clean exit and end too), and forgets the bridge and its ports:
# the agent makes them again from its documents.
ovs_stop() {
	local run=$1 daemon pid
	for daemon in ovs-vswitchd ovsdb-server; do
		pid=$(cat "$run/$daemon.pid" 2>/dev/null || true)
		alive "$pid" "$run/" || continue
		ovs_run "$run" timeout 10 ovs-appctl -t "$run/$daemon.ctl" exit >/dev/null 2>&1 || kill "$pid" 2>/dev/null || true
		wait_until 10 "$daemon to end" not_alive "$pid" "$run/" || kill -9 "$pid" 2>/dev/null || true
	done
	rm -rf "$run"
}
not_alive() { ! alive "$@"; }

# link_to_machine: the veth between the machine and the namespace. Nothing is forwarded over it.
link_to_machine() {
	local outside inside
	outside=$(recall link_outside)
	inside=$(recall link_inside)
	if ! ip link show "$PREFIX-up" >/dev/null 2>&1; then
		ip link add "$PREFIX-up" type veth peer name "$PREFIX-dn" netns "$NAMESPACE"
	fi
	ip address replace "$outside/30" dev "$PREFIX-up"
	ip link set "$PREFIX-up" up
	ip_in "$NAMESPACE" address replace "$inside/30" dev "$PREFIX-dn"
	ip_in "$NAMESPACE" link set "$PREFIX-dn" up
}

switch_up() {
	# After a reboot the namespace is gone, and whatever the switch remembers with it.
	namespace_exists "$NAMESPACE" || rm -rf "$STATE/run/ovs"
	make_namespace "$NAMESPACE"
	link_to_machine
	ovs_start "$NAMESPACE" "$STATE/run/ovs" "$STATE/log"
}

# Namespaces whose devices lead into ours: those through which operators reach guests, and the responders'.
namespaces_beyond() {
	local host=$1 name
	for name in $(ip netns list 2>/dev/null | awk '{ print $1 }'); do
		[ "$name" = "$host" ] && continue
		ip_in "$name" -o link show type veth 2>/dev/null | grep -q "link-netns $host\$\|link-netns $host " && echo "$name"
	done
	return 0
}

# groups_forget OWNER: the control groups of a host's guests, which have ended.
groups_forget() {
	local directory
	for directory in "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1"; do
		[ ! -d "$directory" ] || find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
}

switch_down() {
	ovs_stop "$STATE/run/ovs"
	groups_forget "$PREFIX"
	local name
	if namespace_exists "$NAMESPACE"; then
		for name in $(namespaces_beyond "$NAMESPACE"); do ip netns delete "$name"; done
		ip netns delete "$NAMESPACE"
	fi
	ip link delete "$PREFIX-up" 2>/dev/null || true
}
