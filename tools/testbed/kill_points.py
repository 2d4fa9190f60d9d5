"""SIGKILL to the control plane and to a real host's agent, at steps of a server's creation and deletion.

The program under test is a debug build, which has kill points (see crates/kill_points): one server is made and
deleted while both processes write down the points that they pass, then each chosen point is struck while another
server is made or deleted, once killing the process that passes it and once killing both. The supervisor starts
again what was killed. Whatever the instant: the server ends ACTIVE with exactly one QEMU and an address, or in
ERROR with a reason; and after its deletion nothing of it is left. A server that has nothing to do with it all
runs on throughout.
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
import warnings
import zlib

warnings.filterwarnings("ignore")

import openstack  # noqa: E402
from keystoneauth1 import exceptions as auth_exceptions  # noqa: E402

import machine  # noqa: E402
from machine import Failed, run, until  # noqa: E402

DEADLINE = 120
# A point that was not passed so long after the end of the matter will not be.
QUIET = 1.0
ROLES = {"region": "control-plane", "agent": "host"}


class Points:
    """The directory through which the processes speak of kill points."""

    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        return os.path.join(self.directory, name)

    def record(self):
        with open(self.path("passed"), "w", encoding="ascii"):
            pass

    def recorded(self):
        """What was passed, once nothing more is: (name, which passing), in order."""
        last, since = None, time.monotonic()
        while time.monotonic() - since < QUIET:
            with open(self.path("passed"), encoding="ascii") as file:
                now = file.read()
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.05)
        os.unlink(self.path("passed"))
        passes = {}
        points = []
        for name in last.split():
            passes[name] = passes.get(name, 0) + 1
            points.append((name, passes[name]))
        return points

    def arm(self, point):
        if os.path.exists(self.path("died")):
            os.unlink(self.path("died"))
        with open(self.path("new"), "w", encoding="ascii") as file:
            file.write(f"{point[0]}:{point[1]}")
        os.rename(self.path("new"), self.path("at"))

    def died(self):
        return os.path.exists(self.path("died"))

    def disarm(self):
        try:
            os.unlink(self.path("at"))
        except FileNotFoundError:
            pass


class Cloud:
    def __init__(self, state, prefix):
        self.state = state
        self.namespace = f"{prefix}-host"
        self.bridge = f"{prefix}-br"
        self.points = Points(os.path.join(state, "run", "kill-points"))
        self.connection = openstack.connect(cloud="meridian")
        user = self.connection
        image = next(image for image in user.image.images(name="meridian-guest") if image.status == "active")
        self.body = {
            "imageRef": image.id,
            "flavorRef": user.compute.find_flavor("tiny", ignore_missing=False).id,
            "networks": [{"uuid": user.network.find_network("demo", ignore_missing=False).id}],
        }
        self.hello = self.qemus()
        # A key is remembered for a day, and names a request of one run.
        self.run_of = f"{os.getpid()}-{time.time_ns()}"
        self.baseline = None

    # --- the API; None when it does not answer ---------------------------------------------------------
    def call(self, method, path, **more):
        try:
            return getattr(self.connection.compute, method)(path, raise_exc=False, timeout=60, **more)
        except (auth_exceptions.ConnectFailure, auth_exceptions.ConnectTimeout, auth_exceptions.SSLError):
            return None

    def servers(self):
        answer = until("the list of servers", lambda: self.call("get", "/servers"))
        return answer.json()["servers"]

    def show(self, server):
        answer = self.call("get", f"/servers/{server}")
        if answer is None or answer.status_code >= 500:
            return None
        return answer.json()["server"] if answer.status_code == 200 else {"status": "GONE"}

    # --- what stands on the machine -----------------------------------------------------------------
    def qemus(self):
        return machine.qemus(self.state)

    def rows(self, file, table):
        database = sqlite3.connect(f"file:{os.path.join(self.state, file)}?mode=ro", uri=True, timeout=20)
        try:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        finally:
            database.close()

    def cookies(self):
        """What the flows are for: the cookie names the object."""
        text = run(
            "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", f"unix:{self.state}/run/ovs/{self.bridge}.mgmt"
        )
        return sorted({word for word in text.replace(",", " ").split() if word.startswith("cookie=")})

    def standing(self):
        """Everything that a server leaves traces in."""
        links = run("nsenter", f"--net=/run/netns/{self.namespace}", "ip", "-o", "link")
        region = {
            table: self.rows("db/meridian.sqlite", table)
            for table in (
                "ports",
                "ip_allocations",
                "allocations",
                "host_documents",
                "host_reports",
                "workflows WHERE status IN ('runnable', 'waiting', 'parked')",
            )
        }
        quota = "SELECT resource, in_use FROM quota_usage WHERE resource IN ('instances', 'cores', 'ram', 'port')"
        database = sqlite3.connect(f"file:{self.state}/db/meridian.sqlite?mode=ro", uri=True, timeout=20)
        usage = sorted(database.execute(quota).fetchall())
        database.close()
        return {
            "processes": [pid for pid, _ in self.qemus()],
            "disks": sorted(os.listdir(f"{self.state}/host/servers")),
            "devices": sorted(line.split(":")[1].strip().split("@")[0] for line in links.splitlines()),
            "switch ports": run(
                "ovs-vsctl", f"--db=unix:{self.state}/run/ovs/db.sock", "list-ports", self.bridge
            ).split(),
            "flows": self.cookies(),
            "documents, DHCP entries": self.rows("host/agent.db", "documents"),
            "rows": region,
            "quota": usage,
        }

    def nothing_left(self, server):
        def look():
            self.left = self.standing()
            return self.left == self.baseline

        try:
            until("nothing to be left", look)
        except Failed:
            differing = {
                what: (self.baseline[what], now) for what, now in self.left.items() if now != self.baseline[what]
            }
            raise Failed(f"left of {server} (before, now): {json.dumps(differing)}") from None

    # --- rounds ----------------------------------------------------------------------------------------
    def kill_other(self, point):
        """The process that does not pass the point dies as well."""
        role = next(role for side, role in ROLES.items() if not point[0].startswith(side))
        pid = machine.role(self.state, role).get("pid")
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def strike(self, point, both, over):
        """Waits until the process has died at its point. False when the matter ended without."""
        if point is None:
            return False
        ended = None
        end = time.monotonic() + DEADLINE
        while not self.points.died():
            if ended is None and over():
                ended = time.monotonic()
            if ended is not None and time.monotonic() - ended > QUIET:
                self.points.disarm()
                if not self.points.died():
                    return False
            if time.monotonic() > end:
                raise Failed(f"neither a death at {point} nor an end")
            time.sleep(0.02)
        if both:
            self.kill_other(point)
        return True

    def create(self, name, point=None, both=False):
        body = {"server": {"name": name, **self.body}}
        if point:
            self.points.arm(point)
        answer = self.call("post", "/servers", json=body, headers={"Idempotency-Key": f"{name}-{self.run_of}"}, connect_retries=0)
        accepted = answer is not None and answer.status_code == 202
        server = answer.json()["server"]["id"] if accepted else None
        settled = ("ACTIVE", "ERROR")

        def over():
            return server is None or (self.show(server) or {}).get("status") in settled

        died = self.strike(point, both, over)
        if server is None:
            server = next((one["id"] for one in self.servers() if one["name"] == name), None)
        if server is None:
            # The request was never accepted: it is made again, as its client would.
            answer = until("the request to be answered", lambda: self.call("post", "/servers", json=body))
            if answer.status_code != 202:
                raise Failed(f"{answer.status_code}: {answer.text}")
            server = answer.json()["server"]["id"]
        shown = until(f"{name} to be ACTIVE or ERROR", lambda: self.settled(server))
        same = [one["id"] for one in self.servers() if one["name"] == name]
        if same != [server]:
            raise Failed(f"one request, and these servers: {same}")
        guests = [pid for pid, line in self.qemus() if server in line]
        if shown["status"] == "ACTIVE":
            if len(guests) != 1:
                raise Failed(f"{name} is ACTIVE and has {len(guests)} QEMU: {guests}")
            if not [entry["addr"] for entries in shown["addresses"].values() for entry in entries]:
                raise Failed(f"{name} is ACTIVE without an address")
        elif not (shown.get("fault") or {}).get("message"):
            raise Failed(f"{name} is in ERROR without a reason")
        else:
            until("no guest of a failed server", lambda: not [1 for _, line in self.qemus() if server in line])
        return server, died, shown

    def settled(self, server):
        shown = self.show(server)
        return shown if shown and shown["status"] in ("ACTIVE", "ERROR") else None

    def delete(self, server, point=None, both=False):
        if point:
            self.points.arm(point)
        answer = self.call("delete", f"/servers/{server}", connect_retries=0)
        died = self.strike(point, both, lambda: (self.show(server) or {}).get("status") == "GONE")
        if answer is None or answer.status_code != 204:
            answer = until("the delete to be answered", lambda: self.call("delete", f"/servers/{server}"))
            if answer.status_code not in (204, 404):
                raise Failed(f"{answer.status_code}: {answer.text}")
        until("the server to be gone", lambda: (self.show(server) or {}).get("status") == "GONE")
        if self.baseline:
            self.nothing_left(server)
        return died


def rounds(cloud, part, parts, both):
    """A point's own name says to which part it belongs: how often others are passed varies."""
    # The first server of all leaves rows that stay.
    server, _, _ = cloud.create("first")
    cloud.delete(server)
    cloud.points.record()
    cloud.points.recorded()
    cloud.baseline = cloud.standing()
    cloud.points.record()
    server, _, shown = cloud.create("discovery")
    if shown["status"] != "ACTIVE":
        raise Failed(f"without a kill: {shown.get('fault')}")
    create = cloud.points.recorded()
    cloud.points.record()
    cloud.delete(server)
    delete = cloud.points.recorded()
    print(f"{len(create)} points of create, {len(delete)} of delete; part {part} of {parts}")
    create, delete = (
        [point for point in points if zlib.crc32(f"{point[0]}:{point[1]}".encode()) % parts == part]
        for points in (create, delete)
    )
    struck = missed = errors = 0
    for number in range(max(len(create), len(delete))):
        at_create = create[number] if number < len(create) else None
        at_delete = delete[number] if number < len(delete) else None
        for also in both:
            name = f"round-{number}{'-both' if also else ''}"
            began = time.monotonic()
            server, died, shown = cloud.create(name, at_create, also)
            died_too = cloud.delete(server, at_delete, also)
            errors += shown["status"] == "ERROR"
            struck += died + died_too
            missed += (at_create is not None) + (at_delete is not None) - died - died_too
            print(
                f"ok: {name} ({time.monotonic() - began:.1f} s): {shown['status']}"
                f" after {at_create if died else 'no kill'}; gone after {at_delete if died_too else 'no kill'}"
            )
            if cloud.hello != [one for one in cloud.qemus() if one in cloud.hello]:
                raise Failed("a guest that had nothing to do with it has ended")
    if missed * 4 > struck + missed:
        raise Failed(f"{missed} of {struck + missed} points were not passed")
    print(f"measured: {struck} kills, {missed} points not passed this time, {errors} servers ended in ERROR")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    args = parser.parse_args()
    cloud = Cloud(args.state, args.prefix)
    try:
        rounds(cloud, args.part, args.parts, (False, True))
    except Failed as failed:
        print(f"FAILED: {failed}")
        sys.exit(1)


if __name__ == "__main__":
    main()
