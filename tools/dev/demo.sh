# shellcheck shell=bash
# The guest image, and the proof that the first server can be reached.

# Built again when its recipe or Debian's packages changed, or once a week has passed since somebody looked.
stage_image() {
	local image=$STATE/cache/guest.qcow2 recipe
	recipe=$(cd "$REPO/tools/guest_image" && find . -type f | sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)
	mkdir -p "$STATE/cache/packages"
	if [ ! -f "$image" ] || [ "$(cat "$image.recipe" 2>/dev/null)" != "$recipe" ]; then
		"$REPO/tools/guest_image/build" "$image" --cache "$STATE/cache/packages"
		echo "$recipe" >"$image.recipe"
	fi
	client_python upload-image "$image"
}

ping_server() { in_namespace "$REACH_NAMESPACE" ping -c 1 -W 1 -q "$REACH_ADDRESS"; }
ssh_server() {
	local options
	mapfile -t options < <(ssh_options)
	in_namespace "$REACH_NAMESPACE" ssh "${options[@]}" -o BatchMode=yes "$REACH_USER@$REACH_ADDRESS" "$@"
}

stage_reach() {
	reach hello
	echo "pinging $REACH_ADDRESS"
	wait_until 240 "an answer to ping from $REACH_ADDRESS (without KVM a busy machine boots guests slowly)" ping_server || return 1
	tell "$REACH_ADDRESS answers ping"
	echo "logging in"
	wait_until 120 "SSH on $REACH_ADDRESS" ssh_server true || { ssh_server true; return 1; }
	tell "logged in over SSH: $(ssh_server 'echo "$(hostname), up $(cut -d. -f1 /proc/uptime) s, Linux $(uname -r)"')"
}

summary() {
	cat <<TEXT

Meridian runs.
  API        $(sed -n 's/^public_url = "\(.*\)"/\1/p' "$STATE/etc/meridian.toml")
  clients    OS_CLIENT_CONFIG_FILE=$STATE/etc/clouds.yaml, clouds 'meridian' and 'meridian-admin'
             (or source $STATE/etc/openrc-demo)
  try        ./dev ssh hello            ./dev openstack server list
             ./dev console hello        ./dev status
  your own   ./dev openstack image create --file debian-12-generic-amd64.qcow2 --disk-format qcow2 debian
             ./dev openstack server create --image debian --flavor small --network demo --security-group demo --key-name demo mine
  end        ./dev down                 (./dev up brings it back)

There are no routers and floating addresses yet: servers are reached with ./dev ssh, which goes
through the server's own network.
TEXT
}
