//! The host's network, kept as its documents say: devices, switch ports, flows, responders.
//!
//! ```text
//!   something changed ─► devices ─► ports on the bridge ─► flows, in one bundle ─► responders
//!                           ▲                                                          │
//!                           │ tombstones: flows are gone, then the device          ports ready
//!                           └──────────── and the number ◄─────────────────────── reports, wakes
//! ```
//! It is computed whole each time; the switch sends only what differs. One port that cannot be
//! done is reported and left out, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flow_compiler::{CompileError, HostInput, LocalPort, compile};
use host_protocol::{
    Attachment, DocumentKind, NetworkSpec, PortFacts, PortSpec, ReportError, ReportState,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use super::announce::{Announced, locators};
use super::documents::Wanted;
use super::network_input::{Input, collect};
use super::questions::InForce;
use super::shared::{ReadyPort, Shared, lock};
use crate::edges::{LinkError, NamespacePort};
use crate::link::Backoff;
use crate::links::device_name;
use crate::store::StoreError;
use crate::switch::{SwitchError, SwitchEvent, SwitchPort, SwitchReady, SwitchSetup};

/// How often the flow table is read back and compared.
const VERIFY_INTERVAL: Duration = Duration::from_secs(60);

/// Why the network is not as wanted; tried again.
#[derive(Debug, thiserror::Error)]
enum NetworkError {
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the flow table cannot be compiled: {0}")]
    Compile(CompileError),
    #[error("{0} ports could not be made")]
    Ports(usize),
}

/// What was last set, so that nothing is asked of the switch twice.
#[derive(Default)]
struct Fabric {
    ready: Option<SwitchReady>,
    links: BTreeMap<String, LinkShape>,
    ports: Option<Vec<SwitchPort>>,
    ofports: BTreeMap<String, u32>,
    zones: BTreeMap<String, u16>,
    /// Counts how often the switch was made ready.
    times_ready: u64,
    /// What was last said of each object, so that the store is asked about changes only.
    said: BTreeMap<(DocumentKind, String), Said>,
}

/// A report, as far as two of this task can differ.
#[derive(PartialEq, Eq)]
struct Said {
    generation: u64,
    device: Option<String>,
    error: Option<ReportError>,
}

/// A device as it was made.
#[derive(Clone, PartialEq, Eq)]
struct LinkShape {
    device: String,
    mtu: u16,
    namespace: Option<NamespacePort>,
}

/// Runs until the agent ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut fabric = Fabric::default();
    let mut events = shared.edges.switch.events();
    let mut events_open = true;
    let mut backoff = Backoff::default();
    let mut retry: Option<tokio::time::Instant> = None;
    let mut verify = tokio::time::interval(VERIFY_INTERVAL);
    verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
    verify.reset();
    loop {
        let again = async {
            match retry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.network_wake.notified() => {}
            () = again => {}
            event = events.recv(), if events_open => match event {
                Ok(SwitchEvent::Lost) => {
                    tracing::warn!("the switch cannot be reached; guests keep what it forwards");
                    continue;
                }
                // Devices are looked at again too: the switch may have lost one because the kernel did.
                Ok(SwitchEvent::PortsChanged) => fabric.forget_ports(),
                Ok(SwitchEvent::Ready) | Err(RecvError::Lagged(_)) => fabric.forget(),
                Err(RecvError::Closed) => {
                    events_open = false;
                    continue;
                }
            },
            _ = verify.tick() => {
                check(&shared).await;
                continue;
            }
            () = shared.shutdown.cancelled() => return,
        }
        let converged = tokio::select! {
            converged = fabric.converge(&shared) => converged,
            () = shared.shutdown.cancelled() => return,
        };
        match converged {
            Ok(()) => {
                backoff.reset();
                retry = None;
            }
            Err(error) => {
                let wait = backoff.failed();
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "the network is not as wanted yet");
                if matches!(error, NetworkError::Switch(_)) {
                    fabric.forget();
                }
                retry = Some(tokio::time::Instant::now() + wait);
            }
        }
    }
}

pub(super) async fn check(shared: &Shared) {
    match shared.edges.switch.verify().await {
        Ok(verified) if verified.repaired > 0 => {
            tracing::error!(
                repaired = verified.repaired,
                found = verified.found,
                "the flow table was not what was set; somebody else writes to the bridge"
            );
            {
                let mut mended = lock(&shared.mended);
                mended.flows += verified.repaired as u64;
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                mended.at = now.ok().and_then(|now| i64::try_from(now.as_secs()).ok());
            }
            // The region hears of it.
            shared.facts_wake.notify_one();
        }
        Ok(verified) => {
            tracing::debug!(found = verified.found, checksum = %verified.checksum, "flow table verified");
        }
        Err(error) => tracing::debug!(%error, "the flow table could not be read back"),
    }
}

impl Fabric {
    fn forget_ports(&mut self) {
        self.ports = None;
        self.links.clear();
    }

    fn forget(&mut self) {
        self.ready = None;
        self.forget_ports();
    }

    async fn converge(&mut self, shared: &Shared) -> Result<(), NetworkError> {
        let Some(input) = collect(shared) else {
            return Ok(());
        };
        let edges = &shared.edges;
        let ready = self.ready(shared).await?;
        let mut refused: BTreeMap<String, ReportError> = BTreeMap::new();
        self.make_links(shared, &input, &mut refused).await;

        let wanted: Vec<SwitchPort> = input
            .ports
            .keys()
            .filter(|port_id| !refused.contains_key(*port_id))
            .filter_map(|port_id| {
                let device = self.links.get(port_id)?.device.clone();
                Some(SwitchPort { device, port_id: port_id.clone() })
            })
            .collect();
        if self.ports.as_ref() != Some(&wanted) {
            self.ofports = edges.switch.set_ports(&wanted).await?;
            self.ports = Some(wanted.clone());
        }
        let new: Vec<String> = wanted
            .iter()
            .map(|port| port.port_id.clone())
            .filter(|port_id| !self.zones.contains_key(port_id))
            .collect();
        if !new.is_empty() {
            self.zones.extend(shared.store.zones(new).await?);
        }
        let placed = self.place(&input, &wanted, &mut refused);
        let flows = compile_all(&input, &ready, placed, &mut refused)?;
        let applied = edges.switch.apply(flows).await?;
        if applied.changed + applied.removed > 0 {
            tracing::info!(
                total = applied.total,
                changed = applied.changed,
                removed = applied.removed,
                "flow table set"
            );
        }
        edges.responders.update(input.tables.clone());
        self.in_force(shared, &input, &ready, &refused);
        self.publish(shared, &input, &refused);
        self.report(shared, &input, &refused).await;
        self.take_down(shared, &input).await?;
        let passing = refused.values().filter(|error| error.retrying).count();
        if passing > 0 {
            return Err(NetworkError::Ports(passing));
        }
        Ok(())
    }

    /// The bridge, once it stands.
    async fn ready(&mut self, shared: &Shared) -> Result<SwitchReady, NetworkError> {
        if let Some(ready) = &self.ready {
            return Ok(ready.clone());
        }
        let responder = match shared.config.responders {
            true => Some(shared.edges.links.ensure_responder_link().await?),
            false => None,
        };
        let setup = SwitchSetup { underlay: shared.config.underlay.clone(), responder };
        let ready = shared.edges.switch.ensure_ready(&setup).await?;
        tracing::info!(version = %ready.version, wire = ?ready.wire_ofport, responders = ?ready.responder_ofport, "the switch is ready");
        *lock(&shared.switch_version) = ready.version.clone();
        shared.facts_wake.notify_one();
        self.times_ready += 1;
        self.ready = Some(ready.clone());
        Ok(ready)
    }

    async fn make_links(
        &mut self,
        shared: &Shared,
        input: &Input,
        refused: &mut BTreeMap<String, ReportError>,
    ) {
        for (port_id, wanted) in &input.ports {
            let Some(spec) = &wanted.spec else { continue };
            let Some(network) = input.networks.get(&spec.network_id) else {
                let message = format!("network {} is not known on this host yet", spec.network_id);
                refused.insert(port_id.clone(), error("no_network", message, true));
                continue;
            };
            let shape = link_shape(&shared.config.device_prefix, spec, network);
            if self.links.get(port_id) == Some(&shape) {
                continue;
            }
            let links = &shared.edges.links;
            let made = match &shape.namespace {
                None => links.ensure_tap(&shape.device, shape.mtu).await,
                Some(port) => links.ensure_namespace_port(&shape.device, port).await,
            };
            match made {
                Ok(()) => {
                    self.links.insert(port_id.clone(), shape);
                }
                Err(why) => {
                    let failed = error("device_error", why.to_string(), true);
                    refused.insert(port_id.clone(), failed);
                }
            }
        }
    }

    /// Ports with their numbers on the bridge.
    fn place<'a>(
        &self,
        input: &'a Input,
        wanted: &[SwitchPort],
        refused: &mut BTreeMap<String, ReportError>,
    ) -> Vec<LocalPort<'a>> {
        let mut placed = Vec::with_capacity(wanted.len());
        for port in wanted {
            let spec = input.ports.get(&port.port_id).and_then(|wanted| wanted.spec.as_ref());
            let ofport = self.ofports.get(&port.device).copied();
            match (spec, ofport, self.zones.get(&port.port_id)) {
                (Some(spec), Some(ofport), Some(ct_zone)) => {
                    placed.push(LocalPort { spec, ofport, ct_zone: *ct_zone });
                }
                _ => {
                    let message = format!("the switch did not take {}", port.device);
                    refused.insert(port.port_id.clone(), error("switch_refused", message, true));
                }
            }
        }
        placed
    }

    /// Says what is in force now, and which locators the underlay should know.
    fn in_force(
        &self,
        shared: &Shared,
        input: &Input,
        ready: &SwitchReady,
        refused: &BTreeMap<String, ReportError>,
    ) {
        let good = || input.ports.iter().filter(|(id, _)| !refused.contains_key(*id));
        let ofport = |id: &String| {
            let link = self.links.get(id)?;
            Some((id.clone(), *self.ofports.get(&link.device)?))
        };
        *lock(&shared.in_force) = InForce {
            position: input.position,
            generations: good().map(|(id, wanted)| (id.clone(), wanted.generation)).collect(),
            ofports: good().filter_map(|(id, _)| ofport(id)).collect(),
            wire: ready.wire_ofport,
            responder: ready.responder_ofport,
        };
        let ports = good().filter_map(|(_, wanted)| wanted.spec.as_ref());
        let wanted = Announced {
            wire: ready.wire_ofport,
            locators: locators(
                input.host.host_number,
                ports.filter(|spec| spec.admin_state_up).map(|spec| spec.port_number),
                input.networks.values().map(|network| network.network_number),
            ),
            since: self.times_ready,
        };
        let mut announced = lock(&shared.announced);
        if *announced != wanted {
            *announced = wanted;
            shared.announce_wake.notify_one();
        }
    }

    /// Tells the servers which ports they may use.
    fn publish(&self, shared: &Shared, input: &Input, refused: &BTreeMap<String, ReportError>) {
        let ready: BTreeMap<String, ReadyPort> = input
            .ports
            .keys()
            .filter(|port_id| !refused.contains_key(*port_id))
            .filter_map(|port_id| {
                let device = self.links.get(port_id)?.device.clone();
                Some((port_id.clone(), ReadyPort { device }))
            })
            .collect();
        let before = std::mem::replace(&mut *lock(&shared.ready_ports), ready.clone());
        let servers: BTreeSet<&String> = ready
            .keys()
            .filter(|port_id| !before.contains_key(*port_id))
            .filter_map(|port_id| input.ports.get(port_id)?.spec.as_ref()?.server_id.as_ref())
            .collect();
        for server_id in servers {
            shared.wake_server(server_id);
        }
    }

    async fn report(
        &mut self,
        shared: &Shared,
        input: &Input,
        refused: &BTreeMap<String, ReportError>,
    ) {
        for (port_id, wanted) in &input.ports {
            let error = refused.get(port_id).cloned();
            let device = self.links.get(port_id).map(|link| link.device.clone());
            if error.is_some() || device.is_some() {
                self.say(shared, DocumentKind::Port, port_id, wanted, device, error).await;
            }
        }
        for (kind, id, wanted) in &input.renewed {
            if !refused.contains_key(id) {
                self.say(shared, *kind, id, wanted, None, None).await;
            }
        }
        for (kind, id, wanted) in &input.unreadable {
            let why = wanted.unreadable.clone().unwrap_or_default();
            let message = format!("this host's agent cannot read it: {why}; upgrade it");
            let failed = error("unreadable_document", message, false);
            self.say(shared, *kind, id, wanted, None, Some(failed)).await;
        }
    }

    /// Reports, unless the same was said last.
    async fn say<T>(
        &mut self,
        shared: &Shared,
        kind: DocumentKind,
        id: &str,
        wanted: &Wanted<T>,
        device: Option<String>,
        error: Option<ReportError>,
    ) {
        let said = Said { generation: wanted.generation, device, error };
        let key = (kind, id.to_owned());
        if self.said.get(&key) == Some(&said) {
            return;
        }
        let kept = match (&said.error, &said.device) {
            (Some(error), _) => shared.report_failed(kind, id, wanted, error.clone()).await,
            (None, Some(device)) => {
                let facts = PortFacts { bound: true, device: device.clone() };
                shared.report(kind, id, wanted, ReportState::Done, &facts, None).await
            }
            (None, None) => shared.report(kind, id, wanted, ReportState::Done, &(), None).await,
        };
        if kept {
            self.said.insert(key, said);
        }
    }

    /// Carries out tombstones. The flows went with [`Switch::apply`](crate::switch::Switch::apply).
    async fn take_down(&mut self, shared: &Shared, input: &Input) -> Result<(), NetworkError> {
        for (port_id, wanted) in &input.gone_ports {
            let spec = wanted.spec.as_ref();
            // A device that a guest holds stays until the guest has ended, which wakes us.
            if let Some(server_id) = spec.and_then(|spec| spec.server_id.as_ref())
                && lock(&shared.running).contains(server_id)
            {
                continue;
            }
            let device = device_name(&shared.config.device_prefix, port_id);
            shared.edges.links.remove(&device).await?;
            if self.links.remove(port_id).is_some() {
                tracing::info!(port = %port_id, %device, "removed a deleted port's device");
            }
            self.zones.remove(port_id);
            self.said.remove(&(DocumentKind::Port, port_id.clone()));
            if let Some(zone) = shared.store.zone_of(port_id).await? {
                shared.edges.switch.flush_zone(zone).await?;
                shared.store.free_zone(port_id).await?;
            }
            gone(shared, DocumentKind::Port, port_id, wanted).await;
        }
        for (id, wanted) in &input.gone_neighbours {
            self.said.remove(&(DocumentKind::Neighbour, id.clone()));
            gone(shared, DocumentKind::Neighbour, id, wanted).await;
        }
        for (id, wanted) in &input.gone_networks {
            self.said.remove(&(DocumentKind::Network, id.clone()));
            gone(shared, DocumentKind::Network, id, wanted).await;
        }
        Ok(())
    }
}

async fn gone<T>(shared: &Shared, kind: DocumentKind, id: &str, wanted: &Wanted<T>) {
    shared.report(kind, id, wanted, ReportState::Gone, &(), None).await;
}

fn error(code: &str, message: String, retrying: bool) -> ReportError {
    ReportError { code: code.to_owned(), message, retrying }
}

fn link_shape(prefix: &str, spec: &PortSpec, network: &NetworkSpec) -> LinkShape {
    let namespace = match &spec.attachment {
        Attachment::Tap => None,
        Attachment::Namespace { name } => {
            let subnet = |id: &str| network.subnets.iter().find(|subnet| subnet.subnet_id == id);
            Some(NamespacePort {
                namespace: name.clone(),
                mac: spec.mac,
                mtu: network.mtu,
                addresses: spec
                    .fixed_ips
                    .iter()
                    .filter_map(|fixed| {
                        Some((fixed.ip, subnet(&fixed.subnet_id)?.cidr.prefix_len()))
                    })
                    .collect(),
                gateway: spec
                    .fixed_ips
                    .iter()
                    .find_map(|fixed| subnet(&fixed.subnet_id)?.gateway_ip),
            })
        }
    };
    LinkShape { device: device_name(prefix, &spec.port_id), mtu: network.mtu, namespace }
}

/// Compiles, leaving out what is wrong by itself.
fn compile_all(
    input: &Input,
    ready: &SwitchReady,
    mut ports: Vec<LocalPort<'_>>,
    refused: &mut BTreeMap<String, ReportError>,
) -> Result<Vec<openflow::Flow>, NetworkError> {
    let networks: Vec<NetworkSpec> = input.networks.values().cloned().collect();
    let mut neighbours = input.neighbours.clone();
    loop {
        let compiled = compile(&HostInput {
            spec: &input.host,
            wire_ofport: ready.wire_ofport,
            responder_ofport: ready.responder_ofport,
            networks: &networks,
            ports: &ports,
            neighbours: &neighbours,
        });
        let why = match compiled {
            Ok(flows) => return Ok(flows),
            Err(why) => why,
        };
        let Some(culprit) = why.port_id().map(str::to_owned) else {
            return Err(NetworkError::Compile(why));
        };
        let before = ports.len() + neighbours.len();
        ports.retain(|port| port.spec.port_id != culprit);
        neighbours.retain(|neighbour| neighbour.port_id != culprit);
        if ports.len() + neighbours.len() == before {
            return Err(NetworkError::Compile(why));
        }
        tracing::error!(port = %culprit, %why, "left out of the flow table");
        refused.insert(culprit, error("bad_port", why.to_string(), false));
    }
}
