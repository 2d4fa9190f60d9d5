# shellcheck shell=bash
# The services: making the cloud's files, starting, looking, ending.

cloud_is_up() { [ -x "$BINARY" ] && "$BINARY" status --state "$STATE" --json >/dev/null 2>&1; }

# The listening address may change between runs: the configuration and the API's certificate follow.
apply_listen() {
	local address=$1 port config=$STATE/etc/meridian.toml
	port=$(recall api_port)
	[ -f "$config" ] || return 0
	if ! sed -n '/^\[api\]/,/^\[gateway\]/p' "$config" | grep -qF "listen = \"$address:$port\""; then
		sed -i "/^\[api\]/,/^\[/{s|^listen = .*|listen = \"$address:$port\"|;s|^public_url = .*|public_url = \"https://$address:$port\"|}" "$config"
		rm -f "$STATE/pki/api.pem" "$STATE/pki/api.key"
		touch "$STATE/run/restart-wanted"
		echo "the API moves to $address:$port"
	fi
}

stage_init() {
	local address=$1 port init
	port=$(recall api_port)
	install -d -m 0755 "$STATE" "$STATE/etc" "$STATE/log" "$STATE/run" "$STATE/db"
	apply_listen "$address"
	init=("$BINARY" init --state "$STATE" --listen "$address:$port"
		--gateway-listen "$(recall link_outside):$((port + 1))" --prefix "$PREFIX")
	if uses_postgresql; then
		with_postgresql "${init[@]}" --database "$(postgresql_url)"
	else
		"${init[@]}"
	fi
	# Password hashes and users' data are root's alone; guests' processes, which are users of their own, pass
	# through host/ to their disks and see nothing else there.
	chmod 0700 "$STATE/db"
	install -d -m 0711 "$STATE/host"
	[ -e "$STATE/host/agent.db" ] || install -m 0600 /dev/null "$STATE/host/agent.db"
	if [ ! -f "$DEMO_KEY" ]; then
		rm -f "$DEMO_KEY.pub"
		ssh-keygen -q -t ed25519 -N '' -C "demo@meridian" -f "$DEMO_KEY"
	fi
	chmod 0600 "$STATE/etc/clouds.yaml" "$STATE"/etc/openrc-* "$DEMO_KEY"
	give_to_person "$STATE/etc/clouds.yaml" "$STATE"/etc/openrc-* "$DEMO_KEY" "$DEMO_KEY.pub"
}

# Whether KVM runs guests is found out by a guest. The answer is kept until the kernel, the processor or QEMU
# changes.
stage_probe() {
	local key answer
	key=$(hash_of "$(uname -r) $(grep -m 2 -E '^(model name|flags)' /proc/cpuinfo) $(dpkg-query -W qemu-system-x86) $([ -e /dev/kvm ] && stat -c %a /dev/kvm)" 16)
	answer=$(recall accelerator)
	if [ "${answer%%|*}" != "$key" ]; then
		answer="$key|$("$BINARY" probe-kvm | tr '\n' ' ')"
		remember accelerator "$answer"
	fi
	answer=${answer#*|}
	tell "guests run with ${answer%% *}: ${answer#* }"
	# The host's configuration says so, and so the agent need not find out again at every start.
	local config=$STATE/etc/host.toml
	sed -i '/^accelerator = /d' "$config"
	sed -i "1i accelerator = \"${answer%% *}\"" "$config"
}

# A program that was built anew replaces the running one; guests go on meanwhile.
stage_start() {
	local wanted
	wanted=$(sha256sum "$BINARY" | cut -d ' ' -f 1)
	if cloud_is_up && { [ "$(recall running_binary)" != "$wanted" ] || [ -e "$STATE/run/restart-wanted" ]; }; then
		echo "the program or its configuration changed: restarting services, guests go on"
		"$BINARY" down --state "$STATE" --leave-guests
	fi
	rm -f "$STATE/run/restart-wanted"
	switch_up
	if ! cloud_is_up; then
		remember running_binary "$wanted"
		local database=()
		uses_postgresql && database=(--postgresql "$POSTGRESQL")
		# From the state directory, so that the program holds no other place busy.
		(cd "$STATE" && setsid "$BINARY" supervise --state "$STATE" --host-namespace "$NAMESPACE" "${database[@]}" \
			</dev/null >>"$STATE/log/supervisor.log" 2>&1 &)
	fi
	wait_until 20 "the supervisor" cloud_is_up || { tail -n 20 "$STATE/log/supervisor.log"; return 1; }
	if ! client_python wait-ready; then
		echo "--- control-plane.log"
		tail -n 8 "$STATE/log/control-plane.log"
		echo "--- host.log"
		tail -n 8 "$STATE/log/host.log"
		return 1
	fi
}

cloud_status() {
	[ -f "$STATE/etc/meridian.toml" ] || { echo "No cloud in $STATE: ./dev up makes one."; return 0; }
	local status=0 left
	"$BINARY" status --state "$STATE" || status=$?
	left=$(orphans_running)
	[ -z "$left" ] || echo "Services run whose supervisor is gone ($(echo "$left" | tr '\n' ' ')): ./dev up takes their place."
	[ $status = 0 ] || echo "./dev up starts what is not running."
	local daemon
	for daemon in ovsdb-server ovs-vswitchd; do
		if alive "$(cat "$STATE/run/ovs/$daemon.pid" 2>/dev/null)" "$STATE/run/ovs"; then
			printf '%-14s running  pid %s\n' $daemon "$(cat "$STATE/run/ovs/$daemon.pid")"
		else
			printf '%-14s stopped\n' $daemon
			status=1
		fi
	done
	echo
	echo "state          $STATE"
	[ -x "$CLIENT/bin/python" ] && [ $status = 0 ] && client_python status
	return $status
}

cloud_logs() {
	local follow=() service=
	while [ $# -gt 0 ]; do
		case $1 in -f) follow=(-F) ;; *) service=$1 ;; esac
		shift
	done
	local files=("$STATE"/log/*.log)
	if [ -n "$service" ]; then
		files=("$STATE/log/$service.log")
		[ -e "${files[0]}" ] || die "there is no log of '$service'; there are: $(cd "$STATE/log" 2>/dev/null && ls ./*.log | sed 's,^\./,,; s,\.log$,,' | tr '\n' ' ')"
	fi
	[ -e "${files[0]}" ] || die "no logs in $STATE/log yet"
	exec tail -n 100 "${follow[@]}" "${files[@]}"
}

# Processes of this cloud's guests; a testbed beside it has its own.
guests_running() {
	local command
	for command in /proc/[0-9]*/cmdline; do
		{ tr '\0' ' ' <"$command" | grep -q "^[^ ]*qemu-system[^ ]* .*$GUESTS"; } 2>/dev/null && basename "$(dirname "$command")"
	done
	return 0
}

cloud_down() {
	if [ ! -d "$STATE" ]; then
		echo "No cloud in $STATE."
		return 0
	fi
	if [ -x "$BINARY" ]; then
		end_orphans
		if ! cloud_is_up && [ -n "$(guests_running)" ]; then
			echo "Services are down but guests run: starting the host role to end them cleanly."
			(cd "$STATE" && setsid "$BINARY" supervise --state "$STATE" --roles host --host-namespace "$NAMESPACE" \
				</dev/null >>"$STATE/log/supervisor.log" 2>&1 9>&- &)
			wait_until 20 "the supervisor" cloud_is_up || true
		fi
		"$BINARY" down --state "$STATE"
	fi
	local left
	left=$(guests_running)
	if [ -n "$left" ]; then
		echo "These guests did not end by themselves and are ended now: $(echo "$left" | tr '\n' ' ')"
		# shellcheck disable=SC2086 # process ids
		kill $left 2>/dev/null || true
		wait_until 15 "guests to end" no_guests || { kill -9 $left 2>/dev/null || true; }
	fi
	switch_down
	[ "${1:-}" = quietly ] || echo "The cloud is down. Its data stays in $STATE; ./dev up brings it back with what was running."
}
no_guests() { [ -z "$(guests_running)" ]; }

# Roles whose supervisor is gone: killed, they could neither end them nor hand them over.
orphans_running() {
	local command line
	cloud_is_up && return 0
	for command in /proc/[0-9]*/cmdline; do
		line=$({ tr '\0' ' ' <"$command"; } 2>/dev/null) || continue
		case $line in
		*"meridian"*" control-plane --state $STATE "* | *"meridian"*" host run --state $STATE "*) basename "$(dirname "$command")" ;;
		esac
	done
	return 0
}
no_orphans() { [ -z "$(orphans_running)" ]; }
# end_orphans: they end as if their supervisor had asked; guests go on.
end_orphans() {
	local left
	left=$(orphans_running)
	[ -n "$left" ] || return 0
	echo "Ending services whose supervisor is gone: $(echo "$left" | tr '\n' ' ')"
	# shellcheck disable=SC2086 # process ids
	kill $left 2>/dev/null || true
	# shellcheck disable=SC2086
	wait_until 20 "them to end" no_orphans || kill -9 $left 2>/dev/null || true
}

# is_of_this_machine ADDRESS: before anything is written or remembered.
is_of_this_machine() {
	case $1 in 127.* | ::1 | localhost) return 0 ;; esac
	have ip || return 0
	ip -o address show | awk '{ sub("/.*", "", $4); print $4 }' | grep -qxF -- "$1"
}

# --- the whole of it -------------------------------------------------------------------------------------
up() {
	local yes= address database
	database=$(recall database)
	DATABASE=${database:-sqlite}
	address=$(recall listen)
	address=${address:-127.0.0.1}
	while [ $# -gt 0 ]; do
		case $1 in
		--yes | -y) yes=1 ;;
		--listen) [ $# -ge 2 ] || die "up: --listen needs an address of this machine"; address=$2; shift ;;
		--listen=*) address=${1#*=} ;;
		--database) [ $# -ge 2 ] || die "up: --database needs sqlite or postgresql"; DATABASE=$2; shift ;;
		--database=*) DATABASE=${1#*=} ;;
		*) die "up: what is '$1'? There are --yes, --listen ADDRESS and --database sqlite|postgresql" ;;
		esac
		shift
	done
	case $address in 0.0.0.0 | ::) die "--listen: give the address under which clients reach this machine, not $address: it also goes into the catalogue and the certificate" ;; esac
	is_of_this_machine "$address" || die "--listen: $address is no address of this machine; $(ip -br address | awk '{ for (i = 3; i <= NF; i++) printf "%s ", $i }')are"
	case $DATABASE in sqlite | postgresql) ;; *) die "--database: there are sqlite and postgresql, not '$DATABASE'" ;; esac
	if [ -f "$STATE/etc/meridian.toml" ] && [ "${database:-sqlite}" != "$DATABASE" ]; then
		die "the cloud in $STATE keeps its rows in ${database:-sqlite}; they are not moved. ./dev reset begins anew"
	fi
	local first=
	[ -n "$(recall done_once)" ] || first=1
	if [ -n "$first" ]; then print_plan "$address"; else echo "Bringing up the cloud in $STATE."; fi
	end_orphans
	check_machine || die "the checks above failed; nothing was changed"
	echo
	[ -n "$first" ] && [ -z "$yes" ] && { confirm "Go on?" || { echo "Nothing was changed."; exit 0; }; }
	mkdir -p "$STATE/etc"
	chmod 0755 "$STATE" "$STATE/etc"
	choose_ports
	remember listen "$address"
	remember database "$DATABASE"

	stage "Debian packages" "see whether 'apt-get update' and 'apt-get install' work by hand" stage_packages
	choose_link_addresses
	stage "Build" "read the error above; with a full disk, free some in $REPO/target" stage_build
	stage "OpenStack client" "see whether 'pip download python-openstackclient' works by hand" stage_client
	stage "Keys, database, first users" "read the error above; ./dev reset begins anew" stage_init "$address"
	stage "Virtualisation" "see whether $(command -v qemu-system-x86_64) starts by hand" stage_probe
	stage "Control plane, switch and host" "./dev logs control-plane, ./dev logs host" stage_start
	stage "Guest image" "read the error above; the builder is tools/guest_image/build" stage_image
	stage "Network, security group, key pair, flavor" "./dev logs control-plane" client_python demo-resources
	stage "Server hello" "./dev openstack server show hello; ./dev logs host; ./dev console hello" client_python demo-server
	stage "Ping and SSH" "./dev console hello; ./dev logs ovs-vswitchd" stage_reach
	remember done_once yes
	print_timings
	summary
}
