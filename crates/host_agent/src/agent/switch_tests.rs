//! The agent over a real Open vSwitch, real devices and real responders; guests are namespaces. Needs
//! root and Debian's openvswitch-switch, as a host does.

use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use host_protocol::*;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{RespondersConfig, SwitchConfig};
use crate::edges::Links as _;
use crate::links::HostLinks;
use crate::open_vswitch::OpenVswitch;
use crate::open_vswitch::daemons::Daemons;
use crate::responders::HostResponders;
use crate::simulated::SimulatedMachine;

const DEADLINE: Duration = Duration::from_secs(120);
const NETWORK: &str = "11111111-1111-4111-8111-111111111111";
/// Two ports, `a` and `b`.
const PORTS: [&str; 2] =
    ["aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"];

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// A host with a switch of its own.
struct Rig {
    directory: tempfile::TempDir,
    daemons: Daemons,
    prefix: String,
    wire: Option<String>,
    /// For what is not the agent's.
    runtime: Runtime,
    position: u64,
}

/// An agent that can be killed: everything of it is in a runtime of its own.
struct Living {
    runtime: Runtime,
    shared: Arc<Shared>,
    store: DocumentStore,
}

/// Runs a test in a network namespace of its own, on a thread of its own.
fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Rig {
    fn new() -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(directory.path(), &directory.path().join("run"));
        let runtime = runtime();
        runtime.block_on(daemons.start("host-7")).unwrap();
        // Names of namespaces are the whole machine's.
        let unique = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let prefix = format!(
            "r{}",
            unique.trim_start_matches('.').chars().skip(3).take(4).collect::<String>()
        );
        Rig { directory, daemons, prefix, wire: None, runtime, position: 0 }
    }

    fn namespace(&self, which: usize) -> String {
        format!("{}-guest{which}", self.prefix)
    }

    fn responders(&self) -> RespondersConfig {
        RespondersConfig {
            enabled: true,
            namespace: format!("{}-resp", self.prefix),
            upstream_dns: Vec::new(),
        }
    }

    fn start_agent(&self, ageing: Option<Duration>) -> Living {
        let runtime = runtime();
        let store = DocumentStore::open(&self.directory.path().join("agent.db")).unwrap();
        let switch = SwitchConfig {
            run_dir: self.daemons.run_dir.clone(),
            bridge: "br-test".into(),
            ..SwitchConfig::default()
        };
        let responders = self.responders();
        let links = HostLinks::new(&self.prefix, &responders.namespace);
        let config = AgentConfig {
            device_prefix: self.prefix.clone(),
            underlay: self.wire.clone(),
            responders: true,
            uid_base: 1_000_000,
            reserved_memory_mib: 0,
            host_ip: None,
            underlay_ageing: ageing,
            machine: None,
        };
        let begun = store.clone();
        let shared = runtime.block_on(async move {
            links.ensure_responder_link().await.unwrap();
            let edges = Edges {
                switch: OpenVswitch::start(&switch),
                links: Arc::new(links),
                responders: Arc::new(HostResponders::start(&responders).unwrap()),
                ..SimulatedMachine::default().edges()
            };
            Agent::start(config, edges, begun, CancellationToken::new()).await.unwrap().shared
        });
        Living { runtime, shared, store }
    }

    /// A document arrives.
    fn wants(
        &mut self,
        agent: &Living,
        kind: DocumentKind,
        id: &str,
        generation: u64,
        spec: Value,
    ) {
        self.position += 1;
        let document = Document {
            kind,
            id: id.to_owned(),
            generation,
            epoch: 0,
            position: self.position,
            tombstone: false,
            request_id: String::new(),
            spec,
        };
        agent.runtime.block_on(async {
            agent.store.store(vec![document.clone()], false).await.unwrap();
            Ear(Arc::clone(&agent.shared)).documents(vec![document]);
        });
    }

    /// The host, a network and two ports, of which the second lets in what `rules` say.
    fn populate(&mut self, agent: &Living, rules: Vec<SecurityRule>) {
        let host = super::tests::host();
        self.wants(agent, DocumentKind::Host, "host", 1, serde_json::to_value(host).unwrap());
        let mut network = super::tests::network();
        network.network_id = NETWORK.to_owned();
        network.subnets = vec![SubnetSpec {
            subnet_id: "sub".to_owned(),
            cidr: "10.0.0.0/24".parse().unwrap(),
            gateway_ip: Some([10, 0, 0, 1].into()),
            enable_dhcp: true,
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
        }];
        self.wants(
            agent,
            DocumentKind::Network,
            NETWORK,
            1,
            serde_json::to_value(network).unwrap(),
        );
        for which in [0, 1] {
            let mut port = super::tests::port();
            port.port_id = PORTS[which].to_owned();
            port.network_id = NETWORK.to_owned();
            port.port_number = 7 + which as u32;
            port.mac.0[5] = 11 + which as u8;
            let ip = [10, 0, 0, 11 + which as u8].into();
            port.fixed_ips = vec![FixedIp { subnet_id: "sub".to_owned(), ip }];
            port.security_rules =
                if which == 0 { vec![any(Direction::Egress, None, None)] } else { rules.clone() };
            port.attachment = Attachment::Namespace { name: self.namespace(which) };
            port.server_id = None;
            let spec = serde_json::to_value(port).unwrap();
            self.wants(agent, DocumentKind::Port, PORTS[which], 1, spec);
        }
        until("everything is in force", || agent.in_force(self.position));
    }

    fn flows(&self, command: &str, arguments: &[&str]) -> String {
        let bridge = format!("unix:{}", self.daemons.run_dir.join("br-test.mgmt").display());
        run("ovs-ofctl", &[&[command, "-O", "OpenFlow14", &bridge], arguments].concat())
    }

    fn ping(&self, count: u32) -> Child {
        let count = count.to_string();
        let from = self.namespace(0);
        let ping =
            ["netns", "exec", &from, "ping", "-i", "0.01", "-W", "2", "-c", &count, "10.0.0.12"];
        Command::new("ip").args(ping).stdout(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.daemons.stop());
        for name in [self.namespace(0), self.namespace(1), self.responders().namespace] {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

impl Living {
    fn state(&self, port: Option<&str>) -> Option<NetworkState> {
        let port = port.map(str::to_owned);
        match self.runtime.block_on(questions::network_state(&self.shared, port)) {
            HostAnswer::NetworkState { state } => Some(*state),
            _ => None,
        }
    }

    fn in_force(&self, position: u64) -> bool {
        let state = self.state(None);
        state.is_some_and(|state| {
            (state.desired, state.applied) == (position, position)
                && state.table.is_as_wanted()
                && state.table.flows > 0
                && state.ports.len() == 2
                && state.ports.iter().all(|port| port.applied == Some(port.desired))
        })
    }

    fn trace(&self, from: usize, packet: TraceRequest) -> HostTrace {
        let start = TraceStart::Port { port_id: PORTS[from].to_owned(), packet };
        match self.runtime.block_on(questions::way_of(&self.shared, start, false)) {
            HostAnswer::Trace { trace } => *trace,
            other => panic!("{other:?}"),
        }
    }

    /// As by `kill -9`: nothing of it runs any more, and it had no time to do anything.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

fn any(direction: Direction, protocol: Option<u8>, port: Option<u16>) -> SecurityRule {
    SecurityRule {
        direction,
        ipv6: false,
        protocol,
        port_min: port,
        port_max: port,
        remote: Remote::Anyone,
        stateless: false,
    }
}

#[test]
fn a_killed_agent_loses_no_packet_and_the_next_one_changes_no_flow() {
    alone(|| {
        let mut rig = Rig::new();
        let agent = rig.start_agent(None);
        rig.populate(&agent, vec![any(Direction::Ingress, None, None)]);
        let before = agent.state(None).unwrap().table;
        let mut warm = rig.ping(5);
        warm.wait().unwrap();
        let ping = rig.ping(400);
        std::thread::sleep(Duration::from_millis(500));
        agent.kill();
        std::thread::sleep(Duration::from_secs(1));
        let again = rig.start_agent(None);
        until("the next agent has everything in force", || again.in_force(rig.position));
        let output = ping.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!(
            "agent killed and started: {}",
            said.lines().rev().take(3).collect::<Vec<_>>().join("; ")
        );
        assert!(said.contains(" 0% packet loss"), "{said}");
        assert_eq!(again.state(None).unwrap().table, before);
        // Flows that were there were left alone: they have counted since before the kill.
        let old = rig.flows("dump-flows", &["table=0"]);
        assert!(old.contains("n_packets=") && !old.contains("duration=0."), "{old}");
        drop(again);
    });
}

#[test]
fn a_flow_changed_behind_the_agents_back_is_seen_mended_and_reported() {
    alone(|| {
        let mut rig = Rig::new();
        let agent = rig.start_agent(None);
        rig.populate(&agent, Vec::new());
        let clean = agent.state(None).unwrap();
        assert_eq!(clean.mended, 0);
        // Another port's flow is taken away, and one is added that joins all tenants.
        rig.flows("del-flows", &["table=80"]);
        rig.flows("add-flow", &["table=80,priority=1,actions=NORMAL"]);
        let drift = agent.state(None).unwrap();
        assert!(!drift.table.is_as_wanted(), "{drift:?}");
        assert_eq!(drift.table.wanted_checksum, clean.table.checksum);
        let of_port = agent.state(Some(PORTS[0])).unwrap();
        assert_eq!(of_port.ports.len(), 1);
        assert!(!of_port.ports[0].table.is_as_wanted(), "{of_port:?}");
        agent.runtime.block_on(network::check(&agent.shared));
        let mended = agent.state(None).unwrap();
        assert_eq!(mended.table, clean.table);
        assert!(mended.mended >= 3 && mended.mended_at.is_some(), "{mended:?}");
        until("the region hears of it", || {
            let report = agent.store.last_report(DocumentKind::Host, "host");
            let report = agent.runtime.block_on(report).unwrap();
            let facts = report.and_then(|r| serde_json::from_value::<HostFacts>(r.facts).ok());
            facts.is_some_and(|facts| facts.flows_mended == mended.mended)
        });
        drop(agent);
    });
}

fn udp(port: u16) -> TraceRequest {
    TraceRequest {
        ip_src: None,
        ip_dst: [10, 0, 0, 12].into(),
        protocol: 17,
        src_port: 40_000,
        dst_port: port,
    }
}

#[test]
fn a_trace_says_in_words_what_the_switch_does() {
    alone(|| {
        let mut rig = Rig::new();
        let agent = rig.start_agent(None);
        rig.populate(&agent, vec![any(Direction::Ingress, Some(17), Some(5000))]);
        let allowed = agent.trace(0, udp(5000));
        assert_eq!(allowed.delivered, [PORTS[1]], "{allowed:#?}");
        let last = allowed.steps.last().unwrap();
        assert_eq!(last.words, format!("it is delivered to port {}", PORTS[1]));
        let refused = agent.trace(0, udp(5001));
        assert!(refused.delivered.is_empty());
        let last = refused.steps.last().unwrap();
        let words =
            format!("no ingress rule of the security groups of port {} allows it", PORTS[1]);
        assert!(last.drops && last.words == words, "{refused:#?}");
        let spoofed =
            agent.trace(0, TraceRequest { ip_src: Some([10, 0, 0, 99].into()), ..udp(5000) });
        let last = spoofed.steps.last().unwrap();
        assert!(last.drops && last.words.starts_with("port security: 10.0.0.99"), "{spoofed:#?}");
        let nobody = agent.trace(0, TraceRequest { ip_dst: [10, 0, 0, 77].into(), ..udp(5000) });
        assert!(nobody.steps[0].words.contains("no port of the network has 10.0.0.77"));
        let name = agent.trace(0, TraceRequest { ip_dst: [10, 0, 0, 1].into(), ..udp(53) });
        assert!(name.answered, "{name:#?}");

        // The switch's own trace of the same packets: the same tables until it tracks the connection,
        // and to the end where it does not come to that.
        let (bridge, ofport) = ("br-test", lock(&agent.shared.in_force).ofports[PORTS[0]]);
        let control = format!("{}", rig.daemons.run_dir.join("ovs-vswitchd.ctl").display());
        let mac = |last: u8| {
            let mut mac = super::tests::port().mac;
            mac.0[5] = last;
            mac
        };
        for (trace, src) in
            [(&allowed, "10.0.0.11"), (&refused, "10.0.0.11"), (&spoofed, "10.0.0.99")]
        {
            let flow = format!(
                "in_port={ofport},udp,dl_src={},dl_dst={},nw_src={src},nw_dst=10.0.0.12,\
                 udp_src=40000,udp_dst=5000",
                mac(11),
                mac(12)
            );
            let said = run("ovs-appctl", &["-t", &control, "ofproto/trace", bridge, &flow]);
            let first = said.split("recirc(").next().unwrap_or_default();
            let tables: Vec<u8> = first
                .lines()
                .filter_map(|line| line.trim_start().split_once(". "))
                .filter_map(|(table, _)| table.parse().ok())
                .collect();
            let ours: Vec<u8> =
                trace.steps.iter().map(|step| step.table).take(tables.len()).collect();
            assert_eq!(ours, tables, "{said}\n{trace:#?}");
            assert!(tables.len() > 2, "{said}");
        }
        drop(agent);
    });
}

/// Frames on a device of this thread's namespace, as they come.
struct Capture(std::os::fd::OwnedFd);

impl Capture {
    fn on(device: &str) -> Capture {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
        let fd = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        )
        .unwrap();
        // All that this namespace has are a bridge's devices; frames say by themselves what they are.
        assert!(nix::net::if_::if_nametoindex(device).is_ok());
        Capture(fd)
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let flags = nix::sys::socket::MsgFlags::empty();
        let length = nix::sys::socket::recv(self.0.as_raw_fd(), &mut buffer, flags).ok()?;
        Some(buffer[..length].to_vec())
    }
}

#[test]
fn every_locator_is_announced_at_once_and_again_within_a_third_of_the_ageing_time() {
    alone(|| {
        let mut rig = Rig::new();
        let far = format!("{}far", rig.prefix);
        let wire = format!("{}wire", rig.prefix);
        run("ip", &["link", "add", &wire, "type", "veth", "peer", "name", &far]);
        for device in [&wire, &far] {
            run("ip", &["link", "set", device, "up"]);
        }
        rig.wire = Some(wire);
        let capture = Capture::on(&far);
        let agent = rig.start_agent(Some(Duration::from_secs(6)));
        rig.populate(&agent, Vec::new());
        let expected = announce::locators(7, [7, 8], [3]);
        let mut heard: std::collections::BTreeMap<[u8; 6], Vec<Instant>> = Default::default();
        until("each locator was heard three times", || {
            while let Some(frame) = capture.next() {
                if frame.get(..6) == Some(&announce::GROUP.0[..]) {
                    let from: [u8; 6] = frame[6..12].try_into().unwrap();
                    let times = heard.entry(from).or_default();
                    // One frame is seen on both ends of the wire.
                    if times.last().is_none_or(|last| last.elapsed() > Duration::from_millis(200)) {
                        times.push(Instant::now());
                    }
                }
            }
            expected.iter().all(|locator| heard.get(&locator.0).is_some_and(|t| t.len() >= 3))
        });
        assert_eq!(heard.len(), expected.len(), "{heard:?}");
        for (locator, times) in &heard {
            let pauses: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
            println!("{locator:02x?}: announced with pauses {pauses:?}");
        }
        drop(agent);
    });
}
