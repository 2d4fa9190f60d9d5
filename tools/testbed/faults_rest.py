"""What has to hold once nothing goes wrong any more: rows, machines and what was acknowledged agree."""

import subprocess
import time

import machine
from faults_bed import Lost
from faults_work import COMPUTE, GONE, NETWORK
from machine import Failed

# From the last healing until all is as it should be. A stop has its guest's grace of a minute and the host's two
# minutes; a host that comes back has some work to do on a machine that emulates its guests.
REST_WITHIN = 600
# Of a cloud that has nothing any more.
EMPTY_WITHIN = 300
# Quotas of what this program makes; a project's own security group stays.
LEFT = {
    "ports": "SELECT count(*) FROM ports",
    "addresses": "SELECT count(*) FROM ip_allocations",
    "networks": "SELECT count(*) FROM networks",
    "claims": "SELECT count(*) FROM allocations",
    "documents": "SELECT count(*) FROM host_documents",
    "reports": "SELECT count(*) FROM host_reports",
    "servers": "SELECT count(*) FROM servers WHERE vm_state <> 'deleted'",
    "workflows": "SELECT count(*) FROM workflows WHERE status IN ('runnable', 'waiting', 'parked')",
    "quota": "SELECT coalesce(sum(in_use), 0) FROM quota_usage WHERE resource NOT LIKE 'security_group%'",
}


class Rest:
    def __init__(self, bed, log, counts, work, admin_api):
        self.bed, self.log, self.counts, self.work, self.api = bed, log, counts, work, admin_api
        self.baseline = None
        # Servers that ended in ERROR, with the reason; actions that failed, with who says so.
        self.errors, self.undone = {}, {}
        self.kept = 0

    # --- what stands ---------------------------------------------------------------------------------------
    def standing(self):
        """All that servers and networks leave traces in."""
        rows = {what: self.bed.query(sql)[0][0] for what, sql in LEFT.items()}
        hosts = {}
        for host in self.bed.hosts:
            hosts[host.name] = {
                "disks": sorted(host.disks()),
                "devices": sorted(host.devices()),
                "switch ports": sorted(host.switch_ports()),
                "documents": host.documents(),
            }
        return {"processes": self.bed.guests(), "rows": rows, **hosts}

    def audits(self):
        """What `meridian audit` says at each replica; nothing when it finds nothing."""
        found = []
        for replica in self.bed.replicas:
            done = subprocess.run(
                [self.bed.binary, "audit", "--state", replica.state],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode != 0:
                found.append(f"audit at {replica.name}: {done.stdout.strip()} {done.stderr.strip()}")
        return found

    # --- at rest ---------------------------------------------------------------------------------------------
    def come_to_rest(self, limit=REST_WITHIN):
        """Waits until nothing disagrees, and remembers which process each guest is. Answers how long it took."""
        began = time.monotonic()
        while True:
            try:
                found = self.disagreements() or self.audits()
            except (Lost, OSError, subprocess.SubprocessError) as error:
                found = [f"cannot look: {error!r}"]
            if not found:
                break
            if time.monotonic() - began > limit:
                for one in found:
                    self.log("wrong", one)
                raise Failed(f"{limit} s after everything was healed: " + "; ".join(found[:12]))
            time.sleep(2)
        self.remember_guests()
        return time.monotonic() - began

    def rows(self, replica, path, key):
        status, body, _ = self.api.once(replica, "GET", path)
        if status != 200:
            raise Lost(f"{path}: {status}")
        return body[key]

    def disagreements(self):
        found = []
        for name, role, seen in self.bed.roles():
            if seen.get("state") != "running":
                found.append(f"{role} of {name} does not run")
        if found:
            return found
        views = []
        for replica in self.bed.replicas:
            up = {one["hypervisor_hostname"]: one["state"] for one in self.rows(replica, f"{COMPUTE}/os-hypervisors/detail", "hypervisors")}
            found += [f"{host.name} is {up.get(host.name)} at {replica.name}" for host in self.bed.hosts if up.get(host.name) != "up"]
            views.append({one["id"]: one for one in self.rows(replica, f"{COMPUTE}/servers/detail?all_tenants=1", "servers")})
        rows = views[0]
        for one in views[1:]:
            if {id: (row["status"], row["updated"]) for id, row in one.items()} != {
                id: (row["status"], row["updated"]) for id, row in rows.items()
            }:
                found.append("the replicas show different servers")
        guests = self.bed.guests()
        wanted = {server.id: server for server in self.work.servers if server.wanted != GONE}
        found += [f"{server.name} was acknowledged and is not there" for server in wanted.values() if server.id not in rows]
        found += [f"{row['name']} {id} is there, and nobody asked for it, or it was deleted" for id, row in rows.items() if id not in wanted]
        for id, server in wanted.items():
            if id in rows:
                found += self.compare(server, rows[id], guests.get(id, []))
        found += [f"guests of {id} run on {where} and there is no such server" for id, where in guests.items() if id not in rows]
        found += self.machines(rows)
        return found

    def compare(self, server, row, guests):
        """One server: what was asked, the row, and the machines."""
        who = f"{server.name} {server.id}"
        if row["OS-EXT-STS:task_state"]:
            return [f"{who} is {row['status']}, {row['OS-EXT-STS:task_state']}"]
        found = []
        if row["name"] != server.name:
            found.append(f"{who} is called {row['name']}")
        if row["metadata"] != server.metadata:
            found.append(f"{who} has metadata {row['metadata']}, not {server.metadata}")
        status, host = row["status"], row["OS-EXT-SRV-ATTR:host"]
        if status == "ERROR":
            reason = (row.get("fault") or {}).get("message")
            if not reason:
                found.append(f"{who} is in ERROR without a reason")
            elif server.id not in self.errors:
                self.errors[server.id] = f"{server.name}: {reason}"
                self.log("error", f"{who}: {reason}")
        elif status != server.wanted:
            reason = self.failed_action(server)
            if status not in ("ACTIVE", "SHUTOFF") or not reason:
                return [*found, f"{who} is {status}, and {server.wanted} was asked for"]
            if server.id not in self.undone or self.undone[server.id] != reason:
                self.undone[server.id] = reason
                self.log("undone", f"{who} is {status}, {server.wanted} was asked for: {reason}")
            server.wanted = status
        if status == "ACTIVE":
            if [where for where, _ in guests] != [host]:
                found.append(f"{who} is ACTIVE on {host}, with guests {guests}")
            elif server.guest and not server.touched and guests[0] != server.guest:
                found.append(f"{who} was left alone, and its guest is {guests[0]} after {server.guest}")
        elif guests:
            found.append(f"{who} is {status}, with guests {guests}")
        return found

    def failed_action(self, server):
        """The newest thing that was asked of the guest, if it failed: a refusal after the fact, which users see."""
        actions = self.rows(self.bed.replicas[0], f"{COMPUTE}/servers/{server.id}/os-instance-actions", "instanceActions")
        asked = [one for one in actions if one["action"] in ("stop", "start", "reboot")]
        newest = max(asked, key=lambda one: one["start_time"], default=None)
        if newest is None or not newest["message"]:
            return None
        return f"{newest['action']} {newest['request_id']}: {newest['message']}"

    def machines(self, rows):
        """Nothing stands on a machine that no row says."""
        found = []
        on = {}
        for id, row in rows.items():
            on.setdefault(row["OS-EXT-SRV-ATTR:host"], set()).add(id)
        ports = self.rows(self.bed.replicas[-1], f"{NETWORK}/ports", "ports")
        for host in self.bed.hosts:
            there = on.get(host.name, set())
            disks = set(host.disks())
            found += [f"{host.name} has files of {id}" for id in disks - there]
            # One that never came to its host has none.
            found += [f"{host.name} has no files of {id}" for id in there - disks if rows[id]["status"] != "ERROR"]
            names = {
                machine.device_name(host.prefix, port["id"]): port for port in ports if port["binding:host_id"] == host.name
            }
            own = set(self.baseline[host.name]["switch ports"])
            switch = set(host.switch_ports())
            found += [f"the switch of {host.name} has {name}, which is no port's" for name in switch - set(names) - own]
            devices = set(host.devices())
            known = set(self.baseline[host.name]["devices"])
            found += [f"{host.name} has the device {name}, which is no port's" for name in devices - set(names) - known]
            for name, port in names.items():
                if port["device_id"] in there and rows[port["device_id"]]["status"] == "ACTIVE":
                    if name not in switch:
                        found.append(f"the switch of {host.name} lacks {name} of port {port['id']}")
                    if port["status"] != "ACTIVE":
                        found.append(f"port {port['id']} of an ACTIVE server is {port['status']}")
        return found

    def remember_guests(self):
        guests = self.bed.guests()
        for server in self.work.living():
            now = (guests.get(server.id) or [None])[0]
            if server.guest and not server.touched and now == server.guest:
                self.kept += 1
            server.guest, server.touched = now, False

    # --- the end -----------------------------------------------------------------------------------------------
    def nothing_left(self):
        end = time.monotonic() + EMPTY_WITHIN
        while True:
            now = self.standing()
            differing = {what: (self.baseline[what], seen) for what, seen in now.items() if seen != self.baseline[what]}
            if not differing:
                return
            if time.monotonic() > end:
                raise Failed(f"left (before, now): {differing}")
            time.sleep(1)
