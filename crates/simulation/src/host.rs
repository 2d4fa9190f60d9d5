//! A simulated host: a machine that outlives its agents, the agents' store, and the agent that runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use cloud_types::HostId;
use host_agent::BoxFuture;
use host_agent::agent::{Agent, AgentConfig, Interlude, MachineSize, interposed};
use host_agent::link::Gateways;
use host_agent::simulated::SimulatedMachine;
use host_agent::store::{DocumentStore, OperationMemory};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::link::{Earlier, Held, SimulatedLink};
use crate::network::{Dice, Life};
use crate::replica;
use crate::world::Region;

/// What every machine has.
const SIZE: MachineSize = MachineSize { vcpus: 4, memory_mib: 2048 };

/// An agent's process.
struct Running {
    life: Arc<Life>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// The host.
pub struct SimulatedHost {
    /// `host-N`.
    pub name: String,
    /// Its identity.
    pub id: HostId,
    /// The machine.
    pub machine: SimulatedMachine,
    /// How long an act upon the machine takes at most, in milliseconds: its disk.
    pub slowest_millis: Arc<AtomicU64>,
    store: Mutex<DocumentStore>,
    earlier: Arc<Mutex<Earlier>>,
    running: Mutex<Option<Running>>,
    region: Region,
    dice: Dice,
}

struct Acts {
    life: Arc<Life>,
    dice: Dice,
    slowest_millis: Arc<AtomicU64>,
}

impl Interlude for Acts {
    fn pause(&self, _act: &'static str) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.life.go_on().await;
            let most = Duration::from_millis(self.slowest_millis.load(Ordering::SeqCst));
            let wait = self.dice.up_to(most);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                self.life.go_on().await;
            }
        })
    }
}

/// An act's longest time, when nothing is slow.
pub const USUAL_MILLIS: u64 = 20;

impl SimulatedHost {
    /// A machine that has joined as this host. No agent runs yet.
    ///
    /// # Errors
    /// When its store cannot be made.
    pub fn new(name: String, id: HostId, region: Region, dice: Dice) -> Result<SimulatedHost> {
        Ok(SimulatedHost {
            name,
            id,
            machine: SimulatedMachine::default(),
            slowest_millis: Arc::new(AtomicU64::new(USUAL_MILLIS)),
            store: Mutex::new(DocumentStore::in_memory()?),
            earlier: Arc::default(),
            running: Mutex::new(None),
            region,
            dice,
        })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its agents have remembered of operations.
    ///
    /// # Errors
    /// The store's.
    pub fn operations(&self) -> Result<BTreeMap<String, OperationMemory>> {
        Ok(self.store.lock().unwrap_or_else(PoisonError::into_inner).operations()?)
    }

    /// Whether an agent runs.
    pub fn is_up(&self) -> bool {
        self.running().is_some()
    }

    /// Starts an agent over whatever the one before left.
    pub fn start(&self) {
        let life = Arc::<Life>::default();
        let stop = CancellationToken::new();
        let store = {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            *store = store.reopened();
            store.clone()
        };
        let acts = Acts {
            life: life.clone(),
            dice: self.dice.clone(),
            slowest_millis: self.slowest_millis.clone(),
        };
        let edges = interposed(self.machine.edges(), Arc::new(acts));
        let link = Arc::new(Held(Arc::new(SimulatedLink {
            name: self.name.clone(),
            id: self.id,
            life: life.clone(),
            region: self.region.clone(),
            dice: self.dice.clone(),
            earlier: self.earlier.clone(),
            // An operator names one; of the others the host hears.
            gateways: Gateways::new(&self.id.to_string(), &[replica::gateway_url(0)]),
        })));
        let config = AgentConfig {
            device_prefix: "sim".to_owned(),
            underlay: Some("wire".to_owned()),
            responders: true,
            uid_base: 1_000_000_000,
            reserved_memory_mib: 0,
            host_ip: None,
            underlay_ageing: None,
            machine: Some(SIZE),
        };
        let (name, until) = (self.name.clone(), stop.clone());
        let task = tokio::spawn(async move {
            match Agent::start(config, edges, store, until).await {
                Ok(agent) => agent.follow(link).await,
                Err(error) => tracing::warn!(%error, %name, "an agent does not start"),
            }
        });
        *self.running() = Some(Running { life, task, stop });
    }

    /// Ends the agent at whatever its tasks wait for. The machine stays as it is.
    pub fn crash(&self) {
        let running = self.running().take();
        if let Some(Running { life, task, stop }) = running {
            life.end();
            // What still runs of it cannot write any more.
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            *store = store.reopened();
            drop(store);
            task.abort();
            stop.cancel();
        }
    }
}
