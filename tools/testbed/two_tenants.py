"""Two tenants with the same addresses and MACs on a testbed of three hosts.

First what is allowed is shown to arrive, with the very frames whose absence is then the proof: a capture that
hears nothing proves nothing unless it is shown to hear.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings

warnings.filterwarnings("ignore")

import openstack  # noqa: E402

from machine import Failed, access, device_name, device_prefix, guest, setns, wait_for_ssh  # noqa: E402

ADDRESSES = {"one": ("10.50.0.11", "fa:16:3e:50:00:11", "h1"), "two": ("10.50.0.12", "fa:16:3e:50:00:12", "h2")}
ETH_P_ALL = 3


class Tenant:
    """A project with a network 10.50.0.0/24 and a server at each of ADDRESSES."""

    def __init__(self, admin, name):
        self.name = name
        project = admin.identity.find_project(name) or admin.identity.create_project(name=name, domain_id="default")
        user = admin.identity.find_user(name) or admin.identity.create_user(
            name=name, password=f"{name}-secret", domain_id="default", default_project_id=project.id
        )
        # A server is put on a named host by administrators only.
        for role in ("member", "admin"):
            admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role(role))
        auth = admin.config.config["auth"]
        self.cloud = openstack.connect(
            auth_url=auth["auth_url"],
            username=name,
            password=f"{name}-secret",
            project_name=name,
            user_domain_name="Default",
            project_domain_name="Default",
            region_name=admin.config.region_name,
            cacert=admin.config.config.get("cacert") or admin.config.verify,
        )
        self.servers = {}
        self.ports = {}

    def build(self, state):
        network = self.cloud.network.create_network(name=self.name)
        self.network = network
        subnet = self.cloud.network.create_subnet(
            name=self.name, network_id=network.id, ip_version=4, cidr="10.50.0.0/24"
        )
        group = self.cloud.network.create_security_group(name=self.name)
        for protocol in ("icmp", "tcp", "udp"):
            self.cloud.network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", ether_type="IPv4", protocol=protocol
            )
        with open(f"{state}/etc/demo-key.pub", encoding="ascii") as file:
            self.cloud.compute.create_keypair(name=self.name, public_key=file.read().strip())
        image = next(i for i in self.cloud.image.images(name="meridian-guest") if i.status == "active")
        for name, (address, mac, host) in ADDRESSES.items():
            port = self.cloud.network.create_port(
                name=name,
                network_id=network.id,
                mac_address=mac,
                fixed_ips=[{"subnet_id": subnet.id, "ip_address": address}],
                security_group_ids=[group.id],
            )
            self.ports[name] = port
            self.servers[name] = self.cloud.compute.create_server(
                name=f"{self.name}-{name}",
                image_id=image.id,
                flavor_id=self.cloud.compute.find_flavor("tiny").id,
                networks=[{"port": port.id}],
                key_name=self.name,
                availability_zone=f"zone-1:{host}",
            )

    def wait(self):
        for name, server in self.servers.items():
            now = self.cloud.compute.wait_for_server(server, wait=240)
            print(f"{now.name} is {now.status} on {now.compute_host or now.hypervisor_hostname}")


def device_of(state, host, port_id):
    return device_name(device_prefix(f"{state}/hosts/{host}"), port_id)


class Capture(threading.Thread):
    """Everything that a device of a namespace carries and that holds the marker."""

    def __init__(self, namespace, device, marker):
        super().__init__(daemon=True)
        self.marker = marker
        self.heard = 0
        self.full_size_unfragmentable = 0
        with open(f"/run/netns/{namespace}", "rb") as there, open("/proc/thread-self/ns/net", "rb") as here:
            setns(there.fileno())
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((device, 0))
            setns(here.fileno())
        self.start()

    def run(self):
        while True:
            frame = self.socket.recv(65535)
            # IPv4 of 1500 bytes with DF: 14 bytes of Ethernet, then the flags at byte 6 of the header.
            if len(frame) == 1514 and frame[12:14] == b"\x08\x00" and frame[20] & 0x40:
                self.full_size_unfragmentable += 1
            if self.marker in frame:
                self.heard += 1


def udp_frame(source_mac, target_mac, source, target, payload):
    """An Ethernet frame with a UDP datagram; checksum of UDP left out, as IPv4 allows."""
    length = 20 + 8 + len(payload)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    ethernet = bytes.fromhex(target_mac.replace(":", "") + source_mac.replace(":", "") + "0800")
    return ethernet + header + struct.pack("!HHHH", 9999, 9999, 8 + len(payload), 0) + payload


def send(namespace, frame):
    program = (
        "import socket,sys\n"
        "name=[n for _,n in socket.if_nameindex() if n!='lo'][0]\n"
        "s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW)\n"
        "s.bind((name,0))\n"
        "for _ in range(20): s.send(bytes.fromhex(sys.argv[1]))\n"
    )
    subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "--", sys.executable, "-c", program, frame.hex()],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", required=True)
    parser.add_argument("--namespace-prefix", required=True)
    args = parser.parse_args()
    try:
        compare(args)
    except Failed as failed:
        print(f"FAILED: {failed}")
        sys.exit(1)


def compare(args):
    admin = openstack.connect(cloud="meridian-admin")
    red, blue = Tenant(admin, "red"), Tenant(admin, "blue")
    for tenant in (red, blue):
        tenant.build(args.state)
    for tenant in (red, blue):
        tenant.wait()

    namespace, source, source_mac = access(admin, red.network.id, "h1")
    address_one, address_two = ADDRESSES["one"][0], ADDRESSES["two"][0]
    for name in ADDRESSES:
        print("ssh:", wait_for_ssh(args.state, namespace, ADDRESSES[name][0], red.servers[name].id))
    marker = os.urandom(16)
    allowed = Capture(f"{args.namespace_prefix}2", device_of(args.state, "h2", red.ports["two"].id), marker)
    result = guest(args.state, namespace, address_one, red.servers["one"].id, f"ping -c 5 -s 1472 {address_two}")
    print(result.stdout.strip())
    if " 0% packet loss" not in result.stdout:
        raise Failed("servers of one tenant on two hosts do not reach each other with 1472 bytes")
    # busybox ping has no option for DF; the kernel sets it by itself, which the capture shows.
    if allowed.full_size_unfragmentable < 5:
        raise Failed(f"only {allowed.full_size_unfragmentable} packets of 1500 bytes with DF arrived at red-two")
    print(f"ok: 1472 bytes with DF pass between guests on two hosts ({allowed.full_size_unfragmentable} packets seen)")

    here = Capture(f"{args.namespace_prefix}1", device_of(args.state, "h1", red.ports["one"].id), marker)
    forbidden = {
        name: Capture(
            f"{args.namespace_prefix}{ADDRESSES[name][2][1:]}",
            device_of(args.state, ADDRESSES[name][2], blue.ports[name].id),
            marker,
        )
        for name in ADDRESSES
    }
    for what, mac, address in (
        ("unicast", ADDRESSES["two"][1], address_two),
        ("broadcast", "ff:ff:ff:ff:ff:ff", "10.50.0.255"),
        ("multicast", "01:00:5e:00:00:fb", "224.0.0.251"),
    ):
        before, before_here = allowed.heard, here.heard
        send(namespace, udp_frame(source_mac, mac, source, address, marker))
        end = time.monotonic() + 5
        while allowed.heard == before and time.monotonic() < end:
            time.sleep(0.05)
        print(f"{what}: {allowed.heard - before} of 20 frames at red-two on the other host, {here.heard - before_here} at red-one")
        if allowed.heard == before:
            raise Failed(f"{what} frames do not arrive where they are allowed: their absence elsewhere would prove nothing")
    for name, capture in forbidden.items():
        print(f"blue-{name}: {capture.heard} of these frames")
        if capture.heard:
            raise Failed(f"blue-{name} heard frames of the tenant red")
    # The twins live at the same addresses, and each tenant reaches its own.
    blue_namespace, blue_source, blue_mac = access(admin, blue.network.id, "h2")
    # The same captures do hear the same frame when it is the tenant's own.
    send(blue_namespace, udp_frame(blue_mac, "ff:ff:ff:ff:ff:ff", blue_source, "10.50.0.255", marker))
    end = time.monotonic() + 5
    while not all(capture.heard for capture in forbidden.values()) and time.monotonic() < end:
        time.sleep(0.05)
    for name, capture in forbidden.items():
        print(f"blue-{name}: {capture.heard} of 20 frames of its own tenant")
        if not capture.heard:
            raise Failed(f"the capture at blue-{name} hears nothing at all: its silence proved nothing")
    for name in ADDRESSES:
        said = wait_for_ssh(args.state, blue_namespace, ADDRESSES[name][0], blue.servers[name].id)
        if said != f"blue-{name}":
            raise Failed(f"in the tenant blue, {ADDRESSES[name][0]} is {said}")
    result = guest(args.state, blue_namespace, address_one, blue.servers["one"].id, f"ping -c 3 {address_two}")
    if " 0% packet loss" not in result.stdout:
        raise Failed("servers of the tenant blue do not reach each other")
    print("ok: two tenants with the same addresses and MACs never met")


if __name__ == "__main__":
    main()
