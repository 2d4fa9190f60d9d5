//! The agent's logic, apart from the machine and from the wire: it runs the same over simulated
//! edges.
//!
//! ```text
//!   start:  documents from the store ─► guests that run are taken over ─► tasks
//!   tasks:  one for each server (plan), one for the network, one for the host's facts
//!   events: documents, guests', the switch's ─► wake the task concerned, which looks at all
//! ```
//! Nothing is started before what runs is known, and nothing waits for the control plane: after a
//! reboot of the machine its guests are back before the region is.

pub mod announce;
mod documents;
mod facts;
mod failure;
mod killable;
#[cfg(test)]
mod machine_tests;
mod network;
mod network_input;
mod operations;
pub mod plan;
mod questions;
mod reboot;
mod server;
mod shared;
mod start;
#[cfg(test)]
mod switch_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host_protocol::{Document, DocumentKind, HostAnswer, HostQuery, ReportError, ReportState};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::documents::{Documents, Touched};
use self::server::ServerTask;
use self::shared::{Shared, lock};
use crate::BoxFuture;
use crate::hypervisor::{GuestEvent, GuestSeen, HypervisorError};
use crate::link::ControlPlane;
use crate::link::outbox::{self, OutboxBell};
use crate::link::stream::{self, Listener};
use crate::store::{DocumentStore, StoreError, StoredDocument};

#[cfg(any(test, feature = "simulated"))]
pub use killable::{Interlude, interposed};
pub use shared::{AgentConfig, Edges, MachineSize, UID_SLOTS};

/// How long to wait before the machine is asked again what runs on it.
const ADOPT_RETRY: Duration = Duration::from_secs(2);

/// What ending a guest may take beyond the power button's grace, and how often it is looked at.
const END_MARGIN: Duration = Duration::from_secs(30);
const END_LOOK: Duration = Duration::from_millis(50);

/// Why an agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its pool cannot be read.
    #[error("the pool of disks: {0}")]
    Pool(#[from] crate::pool::PoolError),
    /// The hypervisor cannot run guests at all.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}

/// A running agent.
pub struct Agent {
    shared: Arc<Shared>,
}

impl Agent {
    /// Takes over what runs, and begins to keep everything as the stored documents say.
    pub async fn start(
        config: AgentConfig,
        edges: Edges,
        store: DocumentStore,
        shutdown: CancellationToken,
    ) -> Result<Agent, AgentError> {
        let edges = killable::killable(edges);
        let hypervisor = edges.hypervisor.describe().await?;
        let mut documents = Documents::default();
        for stored in store.documents().await? {
            documents.put(stored);
        }
        // Files of servers that the store does not know (it may have been lost) belong to users
        // that no other guest may get.
        for server in edges.pool.servers().await? {
            let slot = server.uid.checked_sub(config.uid_base).filter(|slot| *slot < UID_SLOTS);
            store.server_slot(&server.server_id, UID_SLOTS, slot).await?;
        }
        let seen = loop {
            match edges.hypervisor.adopt().await {
                Ok(seen) => break seen,
                Err(error) => {
                    tracing::error!(%error, "cannot see what runs on this machine; nothing is started before");
                    tokio::time::sleep(ADOPT_RETRY).await;
                }
            }
        };
        let events = edges.hypervisor.events();
        let shared = Arc::new(Shared {
            config,
            edges,
            store,
            hypervisor,
            bell: OutboxBell::default(),
            documents: Mutex::new(documents),
            ready_ports: Mutex::default(),
            network_wake: Notify::new(),
            facts_wake: Notify::new(),
            switch_version: Mutex::default(),
            in_force: Mutex::default(),
            mended: Mutex::default(),
            announced: Mutex::default(),
            announce_wake: Notify::new(),
            running: Mutex::default(),
            inboxes: Mutex::default(),
            ending: watch::Sender::new(false),
            tasks: TaskTracker::new(),
            shutdown,
        });
        let agent = Agent { shared };
        agent.begin(seen, events);
        Ok(agent)
    }

    fn begin(&self, seen: Vec<GuestSeen>, events: Option<mpsc::UnboundedReceiver<GuestEvent>>) {
        let shared = &self.shared;
        let mut seen: HashMap<String, GuestSeen> =
            seen.into_iter().map(|guest| (guest.server_id.clone(), guest)).collect();
        let (servers, operations) = {
            let documents = lock(&shared.documents);
            let servers: Vec<String> = documents.servers.keys().cloned().collect();
            let operations: Vec<String> = documents.operations.keys().cloned().collect();
            (servers, operations)
        };
        for id in &servers {
            let (inbox, _) = shared.inbox(id);
            ServerTask::spawn(shared, id, inbox, seen.remove(id));
        }
        for (id, guest) in seen {
            tracing::warn!(server = %id, pid = guest.pid, "a guest runs that no document speaks of; it is left alone and the region is asked");
            let (inbox, _) = shared.inbox(&id);
            ServerTask::spawn(shared, &id, inbox, Some(guest));
        }
        for id in operations {
            let touched = {
                let documents = lock(&shared.documents);
                let server_id = documents.operations.get(&id).and_then(documents::operation_server);
                Touched::Operation { id, server_id }
            };
            route(shared, touched);
        }
        if let Some(events) = events {
            shared.tasks.spawn(deliver(Arc::clone(shared), events));
        }
        shared.tasks.spawn(network::run(Arc::clone(shared)));
        shared.tasks.spawn(facts::run(Arc::clone(shared)));
        shared.tasks.spawn(announce::run(Arc::clone(shared)));
        shared.network_wake.notify_one();
    }

    /// Follows a control plane, until the agent's shutdown.
    pub async fn follow(&self, control_plane: Arc<dyn ControlPlane>) {
        let shared = &self.shared;
        let listener: Arc<dyn Listener> = Arc::new(Ear(Arc::clone(shared)));
        let buried = {
            let shared = Arc::clone(shared);
            move |ended: Vec<(DocumentKind, String)>| {
                for (kind, id) in ended {
                    tracing::debug!(%kind, %id, "a removal was acknowledged");
                    lock(&shared.documents).bury(kind, &id);
                    if kind == DocumentKind::Server {
                        shared.wake_server(&id);
                    }
                }
            }
        };
        tokio::join!(
            stream::follow(
                Arc::clone(&control_plane),
                shared.store.clone(),
                listener,
                shared.shutdown.clone(),
            ),
            outbox::send(
                control_plane,
                shared.store.clone(),
                shared.bell.clone(),
                buried,
                shared.shutdown.clone(),
            ),
        );
    }

    /// Ends every guest in an orderly way, because the machine goes down, and returns when none
    /// runs (or too long after the grace). Their documents stay, nothing is reported, and the
    /// next agent starts them again.
    pub async fn end_guests(&self) {
        let shared = &self.shared;
        shared.ending.send_replace(true);
        let inboxes: Vec<_> = lock(&shared.inboxes).values().cloned().collect();
        for inbox in inboxes {
            inbox.version.send_modify(|version| *version += 1);
            inbox.wake.notify_one();
        }
        let deadline = tokio::time::Instant::now() + plan::GRACE + END_MARGIN;
        loop {
            let left: Vec<String> = lock(&shared.running).iter().cloned().collect();
            if left.is_empty() {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                tracing::error!(servers = ?left, "guests are left running");
                return;
            }
            tokio::time::sleep(END_LOOK).await;
        }
    }

    /// Waits for every task to end after the shutdown. Guests go on.
    pub async fn ended(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

async fn deliver(shared: Arc<Shared>, mut events: mpsc::UnboundedReceiver<GuestEvent>) {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => shared.deliver(event),
                None => return,
            },
            () = shared.shutdown.cancelled() => return,
        }
    }
}

/// Wakes whom a document concerns.
fn route(shared: &Arc<Shared>, touched: Touched) {
    match touched {
        Touched::Host => {
            shared.network_wake.notify_one();
            shared.facts_wake.notify_one();
        }
        Touched::Network => shared.network_wake.notify_one(),
        Touched::Server(id) => {
            // The metadata responder answers from the server's document.
            shared.network_wake.notify_one();
            let (inbox, new) = shared.inbox(&id);
            inbox.version.send_modify(|version| *version += 1);
            inbox.wake.notify_one();
            if new {
                ServerTask::spawn(shared, &id, inbox, None);
            }
        }
        Touched::Operation { id, server_id } => {
            let wanted = lock(&shared.documents).operations.get(&id).cloned();
            let Some(wanted) = wanted else { return };
            let here = server_id
                .as_ref()
                .is_some_and(|server| lock(&shared.documents).servers.contains_key(server));
            if let (Some(server), true) = (&server_id, here) {
                shared.wake_server(server);
            }
            let shared = Arc::clone(shared);
            if wanted.must_go() {
                let tasks = shared.tasks.clone();
                tasks.spawn(async move {
                    let kind = DocumentKind::Operation;
                    shared.report(kind, &id, &wanted, ReportState::Gone, &(), None).await;
                });
            } else if !here || wanted.unreadable.is_some() {
                let tasks = shared.tasks.clone();
                tasks.spawn(async move {
                    let error = ReportError {
                        code: "no_such_server".to_owned(),
                        message: wanted
                            .unreadable
                            .clone()
                            .unwrap_or_else(|| "the server is not on this host".to_owned()),
                        retrying: false,
                    };
                    shared.report_failed(DocumentKind::Operation, &id, &wanted, error).await;
                });
            }
        }
    }
}

/// Hears the control plane.
struct Ear(Arc<Shared>);

impl Listener for Ear {
    fn documents(&self, new: Vec<Document>) {
        // All are in place before anybody is woken, so that a server sees its ports.
        let mut touched: Vec<Touched> = {
            let mut documents = lock(&self.0.documents);
            new.into_iter()
                .map(|document| documents.put(StoredDocument { document, known: true }))
                .collect()
        };
        touched.sort();
        touched.dedup();
        for touched in touched {
            route(&self.0, touched);
        }
    }

    fn new_lineage(&self) {
        lock(&self.0.documents).forget_lineage();
        self.0.bell.ring();
    }

    fn known_again(&self, repeated: Vec<Document>) {
        let touched: Vec<Touched> = {
            let mut documents = lock(&self.0.documents);
            repeated
                .iter()
                .filter_map(|document| documents.known_again(document.kind, &document.id))
                .collect()
        };
        for touched in touched {
            route(&self.0, touched);
        }
    }

    fn connected(&self, up: bool) {
        if up {
            self.0.bell.connected();
        }
    }

    fn answer(&self, query: HostQuery) -> BoxFuture<'_, HostAnswer> {
        Box::pin(async move {
            let (server_id, lines) = match query {
                HostQuery::ConsoleLog { server_id, lines } => (server_id, lines),
                HostQuery::NetworkState { port_id } => {
                    return questions::network_state(&self.0, port_id).await;
                }
                HostQuery::Trace { start, is_answer } => {
                    return questions::way_of(&self.0, start, is_answer).await;
                }
                HostQuery::Inventory => {
                    return match self.0.store.inventory().await {
                        Ok(held) => HostAnswer::Inventory { held },
                        Err(error) => {
                            HostAnswer::Failed { message: error.to_string(), not_found: false }
                        }
                    };
                }
            };
            let known = lock(&self.0.documents).servers.contains_key(&server_id);
            if !known {
                return HostAnswer::Failed {
                    message: "the server is not on this host".to_owned(),
                    not_found: true,
                };
            }
            match self.0.edges.hypervisor.console_log(&server_id, lines).await {
                Ok(output) => HostAnswer::ConsoleLog { output },
                Err(error) => HostAnswer::Failed { message: error.to_string(), not_found: false },
            }
        })
    }
}
