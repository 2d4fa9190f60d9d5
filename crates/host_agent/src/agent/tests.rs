//! The agent over a simulated machine and a control plane played in the same process. Time is
//! tokio's paused clock, so that a minute's grace costs nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use host_protocol::*;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::hypervisor::GuestChange;
use crate::image_cache::ImageError;
use crate::link::LinkError;
use crate::pool::PoolError;
use crate::simulated::SimulatedMachine;
use crate::test_support::server_spec;

const SERVER: &str = "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0";
const PORT: &str = "0f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f1";
const NETWORK: &str = "1f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f2";

type Key = (DocumentKind, String);

/// The region: sends what it is told, and keeps the last word on each object.
#[derive(Default)]
struct Region {
    stream: Mutex<Option<mpsc::UnboundedReceiver<Frame>>>,
    sender: Mutex<Option<mpsc::UnboundedSender<Frame>>>,
    words: Mutex<BTreeMap<Key, Report>>,
    answers: Mutex<Vec<HostAnswer>>,
    position: Mutex<u64>,
}

impl ControlPlane for Region {
    fn documents(
        &self,
        _lineage: Option<String>,
        _position: Position,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Frame, LinkError>>, LinkError>> {
        let stream = self.stream.lock().unwrap().take();
        Box::pin(async move {
            let receiver = stream.ok_or(LinkError::Unreachable("down".to_owned()))?;
            let quiet = Duration::from_secs(PING_SECONDS);
            Ok(futures::stream::unfold(receiver, move |mut receiver| async move {
                let frame = match tokio::time::timeout(quiet, receiver.recv()).await {
                    Ok(frame) => frame?,
                    Err(_) => Frame::Ping,
                };
                Some((Ok(frame), receiver))
            })
            .boxed())
        })
    }

    fn report<'a>(
        &'a self,
        reports: &'a Reports,
    ) -> BoxFuture<'a, Result<ReportResults, LinkError>> {
        let mut words = self.words.lock().unwrap();
        for report in &reports.reports {
            words.insert((report.kind, report.id.clone()), report.clone());
        }
        let results = vec![ReportResult::Accepted; reports.reports.len()];
        Box::pin(async move { Ok(ReportResults { results }) })
    }

    fn answer<'a>(
        &'a self,
        _id: &'a str,
        answer: &'a HostAnswer,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        self.answers.lock().unwrap().push(answer.clone());
        Box::pin(async { Ok(()) })
    }

    fn image<'a>(
        &'a self,
        image_id: &'a str,
        _offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
        Box::pin(async move { Err(ImageError::NotFound(image_id.to_owned())) })
    }
}

struct World {
    machine: SimulatedMachine,
    store: DocumentStore,
    region: Arc<Region>,
    shutdown: CancellationToken,
    agent: Option<Agent>,
}

impl World {
    async fn new() -> World {
        let mut world = World {
            machine: SimulatedMachine::default(),
            store: DocumentStore::in_memory().unwrap(),
            region: Arc::default(),
            shutdown: CancellationToken::new(),
            agent: None,
        };
        world.start_agent("one").await;
        world.send(DocumentKind::Host, "host", 1, 0, false, &host());
        world
    }

    /// Starts an agent over the same machine and store, as after a restart.
    async fn start_agent(&mut self, lineage: &str) {
        self.shutdown = CancellationToken::new();
        let config = AgentConfig {
            device_prefix: "t".to_owned(),
            underlay: None,
            responders: true,
            uid_base: 1_000_000,
            reserved_memory_mib: 0,
            host_ip: None,
        };
        let agent =
            Agent::start(config, self.machine.edges(), self.store.clone(), self.shutdown.clone())
                .await
                .unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let welcome = Frame::Welcome { lineage: lineage.to_owned(), snapshot: false };
        sender.send(welcome).unwrap();
        *self.region.stream.lock().unwrap() = Some(receiver);
        *self.region.sender.lock().unwrap() = Some(sender);
        let follower = Agent { shared: Arc::clone(&agent.shared) };
        let region: Arc<dyn ControlPlane> = self.region.clone();
        tokio::spawn(async move { follower.follow(region).await });
        self.agent = Some(agent);
    }

    /// The agent is killed: its tasks end where they are.
    async fn kill_agent(&mut self) {
        self.shutdown.cancel();
        if let Some(agent) = self.agent.take() {
            agent.ended().await;
        }
    }

    fn send(
        &self,
        kind: DocumentKind,
        id: &str,
        generation: u64,
        epoch: u64,
        tombstone: bool,
        spec: &impl serde::Serialize,
    ) {
        let position = {
            let mut position = self.region.position.lock().unwrap();
            *position += 1;
            *position
        };
        let document = Document {
            kind,
            id: id.to_owned(),
            generation,
            epoch,
            position,
            tombstone,
            request_id: "req-1".to_owned(),
            spec: serde_json::to_value(spec).unwrap(),
        };
        let frame = Frame::Document(Box::new(document));
        self.region.sender.lock().unwrap().as_ref().unwrap().send(frame).unwrap();
    }

    fn server(&self, generation: u64, change: impl FnOnce(&mut ServerSpec)) {
        let mut spec = server_spec(SERVER);
        spec.nics = vec![NicSpec { port_id: PORT.to_owned(), mac: mac(), mtu: 1500 }];
        change(&mut spec);
        self.send(DocumentKind::Server, SERVER, generation, 1, false, &spec);
    }

    fn network_and_port(&self) {
        self.send(DocumentKind::Network, NETWORK, 1, 0, false, &network());
        self.send(DocumentKind::Port, PORT, 1, 0, false, &port());
    }

    /// A server that runs.
    async fn running() -> World {
        let world = World::new().await;
        world.network_and_port();
        world.server(1, |_| {});
        world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
        world
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3600);
        while !condition() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never: {what}\n{:#?}\n{:#?}",
                self.region.words.lock().unwrap(),
                self.machine.state()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn word(&self, kind: DocumentKind, id: &str) -> Option<Report> {
        self.region.words.lock().unwrap().get(&(kind, id.to_owned())).cloned()
    }

    async fn until_word(
        &self,
        kind: DocumentKind,
        id: &str,
        generation: u64,
        state: ReportState,
    ) -> Report {
        self.until(&format!("{kind} {id} {state:?} at {generation}"), || {
            self.word(kind, id)
                .is_some_and(|word| word.generation == generation && word.state == state)
        })
        .await;
        self.word(kind, id).unwrap()
    }

    fn power(&self) -> PowerState {
        let word = self.word(DocumentKind::Server, SERVER).unwrap();
        serde_json::from_value::<ServerFacts>(word.facts).unwrap().power_state
    }

    fn starts(&self) -> usize {
        self.machine.state().starts.len()
    }

    fn reboot(&self, generation: u64, hard: bool, direction: OperationDirection) {
        let spec = OperationSpec {
            workflow: "w".to_owned(),
            step: "reboot".to_owned(),
            direction,
            attempt: 1,
            worker_epoch: 5,
            action: OperationAction::Reboot { server_id: SERVER.to_owned(), hard },
        };
        self.send(DocumentKind::Operation, "w/reboot", generation, 0, false, &spec);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn mac() -> cloud_types::MacAddress {
    "fa:16:3e:00:00:01".parse().unwrap()
}

fn host() -> HostSpec {
    HostSpec {
        name: "host".to_owned(),
        host_number: 7,
        l2_domain: "l2".to_owned(),
        zone: "zone".to_owned(),
        cluster: "cluster".to_owned(),
        peers: Vec::new(),
    }
}

fn network() -> NetworkSpec {
    NetworkSpec {
        network_id: NETWORK.to_owned(),
        network_number: 3,
        mtu: 1500,
        dns_domain: "example".to_owned(),
        subnets: Vec::new(),
    }
}

fn port() -> PortSpec {
    PortSpec {
        port_id: PORT.to_owned(),
        network_id: NETWORK.to_owned(),
        project_id: "project".to_owned(),
        port_number: 9,
        mac: mac(),
        fixed_ips: Vec::new(),
        allowed_address_pairs: Vec::new(),
        port_security: true,
        admin_state_up: true,
        security_rules: Vec::new(),
        hostname: "host".to_owned(),
        attachment: Attachment::Tap,
        server_id: Some(SERVER.to_owned()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_starts_once_its_port_is_there() {
    let world = World::new().await;
    world.server(1, |_| {});
    // It says what it waits for, and goes on by itself.
    let word = world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Failed).await;
    let error = word.error.unwrap();
    assert_eq!((error.code.as_str(), error.retrying), ("port_not_ready", true));
    assert!(error.message.contains(PORT));
    assert_eq!(world.starts(), 0);
    world.network_and_port();
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
    assert_eq!(world.power(), PowerState::Running);
    let port = world.until_word(DocumentKind::Port, PORT, 1, ReportState::Done).await;
    let facts: PortFacts = serde_json::from_value(port.facts).unwrap();
    assert!(facts.bound && world.machine.state().devices.contains(&facts.device));
    assert!(!world.machine.state().flows.is_empty());
    assert_eq!(world.machine.state().tables.servers.len(), 1);
    let host = world.until_word(DocumentKind::Host, "host", 1, ReportState::Done).await;
    let facts: HostFacts = serde_json::from_value(host.facts).unwrap();
    assert_eq!((facts.disk_gib, facts.accelerator.as_str()), (1024, "tcg"));
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_leaves_nothing_and_nothing_else_deletes() {
    let world = World::running().await;
    world.send(DocumentKind::Port, PORT, 2, 0, true, &port());
    // Its flows go at once, its device only after the guest.
    world.until("flows gone", || world.machine.state().ports.is_empty()).await;
    assert!(!world.machine.state().devices.is_empty());
    assert_eq!(world.machine.state().guests.len(), 1);
    world.send(DocumentKind::Server, SERVER, 2, 1, true, &json!(null));
    world.send(DocumentKind::Network, NETWORK, 2, 0, true, &json!(null));
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Gone).await;
    world.until_word(DocumentKind::Port, PORT, 2, ReportState::Gone).await;
    world.until_word(DocumentKind::Network, NETWORK, 2, ReportState::Gone).await;
    {
        let state = world.machine.state();
        assert!(state.guests.is_empty() && state.disks.is_empty() && state.devices.is_empty());
        assert_eq!(state.flushed, [1]);
    }
    let shared = Arc::clone(&world.agent.as_ref().unwrap().shared);
    world.until("forgotten", || lock(&shared.inboxes).is_empty()).await;
    let kinds: Vec<DocumentKind> = world
        .store
        .documents()
        .await
        .unwrap()
        .into_iter()
        .map(|stored| stored.document.kind)
        .collect();
    assert_eq!(kinds, [DocumentKind::Host]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_takes_over_and_starts_nothing_twice() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.start_agent("one").await;
    world.server(2, |spec| spec.name = "renamed".to_owned());
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (1, PowerState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_kills_nothing_and_asks() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.store = DocumentStore::in_memory().unwrap();
    world.start_agent("one").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.machine.state().guests.len(), 1);
    assert_eq!(world.store.position().await.unwrap().1, 0);
    world.send(DocumentKind::Host, "host", 1, 0, false, &host());
    world.network_and_port();
    world.server(1, |_| {});
    world.until("reported", || world.word(DocumentKind::Server, SERVER).is_some()).await;
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (1, PowerState::Running));
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_of_the_machine_what_should_run_is_started_without_the_region() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.machine.state().guests.clear();
    world.machine.state().devices.clear();
    world.start_agent("one").await;
    *world.region.sender.lock().unwrap() = None;
    world.until("started again", || world.machine.state().guests.len() == 1).await;
    assert_eq!(world.machine.state().starts[1], (SERVER.to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_switches_itself_off_stays_off() {
    let mut world = World::running().await;
    world.machine.happens(SERVER, GuestChange::PoweredOff);
    world.until("reported", || world.power() == PowerState::Shutdown).await;
    assert!(world.machine.state().guests.is_empty());
    world.kill_agent().await;
    world.start_agent("one").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.starts(), 1, "also over a restart");
    world.server(2, |_| {});
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (2, PowerState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_guest_that_listens_and_ends_one_that_does_not() {
    let world = World::running().await;
    world.machine.state().faults.deaf_guests = true;
    let begun = tokio::time::Instant::now();
    world.server(2, |spec| spec.power = DesiredPower::Stopped);
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Working).await;
    assert_eq!(world.power(), PowerState::Running);
    world.machine.happens(SERVER, GuestChange::PoweredOff);
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    assert!(begun.elapsed() < plan::GRACE);
    assert_eq!(world.power(), PowerState::Shutdown);
    world.server(3, |_| {});
    world.until_word(DocumentKind::Server, SERVER, 3, ReportState::Done).await;
    assert_eq!(world.power(), PowerState::Running);
}

#[tokio::test(start_paused = true)]
async fn what_crashes_is_started_again_until_it_is_hopeless() {
    let world = World::running().await;
    let crash = || GuestChange::Exited { detail: "signal 11".to_owned() };
    world.machine.happens(SERVER, crash());
    world.until("reported", || world.power() == PowerState::Crashed).await;
    let error = world.word(DocumentKind::Server, SERVER).unwrap().error.unwrap();
    assert!(error.message.contains("signal 11") && error.retrying);
    world.until("started again", || world.power() == PowerState::Running).await;
    for _ in 0..5 {
        world.machine.happens(SERVER, crash());
        world.until("crash seen", || world.power() == PowerState::Crashed).await;
        let hopeless = || {
            let word = world.word(DocumentKind::Server, SERVER).unwrap();
            word.error.is_some_and(|error| !error.retrying)
        };
        world.until("decided", || world.power() == PowerState::Running || hopeless()).await;
    }
    assert_eq!(world.starts(), 6, "the sixth crash in ten minutes is the last");
    world.reboot(1, true, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 1, ReportState::Done).await;
    assert_eq!(world.starts(), 7, "somebody asked");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_the_same_way_is_given_up_with_the_reason() {
    let world = World::new().await;
    let dead = HypervisorError::Exited("QEMU ended (exit status 1): no such CPU".to_owned());
    world.machine.state().faults.starts = vec![dead; 3].into();
    world.network_and_port();
    world.server(1, |_| {});
    world
        .until("given up", || {
            world
                .word(DocumentKind::Server, SERVER)
                .and_then(|word| word.error)
                .is_some_and(|error| !error.retrying && error.message.contains("no such CPU"))
        })
        .await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.starts(), 0);
    world.server(2, |_| {});
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    let world = World::new().await;
    world.machine.state().faults.disks = vec![PoolError::Full("full".to_owned()); 20].into();
    world.network_and_port();
    world.server(1, |_| {});
    let word = world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Failed).await;
    assert_eq!(word.error.unwrap().code, "disk_full");
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_does_not_wait_for_a_download() {
    let world = World::new().await;
    world.machine.state().faults.images_hang = true;
    world.network_and_port();
    world.server(1, |spec| {
        spec.disks = vec![DiskSpec {
            name: "root".to_owned(),
            size_mib: 1,
            image: Some(ImageSource {
                image_id: "i".to_owned(),
                format: ImageFormat::Raw,
                size_bytes: 1,
                sha256: String::new(),
            }),
        }];
    });
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Working).await;
    world.send(DocumentKind::Server, SERVER, 2, 1, true, &json!(null));
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Gone).await;
    assert_eq!(world.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_comes_during_the_start_removes_what_was_started() {
    let world = World::new().await;
    world.machine.state().faults.starts_hang = true;
    world.network_and_port();
    world.server(1, |_| {});
    world.until("disks", || !world.machine.state().disks.is_empty()).await;
    world.send(DocumentKind::Server, SERVER, 2, 1, true, &json!(null));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.machine.release();
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Gone).await;
    assert!(world.machine.state().guests.is_empty() && world.machine.state().disks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_done_once_and_never_after_its_undo() {
    let mut world = World::running().await;
    world.reboot(1, true, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 1, ReportState::Done).await;
    assert_eq!(world.starts(), 2);
    world.reboot(2, true, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 2, ReportState::Done).await;
    assert_eq!(world.starts(), 2, "the same answer, not the same act");
    world.reboot(3, true, OperationDirection::Undo);
    world.until_word(DocumentKind::Operation, "w/reboot", 3, ReportState::Done).await;
    world.kill_agent().await;
    world.start_agent("one").await;
    world.reboot(4, true, OperationDirection::Forward);
    let word = world.until_word(DocumentKind::Operation, "w/reboot", 4, ReportState::Failed).await;
    assert_eq!(word.error.unwrap().code, "undone");
    assert_eq!(world.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_soft_reboot_asks_and_one_of_a_stopped_server_fails() {
    let world = World::running().await;
    world.reboot(1, false, OperationDirection::Forward);
    world.until_word(DocumentKind::Operation, "w/reboot", 1, ReportState::Done).await;
    assert_eq!((world.starts(), world.power()), (2, PowerState::Running));
    world.server(2, |spec| spec.power = DesiredPower::Stopped);
    world.until_word(DocumentKind::Server, SERVER, 2, ReportState::Done).await;
    let spec = OperationSpec {
        workflow: "v".to_owned(),
        step: "reboot".to_owned(),
        direction: OperationDirection::Forward,
        attempt: 1,
        worker_epoch: 1,
        action: OperationAction::Reboot { server_id: SERVER.to_owned(), hard: false },
    };
    world.send(DocumentKind::Operation, "v/reboot", 1, 0, false, &spec);
    let word = world.until_word(DocumentKind::Operation, "v/reboot", 1, ReportState::Failed).await;
    assert!(word.error.unwrap().message.contains("stopped"));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_switch_gets_everything_again() {
    let world = World::running().await;
    let flows = world.machine.state().flows.clone();
    world.machine.state().faults.switch_down = true;
    world.send(DocumentKind::Port, PORT, 2, 0, false, &port());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.machine.state().guests.len(), 1);
    world.machine.restart_switch();
    world.until_word(DocumentKind::Port, PORT, 2, ReportState::Done).await;
    assert_eq!(world.machine.state().flows, flows);
    assert_eq!(world.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restored_region_deletes_and_changes_nothing_that_it_does_not_name() {
    let mut world = World::running().await;
    world.kill_agent().await;
    world.region.words.lock().unwrap().clear();
    world.start_agent("two").await;
    world.until_word(DocumentKind::Server, SERVER, 1, ReportState::Done).await;
    // Unknown, so a guest that ends is left as it is.
    world.machine.happens(SERVER, GuestChange::Exited { detail: "gone".to_owned() });
    world.until("reported", || world.power() == PowerState::Crashed).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.starts(), 1);
    assert!(!world.machine.state().disks.is_empty());
    world.server(2, |_| {});
    world.until("named again", || world.power() == PowerState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_goes_down_ends_its_guests_and_brings_them_back() {
    let mut world = World::running().await;
    let word = world.word(DocumentKind::Server, SERVER);
    world.agent.as_ref().unwrap().end_guests().await;
    assert!(world.machine.state().guests.is_empty());
    world.kill_agent().await;
    assert_eq!(world.word(DocumentKind::Server, SERVER), word, "nothing is said of it");
    world.start_agent("one").await;
    world.until("back", || world.machine.state().guests.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_console_is_read_by_query() {
    let world = World::running().await;
    for server in [SERVER, "not-here"] {
        let query = HostQuery::ConsoleLog { server_id: server.to_owned(), lines: None };
        let frame = Frame::Query { id: "q".to_owned(), query };
        world.region.sender.lock().unwrap().as_ref().unwrap().send(frame).unwrap();
    }
    world.until("answers", || world.region.answers.lock().unwrap().len() == 2).await;
    let answers = world.region.answers.lock().unwrap().clone();
    assert!(answers.contains(&HostAnswer::ConsoleLog { output: format!("console of {SERVER}\n") }));
    assert!(
        answers.iter().any(|answer| matches!(answer, HostAnswer::Failed { not_found: true, .. }))
    );
}
