//! Two hosts on one machine: each a bridge of a private Open vSwitch with its own responders,
//! joined by a veth that plays the wire. Guests are network namespaces behind veths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use flow_compiler::{HostInput, LocalPort, compile};
use host_agent::config::RespondersConfig;
use host_agent::edges::{Links, NamespacePort, ResponderTables, Responders};
use host_agent::links::{HostLinks, device_name};
use host_agent::responders::HostResponders;
use host_protocol::{Attachment, HostSpec, NeighbourSpec, NetworkSpec, PortSpec, ServerSpec};

/// Runs a command to its end and insists on success.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Waits for a condition; says which when it does not come.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A private Open vSwitch: own directory, own database, userspace datapath.
struct Switch {
    directory: tempfile::TempDir,
}

impl Switch {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let switch = Switch { directory };
        let database = switch.path("conf.db");
        run("ovsdb-tool", &["create", &database, "/usr/share/openvswitch/vswitch.ovsschema"]);
        switch.start_daemon("ovsdb-server");
        switch.control(&["--no-wait", "init"]);
        switch.start_daemon("ovs-vswitchd");
        switch
    }

    fn start_daemon(&self, name: &str) {
        let socket = self.path("db.sock");
        match name {
            "ovsdb-server" => {
                let remote = format!("--remote=punix:{socket}");
                self.daemon(name, &[&self.path("conf.db"), &remote]);
            }
            _ => self.daemon(name, &[&format!("unix:{socket}"), "--disable-system"]),
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }

    fn daemon(&self, name: &str, arguments: &[&str]) {
        let own = [
            format!("--pidfile={}", self.path(&format!("{name}.pid"))),
            format!("--unixctl={}", self.path(&format!("{name}.ctl"))),
            format!("--log-file={}", self.path(&format!("{name}.log"))),
            "--detach".to_owned(),
            "--no-chdir".to_owned(),
            "-vconsole:off".to_owned(),
        ];
        let status = Command::new(name)
            .args(arguments)
            .args(own)
            .env("OVS_RUNDIR", self.directory.path())
            .env("OVS_DBDIR", self.directory.path())
            .env("OVS_LOGDIR", self.directory.path())
            .env("OVS_SYSCONFDIR", self.directory.path())
            .status()
            .unwrap();
        assert!(status.success(), "{name} did not start");
    }

    fn control(&self, arguments: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.path("db.sock"));
        run("ovs-vsctl", &[&[database.as_str()], arguments].concat()).trim().to_owned()
    }

    /// Puts a device on a bridge and returns its OpenFlow port.
    fn add_port(&self, bridge: &str, device: &str) -> u32 {
        self.control(&["--may-exist", "add-port", bridge, device]);
        self.control(&["get", "interface", device, "ofport"]).parse().unwrap()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for name in ["ovs-vswitchd", "ovsdb-server"] {
            let pid = std::fs::read_to_string(Path::new(&self.path(&format!("{name}.pid"))));
            if let Some(pid) = pid.ok().and_then(|p| p.trim().parse::<i32>().ok()) {
                // By the number from its own pid file.
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGTERM,
                );
                eventually("a daemon's end", || !PathBuf::from(format!("/proc/{pid}")).exists());
            }
        }
    }
}

/// One host.
struct Host {
    spec: HostSpec,
    bridge: String,
    prefix: String,
    links: HostLinks,
    responders: HostResponders,
    wire_ofport: u32,
    responder_ofport: u32,
    responder_device: String,
    responder_namespace: String,
    ofports: BTreeMap<String, u32>,
}

/// Everything; taken down when dropped.
pub struct World {
    runtime: tokio::runtime::Runtime,
    switch: Switch,
    hosts: Vec<Host>,
    /// The hosts' devices towards each other, on their bridges.
    pub wires: Vec<String>,
    pub networks: Vec<NetworkSpec>,
    /// Ports by host.
    pub ports: Vec<(usize, PortSpec)>,
    pub servers: Vec<ServerSpec>,
}

impl World {
    /// Hosts 1 and 2, without guests, on one wire.
    pub fn new(networks: Vec<NetworkSpec>) -> Self {
        World::build(networks, 2, None)
    }

    /// Some hosts on a switch that learns addresses and forgets those that are silent for so long.
    pub fn on_learning_underlay(
        networks: Vec<NetworkSpec>,
        hosts: usize,
        ageing: Duration,
    ) -> Self {
        World::build(networks, hosts, Some(ageing))
    }

    fn build(networks: Vec<NetworkSpec>, hosts: usize, ageing: Option<Duration>) -> Self {
        // Everything that follows is in a network of its own: this thread, what it spawns, and
        // the runtime's threads. Two userspace datapaths cannot share one (both have a device
        // `ovs-netdev`), and nothing of the test is seen outside.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed) & 0xf;
        let tag = format!("y{:03x}{count:x}", std::process::id() & 0xfff);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let switch = Switch::start();
        let wires: Vec<String> = (0..hosts).map(|host| format!("{tag}w{host}")).collect();
        let mut devices = wires.clone();
        match ageing {
            None => {
                run("ip", &["link", "add", &wires[0], "type", "veth", "peer", "name", &wires[1]]);
            }
            Some(ageing) => {
                let underlay = format!("{tag}ub");
                let centiseconds = (ageing.as_millis() / 10).to_string();
                let bridge =
                    ["type", "bridge", "ageing_time", &centiseconds, "mcast_snooping", "0"];
                run("ip", &[&["link", "add", &underlay][..], &bridge].concat());
                for (host, wire) in wires.iter().enumerate() {
                    let port = format!("{tag}u{host}");
                    run("ip", &["link", "add", wire, "type", "veth", "peer", "name", &port]);
                    run("ip", &["link", "set", &port, "master", &underlay]);
                    devices.push(port);
                }
                devices.push(underlay);
            }
        }
        for device in &devices {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1");
            run("ip", &["link", "set", device, "up"]);
            output("ethtool", &["-K", device, "tx", "off"]);
        }
        let hosts = (0..hosts)
            .map(|index| Host::start(&runtime, &switch, &tag, index, &wires[index]))
            .collect();
        World { runtime, switch, hosts, wires, networks, ports: Vec::new(), servers: Vec::new() }
    }

    /// Plugs a port in; its namespace has no address yet. Returns the namespace and device.
    pub fn plug(&mut self, host: usize, mut port: PortSpec) -> Guest {
        let prefix = self.hosts[host].prefix.clone();
        let device = device_name(&prefix, &port.port_id);
        let namespace = format!("{prefix}-{}", port.port_id);
        port.attachment = Attachment::Namespace { name: namespace.clone() };
        let network = self.networks.iter().find(|n| n.network_id == port.network_id).unwrap();
        let inner = NamespacePort {
            namespace: namespace.clone(),
            mac: port.mac,
            mtu: network.mtu,
            addresses: Vec::new(),
            gateway: None,
        };
        let links = self.hosts[host].links.clone();
        self.runtime.block_on(links.ensure_namespace_port(&device, &inner)).unwrap();
        let ofport = self.switch.add_port(&self.hosts[host].bridge, &device);
        self.hosts[host].ofports.insert(port.port_id.clone(), ofport);
        self.ports.push((host, port));
        Guest { namespace, device }
    }

    /// The port's document, to change it before the next [`World::apply`].
    pub fn port(&mut self, id: &str) -> &mut PortSpec {
        let found = self.ports.iter_mut().find(|(_, port)| port.port_id == id);
        &mut found.unwrap().1
    }

    /// Kills a daemon as a crash would, starts it again, and does what the agent does then.
    pub fn kill_and_restart(&mut self, name: &str) {
        let file = self.switch.path(&format!("{name}.pid"));
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let killed = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).unwrap();
        let stat = format!("/proc/{pid}/stat");
        eventually("a daemon's end", || {
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
        self.switch.start_daemon(name);
        if name == "ovs-vswitchd" {
            for host in &mut self.hosts {
                let number = |device: &str| {
                    let get = ["get", "interface", device, "ofport"];
                    self.switch.control(&get).parse::<u32>().unwrap()
                };
                host.responder_ofport = number(&host.responder_device);
                for (port_id, ofport) in &mut host.ofports {
                    *ofport = number(&device_name(&host.prefix, port_id));
                }
            }
            for (host, wire) in self.hosts.iter_mut().zip(&self.wires) {
                let get = ["get", "interface", wire, "ofport"];
                host.wire_ofport = self.switch.control(&get).parse().unwrap();
            }
            self.apply();
        }
    }

    /// Both bridges are in one datapath, so zones are one port's on either.
    fn zone(&self, port_id: &str) -> u16 {
        let place = self.ports.iter().position(|(_, port)| port.port_id == port_id);
        place.unwrap() as u16 + 1
    }

    /// Compiles and installs the flows of both hosts, and hands the responders their tables.
    pub fn apply(&self) {
        for (index, host) in self.hosts.iter().enumerate() {
            let local: Vec<&PortSpec> =
                self.ports.iter().filter(|(h, _)| *h == index).map(|(_, p)| p).collect();
            let ports: Vec<LocalPort<'_>> = local
                .iter()
                .map(|spec| LocalPort {
                    spec,
                    ofport: host.ofports[&spec.port_id],
                    ct_zone: self.zone(&spec.port_id),
                })
                .collect();
            let neighbours: Vec<NeighbourSpec> = self
                .ports
                .iter()
                .filter(|(h, _)| *h != index)
                .map(|(h, port)| neighbour(self.hosts[*h].spec.host_number, port))
                .collect();
            let input = HostInput {
                spec: &host.spec,
                wire_ofport: Some(host.wire_ofport),
                responder_ofport: Some(host.responder_ofport),
                networks: &self.networks,
                ports: &ports,
                neighbours: &neighbours,
            };
            let flows = compile(&input).unwrap();
            let text: String = flows.iter().map(|flow| format!("{flow}\n")).collect();
            let file = self.switch.path(&format!("{}.flows", host.bridge));
            std::fs::write(&file, text).unwrap();
            let mgmt = format!("unix:{}", self.switch.path(&format!("{}.mgmt", host.bridge)));
            run("ovs-ofctl", &["-O", "OpenFlow14", "--bundle", "replace-flows", &mgmt, &file]);
            host.responders.update(ResponderTables {
                host: Some(host.spec.clone()),
                networks: self.networks.clone(),
                ports: local.into_iter().cloned().collect(),
                neighbours,
                servers: self.servers.clone(),
            });
        }
    }
}

fn neighbour(host_number: u16, port: &PortSpec) -> NeighbourSpec {
    NeighbourSpec {
        port_id: port.port_id.clone(),
        network_id: port.network_id.clone(),
        host_number,
        port_number: port.port_number,
        mac: port.mac,
        ips: port.fixed_ips.iter().map(|f| f.ip).collect(),
        allowed_address_pairs: port.allowed_address_pairs.clone(),
        security_groups: port.security_groups.clone(),
        hostname: port.hostname.clone(),
        dns_domain: port.dns_domain.clone(),
    }
}

impl Host {
    fn start(
        runtime: &tokio::runtime::Runtime,
        switch: &Switch,
        tag: &str,
        index: usize,
        wire: &str,
    ) -> Self {
        let prefix = format!("{tag}{index}");
        let bridge = format!("{prefix}-br");
        switch.control(&[
            "add-br",
            &bridge,
            "--",
            "set",
            "bridge",
            &bridge,
            "datapath_type=netdev",
            "fail-mode=secure",
            "other-config:disable-in-band=true",
        ]);
        let wire_ofport = switch.add_port(&bridge, wire);
        let responder_namespace = format!("{prefix}-rsp");
        let links = HostLinks::new(&prefix, &responder_namespace);
        let responder_device = runtime.block_on(links.ensure_responder_link()).unwrap();
        let responder_ofport = switch.add_port(&bridge, &responder_device);
        let config = RespondersConfig {
            enabled: true,
            namespace: responder_namespace.clone(),
            upstream_dns: Vec::new(),
        };
        let entered = runtime.enter();
        let responders = HostResponders::start(&config).unwrap();
        drop(entered);
        Host {
            spec: HostSpec {
                name: prefix.clone(),
                host_number: index as u16 + 1,
                l2_domain: "test".to_owned(),
                zone: "zone".to_owned(),
                cluster: "cluster".to_owned(),
            },
            bridge,
            prefix,
            links,
            responders,
            wire_ofport,
            responder_ofport,
            responder_device,
            responder_namespace,
            ofports: BTreeMap::new(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (index, host) in self.hosts.iter().enumerate() {
            for (_, port) in self.ports.iter().filter(|(h, _)| *h == index) {
                let device = device_name(&host.prefix, &port.port_id);
                let _ = self.runtime.block_on(host.links.remove(&device));
            }
            let _ = self.runtime.block_on(host.links.remove(&host.responder_device));
            output("ip", &["netns", "del", &host.responder_namespace]);
            self.switch.control(&["--if-exists", "del-br", &host.bridge]);
        }
        output("ip", &["link", "del", &self.wires[0]]);
    }
}

/// A network namespace that plays a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    pub namespace: String,
    pub device: String,
}

impl Guest {
    /// Runs a command inside.
    pub fn output(&self, arguments: &[&str]) -> Output {
        output("ip", &[&["netns", "exec", &self.namespace], arguments].concat())
    }

    /// Asks for a lease as a guest does and configures what it is told; returns what was told.
    pub fn dhcp(&self, directory: &Path) -> String {
        let script = directory.join(format!("{}.sh", self.namespace));
        let told = directory.join(format!("{}.lease", self.namespace));
        let text = format!(
            r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
set -- $staticroutes
while [ $# -ge 2 ]; do
  if [ "$2" = 0.0.0.0 ]; then ip route replace $1 dev $interface
  else ip route replace $1 via $2 dev $interface onlink; fi
  shift 2
done
env > {}
"#,
            told.display()
        );
        std::fs::write(&script, text).unwrap();
        run("chmod", &["+x", &script.to_string_lossy()]);
        let output = self.output(&[
            "busybox",
            "udhcpc",
            "-i",
            &self.device,
            "-n",
            "-q",
            "-f",
            "-t",
            "10",
            "-T",
            "1",
            "-O",
            "staticroutes",
            "-O",
            "mtu",
            "-s",
            &script.to_string_lossy(),
        ]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} got no lease: {said}", self.namespace);
        std::fs::read_to_string(told).unwrap()
    }

    /// Whether pings of this payload pass, unfragmented.
    pub fn pings(&self, address: &str, payload: u16) -> bool {
        let payload = payload.to_string();
        self.output(&[
            "ping", "-c", "2", "-i", "0.2", "-W", "3", "-M", "do", "-s", &payload, address,
        ])
        .status
        .success()
    }
}
