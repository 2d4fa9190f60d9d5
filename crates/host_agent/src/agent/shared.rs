//! What the agent's tasks share: the edges to the machine, the documents, and who is woken when.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host_protocol::{DocumentKind, ReportError, ReportState};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::Announced;
use super::documents::{Documents, Wanted};
use super::questions::{InForce, Mended};
use crate::edges::{Links, Responders};
use crate::hypervisor::{GuestEvent, Hypervisor, HypervisorFacts};
use crate::image_cache::Images;
use crate::link::outbox::OutboxBell;
use crate::pool::Pool;
use crate::store::{DocumentStore, Draft};
use crate::switch::Switch;

/// The machine, real or simulated.
#[derive(Clone)]
pub struct Edges {
    /// Runs guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Forwards frames.
    pub switch: Arc<dyn Switch>,
    /// Keeps disks.
    pub pool: Arc<dyn Pool>,
    /// Makes devices.
    pub links: Arc<dyn Links>,
    /// Answers guests.
    pub responders: Arc<dyn Responders>,
    /// Keeps images.
    pub images: Arc<dyn Images>,
}

/// What the agent is told by its operator, as far as its logic needs it.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Start of the names of taps and veths.
    pub device_prefix: String,
    /// The device towards the other hosts.
    pub underlay: Option<String>,
    /// Whether guests are answered on this host.
    pub responders: bool,
    /// First user id of the host's guests.
    pub uid_base: u32,
    /// Memory in MiB not offered to guests.
    pub reserved_memory_mib: u64,
    /// Address shown to operators.
    pub host_ip: Option<IpAddr>,
    /// How long the underlay's switches remember an address that is silent; `None` when locators are
    /// not announced.
    pub underlay_ageing: Option<Duration>,
    /// What a simulated machine has; absent, the kernel is asked.
    pub machine: Option<MachineSize>,
}

/// A machine's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineSize {
    /// Logical processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// How many user ids a host has for its guests.
pub const UID_SLOTS: u32 = 60_000;

/// A port whose device is on the bridge and whose flows are in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyPort {
    /// The device.
    pub device: String,
}

/// What wakes a server's task.
pub struct Inbox {
    events: Mutex<VecDeque<GuestEvent>>,
    /// Something happened: an event, a document, a port.
    pub wake: Notify,
    /// Counts the versions of the server's document: preparations for an older one stop.
    pub version: watch::Sender<u64>,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox { events: Mutex::default(), wake: Notify::new(), version: watch::Sender::new(0) }
    }

    /// Takes the events that came.
    pub fn take_events(&self) -> VecDeque<GuestEvent> {
        std::mem::take(&mut *lock(&self.events))
    }
}

/// What the tasks share.
pub struct Shared {
    /// The operator's words.
    pub config: AgentConfig,
    /// The machine.
    pub edges: Edges,
    /// The durable memory.
    pub store: DocumentStore,
    /// What the hypervisor is.
    pub hypervisor: HypervisorFacts,
    /// Rung when a report is due.
    pub bell: OutboxBell,
    /// What should be.
    pub documents: Mutex<Documents>,
    /// Ports that a guest may use.
    pub ready_ports: Mutex<BTreeMap<String, ReadyPort>>,
    /// Wakes the network's task.
    pub network_wake: Notify,
    /// Wakes the task that reports the host's own facts.
    pub facts_wake: Notify,
    /// The switch's version, once it is known.
    pub switch_version: Mutex<String>,
    /// What the network's task last put in force.
    pub in_force: Mutex<InForce>,
    /// What it had to put right.
    pub mended: Mutex<Mended>,
    /// Locators that the underlay should know.
    pub announced: Mutex<Announced>,
    /// Wakes the task that announces them.
    pub announce_wake: Notify,
    /// Servers with a living guest: their devices are not removed under them.
    pub running: Mutex<HashSet<String>>,
    /// Server tasks by server.
    pub inboxes: Mutex<HashMap<String, Arc<Inbox>>>,
    /// The machine is going down: guests end, and their documents stay as they are.
    pub ending: watch::Sender<bool>,
    /// Every task.
    pub tasks: TaskTracker,
    /// Ends them.
    pub shutdown: CancellationToken,
}

/// Takes a lock that nobody can leave broken: what it guards is replaced as a whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Puts a report on a document into the outbox. False when the store could not take it: it is
    /// made again at the next change or restart, and the world does not depend on it.
    pub async fn report<T>(
        &self,
        kind: DocumentKind,
        id: &str,
        wanted: &Wanted<T>,
        state: ReportState,
        facts: &impl Serialize,
        error: Option<ReportError>,
    ) -> bool {
        let draft = Draft {
            kind,
            id: id.to_owned(),
            generation: wanted.generation,
            epoch: wanted.epoch,
            state,
            facts: serde_json::to_value(facts).unwrap_or_default(),
            error,
        };
        match self.store.put_report(draft).await {
            Ok(true) => {
                self.bell.ring();
                true
            }
            Ok(false) => true,
            Err(error) => {
                tracing::error!(%kind, id, %error, "cannot keep a report");
                false
            }
        }
    }

    /// Says that a document cannot be carried out.
    pub async fn report_failed<T>(
        &self,
        kind: DocumentKind,
        id: &str,
        wanted: &Wanted<T>,
        error: ReportError,
    ) -> bool {
        self.report(kind, id, wanted, ReportState::Failed, &(), Some(error)).await
    }

    /// The inbox of a server's task, and whether it is new (then the caller starts the task).
    pub fn inbox(&self, server_id: &str) -> (Arc<Inbox>, bool) {
        let mut inboxes = lock(&self.inboxes);
        if let Some(inbox) = inboxes.get(server_id) {
            return (Arc::clone(inbox), false);
        }
        let inbox = Arc::new(Inbox::new());
        inboxes.insert(server_id.to_owned(), Arc::clone(&inbox));
        (inbox, true)
    }

    /// Wakes a server's task, if it has one.
    pub fn wake_server(&self, server_id: &str) {
        if let Some(inbox) = lock(&self.inboxes).get(server_id) {
            inbox.wake.notify_one();
        }
    }

    /// Hands an event to the task of its server.
    pub fn deliver(&self, event: GuestEvent) {
        if let Some(inbox) = lock(&self.inboxes).get(&event.server_id) {
            lock(&inbox.events).push_back(event);
            inbox.wake.notify_one();
        }
    }

    /// Notes whether a server has a living guest.
    pub fn set_running(&self, server_id: &str, running: bool) {
        let changed = if running {
            lock(&self.running).insert(server_id.to_owned())
        } else {
            lock(&self.running).remove(server_id)
        };
        if changed && !running {
            // Devices that waited for the guest to end can go now.
            self.network_wake.notify_one();
        }
    }
}
