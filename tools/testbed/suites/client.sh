#!/bin/bash
# The commands of the unmodified OpenStack client, one after the other, against a cloud of its own.
# in: test
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prepare
dev up --yes
admin() { dev openstack --os-cloud meridian-admin "$@"; }
quiet() { "$@" >"$MERIDIAN_STATE/out" 2>&1 || { cat "$MERIDIAN_STATE/out"; return 1; }; }
# works WORDS…: the command ends well.
works() { expect "openstack $*" quiet os "$@"; }
admin_works() { expect "openstack $* (admin)" quiet admin "$@"; }

step "identity"
works token issue
works catalog list
admin_works endpoint list
admin_works project list
admin_works user list
admin_works role list

step "images"
image=$MERIDIAN_STATE/cache/guest.qcow2
works image create --disk-format qcow2 --file "$image" cli-image
works image list
works image show cli-image
works image save --file "$MERIDIAN_STATE/saved" cli-image
expect "the saved image is the uploaded one" cmp "$image" "$MERIDIAN_STATE/saved"
qemu-img convert -O raw "$image" "$MERIDIAN_STATE/raw"
works image create --disk-format raw --file "$MERIDIAN_STATE/raw" cli-raw
expect_not "an image that is not what it says is refused" quiet os image create --disk-format qcow2 --file "$MERIDIAN_STATE/raw" cli-liar

step "flavors and keys"
admin_works flavor create --ram 128 --disk 1 --vcpus 1 cli-flavor
works flavor list
works flavor show cli-flavor
works keypair create --public-key "$MERIDIAN_STATE/etc/demo-key.pub" cli-key
works keypair list

step "networks"
works network create cli-net
works network list
works network show cli-net
works subnet create --network cli-net --subnet-range 10.77.0.0/24 cli-subnet
works subnet list
works subnet show cli-subnet
works port create --network cli-net cli-port
works port list
works port show cli-port
works security group create cli-group
works security group rule create --protocol tcp --dst-port 22 cli-group
works security group rule create --protocol icmp cli-group
works security group list
works security group show cli-group

step "servers"
works server create --image cli-image --flavor cli-flavor --network cli-net --key-name cli-key --security-group cli-group --wait cli-server
works server list
works server show cli-server
answers() { [ "$(dev ssh cli-server hostname)" = cli-server ]; }
wait_until 180 "SSH into the server" answers || fail "no SSH into the server"
echo "ok: SSH"
works console log show cli-server
works server stop cli-server
is() { [ "$(value status server show cli-server)" = "$1" ]; }
wait_until 90 "the server to stop" is SHUTOFF || fail "it does not stop"
works server start cli-server
wait_until 90 "the server to start" is ACTIVE || fail "it does not start"
works server reboot cli-server
wait_until 90 "the server to reboot" is ACTIVE || fail "it does not reboot"
works server reboot --hard --wait cli-server
works server create --image cli-raw --flavor cli-flavor --network cli-net --wait cli-raw-server
works server delete --wait cli-raw-server
works server delete --wait cli-server
admin_works hypervisor list
admin_works hypervisor show "$(admin hypervisor list -f value -c 'Hypervisor Hostname' | head -n 1)"
works availability zone list
works quota show

step "openstacksdk: create_server(wait=True)"
OS_CLIENT_CONFIG_FILE=$MERIDIAN_STATE/etc/clouds.yaml "$MERIDIAN_STATE/client/bin/python" - <<'PYTHON'
import openstack
cloud = openstack.connect(cloud="meridian")
server = cloud.create_server("sdk", image="cli-image", flavor="cli-flavor", network="cli-net", wait=True, auto_ip=False)
assert server.status == "ACTIVE", server.status
assert cloud.delete_server("sdk", wait=True)
print("ok: created, active, deleted")
PYTHON

step "and away"
works port delete cli-port
works subnet delete cli-subnet
works network delete cli-net
works security group delete cli-group
works keypair delete cli-key
admin_works flavor delete cli-flavor
works image delete cli-image
works image delete cli-raw
dev uninstall --yes >/dev/null
expect "nothing of this copy is on the machine" nothing_left
