"""The testbed that faults are tried on: what it consists of, and what stands on it now."""

import os
import random
import sqlite3
import threading
import time
import uuid

import requests

import machine
from machine import Failed, run, run_in

# A request that is not answered within this time, by any replica, is a failure of the whole.
ANSWERED_WITHIN = 400
# How long one try may take before another replica is asked.
PATIENCE = 25


class Log:
    """What was done and when, for the story afterwards."""

    def __init__(self, path):
        self.began = time.monotonic()
        self.file = open(path, "a", encoding="utf-8", buffering=1)
        self.lock = threading.Lock()

    def __call__(self, what, words):
        now = time.time()
        stamp = time.strftime("%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        with self.lock:
            self.file.write(f"{stamp} {time.monotonic() - self.began:8.1f} {what:<8} {words}\n")


class Replica:
    def __init__(self, name, state, url):
        self.name, self.state, self.url = name, state, url

    def pid(self):
        return machine.role(self.state, "control-plane").get("pid")


class Host:
    def __init__(self, bed, name):
        self.name = name
        self.state = f"{bed.state}/hosts/{name}"
        self.namespace = f"{bed.prefix}-{name}"
        self.prefix = machine.device_prefix(self.state)

    def pid(self):
        return machine.role(self.state, "host").get("pid")

    def switch_ports(self):
        return run(
            "ovs-vsctl", "--timeout=10", f"--db=unix:{self.state}/run/ovs/db.sock", "list-ports", f"{self.prefix}-br"
        ).split()

    def devices(self):
        lines = run_in(self.namespace, "ip", "-o", "link").splitlines()
        return [line.split(":")[1].strip().split("@")[0] for line in lines]

    def disks(self):
        return os.listdir(f"{self.state}/host/servers")

    def documents(self):
        database = sqlite3.connect(f"file:{self.state}/host/agent.db?mode=ro", uri=True, timeout=20)
        try:
            return database.execute("SELECT count(*) FROM documents").fetchone()[0]
        finally:
            database.close()


class Bed:
    """State directory and prefix of names of a testbed, and its parts."""

    def __init__(self, state, prefix, binary):
        self.state, self.prefix, self.binary = state, prefix, binary
        with open(f"{state}/etc/dev.conf", encoding="utf-8") as file:
            conf = dict(line.strip().split("=", 1) for line in file if "=" in line)
        port = conf["api_port"]
        self.replicas = [
            Replica(f"r{n}", state if n == 1 else f"{state}/replicas/r{n}", f"https://127.0.0.{n}:{port}")
            for n in range(1, int(conf["replicas"]) + 1)
        ]
        self.hosts = [Host(self, f"h{n}") for n in range(1, int(conf["hosts"]) + 1)]

    def guests(self):
        """Server id → [(host, process id)]."""
        found = {}
        for pid, line in machine.qemus(self.state):
            for host in self.hosts:
                mark = f"{host.state}/host/servers/"
                if mark in line:
                    server = line.split(mark, 1)[1].split("/")[0]
                    found.setdefault(server, []).append((host.name, pid))
        return found

    def roles(self):
        """Every role of every supervisor: (whose, role, what it was last seen as)."""
        for replica in self.replicas:
            yield replica.name, "control-plane", machine.role(replica.state, "control-plane")
        yield "r1", "postgresql", machine.role(self.state, "postgresql")
        for host in self.hosts:
            yield host.name, "host", machine.role(host.state, "host")

    def query(self, sql):
        """Rows of the cloud's database, behind its back."""
        socket = f"{self.state}/postgresql"
        text = run("psql", "-h", socket, "-U", "postgres", "-d", "meridian", "-AtqF", "|", "-c", sql)
        return [line.split("|") for line in text.splitlines()]


class Lost(Exception):
    """No answer, or one that says that it is none."""


class Answer:
    def __init__(self, status, body, tries, request_id):
        self.status, self.body, self.tries, self.request_id = status, body, tries, request_id
        text = str(body)
        # The effect is there, and nobody knows any more what was said of it.
        self.lost_words = status == 409 and "took effect, but the answer" in text
        self.accepted = status < 300 or self.lost_words

    def text(self):
        return str(self.body)[:300]


class Api:
    """A user's way to the cloud: any replica, each change with a key of its own, repeated until it is answered."""

    def __init__(self, bed, log, user, password, project, counts):
        self.bed, self.log, self.counts = bed, log, counts
        self.who = (user, password, project)
        self.authority = f"{bed.state}/pki/ca.pem"
        self.token = None
        self.local = threading.local()

    def session(self):
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
            # The environment's own authorities would be preferred to ours.
            self.local.session.trust_env = False
            self.local.session.verify = self.authority
        return self.local.session

    def send(self, replica, method, path, **more):
        try:
            return self.session().request(method, replica.url + path, timeout=(5, PATIENCE), **more)
        except requests.RequestException as error:
            # A connection that broke is of no use to the next request.
            self.session().close()
            raise Lost(type(error).__name__) from None

    def login(self, replica):
        user, password, project = self.who
        domain = {"id": "default"}
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "password": password, "domain": domain}},
                },
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer = self.send(replica, "POST", "/identity/v3/auth/tokens", json=body)
        if answer.status_code != 201:
            raise Lost(f"login: {answer.status_code}")
        self.token = answer.headers["X-Subject-Token"]

    def once(self, replica, method, path, key=None, body=None):
        if self.token is None:
            self.login(replica)
        headers = {"X-Auth-Token": self.token}
        if key:
            headers["Idempotency-Key"] = key
        answer = self.send(replica, method, path, headers=headers, json=body)
        if answer.status_code == 401:
            self.token = None
            raise Lost("401")
        # That one says clearly that nobody knows, when the database died while it was storing; the key finds out.
        if answer.status_code == 500 and "OutcomeUnknown" not in answer.text:
            self.counts.wrong(f"{method} {path} at {replica.name}: 500 {answer.text[:300]}")
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise Lost(str(answer.status_code))
        if answer.status_code == 409 and "still under way" in answer.text:
            raise Lost("under way")
        try:
            said = answer.json() if answer.content else {}
        except ValueError:
            raise Lost("half an answer") from None
        return answer.status_code, said, answer.headers.get("x-openstack-request-id", "")

    def ask(self, method, path, body=None, replica=None, limit=ANSWERED_WITHIN):
        """Until it is answered. The first replica is chosen by chance, and another is asked when nothing came."""
        key = None if method == "GET" else str(uuid.uuid4())
        everywhere = [replica] if replica else random.sample(self.bed.replicas, len(self.bed.replicas))
        end = time.monotonic() + limit
        tries = []
        while True:
            here = everywhere[len(tries) % len(everywhere)]
            try:
                status, said, request_id = self.once(here, method, path, key, body)
            except Lost as lost:
                tries.append(f"{here.name}: {lost}")
                if time.monotonic() > end:
                    self.log("request", f"{method} {path}: never answered: {'; '.join(tries)}")
                    raise Failed(f"{method} {path} was not answered for {limit} s: {'; '.join(tries[-6:])}") from None
                time.sleep(min(2.0, 0.2 * len(tries)))
                continue
            answer = Answer(status, said, tries, request_id)
            if method != "GET":
                self.counts.request(answer)
                note = f" after {'; '.join(tries)}" if tries else ""
                words = "" if answer.accepted else f" {answer.text()}"
                self.log("request", f"{method} {path} {body or ''} → {status} {request_id} at {here.name}{words}{note}")
            return answer


class Counts:
    """What happened, in numbers."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = self.repeated = self.refused = 0
        self.faults = {}
        self.wrongs = []

    def request(self, answer):
        with self.lock:
            self.requests += 1
            self.repeated += bool(answer.tries)
            self.refused += not answer.accepted

    def fault(self, kind):
        with self.lock:
            self.faults[kind] = self.faults.get(kind, 0) + 1

    def wrong(self, words):
        """Something that must not be, seen on the way."""
        with self.lock:
            self.wrongs.append(words)
