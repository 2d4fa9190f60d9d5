//! The start of a guest, in order: image, disks, ports, config drive, process. Everything before
//! the process stops when the document changes meanwhile; the ports are made by the network's
//! task at the same time.

use std::time::Duration;

use host_protocol::{ReportState, ServerSpec};
use tokio::time::Instant;

use super::documents::Wanted;
use super::failure::Failure;
use super::server::{ServerTask, Stopped};
use super::shared::{ReadyPort, UID_SLOTS, lock};
use crate::config_drive;
use crate::hypervisor::{GuestNic, GuestSeen, HypervisorError, StartRequest};
use crate::pool::{DiskFile, DiskRequest};

/// After so long without its ports a start says what it waits for.
const PORTS_PATIENCE: Duration = Duration::from_secs(10);

/// The time of each stage, in order.
struct Stages {
    last: Instant,
    list: Vec<(String, Duration)>,
}

impl Stages {
    fn since(begin: Instant) -> Stages {
        Stages { last: begin, list: Vec::new() }
    }

    fn end(&mut self, name: &str) {
        let now = Instant::now();
        self.list.push((name.to_owned(), now.duration_since(self.last)));
        self.last = now;
    }

    /// `name milliseconds`, one after the other, for the log.
    fn spelled(&self) -> String {
        let spelled: Vec<String> = self
            .list
            .iter()
            .map(|(name, took)| format!("{name} {:.3}", took.as_secs_f64() * 1000.0))
            .collect();
        spelled.join(" ")
    }

    /// In whole milliseconds, for the report.
    fn reported(self) -> Vec<(String, u64)> {
        let millis = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.list.into_iter().map(|(name, took)| (name, millis(took))).collect()
    }
}

/// What a guest is started from.
struct Prepared {
    disks: Vec<DiskFile>,
    config_drive: Option<std::path::PathBuf>,
    ports: Vec<ReadyPort>,
    uid: u32,
}

impl ServerTask {
    /// Starts the guest.
    pub(super) async fn start(
        &mut self,
        wanted: &Wanted<ServerSpec>,
        spec: &ServerSpec,
    ) -> Result<GuestSeen, Stopped> {
        let first = !std::mem::replace(&mut self.begun, true);
        let mut stages = Stages::since(if first { wanted.received } else { Instant::now() });
        if first {
            stages.end("queued");
        }
        let mut version = self.inbox.version.subscribe();
        version.mark_unchanged();
        // Not the newest any more: whatever is prepared would be for an old description.
        let current = lock(&self.shared.documents)
            .servers
            .get(&self.id)
            .is_some_and(|now| now.generation == wanted.generation);
        if !current || *self.shared.ending.borrow() {
            return Err(Stopped::Superseded);
        }
        let prepared = tokio::select! {
            prepared = self.prepare(wanted, spec, &mut stages) => prepared?,
            changed = version.changed() => {
                drop(changed);
                return Err(Stopped::Superseded);
            }
        };
        // From here on there may be a process, so nothing is dropped half-way.
        self.memory.incarnation += 1;
        self.memory.powered_off_generation = None;
        self.keep_memory().await?;
        self.shared.set_running(&self.id, true);
        let mut nics = Vec::new();
        for port in &prepared.ports {
            nics.push(GuestNic {
                device: port.device.clone(),
                tap: self.shared.edges.links.open_tap(&port.device).await?,
            });
        }
        stages.end("record");
        tracing::info!(
            incarnation = self.memory.incarnation, request_id = %wanted.request_id,
            "starting the guest"
        );
        self.image_checksum = prepared
            .disks
            .first()
            .and_then(|disk| disk.backing.as_ref())
            .map(|image| image.sha256.clone());
        let hypervisor = &self.shared.edges.hypervisor;
        let started = hypervisor
            .start(StartRequest {
                spec: spec.clone(),
                incarnation: self.memory.incarnation,
                disks: prepared.disks,
                config_drive: prepared.config_drive,
                nics,
                uid: prepared.uid,
            })
            .await;
        let started = match started {
            Ok(started) => started,
            Err(HypervisorError::AlreadyRunning) => {
                // A former agent was killed between its fork and its record.
                let seen = hypervisor.adopt().await?;
                let found = seen.into_iter().find(|guest| guest.server_id == self.id);
                return found.ok_or(Stopped::from(HypervisorError::AlreadyRunning));
            }
            Err(error) => return Err(error.into()),
        };
        stages.list.extend(started.stages);
        tracing::info!(
            incarnation = self.memory.incarnation, request_id = %wanted.request_id,
            stages = %stages.spelled(), "the guest runs"
        );
        self.stages = stages.reported();
        Ok(started.seen)
    }

    async fn prepare(
        &self,
        wanted: &Wanted<ServerSpec>,
        spec: &ServerSpec,
        stages: &mut Stages,
    ) -> Result<Prepared, Stopped> {
        let edges = &self.shared.edges;
        let slot = self.shared.store.server_slot(&self.id, UID_SLOTS, None).await?;
        let uid = self.shared.config.uid_base + slot;
        let mut images = Vec::with_capacity(spec.disks.len());
        for disk in &spec.disks {
            let Some(source) = &disk.image else {
                images.push(None);
                continue;
            };
            if !edges.images.has(source) {
                self.report(wanted, ReportState::Working, None).await;
            }
            images.push(Some(edges.images.get(source).await.map_err(Failure::from)?.image));
        }
        stages.end("image");
        let request = DiskRequest { spec: spec.clone(), images, uid };
        let disks = edges.pool.ensure_disks(request).await?;
        stages.end("disks");
        let ports = self.await_ports(wanted, spec).await;
        stages.end("ports");
        let config_drive = match spec.config_drive {
            false => None,
            true => {
                let image = self.config_drive(spec).map_err(|why| Failure::config_drive(&why))?;
                let path = edges.pool.write_config_drive(&self.id, uid, image).await?;
                stages.end("config_drive");
                Some(path)
            }
        };
        Ok(Prepared { disks, config_drive, ports, uid })
    }

    /// Waits until every NIC's device is on the bridge with its flows in force.
    async fn await_ports(&self, wanted: &Wanted<ServerSpec>, spec: &ServerSpec) -> Vec<ReadyPort> {
        let patience = tokio::time::sleep(PORTS_PATIENCE);
        tokio::pin!(patience);
        let mut told = false;
        loop {
            let missing: Vec<&str> = {
                let ready = lock(&self.shared.ready_ports);
                let ports: Option<Vec<ReadyPort>> =
                    spec.nics.iter().map(|nic| ready.get(&nic.port_id).cloned()).collect();
                if let Some(ports) = ports {
                    return ports;
                }
                spec.nics
                    .iter()
                    .map(|nic| nic.port_id.as_str())
                    .filter(|port_id| !ready.contains_key(*port_id))
                    .collect()
            };
            tokio::select! {
                () = self.inbox.wake.notified() => {}
                () = &mut patience, if !told => {
                    told = true;
                    let failure = Failure::ports(&missing);
                    tracing::warn!(message = %failure.message, "a start waits");
                    self.report(wanted, ReportState::Failed, Some(failure.report(true))).await;
                }
            }
        }
    }

    fn config_drive(&self, spec: &ServerSpec) -> Result<Vec<u8>, String> {
        let (ports, networks) = {
            let documents = lock(&self.shared.documents);
            let ports: Vec<_> = spec
                .nics
                .iter()
                .filter_map(|nic| documents.ports.get(&nic.port_id)?.spec.clone())
                .collect();
            let networks: Vec<_> = ports
                .iter()
                .map(|port| documents.networks.get(&port.network_id)?.spec.clone())
                .collect();
            (ports, networks)
        };
        let nics: Vec<_> = ports
            .iter()
            .zip(&networks)
            .filter_map(|(port, network)| Some((port, network.as_ref()?)))
            .collect();
        config_drive::build(spec, &nics)
    }
}
