# shellcheck shell=bash
# ./dev testbed: one machine plays many. A cloud of its own beside the one of ./dev up, in STATE/testbed.
#
#   machine: control plane ── T-up ─┐                       (T: this testbed's tag, like PREFIX)
#            (or replicas of it: each an address of its own on T-up, and a loopback address for its API)
#   ┌ namespace T-net ──────────────┴──────────────────────────────────────────────────────────┐
#   │ bridge mgmt 198.19.S.0/24                bridge l2-1        …        bridge l2-C         │
#   └──┬──────────┬──────────────────────────────┬────┬──────────────────────┬────┬────────────┘
#      │ mgmt0    │ mgmt0                 under0 │    │ under0               │    │ router's legs
#   ┌ T-h1 ──┐ ┌ T-h2 ──┐  each: Open vSwitch,   │    │                   ┌ T-rtr ────────────┐
#   │ host 1 │ │ host 2 │  host agent, guests  ──┘    │                   │ 10.199.c.1, route │── T-out: 203.0.113.2
#   └────────┘ └────────┘                             │                   └───────────────────┘   "the world outside"
#
# The underlay bridges learn addresses and forget them after 10 s, as a hostile physical switch would.

readonly UNDERLAY_AGEING_CENTISECONDS=1000

# enter_testbed: from here on STATE, PREFIX and the rest mean the testbed's own.
enter_testbed() {
	[ -n "${IN_TESTBED:-}" ] && return 0
	IN_TESTBED=1
	OUTER_STATE=$STATE
	STATE=$STATE/testbed
	PREFIX=m$(hash_of "$STATE" 4)
	GUESTS=$STATE/hosts/
	NAMESPACE=$PREFIX-none
	CHOICES=$STATE/etc/dev.conf
	DEMO_KEY=$STATE/etc/demo-key
	POSTGRESQL=$STATE/postgresql
}

testbed() {
	local verb=${1:-help}
	case $verb in
	down) alone; testbed_down ;;
	status) (enter_testbed && testbed_status) ;;
	openstack) shift; (enter_testbed && client_run "$@") ;;
	ssh) shift; (enter_testbed && server_ssh "$@") ;;
	console) shift; (enter_testbed && server_console "$@") ;;
	--*) alone; testbed_up "$@" ;;
	*)
		cat <<TEXT
usage: ./dev testbed --hosts N [--zones Z] [--clusters C] [--database sqlite|postgresql] [--replicas R] [--yes]
                                   hosts as namespaces, clusters as L2 segments, R control planes over one PostgreSQL;
                                   --yes replaces one that is there
       ./dev testbed status | openstack … | ssh NAME | console NAME | down
TEXT
		;;
	esac
}

testbed_up() {
	local hosts=3 zones=1 clusters=1 replicas=1 yes=
	DATABASE=sqlite
	while [ $# -gt 0 ]; do
		case $1 in
		--hosts) hosts=${2:-}; shift $(($# > 1)) ;;
		--zones) zones=${2:-}; shift $(($# > 1)) ;;
		--clusters) clusters=${2:-}; shift $(($# > 1)) ;;
		--replicas) replicas=${2:-}; shift $(($# > 1)) ;;
		--database) DATABASE=${2:-}; shift $(($# > 1)) ;;
		--yes) yes=1 ;;
		*) die "testbed: what is '$1'? There are --hosts N, --zones Z, --clusters C, --database D, --replicas R and --yes" ;;
		esac
		shift
	done
	local number
	for number in "$hosts" "$zones" "$clusters" "$replicas"; do
		case $number in '' | *[!0-9]* | 0) die "testbed: --hosts, --zones, --clusters and --replicas are whole numbers from 1" ;; esac
	done
	case $DATABASE in sqlite | postgresql) ;; *) die "testbed: --database: there are sqlite and postgresql, not '$DATABASE'" ;; esac
	[ "$replicas" = 1 ] || [ "$DATABASE" = postgresql ] ||
		die "testbed: SQLite is for one control plane; --replicas $replicas needs --database postgresql"
	[ "$replicas" -le 9 ] || die "testbed: at most 9 replicas"
	[ "$clusters" -le "$hosts" ] || die "testbed: $clusters clusters need at least as many hosts"
	[ "$zones" -le "$clusters" ] || die "testbed: a zone has at least one cluster, so --zones is at most --clusters"
	[ "$hosts" -le 200 ] || die "testbed: at most 200 hosts"
	if [ -d "$STATE/testbed" ] && [ -z "$yes" ]; then
		confirm "There is a testbed. Delete it with all its servers, and make a new one?" || { echo "Nothing was changed."; exit 0; }
	fi
	mkdir -p "$STATE/etc"
	stage "Debian packages" "see whether 'apt-get install' works by hand" install_packages packages_to_run packages_to_test
	stage "Build" "read the error above" stage_build
	stage "OpenStack client" "see whether 'pip download python-openstackclient' works by hand" stage_client
	mkdir -p "$STATE/cache"
	[ -d "$STATE/testbed" ] && testbed_down
	enter_testbed
	mkdir -p "$STATE/etc"
	# The image's cache is shared with the cloud of ./dev up; everything else is the testbed's own.
	ln -sfn "$OUTER_STATE/cache" "$STATE/cache"
	choose_ports
	local subnet
	subnet=198.19.$((0x$(hash_of "$STATE" 4) % 250))
	remember subnet "$subnet"
	remember hosts "$hosts"
	remember replicas "$replicas"
	remember database "$DATABASE"
	remember link_outside "$subnet.1"
	stage "Underlay: $clusters segment(s), router, outside" "./dev testbed down, then again" testbed_fabric "$hosts" "$clusters" "$replicas"
	stage "Keys, database, first users" "read the error above" stage_init 127.0.0.1
	stage "Virtualisation" "see whether QEMU starts by hand" stage_probe
	stage "Control plane" "look into $STATE/log/control-plane.log" testbed_control_plane
	[ "$replicas" = 1 ] || stage "Replicas" "look into $STATE/replicas/*/log" testbed_replicas "$replicas"
	stage "$hosts hosts" "look into $STATE/hosts/*/log" testbed_hosts "$hosts" "$zones" "$clusters"
	stage "Guest image" "the builder is tools/guest_image/build" stage_image
	stage "Network, security group, key pair, flavor" "look into $STATE/log" client_python demo-resources
	print_timings
	cat <<TEXT

The testbed runs: $hosts host(s), $clusters cluster(s), $zones zone(s), $replicas control plane(s) on $DATABASE.
  try   ./dev testbed openstack server create --image meridian-guest --flavor tiny --network demo \\
            --security-group demo --key-name demo --wait one
        ./dev testbed ssh one
  end   ./dev testbed down
TEXT
}

# plug BRIDGE NAME NAMESPACE DEVICE: a cable from a port of the fabric's bridge to a device elsewhere.
plug() {
	local bridge=$1 port=$2 namespace=$3 device=$4
	ip_in "$PREFIX-net" link add "$port" type veth peer name "$device" netns "$namespace"
	ip_in "$PREFIX-net" link set "$port" master "$bridge" up
	ip_in "$namespace" link set "$device" up
}

testbed_fabric() {
	local hosts=$1 clusters=$2 replicas=$3 subnet i c
	subnet=$(recall subnet)
	make_namespace "$PREFIX-net"
	make_namespace "$PREFIX-rtr"
	make_namespace "$PREFIX-out"
	ip_in "$PREFIX-net" link add mgmt type bridge
	ip_in "$PREFIX-net" link set mgmt up
	ip link add "$PREFIX-up" type veth peer name machine netns "$PREFIX-net"
	ip_in "$PREFIX-net" link set machine master mgmt up
	for i in $(seq "$replicas"); do ip address replace "$subnet.$i/24" dev "$PREFIX-up"; done
	ip link set "$PREFIX-up" up
	for c in $(seq "$clusters"); do
		ip_in "$PREFIX-net" link add "l2-$c" type bridge ageing_time $UNDERLAY_AGEING_CENTISECONDS mcast_snooping 0
		ip_in "$PREFIX-net" link set "l2-$c" up
		plug "l2-$c" "rtr-$c" "$PREFIX-rtr" "leg-$c"
		ip_in "$PREFIX-rtr" address add "10.199.$c.1/24" dev "leg-$c"
	done
	ip_in "$PREFIX-rtr" link add out0 type veth peer name out0 netns "$PREFIX-out"
	ip_in "$PREFIX-rtr" address add 203.0.113.1/24 dev out0
	ip_in "$PREFIX-rtr" link set out0 up
	ip_in "$PREFIX-out" address add 203.0.113.2/24 dev out0
	ip_in "$PREFIX-out" link set out0 up
	ip_in "$PREFIX-out" route add default via 203.0.113.1
	in_namespace "$PREFIX-rtr" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	for i in $(seq "$hosts"); do
		make_namespace "$PREFIX-h$i"
		plug mgmt "h$i-mgmt" "$PREFIX-h$i" mgmt0
		ip_in "$PREFIX-h$i" address add "$subnet.$((10 + i))/24" dev mgmt0
		plug "l2-$(((i - 1) % clusters + 1))" "h$i-under" "$PREFIX-h$i" under0
	done
}

testbed_control_plane() {
	local database=()
	uses_postgresql && database=(--postgresql "$POSTGRESQL")
	(cd "$STATE" && setsid "$BINARY" supervise --state "$STATE" --roles control-plane "${database[@]}" \
		</dev/null >>"$STATE/log/supervisor.log" 2>&1 &)
	wait_until 30 "the control plane's port" api_answers || { tail -n 20 "$STATE"/log/*.log; return 1; }
}
api_answers() { ! port_is_free "$(recall api_port)"; }

# The second replica and those after it. Replica N is at 127.0.0.N and SUBNET.N, with the ports of the first; its
# state is in replicas/rN. The first one's supervisor runs PostgreSQL.
testbed_replicas() {
	local replicas=$1 n port directory bundle=$STATE/run/bundle.json
	port=$(recall api_port)
	"$BINARY" replica bundle --state "$STATE" --to "$bundle" >/dev/null
	for n in $(seq 2 "$replicas"); do
		directory=$STATE/replicas/r$n
		mkdir -p "$directory/log"
		[ -f "$directory/etc/meridian.toml" ] || "$BINARY" replica join --state "$directory" --bundle "$bundle" \
			--listen "127.0.0.$n:$port" --gateway-listen "$(recall subnet).$n:$((port + 1))"
		(cd "$directory" && setsid "$BINARY" supervise --state "$directory" --roles control-plane \
			</dev/null >>"$directory/log/supervisor.log" 2>&1 &)
	done
	# It holds every secret of the cloud.
	rm -f "$bundle"
	wait_until 60 "$replicas replicas that serve" replicas_serve "$replicas" || { tail -n 20 "$STATE"/replicas/*/log/*.log; return 1; }
	"$BINARY" replica list --state "$STATE"
}
replicas_serve() { [ "$("$BINARY" replica list --state "$STATE" | grep -c ' serving ')" = "$1" ]; }

# testbed_gateways: where hosts connect, with commas between.
testbed_gateways() {
	local n
	for n in $(seq "$(recall replicas)"); do printf 'https://%s.%d:%d\n' "$(recall subnet)" "$n" $(($(recall api_port) + 1)); done | paste -sd,
}

testbed_hosts() {
	local hosts=$1 zones=$2 clusters=$3 i cluster zone directory token accelerator
	accelerator=$(recall accelerator)
	accelerator=${accelerator#*|}
	for i in $(seq "$hosts"); do
		cluster=$(((i - 1) % clusters + 1))
		zone=$(((cluster - 1) % zones + 1))
		directory=$STATE/hosts/h$i
		mkdir -p "$directory/log"
		ovs_start "$PREFIX-h$i" "$directory/run/ovs" "$directory/log"
		if [ ! -f "$directory/etc/host.toml" ]; then
			token=$("$BINARY" host token --state "$STATE" --zone "zone-$zone" --cluster "cluster-$cluster" --l2-domain "l2-$cluster")
			# The token goes by the environment: the command line is everyone's to read.
			MERIDIAN_JOIN_TOKEN=$token "$BINARY" host join --state "$directory" --name "h$i" \
				--url "$(testbed_gateways)" --authority "$STATE/pki/ca.pem" --underlay under0 \
				--underlay-ageing $((UNDERLAY_AGEING_CENTISECONDS / 100)) \
				--prefix "m$(hash_of "$directory" 4)" --accelerator "${accelerator%% *}"
		fi
		(cd "$directory" && setsid "$BINARY" supervise --state "$directory" --roles host \
			--host-namespace "$PREFIX-h$i" </dev/null >>"$directory/log/supervisor.log" 2>&1 &)
		echo "host h$i: cluster-$cluster in zone-$zone"
	done
	client_python wait-ready --hosts "$hosts" || { tail -n 5 "$STATE"/hosts/*/log/host.log; return 1; }
}

testbed_status() {
	[ -d "$STATE/hosts" ] || { echo "No testbed. ./dev testbed --hosts 3 makes one."; return 0; }
	local directory
	"$BINARY" status --state "$STATE" || true
	for directory in "$STATE"/replicas/*/; do
		[ -d "$directory" ] || continue
		echo "--- replica $(basename "$directory")"
		"$BINARY" status --state "$directory" || true
	done
	if [ -d "$STATE/replicas" ]; then "$BINARY" replica list --state "$STATE" || true; fi
	for directory in "$STATE"/hosts/*/; do
		echo "--- $(basename "$directory")"
		"$BINARY" status --state "$directory" || true
	done
	client_python status
}

# Everything goes: guests, services, switches, namespaces, the underlay, and the state.
testbed_down() {
	[ -d "$STATE/testbed" ] || return 0
	(
		enter_testbed
		local directory pids=() pid left name
		for directory in "$STATE"/hosts/*/; do
			[ -d "$directory" ] || continue
			"$BINARY" down --state "${directory%/}" &
			pids+=($!)
		done
		for pid in "${pids[@]}"; do wait "$pid" || true; done
		# Replicas before the first one, whose supervisor ends PostgreSQL with it.
		for directory in "$STATE"/replicas/*/; do
			[ ! -d "$directory" ] || "$BINARY" down --state "${directory%/}" || true
		done
		[ ! -d "$STATE/etc" ] || "$BINARY" down --state "$STATE" || true
		left=$(guests_running)
		# shellcheck disable=SC2086 # process ids
		[ -z "$left" ] || { kill $left; wait_until 15 "guests to end" no_guests || kill -9 $left; } || true
		for directory in "$STATE"/hosts/*/; do
			[ -d "$directory" ] || continue
			ovs_stop "${directory%/}/run/ovs"
			groups_forget "m$(hash_of "${directory%/}" 4)"
		done
		for name in $(ip netns list | awk '{ print $1 }' | grep "^$PREFIX-h[0-9]*\$" || true); do
			local beyond
			for beyond in $(namespaces_beyond "$name"); do
				case $beyond in "$PREFIX-"*) ;; *) ip netns delete "$beyond" ;; esac
			done
			ip netns delete "$name"
		done
		for name in net rtr out; do ip netns delete "$PREFIX-$name" 2>/dev/null || true; done
		ip link delete "$PREFIX-up" 2>/dev/null || true
		rm -rf "$STATE"
		echo "The testbed is gone."
	)
}
