# shellcheck shell=bash
# The unmodified OpenStack client, in an environment of its own, and ways into a server.

stage_client() {
	local wanted
	wanted=$(sha256sum "$REPO/tools/dev/client-constraints.txt" | cut -d ' ' -f 1)
	[ "$(cat "$CLIENT/made-from" 2>/dev/null)" = "$wanted" ] && { echo "unchanged"; return 0; }
	rm -rf "$CLIENT"
	/usr/bin/python3 -m venv "$CLIENT"
	"$CLIENT/bin/pip" install --no-input --disable-pip-version-check --progress-bar off \
		-c "$REPO/tools/dev/client-constraints.txt" python-openstackclient
	"$CLIENT/bin/python" -m compileall -q "$CLIENT/lib" >/dev/null 2>&1 || true
	echo "$wanted" >"$CLIENT/made-from"
}

need_cloud() {
	[ -r "$STATE/etc/clouds.yaml" ] || {
		[ -e "$STATE/etc/clouds.yaml" ] && die "$STATE/etc/clouds.yaml belongs to another user"
		die "no cloud in $STATE yet: ./dev up makes one"
	}
	[ -x "$CLIENT/bin/openstack" ] || die "the client is not installed yet: ./dev up does it"
}

# The API's port answers; a client's own words for one that does not are a page long.
need_answer() {
	! port_is_free "$(recall api_port)" || die "the cloud in $STATE is down: ./dev up brings it back"
}

client_run() {
	need_cloud
	export OS_CLIENT_CONFIG_FILE=$STATE/etc/clouds.yaml
	case " $* " in
	*" --os-cloud"*) ;;
	*) [ -n "${OS_CLOUD:-}" ] || export OS_CLOUD=meridian ;;
	esac
	exec "$CLIENT/bin/openstack" "$@"
}

# client_python VERB …: tools/dev/cloud.py, which speaks the public API through openstacksdk.
client_python() {
	need_cloud
	OS_CLIENT_CONFIG_FILE=$STATE/etc/clouds.yaml PYTHONUNBUFFERED=1 \
		"$CLIENT/bin/python" "$REPO/tools/dev/cloud.py" --state "$STATE" "$@"
}

# reach NAME: sets REACH_* for a server: the namespace that leads to its network, its address, user and id.
reach() {
	local facts
	need_answer
	facts=$(client_python reach "$1") || exit 1
	read -r REACH_NAMESPACE REACH_ADDRESS REACH_USER REACH_ID <<<"$facts"
	wait_until 20 "the host to make the namespace $REACH_NAMESPACE" namespace_exists "$REACH_NAMESPACE" ||
		die "no way into the network: see ./dev logs host"
}

ssh_options() {
	printf '%s\n' -i "$DEMO_KEY" -o "UserKnownHostsFile=$STATE/etc/known_hosts" -o "HostKeyAlias=$REACH_ID" \
		-o StrictHostKeyChecking=accept-new -o ConnectTimeout=10 -o LogLevel=ERROR
}

server_ssh() {
	[ $# -ge 1 ] || die "usage: ./dev ssh [USER@]NAME [COMMAND…]"
	local target=$1 options
	shift
	reach "${target##*@}"
	case $target in *@*) REACH_USER=${target%@*} ;; esac
	mapfile -t options < <(ssh_options)
	local status=0
	in_namespace "$REACH_NAMESPACE" ssh "${options[@]}" "$REACH_USER@$REACH_ADDRESS" "$@" || status=$?
	# 255 is ssh's own.
	if [ $status = 255 ]; then
		echo "./dev ssh: no login on $REACH_ADDRESS. The server may still be booting (./dev console ${target##*@}), or its" >&2
		echo "  security group may not let TCP port 22 in, or it may not know the key $DEMO_KEY.pub." >&2
	fi
	return $status
}

server_console() {
	[ $# = 1 ] || die "usage: ./dev console NAME"
	local id socket
	need_answer
	id=$(client_python server-id "$1") || exit 1
	socket=$(find "$STATE" -path "*/servers/$id/run/console.sock" 2>/dev/null | head -n 1)
	[ -S "$socket" ] || die "server $1 has no console on this machine (is it running?)"
	tail -n 20 "$(dirname "$socket")/console.log" 2>/dev/null || true
	if [ -t 0 ]; then
		echo "[console of $1; Ctrl-] leaves]"
		socat "STDIO,raw,echo=0,escape=0x1d" "UNIX-CONNECT:$socket"
	else
		socat STDIO "UNIX-CONNECT:$socket"
	fi
}
