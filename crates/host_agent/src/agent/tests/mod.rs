//! The agent over a simulated machine and a control plane played in the same process. Time is
//! tokio's paused clock, so that a minute's grace costs nothing.

mod adversity;
mod ordinary;

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
                    Err(_) => Frame::Ping { terms: None },
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
            underlay_ageing: None,
            machine: None,
        };
        let agent =
            Agent::start(config, self.machine.edges(), self.store.clone(), self.shutdown.clone())
                .await
                .unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let welcome = Frame::Welcome {
            lineage: lineage.to_owned(),
            snapshot: false,
            terms: StreamTerms::default(),
        };
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

pub(super) fn host() -> HostSpec {
    HostSpec {
        name: "host".to_owned(),
        host_number: 7,
        l2_domain: "l2".to_owned(),
        zone: "zone".to_owned(),
        cluster: "cluster".to_owned(),
    }
}

pub(super) fn network() -> NetworkSpec {
    NetworkSpec {
        network_id: NETWORK.to_owned(),
        network_number: 3,
        mtu: 1500,
        dns_domain: "example".to_owned(),
        subnets: Vec::new(),
    }
}

pub(super) fn port() -> PortSpec {
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
        security_groups: Vec::new(),
        security_rules: Vec::new(),
        hostname: "host".to_owned(),
        dns_domain: None,
        dhcp_options: Vec::new(),
        attachment: Attachment::Tap,
        server_id: Some(SERVER.to_owned()),
    }
}
