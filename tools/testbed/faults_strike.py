"""Random faults at random times, and their healing.

What is killed is started again by its supervisor; Open vSwitch, which a machine's service manager would watch,
by this program. What stands still goes on after its time, and what was cut off is joined again.
"""

import heapq
import os
import random
import signal
import subprocess
import threading
import time

import machine
from machine import Failed, run, run_in, until

# Longest that a process stands still, in seconds: past every lease and the patience of hosts and replicas.
LONGEST_STOP = 90
LONGEST_CUT = 60
LONGEST_DATABASE_STOP = 20
# A service manager starts a daemon again so many seconds after it died.
OVS_AGAIN = (1, 8)
# Supervisors wait at most ten seconds, and a program may need some to begin.
ROLES_RUN_WITHIN = 120

ONE_WAY = """table inet meridian_faults {
	chain in { type filter hook %s priority 0; %s "mgmt0" drop; }
}
"""


class Faults:
    def __init__(self, bed, log, counts, work, repo, seed, pace):
        self.bed, self.log, self.counts, self.work, self.repo = bed, log, counts, work, repo
        # The plan of faults follows the seed; what they meet depends on the machine's own timing.
        self.rng = random.Random(f"{seed}-faults")
        self.pace = pace
        self.heals = []
        self.order = 0
        # What is under way, by whom it concerns: nothing is stopped or cut twice.
        self.active = {}
        self.failure = None
        self.stop = threading.Event()
        self.kinds = [
            (self.kill_replica, 4),
            (self.stop_replica, 4),
            (self.kill_agent, 4),
            (self.stop_agent, 4),
            (self.kill_database, 2),
            (self.stop_database, 2),
            (self.crash_switch, 3),
            (self.cut_management, 3),
            (self.cut_underlay, 2),
            (self.kill_guest, 3),
        ]

    # --- time --------------------------------------------------------------------------------------------
    def start(self):
        self.stop.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            following = time.monotonic() + self.rng.expovariate(1 / self.pace)
            while not self.stop.is_set():
                now = time.monotonic()
                while self.heals and self.heals[0][0] <= now:
                    self.heal_one()
                if now >= following:
                    kind = self.rng.choices([kind for kind, _ in self.kinds], [weight for _, weight in self.kinds])[0]
                    kind()
                    following = now + self.rng.expovariate(1 / self.pace)
                self.stop.wait(0.1)
        except Exception as failure:  # noqa: BLE001 - told by the main thread
            self.failure = failure
            self.log("failure", repr(failure))

    def pause(self):
        """No more faults, and everything is put right; then whatever should run does."""
        self.stop.set()
        self.thread.join(60)
        while self.heals:
            self.heal_one()
        if self.failure:
            raise Failed(f"a fault could not be made or healed: {self.failure!r}")
        until("all roles to run again", self.all_run, ROLES_RUN_WITHIN, 0.5)

    def give_up(self):
        """The run is over: whatever can be healed is, so that what is left can be looked at."""
        self.stop.set()
        while self.heals:
            try:
                self.heal_one()
            except (Failed, OSError, subprocess.SubprocessError) as error:
                self.log("failure", repr(error))

    def all_run(self):
        return all(
            seen.get("state") == "running" and machine.command_line(seen.get("pid")) for _, _, seen in self.bed.roles()
        )

    def later(self, seconds, key, what, heal):
        self.order += 1
        self.active[key] = what
        heapq.heappush(self.heals, (time.monotonic() + seconds, self.order, key, what, heal))

    def heal_one(self):
        _, _, key, what, heal = heapq.heappop(self.heals)
        self.active.pop(key, None)
        heal()
        self.log("healed", what)

    def struck(self, kind, words):
        self.counts.fault(kind)
        self.log("fault", words)

    # --- processes -----------------------------------------------------------------------------------------
    def signal(self, pid, which):
        try:
            os.kill(pid, which)
            return True
        except ProcessLookupError:
            return False

    def kill(self, kind, name, pid):
        # Asked of the supervisor a moment ago; it may be gone already, and somebody else have its number.
        if pid and self.bed.state in machine.command_line(pid) and self.signal(pid, signal.SIGKILL):
            self.active.pop(("stopped", name), None)
            self.struck(kind, f"SIGKILL to {name} ({pid})")

    def halt(self, kind, name, pids, seconds):
        # The whole of PostgreSQL and its postmaster are one thing here.
        key = ("stopped", name.partition("'")[0])
        # Not by their command lines: PostgreSQL's processes write into theirs what they are at.
        ticks = {pid: tick for pid in pids if pid and (tick := machine.born(pid))}
        if key in self.active or not ticks:
            return
        for pid in ticks:
            self.signal(pid, signal.SIGSTOP)
        what = f"{name} stands still"
        self.struck(kind, f"SIGSTOP to {name} ({', '.join(map(str, ticks))}) for {seconds:.1f} s")

        def go_on():
            for pid, tick in ticks.items():
                if machine.born(pid) == tick:
                    self.signal(pid, signal.SIGCONT)

        self.later(seconds, key, what, go_on)

    def some(self, all_of_them, chance):
        """One of them, or with some probability all."""
        return all_of_them if self.rng.random() < chance else [self.rng.choice(all_of_them)]

    def seconds(self, longest):
        # As often short as long: 1 s to the longest, evenly by order of magnitude.
        return longest ** self.rng.random()

    def kill_replica(self):
        for replica in self.some(self.bed.replicas, 0.25):
            self.kill("replica killed", f"replica {replica.name}", replica.pid())

    def stop_replica(self):
        for replica in self.some(self.bed.replicas, 0.2):
            self.halt("replica stopped", f"replica {replica.name}", [replica.pid()], self.seconds(LONGEST_STOP))

    def kill_agent(self):
        for host in self.some(self.bed.hosts, 0.15):
            self.kill("agent killed", f"agent {host.name}", host.pid())

    def stop_agent(self):
        for host in self.some(self.bed.hosts, 0.1):
            self.halt("agent stopped", f"agent {host.name}", [host.pid()], self.seconds(LONGEST_STOP))

    def postmaster(self):
        return machine.role(self.bed.state, "postgresql").get("pid")

    def kill_database(self):
        self.kill("database killed", "PostgreSQL", self.postmaster())

    def stop_database(self):
        """The whole server, or its postmaster alone: connections that are there go on, and no new one begins."""
        pid = self.postmaster()
        if not pid:
            return
        pids = [pid]
        if self.rng.random() < 0.7:
            pids += [int(child) for child in run("sh", "-c", f"pgrep -P {pid} || true").split()]
        name = "PostgreSQL" if len(pids) > 1 else "PostgreSQL's postmaster"
        self.halt("database stopped", name, pids, self.seconds(LONGEST_DATABASE_STOP))

    def kill_guest(self):
        """A guest crashes."""
        guests = self.bed.guests()
        servers = [server for server in self.work.living() if server.wanted == "ACTIVE" and server.id in guests]
        if not servers:
            return
        server = self.rng.choice(servers)
        host, pid = guests[server.id][0]
        server.touch()
        if self.signal(pid, signal.SIGKILL):
            self.struck("guest killed", f"SIGKILL to QEMU of {server.name} {server.id} on {host} ({pid})")

    # --- the switch ------------------------------------------------------------------------------------------
    def crash_switch(self):
        host = self.rng.choice(self.bed.hosts)
        daemon = self.rng.choice(["ovs-vswitchd", "ovsdb-server"])
        try:
            with open(f"{host.state}/run/ovs/{daemon}.pid", encoding="ascii") as file:
                pid = int(file.read())
        except (OSError, ValueError):
            return
        key = ("switch", host.name)
        if daemon not in machine.command_line(pid) or key in self.active:
            return
        if self.rng.random() < 0.5:
            # A crash, after which the daemon's own monitor starts it again.
            if self.signal(pid, signal.SIGSEGV):
                self.struck("switch crashed", f"SIGSEGV to {daemon} of {host.name} ({pid})")
            return
        if self.signal(pid, signal.SIGKILL):
            # Its monitor takes that for the wish of an operator, and ends.
            self.struck("switch killed", f"SIGKILL to {daemon} of {host.name} ({pid})")
            self.later(self.rng.uniform(*OVS_AGAIN), key, f"{daemon} of {host.name} is gone", lambda: self.start_switch(host))

    def start_switch(self, host):
        script = (
            'REPO=$1; for part in common switch; do . "$REPO/tools/dev/$part.sh"; done; trap - INT TERM; '
            'ovs_start "$2" "$3/run/ovs" "$3/log"'
        )
        done = subprocess.run(
            ["bash", "-euc", script, "bash", self.repo, host.namespace, host.state],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"Open vSwitch of {host.name} does not start: {done.stdout}{done.stderr}")

    # --- networks ----------------------------------------------------------------------------------------------
    def cut_management(self):
        host = self.rng.choice(self.bed.hosts)
        key = ("management", host.name)
        if key in self.active:
            return
        seconds = self.seconds(LONGEST_CUT)
        how = self.rng.choice(["down", "down", "in", "out"])
        net = f"{self.bed.prefix}-net"
        if how == "down":
            run_in(net, "ip", "link", "set", f"{host.name}-mgmt", "down")
            heal = lambda: run_in(net, "ip", "link", "set", f"{host.name}-mgmt", "up")  # noqa: E731
            words = f"{host.name} is cut off from management"
        else:
            rules = ONE_WAY % (("input", "iifname") if how == "in" else ("output", "oifname"))
            subprocess.run(
                ["nsenter", f"--net=/run/netns/{host.namespace}", "--", "nft", "-f", "-"],
                input=rules,
                text=True,
                check=True,
                capture_output=True,
                timeout=30,
            )
            heal = lambda: run_in(host.namespace, "nft", "delete", "table", "inet", "meridian_faults")  # noqa: E731
            words = f"{host.name} {'hears' if how == 'in' else 'reaches'} nothing of management"
        self.struck("host cut off", f"{words} for {seconds:.1f} s")
        self.later(seconds, key, words, heal)

    def cut_underlay(self):
        host = self.rng.choice(self.bed.hosts)
        key = ("underlay", host.name)
        if key in self.active:
            return
        seconds = self.seconds(LONGEST_CUT)
        net = f"{self.bed.prefix}-net"
        run_in(net, "ip", "link", "set", f"{host.name}-under", "down")
        words = f"{host.name} is cut off from other hosts"
        self.struck("underlay cut", f"{words} for {seconds:.1f} s")
        self.later(seconds, key, words, lambda: run_in(net, "ip", "link", "set", f"{host.name}-under", "up"))
