"""What the suites' programs share: looking at a machine that runs clouds, and reaching guests."""

import ctypes
import hashlib
import json
import os
import subprocess
import time
import tomllib

CLONE_NEWNET = 0x40000000


class Failed(Exception):
    """A sentence for the person."""


def until(what, look, limit=120, pause=0.05):
    """Calls look until it returns something true; fails with what it waited for."""
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"waited {limit} s for {what}")
        time.sleep(pause)


def run(*command, limit=120):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit).stdout


def run_in(namespace, *command, limit=120):
    """Unlike `ip netns exec` this keeps the mounts."""
    return run("nsenter", f"--net=/run/netns/{namespace}", "--", *command, limit=limit)


def setns(descriptor):
    """Python 3.11 has no os.setns."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def command_line(pid):
    """What the process was started with; empty when there is none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def born(pid):
    """When the process began, in ticks since boot: with its number, what it is. None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rsplit(") ", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


def qemus(state):
    """Processes of the guests whose files are below a directory: (process id, command line)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        line = command_line(pid)
        if "qemu-system" in line.split(" ")[0] and f"{state}/" in line:
            found.append((int(pid), line))
    return sorted(found)


def role(state, name):
    """What a state directory's supervisor last wrote of a role: its state, pid, starts."""
    try:
        with open(f"{state}/run/status.json", encoding="utf-8") as file:
            return json.load(file)["roles"].get(name, {})
    except (OSError, ValueError):
        return {}


def device_prefix(host_state):
    with open(f"{host_state}/etc/host.toml", "rb") as file:
        return tomllib.load(file)["device_prefix"]


def device_name(prefix, port_id):
    """The name that a host's agent gives the port's device."""
    return prefix + hashlib.sha256(port_id.encode()).hexdigest()[: 15 - len(prefix)]


# --- guests ----------------------------------------------------------------------------------------------
def guest(state, namespace, address, server_id, command, limit=60):
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "--", "ssh", "-i", f"{state}/etc/demo-key"]
        + ["-o", f"UserKnownHostsFile={state}/etc/known_hosts", "-o", f"HostKeyAlias={server_id}"]
        + ["-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        + ["-o", "LogLevel=ERROR", f"root@{address}", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def access(admin, network_id, host):
    """An operator's port on a network: its namespace, address and MAC."""
    port = admin.network.create_port(
        network_id=network_id, device_owner="meridian:access", binding_host_id=host, name="access"
    )
    namespace = f"mer-{network_id[:8]}"
    until(
        f"the access port on {host} to come up",
        lambda: os.path.exists(f"/run/netns/{namespace}") and admin.network.get_port(port.id).status == "ACTIVE",
        90,
        0.2,
    )
    return namespace, port.fixed_ips[0]["ip_address"], port.mac_address


def wait_for_ssh(state, namespace, address, server_id, limit=600):
    """The guest's name, once it lets us in."""
    end = time.monotonic() + limit
    while True:
        try:
            result = guest(state, namespace, address, server_id, "hostname", limit=30)
            said = result.stderr.strip()
            if result.returncode == 0:
                return result.stdout.strip()
        except subprocess.TimeoutExpired:
            said = "the login stood still"
        if time.monotonic() > end:
            raise Failed(f"no SSH to {address}: {said}")
        time.sleep(1)
