"""What ./dev asks of the cloud, through its public API and the unmodified openstacksdk.

Every verb may be run again: it looks at what is there and does the rest. Lines that begin with "> " are for
the person who typed ./dev.
"""

import argparse
import hashlib
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import openstack  # noqa: E402
from keystoneauth1 import exceptions as auth_exceptions  # noqa: E402
from openstack import exceptions  # noqa: E402

IMAGE = "meridian-guest"
DEMO = "demo"
SERVER = "hello"
ACCESS_OWNER = "meridian:access"
# Flavors of the demonstration: name, memory in MiB, disk in GB, processors.
FLAVORS = [("tiny", 128, 1, 1), ("small", 1024, 10, 1), ("medium", 2048, 20, 2)]
# Who logs in to an image that does not say so itself, by its os_distro.
LOGIN_BY_DISTRO = {"debian": "debian", "ubuntu": "ubuntu", "fedora": "fedora", "centos": "cloud-user", "cirros": "cirros"}


class Failed(Exception):
    """A sentence for the person."""


def admin():
    return openstack.connect(cloud="meridian-admin")


def demo():
    return openstack.connect(cloud="meridian")


def wait(limit_seconds, what, check, pause=0.2):
    """Calls check until it returns something true; fails with what it waited for."""
    end = time.monotonic() + limit_seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"waited {limit_seconds} s for {what}")
        time.sleep(pause)


def wait_ready(args):
    """Until the API answers and as many hosts take servers as there should be."""
    last = ["nothing yet"]

    def answered():
        try:
            connection = admin()
            connection.authorize()
            return connection
        except (auth_exceptions.ClientException, exceptions.SDKException, OSError) as error:
            last[0] = str(error)
            return None

    try:
        connection = wait(60, "the API", answered)
    except Failed as error:
        raise Failed(f"{error}; its last answer: {last[0]}") from None
    print("the API answers")

    def host_is_up():
        up = [h for h in connection.compute.hypervisors(details=True) if h.state == "up" and h.status == "enabled"]
        return up if len(up) >= args.hosts else None

    hosts = wait(60 + args.hosts, f"{args.hosts} host(s) to join", host_is_up)
    for host in hosts:
        print(f"> host {host.name} is up")


def upload_image(args):
    with open(args.file, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    connection = admin()
    for image in connection.image.images(name=IMAGE):
        if image.status == "active" and image.properties.get("source_sha256") == sha256:
            print("the image is there already")
            return
        # Servers may stand on the old one: it steps aside under another name.
        connection.image.update_image(image, name=f"{IMAGE}-{image.id[:8]}", visibility="private")
    image = connection.image.create_image(
        IMAGE,
        filename=args.file,
        disk_format="qcow2",
        container_format="bare",
        visibility="public",
        allow_duplicates=True,
        min_disk=1,
        min_ram=96,
        os_distro="debian",
        os_admin_user="root",
        source_sha256=sha256,
    )

    def active():
        now = connection.image.get_image(image.id)
        if now.status in ("killed", "deleted"):
            raise Failed(f"the image is {now.status}: the upload was refused")
        return now if now.status == "active" else None

    wait(120, "the image to become active", active)
    print(f"> image {IMAGE}: {os.path.getsize(args.file) // 1048576} MiB")


def demo_resources(args):
    boss = admin()
    have = {flavor.name for flavor in boss.compute.flavors()}
    for name, ram, disk, vcpus in FLAVORS:
        if name not in have:
            boss.compute.create_flavor(name=name, ram=ram, disk=disk, vcpus=vcpus)
            print(f"flavor {name}")
    user = demo()
    network = user.network.find_network(DEMO) or user.network.create_network(name=DEMO)
    print(f"network {network.id}")
    if not list(user.network.subnets(network_id=network.id)):
        user.network.create_subnet(name=DEMO, network_id=network.id, ip_version=4, cidr="10.10.0.0/24")
        print("subnet 10.10.0.0/24")
    group = user.network.find_security_group(DEMO) or user.network.create_security_group(
        name=DEMO, description="ping and SSH from anywhere"
    )
    have = {(rule.protocol, rule.port_range_min) for rule in user.network.security_group_rules(security_group_id=group.id)}
    for protocol, port in (("icmp", None), ("tcp", 22)):
        if (protocol, port) not in have:
            user.network.create_security_group_rule(
                security_group_id=group.id,
                direction="ingress",
                ether_type="IPv4",
                protocol=protocol,
                port_range_min=port,
                port_range_max=port,
            )
            print(f"rule {protocol} {port or ''}")
    with open(f"{args.state}/etc/demo-key.pub", encoding="ascii") as file:
        public = file.read().strip()
    key = user.compute.find_keypair(DEMO)
    if key and key.public_key.split()[:2] != public.split()[:2]:
        user.compute.delete_keypair(key)
        key = None
    if not key:
        user.compute.create_keypair(name=DEMO, public_key=public)
        print("key pair")


def addresses_of(server):
    return [entry["addr"] for entries in (server.addresses or {}).values() for entry in entries]


def fault_of(server):
    fault = server.fault or {}
    return fault.get("message") or "no reason given"


def demo_server(_args):
    user = demo()
    server = next(iter(user.compute.servers(name=f"^{SERVER}$")), None)
    if server and server.status == "ERROR":
        print(f"{SERVER} is in ERROR ({fault_of(server)}): making it again")
        user.compute.delete_server(server)
        user.compute.wait_for_delete(server, interval=1, wait=120)
        server = None
    if not server:
        image = next((i for i in user.image.images(name=IMAGE) if i.status == "active"), None)
        if image is None:
            raise Failed(f"there is no image {IMAGE}")
        server = user.compute.create_server(
            name=SERVER,
            image_id=image.id,
            flavor_id=user.compute.find_flavor("tiny", ignore_missing=False).id,
            networks=[{"uuid": user.network.find_network(DEMO, ignore_missing=False).id}],
            security_groups=[{"name": DEMO}],
            key_name=DEMO,
        )
        print(f"accepted: {server.id}")
    elif server.status == "SHUTOFF" and server.task_state is None:
        user.compute.start_server(server)
    seen = [None]

    def running():
        now = user.compute.get_server(server.id)
        state = (now.status, now.task_state)
        if state != seen[0]:
            seen[0] = state
            print(f"{SERVER}: {now.status.lower()}{f', {now.task_state}' if now.task_state else ''}")
        if now.status == "ERROR":
            raise Failed(f"{SERVER} failed: {fault_of(now)}")
        return now if now.status == "ACTIVE" and addresses_of(now) else None

    now = wait(180, f"{SERVER} to become active", running)
    print(f"> {SERVER} is active at {', '.join(addresses_of(now))}")


def find_server(name):
    """The server by name or id: the demo user's first, then anyone's."""
    for connection, everyone in ((demo(), False), (admin(), True)):
        extra = {"all_projects": True} if everyone else {}
        found = [s for s in connection.compute.servers(**extra) if name in (s.name, s.id)]
        if len(found) > 1:
            raise Failed(f"{len(found)} servers are called {name}: give the id ({', '.join(s.id for s in found)})")
        if found:
            return found[0]
    raise Failed(f"there is no server {name}")


def server_id(args):
    print(find_server(args.name).id)


def login_user(boss, server):
    image_id = (server.image or {}).get("id")
    if not image_id:
        return "root"
    try:
        properties = boss.image.get_image(image_id)
    except exceptions.NotFoundException:
        return "root"
    named = properties.os_admin_user or properties.properties.get("os_admin_user")
    return named or LOGIN_BY_DISTRO.get(properties.os_distro or "", "root")


def reach(args):
    """A way to the server: an operator's port on its network, on the host that it runs on."""
    server = find_server(args.name)
    boss = admin()
    ports = [port for port in boss.network.ports(device_id=server.id) if port.fixed_ips]
    if not ports:
        raise Failed(f"{args.name} has no address yet (it is {server.status.lower()})")
    port = ports[0]
    access = next(iter(boss.network.ports(network_id=port.network_id, device_owner=ACCESS_OWNER)), None)
    if access is None:
        if not port.binding_host_id:
            raise Failed(f"{args.name} is not on a host yet (it is {server.status.lower()})")
        access = boss.network.create_port(
            network_id=port.network_id,
            name="access",
            device_owner=ACCESS_OWNER,
            binding_host_id=port.binding_host_id,
        )
    wait(30, "the way into the network", lambda: boss.network.get_port(access.id).status == "ACTIVE")
    print(f"mer-{port.network_id[:8]}", port.fixed_ips[0]["ip_address"], login_user(boss, server), server.id)


def status(_args):
    boss = admin()
    print("\nhosts")
    for host in boss.compute.hypervisors(details=True):
        print(f"  {host.name:<24} {host.state:<6} {host.status}")
    print("servers")
    count = 0
    for server in boss.compute.servers(all_projects=True):
        count += 1
        print(f"  {server.name:<24} {server.status:<10} {', '.join(addresses_of(server))}")
    if not count:
        print("  none")


def main():
    parser = argparse.ArgumentParser(prog="cloud.py")
    parser.add_argument("--state", required=True)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, function, arguments in (
        ("wait-ready", wait_ready, ()),
        ("upload-image", upload_image, ("file",)),
        ("demo-resources", demo_resources, ()),
        ("demo-server", demo_server, ()),
        ("server-id", server_id, ("name",)),
        ("reach", reach, ("name",)),
        ("status", status, ()),
    ):
        verb = verbs.add_parser(name)
        verb.set_defaults(function=function)
        for argument in arguments:
            verb.add_argument(argument)
        if name == "wait-ready":
            verb.add_argument("--hosts", type=int, default=1)
    args = parser.parse_args()
    try:
        args.function(args)
    except (Failed, exceptions.SDKException, auth_exceptions.ClientException) as error:
        print(f"./dev: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
