"""Random work through all replicas: servers, networks, ports, security groups of two tenants."""

import random
import threading
import time

from machine import Failed, until

FLAVOR = "tiny"
IMAGE = "meridian-guest"
# Networks of a tenant beside its first, ports and rules that wait to be used.
EXTRA_NETWORKS, SPARE_PORTS, SPARE_RULES = 3, 4, 12
COMPUTE, NETWORK = "/compute/v2.1", "/network/v2.0"
GONE = "GONE"


class Server:
    """What was asked for and acknowledged."""

    def __init__(self, tenant, id, name, networks, ports):
        self.tenant, self.id, self.name = tenant, id, name
        self.networks, self.ports = networks, ports
        self.wanted = "ACTIVE"
        self.metadata = {"made": "by chance"}
        # Held by whoever asks something of it.
        self.busy = threading.Lock()
        self.deleting = False
        # Its host and process when the cloud last was at rest, and whether anything was done to the guest since.
        self.guest, self.touched = None, True
        self.alone_since = time.monotonic()

    def touch(self):
        """Something is done to the guest: it may have another process afterwards."""
        self.touched = True
        self.alone_since = time.monotonic()


class Tenant:
    """A project and what it has."""

    def __init__(self, name, api, project_id):
        self.name, self.api, self.project_id = name, api, project_id
        self.lock = threading.Lock()
        self.networks, self.ports, self.rules = [], [], []
        # How many servers and ports stand on a network, or are being put there.
        self.users = {}
        self.group = None
        self.main = None

    def add_network(self, number):
        made = self.api.ask("POST", f"{NETWORK}/networks", {"network": {"name": f"{self.name}-{number}"}})
        if not made.accepted:
            return None
        network = self.made(made, "network", f"{self.name}-{number}")
        subnet = {"name": f"{self.name}-{number}", "network_id": network, "ip_version": 4, "cidr": f"10.{60 + number % 150}.0.0/24"}
        answer = self.api.ask("POST", f"{NETWORK}/subnets", {"subnet": subnet})
        if not answer.accepted:
            raise Failed(f"a subnet was refused: {answer.text()}")
        return network

    def made(self, answer, kind, name):
        """The id of what was made; asked for by name when it took effect and the words were lost."""
        if not answer.lost_words:
            return answer.body[kind]["id"]
        base = f"{COMPUTE}/servers" if kind == "server" else f"{NETWORK}/{kind}s"
        found = self.api.ask("GET", f"{base}?name={name}").body[f"{kind}s"]
        found = [one["id"] for one in found if one["name"] == name]
        if len(found) != 1:
            raise Failed(f"{kind} {name} was acknowledged, and these are there: {found}")
        return found[0]


class Work:
    """Does something at random times, in a few threads, until it is told to pause or stop."""

    def __init__(self, bed, log, counts, tenants, image, flavor, wanted, pace):
        self.bed, self.log, self.counts = bed, log, counts
        self.tenants, self.image, self.flavor = tenants, image, flavor
        self.wanted, self.pace = wanted, pace
        self.servers = []
        self.lock = threading.Lock()
        self.numbers = 0
        self.going, self.ending = threading.Event(), threading.Event()
        self.at_work = 0
        self.failure = None
        self.threads = []

    # --- threads ---------------------------------------------------------------------------------------
    def start(self, seed, threads):
        for number in range(threads):
            rng = random.Random(f"{seed}-work-{number}")
            thread = threading.Thread(target=self.thread, args=(rng, threads), daemon=True)
            thread.start()
            self.threads.append(thread)

    def thread(self, rng, threads):
        while not self.ending.is_set():
            self.going.wait()
            self.ending.wait(rng.expovariate(1 / (self.pace * threads)))
            with self.lock:
                if not self.going.is_set() or self.ending.is_set():
                    continue
                self.at_work += 1
            try:
                self.something(rng)
            except Exception as failure:  # noqa: BLE001 - told by the main thread
                self.failure = self.failure or failure
                self.log("failure", repr(failure))
            finally:
                with self.lock:
                    self.at_work -= 1

    def pause(self, limit):
        with self.lock:
            self.going.clear()
        until("all requests to be answered", lambda: self.at_work == 0 or self.failure, limit, 0.2)

    # --- what there is ---------------------------------------------------------------------------------
    def number(self):
        with self.lock:
            self.numbers += 1
            return self.numbers

    def living(self):
        with self.lock:
            return [server for server in self.servers if server.wanted != GONE and not server.deleting]

    def held(self, rng, wanted=None):
        """A server that nobody else asks anything of, held; None when there is none."""
        servers = self.living()
        rng.shuffle(servers)
        for server in servers:
            if wanted in (None, server.wanted) and server.busy.acquire(blocking=False):
                if server.wanted != GONE and not server.deleting:
                    return server
                server.busy.release()
        return None

    # --- acts --------------------------------------------------------------------------------------------
    def something(self, rng):
        count = len(self.living())
        acts = [
            (self.create, 30 if count < self.wanted else 1 if count < self.wanted + 3 else 0),
            (self.delete, 5 if count >= self.wanted else 2 if count > self.wanted - 4 else 0),
            (self.stop, 5),
            (self.begin, 8),
            (self.reboot, 5),
            (self.rename, 6),
            (self.describe, 6),
            (self.networks, 3),
            (self.ports, 4),
            (self.rules, 6),
            (self.list, 8),
            (self.console, 2),
        ]
        act = rng.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
        act(rng)

    def expected(self, answer, *statuses):
        """Anything else is a fault of the cloud, or of this program."""
        if not answer.accepted and answer.status not in statuses:
            self.counts.wrong(f"an answer that nobody expects: {answer.status} {answer.text()}")
        return answer

    def create(self, rng, tenant=None, zone=None):
        if tenant is None:
            # Both tenants have about as many.
            have = {one.name: 0 for one in self.tenants}
            for server in self.living():
                have[server.tenant.name] += 1
            tenant = min(self.tenants, key=lambda one: (have[one.name], rng.random()))
        name = f"{tenant.name}-{self.number()}"
        with tenant.lock:
            port = tenant.ports.pop() if tenant.ports and rng.random() < 0.4 else None
            network = port[1] if port else rng.choice([tenant.main, tenant.main, *tenant.networks])
            tenant.users[network] = tenant.users.get(network, 0) + 1
        body = {
            "name": name,
            "imageRef": self.image,
            "flavorRef": self.flavor,
            "networks": [{"port": port[0]} if port else {"uuid": network}],
            "key_name": tenant.name,
            "metadata": {"made": "by chance"},
        }
        if not port:
            body["security_groups"] = [{"name": tenant.name}]
        if zone:
            body["availability_zone"] = zone
        # 409: the server that had the port is not gone yet.
        answer = self.expected(tenant.api.ask("POST", f"{COMPUTE}/servers", {"server": body}), *([409] if port else []))
        if not answer.accepted:
            with tenant.lock:
                tenant.users[network] -= 1
                if port:
                    tenant.ports.append(port)
            return None
        server = Server(tenant, tenant.made(answer, "server", name), name, [network], [port] if port else [])
        with self.lock:
            self.servers.append(server)
        return server

    def delete(self, rng, server=None):
        server = server or self.held(rng)
        if server is None:
            return
        server.deleting = True
        answer = server.tenant.api.ask("DELETE", f"{COMPUTE}/servers/{server.id}")
        if not answer.accepted:
            self.counts.wrong(f"the delete of {server.name}: {answer.status} {answer.text()}")
            server.deleting = False
        else:
            with server.tenant.lock:
                server.wanted = GONE
                for network in server.networks:
                    server.tenant.users[network] -= 1
                server.tenant.ports.extend(server.ports)
        server.busy.release()

    def act(self, server, body, wanted):
        try:
            answer = server.tenant.api.ask("POST", f"{COMPUTE}/servers/{server.id}/action", body)
            # 409: something is under way already, or it is in another state by now.
            if self.expected(answer, 409).accepted:
                server.touch()
                server.wanted = wanted or server.wanted
        finally:
            server.busy.release()

    def stop(self, rng):
        server = self.held(rng, "ACTIVE")
        if server:
            self.act(server, {"os-stop": None}, "SHUTOFF")

    def begin(self, rng):
        server = self.held(rng, "SHUTOFF")
        if server:
            self.act(server, {"os-start": None}, "ACTIVE")

    def reboot(self, rng):
        kind = rng.choice(["SOFT", "HARD"])
        # A hard reboot starts a server that is off.
        server = self.held(rng, "ACTIVE" if kind == "SOFT" or rng.random() < 0.7 else None)
        if server:
            self.act(server, {"reboot": {"type": kind}}, "ACTIVE")

    def rename(self, rng):
        server = self.held(rng)
        if not server:
            return
        try:
            name = f"{server.tenant.name}-{self.number()}"
            answer = server.tenant.api.ask("PUT", f"{COMPUTE}/servers/{server.id}", {"server": {"name": name}})
            if self.expected(answer, 409).accepted:
                server.name = name
        finally:
            server.busy.release()

    def describe(self, rng):
        server = self.held(rng)
        if not server:
            return
        try:
            said = {rng.choice("abcd"): str(rng.randrange(1000))}
            answer = server.tenant.api.ask("POST", f"{COMPUTE}/servers/{server.id}/metadata", {"metadata": said})
            if self.expected(answer, 409).accepted:
                server.metadata = {**server.metadata, **said}
        finally:
            server.busy.release()

    def networks(self, rng):
        tenant = rng.choice(self.tenants)
        with tenant.lock:
            unused = [one for one in tenant.networks if not tenant.users.get(one)]
            remove = rng.choice(unused) if unused and (len(tenant.networks) >= EXTRA_NETWORKS or rng.random() < 0.4) else None
            if remove:
                tenant.networks.remove(remove)
            elif len(tenant.networks) >= EXTRA_NETWORKS:
                return
        if remove:
            # 409: a server that is being deleted still has its port there.
            if not self.expected(tenant.api.ask("DELETE", f"{NETWORK}/networks/{remove}"), 409).accepted:
                with tenant.lock:
                    tenant.networks.append(remove)
            return
        network = tenant.add_network(self.number())
        if network:
            with tenant.lock:
                tenant.networks.append(network)

    def ports(self, rng):
        tenant = rng.choice(self.tenants)
        with tenant.lock:
            full = len(tenant.ports) >= SPARE_PORTS
            if full or (tenant.ports and rng.random() < 0.3):
                port, network = tenant.ports.pop(0)
            else:
                port, network = None, rng.choice([tenant.main, *tenant.networks])
                tenant.users[network] = tenant.users.get(network, 0) + 1
        if port:
            # 409: the server that had it is not gone yet. 404: it went with its server.
            if self.expected(tenant.api.ask("DELETE", f"{NETWORK}/ports/{port}"), 409, 404).status == 409:
                with tenant.lock:
                    tenant.ports.append((port, network))
            else:
                with tenant.lock:
                    tenant.users[network] -= 1
            return
        name = f"{tenant.name}-{self.number()}"
        body = {"port": {"name": name, "network_id": network, "security_groups": [tenant.group]}}
        answer = self.expected(tenant.api.ask("POST", f"{NETWORK}/ports", body))
        with tenant.lock:
            if answer.accepted:
                tenant.ports.append((tenant.made(answer, "port", name), network))
            else:
                tenant.users[network] -= 1

    def rules(self, rng):
        tenant = rng.choice(self.tenants)
        with tenant.lock:
            remove = tenant.rules.pop(0) if len(tenant.rules) >= SPARE_RULES or (tenant.rules and rng.random() < 0.4) else None
        if remove:
            self.expected(tenant.api.ask("DELETE", f"{NETWORK}/security-group-rules/{remove}"))
            return
        port = rng.randrange(1024, 60000)
        rule = {
            "security_group_id": tenant.group,
            "direction": rng.choice(["ingress", "egress"]),
            "ethertype": "IPv4",
            "protocol": rng.choice(["udp", "tcp"]),
            "port_range_min": port,
            "port_range_max": port + rng.randrange(100),
        }
        # 409: there is one like it.
        answer = self.expected(tenant.api.ask("POST", f"{NETWORK}/security-group-rules", {"security_group_rule": rule}), 409)
        if answer.accepted and not answer.lost_words:
            with tenant.lock:
                tenant.rules.append(answer.body["security_group_rule"]["id"])

    def list(self, rng):
        """Whoever is asked knows of every server that was acknowledged, by whomever."""
        tenant = rng.choice(self.tenants)
        before = [server for server in self.living() if server.tenant is tenant]
        listed = {one["id"] for one in tenant.api.ask("GET", f"{COMPUTE}/servers/detail").body["servers"]}
        missing = [one.name for one in before if one.id not in listed and one.wanted != GONE and not one.deleting]
        if missing:
            self.counts.wrong(f"acknowledged, and not in a list afterwards: {', '.join(missing)}")

    def console(self, rng):
        server = self.held(rng, "ACTIVE")
        if not server:
            return
        try:
            body = {"os-getConsoleOutput": {"length": 5}}
            replica = rng.choice(self.bed.replicas)
            # A host that is away cannot be asked: any clear refusal will do, and silence will not.
            try:
                answer = server.tenant.api.ask("POST", f"{COMPUTE}/servers/{server.id}/action", body, replica, limit=5)
                self.expected(answer, 404, 409)
            except Failed:
                pass
        finally:
            server.busy.release()


def make_tenants(bed, log, counts, admin, names, api_of):
    """Two projects with a user each, a first network, a security group that lets SSH in, and a key."""
    with open(f"{bed.state}/etc/demo-key.pub", encoding="ascii") as file:
        key = file.read().strip()
    tenants = []
    for number, name in enumerate(names):
        project = admin.identity.create_project(name=name, domain_id="default")
        user = admin.identity.create_user(
            name=name, password=f"{name}-secret", domain_id="default", default_project_id=project.id
        )
        admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role("member"))
        tenant = Tenant(name, api_of(name, f"{name}-secret", name), project.id)
        tenant.user_id = user.id
        api = tenant.api
        tenant.main = tenant.add_network(0)
        group = api.ask("POST", f"{NETWORK}/security-groups", {"security_group": {"name": name}})
        tenant.group = tenant.made(group, "security_group", name)
        for protocol, port in (("icmp", None), ("tcp", 22)):
            rule = {"security_group_id": tenant.group, "direction": "ingress", "ethertype": "IPv4", "protocol": protocol}
            if port:
                rule |= {"port_range_min": port, "port_range_max": port}
            api.ask("POST", f"{NETWORK}/security-group-rules", {"security_group_rule": rule})
        answer = api.ask("POST", f"{COMPUTE}/os-keypairs", {"keypair": {"name": name, "public_key": key}})
        if not answer.accepted:
            raise Failed(f"a key was refused: {answer.text()}")
        tenants.append(tenant)
    return tenants


def set_quotas(admin_api, tenants, servers):
    for tenant in tenants:
        body = {"quota_set": {"instances": servers, "cores": servers, "ram": servers * 1024}}
        answer = admin_api.ask("PUT", f"{COMPUTE}/os-quota-sets/{tenant.project_id}", body)
        if not answer.accepted:
            raise Failed(f"a quota was refused: {answer.text()}")
