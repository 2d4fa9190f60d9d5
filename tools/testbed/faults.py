"""Random faults on a testbed of several hosts and replicas over PostgreSQL, while two tenants work.

Real processes are killed and stand still, hosts are cut off, guests crash; meanwhile servers are made, deleted,
stopped, started, restarted and changed through every replica, each request repeated under its key until it is
answered. Every ten minutes, and at the end, everything is healed, and the cloud has to come to rest: the
auditor finds nothing, every acknowledged server is as it was last asked to be, with one process on the right host,
nothing is left of what was deleted, and a guest that nobody touched has the process that it had.

    phase     faults   work    what is looked at
    fill      -        create  rest
    faults    random   random  lists show what was acknowledged; no answer is a 500
    pause     healed   -       rest
    end       healed   delete  rest; a guest on each host answers SSH; nothing is left
"""

import argparse
import os
import random
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import openstack  # noqa: E402

import machine  # noqa: E402
from faults_bed import ANSWERED_WITHIN, Api, Bed, Counts, Log  # noqa: E402
from faults_rest import Rest  # noqa: E402
from faults_strike import Faults  # noqa: E402
from faults_work import COMPUTE, FLAVOR, GONE, IMAGE, NETWORK, Work, make_tenants, set_quotas  # noqa: E402
from machine import Failed, until  # noqa: E402

SERVERS = 20
THREADS = 4
# Mean seconds between requests, and between faults.
WORK_PACE, FAULT_PACE = 8.0, 15.0
# Emulated guests boot slowly, and all at once even more so.
SSH_WITHIN = 1200


class Story:
    """What is told on the way."""

    def __init__(self, counts, work, faults, rest):
        self.counts, self.work, self.faults, self.rest = counts, work, faults, rest

    def minute(self, number):
        living = self.work.living()
        run = sum(server.wanted == "ACTIVE" for server in living)
        counts = self.counts
        now = ", ".join(sorted(set(self.faults.active.values()))) or "nothing is broken"
        print(
            f"minute {number}: {len(living)} servers, {run} to run; {counts.requests} requests, {counts.repeated} repeated, "
            f"{counts.refused} refused; {sum(counts.faults.values())} faults; now: {now}"
        )


def check_on_the_way(counts, work, faults):
    if faults.failure:
        raise Failed(f"a fault could not be made or healed: {faults.failure!r}")
    if work.failure:
        raise Failed(str(work.failure))
    if counts.wrongs:
        raise Failed("; ".join(counts.wrongs[:5]))


def fill(work, rest, rng):
    while len(work.living()) < SERVERS:
        work.create(rng)
    took = rest.come_to_rest()
    spread = {}
    for server in work.living():
        spread[server.guest[0]] = spread.get(server.guest[0], 0) + 1
    print(f"ok: {SERVERS} servers run after {took:.0f} s: {', '.join(f'{n} on {host}' for host, n in sorted(spread.items()))}")


def with_faults(seconds, done, counts, work, faults, story):
    """Faults and work for so many seconds, after `done` seconds of them."""
    began = time.monotonic()
    minute = int(done // 60)
    work.going.set()
    faults.start()
    while time.monotonic() - began < seconds:
        time.sleep(0.5)
        check_on_the_way(counts, work, faults)
        passed = int((done + time.monotonic() - began) // 60)
        if passed > minute:
            minute = passed
            story.minute(minute)
    faults.pause()
    work.pause(ANSWERED_WITHIN + 60)
    check_on_the_way(counts, work, faults)


def reach(bed, admin, work, rng, rest):
    """A guest on each host answers SSH, over the network from one of them."""
    tenant = work.tenants[0]
    for host in bed.hosts:

        def here(host=host):
            servers = [one for one in work.living() if one.tenant is tenant and one.networks == [tenant.main]]
            return [one for one in servers if one.guest and one.guest[0] == host.name and one.wanted == "ACTIVE"]

        for _ in range(9):
            if here():
                break
            held = len(tenant.networks), tenant.networks, tenant.ports
            tenant.networks, tenant.ports = [], []
            work.create(rng, tenant)
            tenant.networks, tenant.ports = held[1], held[2]
            rest.come_to_rest()
        if not here():
            raise Failed(f"no server of {tenant.name} came to {host.name}")
    namespace, _, _ = machine.access(admin, tenant.main, bed.hosts[0].name)
    for host in bed.hosts:
        servers = [one for one in work.living() if one.tenant is tenant and one.networks == [tenant.main] and one.guest]
        # The one that has had the longest time to boot.
        server = min(
            (one for one in servers if one.guest[0] == host.name and one.wanted == "ACTIVE"), key=lambda one: one.alone_since
        )
        port = next(iter(admin.network.ports(device_id=server.id)))
        address = port.fixed_ips[0]["ip_address"]
        said = machine.wait_for_ssh(bed.state, namespace, address, server.id, SSH_WITHIN)
        print(f"ok: {server.name} on {host.name} answers SSH as {said}")


def delete_all(bed, admin, admin_api, work, rest):
    for server in work.living():
        server.busy.acquire()
        work.delete(None, server)
    until("all servers to be gone", lambda: not rest.rows(bed.replicas[0], f"{COMPUTE}/servers/detail?all_tenants=1", "servers"), 400, 1)
    for port in list(admin.network.ports(device_owner="meridian:access")):
        admin.network.delete_port(port)
    for tenant in work.tenants:
        for port in rest.rows(bed.replicas[0], f"{NETWORK}/ports?project_id={tenant.project_id}", "ports"):
            tenant.api.ask("DELETE", f"{NETWORK}/ports/{port['id']}")
        for network in [tenant.main, *tenant.networks]:

            def removed(network=network, tenant=tenant):
                answer = tenant.api.ask("DELETE", f"{NETWORK}/networks/{network}")
                return answer.accepted or answer.status == 404

            until(f"network {network} to be deleted", removed, 120, 1)
        tenant.api.ask("DELETE", f"{NETWORK}/security-groups/{tenant.group}")
    rest.nothing_left()
    print("ok: all is deleted, and nothing is left of it: rows, processes, devices, switch ports, files")


def everything(args, bed, log):
    counts = Counts()
    admin = openstack.connect(cloud="meridian-admin")
    auth = admin.config.config["auth"]
    admin_api = Api(bed, log, auth["username"], auth["password"], auth["project_name"], counts)
    rng = random.Random(f"{args.seed}-fill")
    image = next(image for image in admin.image.images(name=IMAGE) if image.status == "active")
    flavor = admin.compute.find_flavor(FLAVOR, ignore_missing=False)
    work = Work(bed, log, counts, [], image.id, flavor.id, SERVERS, args.work_pace)
    rest = Rest(bed, log, counts, work, admin_api)
    rest.baseline = rest.standing()
    work.tenants = make_tenants(bed, log, counts, admin, ["red", "blue"], lambda *who: Api(bed, log, *who, counts))
    set_quotas(admin_api, work.tenants, 2 * SERVERS)
    fill(work, rest, rng)
    faults = Faults(bed, log, counts, work, args.repo, args.seed, args.fault_pace)
    work.start(args.seed, THREADS)
    story = Story(counts, work, faults, rest)
    done = 0.0
    try:
        while done < args.seconds:
            part = min(args.pause_every, args.seconds - done)
            with_faults(part, done, counts, work, faults, story)
            done += part
            took = rest.come_to_rest()
            log("rest", f"after {done:.0f} s of faults; it took {took:.0f} s")
            print(f"ok: at rest after {done / 60:.0f} minutes of faults; that took {took:.0f} s, and both auditors found nothing")
    finally:
        work.ending.set()
        work.going.set()
        faults.give_up()
        print("measured: " + ", ".join(f"{count} × {kind}" for kind, count in sorted(counts.faults.items())))
        print(
            f"measured: {counts.requests} requests, {counts.repeated} of them repeated, {counts.refused} refused;"
            f" {len(work.servers)} servers made, {sum(one.wanted == GONE for one in work.servers)} deleted"
        )
        print(f"measured: {rest.kept} times a guest that nobody touched was found with the process that it had")
        print(f"measured: {len(rest.undone)} acts that failed later, with a reason; {len(rest.errors)} servers in ERROR, with a reason")
        for words in [*rest.undone.values(), *rest.errors.values()][:40]:
            print(f"  {words}")
    reach(bed, admin, work, rng, rest)
    delete_all(bed, admin, admin_api, work, rest)
    check_on_the_way(counts, work, faults)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--pause-every", type=float, default=600)
    parser.add_argument("--work-pace", type=float, default=WORK_PACE)
    parser.add_argument("--fault-pace", type=float, default=FAULT_PACE)
    args = parser.parse_args()
    log = Log(args.log)
    try:
        everything(args, Bed(args.state, args.prefix, args.binary), log)
    except Failed as failed:
        log("failure", str(failed))
        print(f"FAILED: {failed}")
        print(f"What was done, and when: {os.path.abspath(args.log)}. The testbed is left as it is.")
        sys.exit(1)


if __name__ == "__main__":
    main()
