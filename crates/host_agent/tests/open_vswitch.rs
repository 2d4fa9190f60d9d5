//! The switch adapter on a real Open vSwitch that its own `daemons` start: ports, flows by
//! differences, drift, and daemons that die.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use host_agent::config::SwitchConfig;
use host_agent::open_vswitch::OpenVswitch;
use host_agent::open_vswitch::daemons::{Daemons, Started};
use host_agent::switch::{Applied, Switch, SwitchError, SwitchEvent, SwitchPort, SwitchSetup};
use openflow::{Actions, Flow, Match};
use tokio::sync::broadcast;

const PATIENCE: Duration = Duration::from_secs(60);

/// A host's Open vSwitch in a network namespace of its own.
struct Host {
    directory: tempfile::TempDir,
    namespace: String,
    daemons: Daemons,
}

impl Host {
    fn new() -> Option<Self> {
        let installed = ["/usr/sbin/ovs-vswitchd", "/usr/sbin/ovsdb-server"];
        if !nix::unistd::geteuid().is_root() || !installed.iter().all(|p| Path::new(p).exists()) {
            eprintln!("skipped: needs root and the package openvswitch-switch");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let unique = directory.path().file_name().unwrap().to_str().unwrap();
        let namespace = format!("switch{unique}");
        let made = Command::new("ip").args(["netns", "add", &namespace]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: cannot make a network namespace");
            return None;
        }
        let mut daemons = Daemons::new(directory.path(), &directory.path().join("run"));
        daemons.namespace = Some(namespace.clone());
        Some(Host { directory, namespace, daemons })
    }

    fn config(&self) -> SwitchConfig {
        SwitchConfig {
            run_dir: self.daemons.run_dir.clone(),
            bridge: "br-test".into(),
            ..SwitchConfig::default()
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(arguments);
        command.envs(self.daemons.environment().iter().map(|(k, v)| (*k, v.clone())));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {message}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn control(&self, arguments: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.daemons.database_socket().display());
        self.run("ovs-vsctl", &[&[database.as_str(), "-t", "60"], arguments].concat())
    }

    fn flows(&self, command: &str, arguments: &[&str]) -> String {
        let socket = format!("unix:{}", self.daemons.run_dir.join("br-test.mgmt").display());
        let first = [command, "-O", "OpenFlow14", socket.as_str()];
        self.run("ovs-ofctl", &[&first, arguments].concat())
    }

    fn tap(&self, device: &str) {
        self.run("ip", &["tuntap", "add", device, "mode", "tap"]);
    }

    /// Runs a test with the host's network namespace as its own, as an agent's is its host's.
    fn block_on(&self, test: impl Future<Output = ()>) {
        let enter = |path: String| {
            move || {
                let file = std::fs::File::open(&path).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            }
        };
        let path = format!("/run/netns/{}", self.namespace);
        // The test's thread is its own; so are the runtime's.
        enter(path.clone())();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().on_thread_start(enter(path));
        runtime.build().unwrap().block_on(test);
    }

    /// Ends a daemon as a crash of the machine's memory would, its monitor included.
    fn kill(&self, program: &str) {
        let file = self.daemons.run_dir.join(format!("{program}.pid"));
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let kill = |pid| {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let parent = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
        let parent: i32 = parent.parse().unwrap();
        let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
        if name.trim() == program {
            kill(parent);
        }
        kill(pid);
        // A crash is over when the kernel has taken back what the process held.
        let deadline = std::time::Instant::now() + PATIENCE;
        let stat = format!("/proc/{pid}/stat");
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(std::time::Instant::now() < deadline, "{program} does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Not on the test's own runtime, which may be ending.
        let daemons = self.daemons.clone();
        let stop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(daemons.stop()).is_ok())
        });
        let _ = stop.join();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
        let _ = self.directory.path();
    }
}

fn port(device: &str, id: &str) -> SwitchPort {
    SwitchPort { device: device.into(), port_id: id.into() }
}

fn flows(count: u32, generation: u64) -> Vec<Flow> {
    (0..count)
        .map(|n| {
            let value = if n % 100 == 0 { generation } else { 0 };
            let what = Match::any().in_port(n + 1).ipv4().ct_zone(n as u16);
            Flow::new((n % 9) as u8, 10, what, Actions::new().set_metadata(value).goto(20))
                .cookie(7)
        })
        .collect()
}

async fn until(events: &mut broadcast::Receiver<SwitchEvent>, wanted: SwitchEvent) {
    let wait = async { while events.recv().await.unwrap() != wanted {} };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{wanted:?} never came"));
}

/// Tries again while the daemons are on their way.
macro_rules! eventually {
    ($call:expr) => {{
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match $call.await {
                Err(SwitchError::Unreachable(why)) => {
                    assert!(tokio::time::Instant::now() < deadline, "{why}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => break other.unwrap(),
            }
        }
    }};
}

async fn switch(host: &Host) -> (Arc<OpenVswitch>, broadcast::Receiver<SwitchEvent>) {
    let switch = OpenVswitch::start(&host.config());
    let events = switch.events();
    (switch, events)
}

#[test]
fn ports_come_and_go_and_others_are_left_alone() {
    let Some(host) = Host::new() else { return };
    host.block_on(ports_come_and_go_and_others_are_left_alone_on(&host));
}

async fn ports_come_and_go_and_others_are_left_alone_on(host: &Host) {
    // The agent may be up before the daemons are.
    let (switch, mut events) = switch(host).await;
    assert!(matches!(
        switch.ensure_ready(&SwitchSetup::default()).await,
        Err(SwitchError::Unreachable(_))
    ));
    let both = Started { database: true, switch: true };
    assert_eq!(host.daemons.start("host-7").await.unwrap(), both);
    assert_eq!(host.daemons.start("host-7").await.unwrap(), Started::default(), "twice is once");
    until(&mut events, SwitchEvent::Ready).await;

    for device in ["wire", "resp", "tap1", "tap2", "theirs"] {
        host.tap(device);
    }
    let setup = SwitchSetup { underlay: Some("wire".into()), responder: Some("resp".into()) };
    let ready = eventually!(switch.ensure_ready(&setup));
    assert!(ready.wire_ofport.is_some() && ready.responder_ofport.is_some(), "{ready:?}");
    assert_ne!(ready.wire_ofport, ready.responder_ofport);
    assert_eq!(ready.version.split('.').count(), 3, "{ready:?}");
    host.control(&["add-port", "br-test", "theirs"]);

    let wanted = [port("tap1", "port-1"), port("tap2", "port-2")];
    let numbers = switch.set_ports(&wanted).await.unwrap();
    assert_eq!(numbers.keys().collect::<Vec<_>>(), ["tap1", "tap2"]);
    assert_eq!(host.control(&["get", "port", "tap1", "external_ids:iface-id"]).trim(), "port-1");
    assert_eq!(switch.set_ports(&wanted).await.unwrap(), numbers, "again is the same");

    let left = switch.set_ports(&wanted[1..]).await.unwrap();
    assert_eq!(left.get("tap2"), numbers.get("tap2"));
    assert_eq!(left.len(), 1);
    let ports = host.control(&["list-ports", "br-test"]);
    assert_eq!(ports.split_whitespace().collect::<Vec<_>>(), ["resp", "tap2", "theirs", "wire"]);
    assert_eq!(eventually!(switch.ensure_ready(&setup)), ready);

    // A device that vanishes has no port, and another of its name gets one that works: what is sent
    // to the port comes out of the new device.
    host.run("ip", &["link", "del", "tap2"]);
    assert!(switch.set_ports(&wanted[1..]).await.unwrap().is_empty());
    host.run("ip", &["link", "add", "tap2", "type", "veth", "peer", "name", "inside"]);
    // Else the kernel would speak on it by itself.
    host.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv6/conf/tap2/disable_ipv6"]);
    host.run("ip", &["link", "set", "tap2", "up"]);
    host.run("ip", &["link", "set", "inside", "up"]);
    let number = switch.set_ports(&wanted[1..]).await.unwrap()["tap2"];
    assert_eq!(switch.set_ports(&wanted[1..]).await.unwrap()["tap2"], number);
    let reflect = Flow::new(0, 1, Match::any().in_port(number), Actions::new().output_in_port());
    switch.apply(vec![reflect]).await.unwrap();
    let count = || {
        let text = host.run("ip", &["-s", "-j", "link", "show", "inside"]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while count() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing comes back through the port");
        // Neighbour discovery, of itself or asked for, goes out and is reflected.
        host.run("sh", &["-c", "ping -c 1 -W 1 -I inside ff02::1 >/dev/null 2>&1; true"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn flows_go_by_differences_and_drift_is_mended() {
    let Some(host) = Host::new() else { return };
    host.block_on(flows_go_by_differences_and_drift_is_mended_on(&host));
}

async fn flows_go_by_differences_and_drift_is_mended_on(host: &Host) {
    // Left true, as by a tool that died: no traffic would pass.
    host.daemons.start("host-7").await.unwrap();
    host.control(&["set", "open_vswitch", ".", "other_config:flow-restore-wait=true"]);
    host.daemons.stop().await.unwrap();
    let both = Started { database: true, switch: true };
    assert_eq!(host.daemons.start("host-7").await.unwrap(), both);
    assert_eq!(host.control(&["get", "open_vswitch", ".", "other_config"]).trim(), "{}");
    let system = host.control(&["get", "open_vswitch", ".", "external_ids:system-id"]);
    assert_eq!(system.trim().trim_matches('"'), "host-7");

    let (switch, _events) = switch(host).await;
    eventually!(switch.ensure_ready(&SwitchSetup::default()));
    let first = switch.apply(flows(2000, 0)).await.unwrap();
    assert_eq!(first, Applied { total: 2000, changed: 2000, removed: 0 });
    let clean = switch.verify().await.unwrap();
    assert_eq!((clean.found, clean.repaired), (2000, 0));
    let delta = switch.apply(flows(1990, 1)).await.unwrap();
    assert_eq!(delta, Applied { total: 1990, changed: 20, removed: 10 });
    let none = switch.apply(flows(1990, 1)).await.unwrap();
    assert_eq!(none, Applied { total: 1990, changed: 0, removed: 0 });
    let clean = switch.verify().await.unwrap();
    assert_eq!((clean.found, clean.repaired), (1990, 0));

    // Somebody meddles: a flow gone, one changed, one added, and one of a kind that we do not speak.
    host.flows("del-flows", &["table=1,in_port=2"]);
    host.flows("mod-flows", &["table=2,in_port=3,actions=drop"]);
    host.flows("add-flow", &["table=3,priority=77,actions=NORMAL"]);
    host.flows("add-flow", &["table=4,priority=1,mpls,mpls_label=5,actions=drop"]);
    let drift = switch.verify().await.unwrap();
    assert_eq!((drift.found, drift.repaired), (1991, 4), "{drift:?}");
    assert_ne!(drift.checksum, clean.checksum);
    assert_eq!(switch.verify().await.unwrap(), clean);

    // One flow that the switch refuses: nothing changes, and the message shows it.
    let mut bad = flows(1990, 2);
    bad.push(Flow::new(30, 5, Match::any(), Actions::new().goto(3)));
    let error = switch.apply(bad).await.unwrap_err().to_string();
    assert!(error.contains("table=30,priority=5,actions=goto_table:3"), "{error}");
    let good = switch.apply(flows(1990, 1)).await.unwrap();
    assert_eq!(good, Applied { total: 1990, changed: 0, removed: 0 });
    assert_eq!(switch.verify().await.unwrap(), clean);
    switch.flush_zone(9).await.unwrap();
}

#[test]
fn daemons_that_die_are_noticed_and_everything_is_put_back() {
    let Some(host) = Host::new() else { return };
    host.block_on(daemons_that_die_are_noticed_and_everything_is_put_back_on(&host));
}

async fn daemons_that_die_are_noticed_and_everything_is_put_back_on(host: &Host) {
    host.daemons.start("host-7").await.unwrap();
    let (switch, mut events) = switch(host).await;
    eventually!(switch.ensure_ready(&SwitchSetup::default()));
    // What was never announced as ready cannot be lost.
    until(&mut events, SwitchEvent::Ready).await;
    host.tap("tap1");
    let wanted = [port("tap1", "port-1")];
    let numbers = switch.set_ports(&wanted).await.unwrap();
    switch.apply(flows(500, 0)).await.unwrap();
    let before = switch.verify().await.unwrap();

    host.kill("ovs-vswitchd");
    until(&mut events, SwitchEvent::Lost).await;
    assert!(matches!(switch.apply(flows(500, 0)).await, Err(SwitchError::Unreachable(_))));
    let only_switch = Started { database: false, switch: true };
    assert_eq!(host.daemons.start("host-7").await.unwrap(), only_switch);
    until(&mut events, SwitchEvent::Ready).await;
    assert_eq!(eventually!(switch.set_ports(&wanted)), numbers);
    let back = eventually!(switch.apply(flows(500, 0)));
    assert_eq!(back, Applied { total: 500, changed: 500, removed: 0 });
    assert_eq!(eventually!(switch.verify()), before);

    // The database alone: the bridge's flows are still there.
    host.kill("ovsdb-server");
    until(&mut events, SwitchEvent::Lost).await;
    let only_database = Started { database: true, switch: false };
    assert_eq!(host.daemons.start("host-7").await.unwrap(), only_database);
    until(&mut events, SwitchEvent::Ready).await;
    assert_eq!(eventually!(switch.set_ports(&wanted)), numbers);
    assert_eq!(eventually!(switch.verify()), before);
}
