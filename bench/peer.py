#!/usr/bin/env python3
"""The same requests against any cloud that speaks the API, with the load generator of the real
services' scripts; and the table of two such runs side by side. bench/peer.sh calls it.

  peer.py run --load DIR/load.py --label NAME --out FILE --auth-url URL --password PW [--at SERVICE=URL …] [--filler CMD]
  peer.py identity (the same options): who is who alone, with --people projects, users and assignments
  peer.py table FILE OURS THEIRS
"""
import argparse, importlib.util, json, os, subprocess, sys, time, urllib.parse

VERSION = {"X-OpenStack-Nova-API-Version": "2.37"}
ROWS = ["token issue", "token validate", "image show", "network create", "port create",
        "server show", "server list, 500 in detail", "server create, accepted"]


def load_generator(path):
    spec = importlib.util.spec_from_file_location("load", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepared(a):
    load = load_generator(a.load)
    load.A = argparse.Namespace(
        auth_url=a.auth_url.rstrip("/"), user="admin", password=a.password, project="admin",
        domain="Default", endpoint=None, out=a.out, label=a.label, pid_dir=a.pid_dir, warm=True,
        conc=[int(c) for c in a.conc.split(",")], runs=a.runs, secs=a.secs, full=False)
    return load


def request_of(load):
    """The bytes of a request."""
    def request(method, url, body=None, **headers):
        parts = urllib.parse.urlsplit(url)
        path = parts.path + ("?" + parts.query if parts.query else "")
        data = json.dumps(body).encode() if body is not None else b""
        more = dict(load.JS, **headers) if body is not None else headers
        return load.req_bytes(method, path, f"{parts.hostname}:{parts.port}", more, data)
    return request


def identity(a):
    """Tokens, and lists of a cloud with many people. A page is what both give: 1,000 of them."""
    load, at = prepared(a), a.auth_url.rstrip("/")
    request, (host, port, _) = request_of(load), load.url(at)
    text = load.token()
    head = {"X-Auth-Token": text}

    def missing(kind):
        have, url = 0, f"{at}/{kind}?limit=1000"
        while url:
            body = load.call(url, "GET", None, head)[2]
            have, url = have + len(body[kind]), (body.get("links") or {}).get("next")
            if have >= a.people:
                return 0
        return a.people - have

    def fill(kind, make):
        wanted = missing(kind)
        made = []
        if wanted > 0:
            keep = lambda i, status, body, _: made.append(json.loads(body)[kind[:-1]]["id"])
            done = load.blast(host, port, 8, lambda i: request("POST", f"{at}/{kind}", make(i), **head), n=wanted, keep=keep)
            print(f"{wanted} {kind} made in {done['secs']:.0f} s: {done['codes']}", flush=True)
        return made

    mark = time.strftime("%H%M%S")
    projects = fill("projects", lambda i: {"project": {"name": f"people-{mark}-{i}", "domain_id": "default"}})
    users = fill("users", lambda i: {"user": {"name": f"people-{mark}-{i}", "domain_id": "default"}})
    role = load.call(f"{at}/roles?name=reader", "GET", None, head)[2]["roles"][0]["id"]
    pairs = list(zip(projects, users))
    if pairs:
        grant = lambda i: request("PUT", f"{at}/projects/{pairs[i][0]}/users/{pairs[i][1]}/roles/{role}", **head)
        done = load.blast(host, port, 8, grant, n=len(pairs))
        print(f"{len(pairs)} assignments made in {done['secs']:.0f} s: {done['codes']}", flush=True)

    def row(name, make, **how):
        load.test(name, host, port, lambda i: make, **how)

    row("token issue", request("POST", at + "/auth/tokens", load.auth_body()))
    row("token validate", request("GET", at + "/auth/tokens", **{"X-Auth-Token": text, "X-Subject-Token": text}))
    for kind in ("projects", "users"):
        row(f"{kind} list, 1,000 of {a.people}", request("GET", f"{at}/{kind}?limit=1000", **head), n=a.lists)
    row(f"assignments list, {a.people}", request("GET", f"{at}/role_assignments", **head), n=a.lists)
    some = users[0] if users else load.TOK[2]["user"]["id"]
    row("assignments of one user", request("GET", f"{at}/role_assignments?user.id={some}", **head))


def run(a):
    load = prepared(a)
    places = dict(at.split("=", 1) for at in a.at)
    ours = load.endpoint
    load.endpoint = lambda kind: places.get(kind) or ours(kind)
    hdr, call, test = load.hdr, load.call, load.test
    image, compute = load.endpoint("image") + "/v2", load.endpoint("compute")
    network = load.endpoint("network") + "/v2.0"
    load.token()
    project = load.TOK[2]["project"]["id"]

    def post(url, body):
        return call(url, "POST", body, hdr(**VERSION))[2]

    def get(url):
        return call(url, "GET", None, hdr(**VERSION))[2]

    # A client that asks for more than a default quota would measure refusals.
    free = {"network": -1, "port": -1, "subnet": -1, "security_group": -1}
    call(f"{network}/quotas/{project}", "PUT", {"quota": free}, hdr())
    free = {"instances": -1, "cores": -1, "ram": -1}
    call(f"{compute}/os-quota-sets/{project}", "PUT", {"quota_set": free}, hdr())

    for _ in range(600):
        up = [h for h in get(f"{compute}/os-hypervisors/detail")["hypervisors"] if h["state"] == "up" and h["vcpus"]]
        if len(up) >= a.hosts:
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"{len(up)} of {a.hosts} hosts are up")

    found = get(f"{image}/images?name=ratio")["images"]
    if not found:
        body = {"name": "ratio", "disk_format": "raw", "container_format": "bare"}
        found = [post(f"{image}/images", body)]
        call(f"{image}/images/{found[0]['id']}/file", "PUT", b"ratio " * 4096,
             hdr(Content_Type="application/octet-stream"))
    picture = found[0]["id"]
    found = get(f"{network}/networks?name=ratio")["networks"]
    if not found:
        found = [post(f"{network}/networks", {"network": {"name": "ratio"}})["network"]]
        post(f"{network}/subnets", {"subnet": {"network_id": found[0]["id"], "ip_version": 4,
                                               "cidr": "10.64.0.0/12", "enable_dhcp": False}})
    net = found[0]["id"]
    found = [f for f in get(f"{compute}/flavors")["flavors"] if f["name"] == "ratio"]
    if not found:
        body = {"flavor": {"name": "ratio", "ram": 64, "vcpus": 1, "disk": 1}}
        found = [post(f"{compute}/flavors", body)["flavor"]]
    flavor = found[0]["id"]

    def server(name, count=1):
        body = {"name": name, "flavorRef": flavor, "imageRef": picture, "networks": [{"uuid": net}]}
        if count > 1:
            body.update(min_count=count, max_count=count)
        return {"server": body}

    def settle():
        """Waits until nothing is being built any more, which would cost the next row time."""
        while get(f"{compute}/servers?status=BUILD&limit=1")["servers"]:
            time.sleep(0.5)

    def servers():
        return get(f"{compute}/servers?limit=1000")["servers"]

    have = len(servers())
    if have < a.servers:
        if a.filler:
            for i in range(max(0, 4 - have)):
                post(f"{compute}/servers", server(f"fill-{i}"))
            settle()
            subprocess.run(a.filler.split() + [str(a.servers)], check=True)
        else:
            while have < a.servers:
                count = min(50, a.servers - have)
                post(f"{compute}/servers", server("fill", count))
                settle()
                have = len(servers())
    bad = get(f"{compute}/servers?status=ERROR&limit=1000")["servers"]
    if bad:
        raise SystemExit(f"{len(bad)} servers are in ERROR: figures would mean nothing")

    where = {kind: load.url(load.endpoint(kind)) for kind in ("image", "compute", "network")}
    where["identity"] = load.url(load.A.auth_url)

    request = request_of(load)

    def row(name, kind, make, **how):
        host, port, _ = where[kind]
        test(name, host, port, make, **how)

    auth = load.A.auth_url + "/auth/tokens"
    once = request("POST", auth, load.auth_body())
    row("token issue", "identity", lambda i: once)
    text = load.token()
    check = request("GET", auth, **{"X-Auth-Token": text, "X-Subject-Token": text})
    row("token validate", "identity", lambda i: check)
    show = request("GET", f"{image}/images/{picture}", **hdr())
    row("image show", "image", lambda i: show)
    made = {"networks": [], "ports": [], "servers": []}

    def keep(kind, key):
        def remember(i, status, body, head):
            if status in (201, 202):
                made[kind].append(json.loads(body)[key]["id"])
        return remember

    body = {"network": {"name": "ratio-more"}}
    create = request("POST", f"{network}/networks", body, **hdr())
    row("network create", "network", lambda i: create, n=a.creates, keep=keep("networks", "network"))
    body = {"port": {"network_id": net, "name": "ratio-more"}}
    port = request("POST", f"{network}/ports", body, **hdr())
    row("port create", "network", lambda i: port, n=a.creates, keep=keep("ports", "port"))
    one = servers()[0]["id"]
    look = request("GET", f"{compute}/servers/{one}", **hdr(**VERSION))
    row("server show", "compute", lambda i: look)
    listing = request("GET", f"{compute}/servers/detail?limit={a.servers}", **hdr(**VERSION))
    row(f"server list, {a.servers} in detail", "compute", lambda i: listing, n=a.lists)
    wish = request("POST", f"{compute}/servers", server("ratio-more"), **hdr(**VERSION))
    row("server create, accepted", "compute", lambda i: wish, n=a.server_creates,
        keep=keep("servers", "server"), before=settle)
    settle()

    for kind, base, key in (("servers", compute, "servers"), ("ports", network, "ports"),
                            ("networks", network, "networks")):
        left = iter(made[kind])
        parts = load.url(base)

        def remove(i):
            each = next(left, None)
            return each and request("DELETE", f"{base}/{key}/{each}", **hdr(**VERSION))
        if made[kind]:
            load.blast(parts[0], parts[1], 4, remove)


def table(path, ours, theirs):
    rows = {}
    for line in open(path):
        record = json.loads(line)
        rows.setdefault((record["test"], record["conc"]), {})[record["label"]] = record["median"]
    print(f"{'':28s} {'at once':>7s} {ours + ' p50':>14s} {theirs + ' p50':>14s} {'faster':>7s}"
          f" {ours + '/s':>12s} {theirs + '/s':>12s} {'more':>7s} {'failed':>6s}")
    for (name, conc), by in rows.items():
        a, b = by.get(ours), by.get(theirs)
        if not a or not b:
            print(f"{name:28s} {conc:7d}  measured on one side only")
            continue
        failed = a["errors"] + b["errors"]
        print(f"{name:28s} {conc:7d} {a['p50_ms']:11.2f} ms {b['p50_ms']:11.2f} ms"
              f" {b['p50_ms'] / max(a['p50_ms'], 1e-6):6.1f}x {a['rps']:12.1f} {b['rps']:12.1f}"
              f" {a['rps'] / max(b['rps'], 1e-6):6.1f}x {failed:6d}")
    alone = any("assignments list" in name for name, _ in rows)
    missing = [] if alone else [name for name in ROWS if not any(key[0].startswith(name[:11]) for key in rows)]
    if missing:
        print("not measured: " + ", ".join(missing))


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "table":
        return table(*sys.argv[2:5])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["run", "identity"])
    for name in ("load", "label", "out", "auth-url", "password"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--at", action="append", default=[]); p.add_argument("--filler", default="")
    p.add_argument("--pid-dir", default=""); p.add_argument("--conc", default="1,16")
    p.add_argument("--runs", type=int, default=3); p.add_argument("--secs", type=float, default=5)
    p.add_argument("--creates", type=int, default=60); p.add_argument("--lists", type=int, default=10)
    p.add_argument("--server-creates", type=int, default=16); p.add_argument("--servers", type=int, default=500)
    p.add_argument("--hosts", type=int, default=1)
    p.add_argument("--people", type=int, default=10000)
    a = p.parse_args()
    {"run": run, "identity": identity}[a.what](a)


if __name__ == "__main__":
    main()
