//! The adapter: bridge and ports over OVSDB, flows over OpenFlow, and the watcher of both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openflow::Flow;
use ovsdb::vswitch::{BridgeSpec, OvsDb, PortSpec, PortStatus};
use ovsdb::{Options, OvsdbError};
use tokio::sync::{Mutex, broadcast};

use super::flow_table::FlowTable;
use crate::BoxFuture;
use crate::config::SwitchConfig;
use crate::switch::{
    Applied, Switch, SwitchError, SwitchEvent, SwitchPort, SwitchReady, SwitchSetup, TableRead,
    Verified,
};

/// Note on a port that says whose it is: `guest` or `fixed`. Ports without it are never touched.
const OWNER_NOTE: &str = "meridian";
/// Note on a port: index of the device that it was made for. The userspace data path holds on to a
/// device that is deleted, and is deaf to another one of the same name.
const INDEX_NOTE: &str = "meridian-ifindex";
/// Note that operators and other tools look at.
const PORT_NOTE: &str = "iface-id";
/// Events that a slow listener may be behind; it is told when it missed some.
const EVENTS: usize = 64;
/// First and longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// A bridge of Open vSwitch's userspace datapath.
pub struct OpenVswitch {
    bridge: String,
    database: PathBuf,
    ovs: Mutex<Option<Arc<OvsDb>>>,
    flows: FlowTable,
    events: broadcast::Sender<SwitchEvent>,
}

fn failed(error: OvsdbError) -> SwitchError {
    // The database took it and vswitchd is away: it will be done when it is back.
    if error.is_disconnected() || matches!(error, OvsdbError::NotApplied(_)) {
        SwitchError::Unreachable(error.to_string())
    } else {
        SwitchError::Refused(error.to_string())
    }
}

impl OpenVswitch {
    /// The switch whose daemons have their sockets in the configured directory. Connects when it
    /// is first used; the watcher runs as long as somebody holds the switch.
    pub fn start(config: &SwitchConfig) -> Arc<Self> {
        let switch = Arc::new(OpenVswitch {
            bridge: config.bridge.clone(),
            database: config.run_dir.join("db.sock"),
            ovs: Mutex::new(None),
            flows: FlowTable::new(config.run_dir.join(format!("{}.mgmt", config.bridge))),
            events: broadcast::Sender::new(EVENTS),
        });
        tokio::spawn(watch(Arc::downgrade(&switch)));
        switch
    }

    async fn ovs(&self) -> Result<Arc<OvsDb>, SwitchError> {
        let mut ovs = self.ovs.lock().await;
        if let Some(open) = ovs.as_ref().filter(|open| !open.connection().is_closed()) {
            return Ok(open.clone());
        }
        let opened = OvsDb::connect(&self.database, Options::default()).await.map_err(failed)?;
        let opened = Arc::new(opened);
        *ovs = Some(opened.clone());
        Ok(opened)
    }

    fn bridge_spec(&self) -> BridgeSpec {
        BridgeSpec { name: self.bridge.clone(), userspace: true }
    }

    async fn prepare(&self, setup: &SwitchSetup) -> Result<SwitchReady, SwitchError> {
        let ovs = self.ovs().await?;
        ovs.ensure_bridge(&self.bridge_spec()).await.map_err(failed)?;
        let fixed: Vec<&String> = setup.underlay.iter().chain(&setup.responder).collect();
        let wanted: Vec<PortSpec> =
            fixed.iter().map(|device| PortSpec::system(device).note(OWNER_NOTE, "fixed")).collect();
        let stale = self.owned(&ovs, "fixed", |name| !fixed.contains(&name));
        let ports = self.place(&ovs, wanted, &stale).await?;
        let number = |device: &Option<String>| -> Result<Option<u32>, SwitchError> {
            let Some(device) = device else { return Ok(None) };
            let port = ports.iter().find(|port| &port.name == device);
            match port.and_then(|port| port.ofport) {
                Some(number) => Ok(Some(number)),
                None => Err(SwitchError::Refused(format!(
                    "device {device} has no port on bridge {}: {}",
                    self.bridge,
                    port.and_then(|port| port.error.clone())
                        .unwrap_or_else(|| "no reason given".into())
                ))),
            }
        };
        Ok(SwitchReady {
            wire_ofport: number(&setup.underlay)?,
            responder_ofport: number(&setup.responder)?,
            // Also proves that the management socket answers.
            version: self.flows.version().await?,
        })
    }

    /// Puts devices on the bridge. A port whose device has been replaced by another of its name is
    /// made anew; one whose device is not there has no number.
    async fn place(
        &self,
        ovs: &OvsDb,
        wanted: Vec<PortSpec>,
        stale: &[String],
    ) -> Result<Vec<PortStatus>, SwitchError> {
        let found: BTreeMap<String, PortStatus> =
            ovs.ports(&self.bridge).into_iter().map(|port| (port.name.clone(), port)).collect();
        let mut replaced = Vec::new();
        let mut absent = Vec::new();
        let mut specs = Vec::new();
        for spec in wanted {
            let Ok(index) = nix::net::if_::if_nametoindex(spec.name.as_str()) else {
                absent.push(spec.name.clone());
                specs.push(spec);
                continue;
            };
            let index = index.to_string();
            let noted = found.get(&spec.name).and_then(|port| port.external_ids.get(INDEX_NOTE));
            if noted.is_some_and(|noted| *noted != index) {
                replaced.push(spec.name.clone());
            }
            specs.push(spec.note(INDEX_NOTE, &index));
        }
        if !replaced.is_empty() {
            tracing::info!(?replaced, "devices were replaced; their ports are made anew");
            ovs.set_ports(&self.bridge, &[], &replaced).await.map_err(failed)?;
        }
        let mut ports = ovs.set_ports(&self.bridge, &specs, stale).await.map_err(failed)?;
        for port in ports.iter_mut().filter(|port| absent.contains(&port.name)) {
            port.ofport = None;
            port.error.get_or_insert_with(|| "there is no such device".into());
        }
        Ok(ports)
    }

    /// Names of our ports of a kind that pass a test.
    fn owned(&self, ovs: &OvsDb, owner: &str, test: impl Fn(&String) -> bool) -> Vec<String> {
        ovs.ports(&self.bridge)
            .into_iter()
            .filter(|port| port.external_ids.get(OWNER_NOTE).is_some_and(|note| note == owner))
            .map(|port| port.name)
            .filter(test)
            .collect()
    }

    async fn set_guest_ports(
        &self,
        ports: &[SwitchPort],
    ) -> Result<BTreeMap<String, u32>, SwitchError> {
        let ovs = self.ovs().await?;
        let wanted: Vec<PortSpec> = ports
            .iter()
            .map(|port| {
                PortSpec::system(&port.device)
                    .note(OWNER_NOTE, "guest")
                    .note(PORT_NOTE, &port.port_id)
            })
            .collect();
        let stale =
            self.owned(&ovs, "guest", |name| !ports.iter().any(|port| &port.device == name));
        let set = self.place(&ovs, wanted, &stale).await?;
        for port in set.iter().filter(|port| port.ofport.is_none()) {
            tracing::warn!(device = %port.name, error = port.error.as_deref(), "the switch has not taken a device");
        }
        Ok(set.into_iter().filter_map(|port| Some((port.name, port.ofport?))).collect())
    }
}

/// What the watcher compares: a port's name, number and link.
fn seen(ports: Vec<PortStatus>) -> Vec<(String, Option<u32>, Option<bool>)> {
    ports.into_iter().map(|port| (port.name, port.ofport, port.link_up)).collect()
}

/// Keeps both connections open and says what happens to them, until the switch is dropped.
async fn watch(switch: Weak<OpenVswitch>) {
    let mut pause = PAUSE.0;
    loop {
        let Some(strong) = switch.upgrade() else { return };
        let opened = match strong.ovs().await {
            Ok(ovs) => match ovs.ensure_bridge(&strong.bridge_spec()).await.map_err(failed) {
                Ok(()) => strong.flows.connection().await.map(|flows| (ovs, flows)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let (ovs, flows) = match opened {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "Open vSwitch is not there yet");
                drop(strong);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
                continue;
            }
        };
        pause = PAUSE.0;
        let bridge = strong.bridge.clone();
        let events = strong.events.clone();
        drop(strong);
        let _ = events.send(SwitchEvent::Ready);
        let mut changes = ovs.changes();
        let mut last = seen(changes.ports(&bridge));
        loop {
            tokio::select! {
                why = ovs.closed() => {
                    tracing::warn!(%why, "the connection to Open vSwitch's database was lost");
                    break;
                }
                why = flows.closed() => {
                    tracing::warn!(%why, "the connection to the bridge was lost");
                    break;
                }
                more = changes.next() => {
                    if !more {
                        break;
                    }
                    let now = seen(changes.ports(&bridge));
                    if now != last {
                        last = now;
                        let _ = events.send(SwitchEvent::PortsChanged);
                    }
                }
            }
            if switch.strong_count() == 0 {
                return;
            }
        }
        let _ = events.send(SwitchEvent::Lost);
    }
}

impl Switch for OpenVswitch {
    fn ensure_ready<'a>(
        &'a self,
        setup: &'a SwitchSetup,
    ) -> BoxFuture<'a, Result<SwitchReady, SwitchError>> {
        Box::pin(self.prepare(setup))
    }

    fn set_ports<'a>(
        &'a self,
        ports: &'a [SwitchPort],
    ) -> BoxFuture<'a, Result<BTreeMap<String, u32>, SwitchError>> {
        Box::pin(self.set_guest_ports(ports))
    }

    fn apply(&self, flows: Vec<Flow>) -> BoxFuture<'_, Result<Applied, SwitchError>> {
        Box::pin(self.flows.apply(flows))
    }

    fn verify(&self) -> BoxFuture<'_, Result<Verified, SwitchError>> {
        Box::pin(self.flows.verify())
    }

    fn read(&self) -> BoxFuture<'_, Result<TableRead, SwitchError>> {
        Box::pin(self.flows.read())
    }

    fn announce(
        &self,
        ofport: u32,
        frames: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), SwitchError>> {
        Box::pin(self.flows.announce(ofport, frames))
    }

    fn flush_zone(&self, zone: u16) -> BoxFuture<'_, Result<(), SwitchError>> {
        Box::pin(self.flows.flush_zone(zone))
    }

    fn events(&self) -> broadcast::Receiver<SwitchEvent> {
        self.events.subscribe()
    }
}
