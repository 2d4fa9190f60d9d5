//! A control plane's process: the real services over a database handle of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use cloud_types::Clock;
use control_plane::gateway::{self, Gateway, ReportRouter};
use control_plane::housekeeping;
use control_plane::pki::Authority;
use control_plane::replica::{Registry, Replica as Registered};
use control_plane::server::{self, Services, Surroundings};
use database::Database;
use identity::{HashParams, IdentityConfig, KeySource};
use service_kit::{KitConfig, Policy, RateLimit};
use storage::image::FileStore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::SimulatedClock;
use crate::network::{DatabaseWire, Dice, Life, Partitions};

/// Passwords are hashed as cheaply as can be: a simulation guards nothing.
pub const HASHING: HashParams = HashParams::CHEAP;

/// What replicas have in common.
#[derive(Clone)]
pub struct Common {
    /// The database, without any process around it.
    pub db: Database,
    /// The time, without skew.
    pub clock: SimulatedClock,
    /// The run's seed.
    pub seed: u64,
    /// Images' files.
    pub directory: PathBuf,
    /// Signs hosts' certificates; nobody asks it here.
    pub authority: Arc<Authority>,
    /// What is cut off.
    pub partitions: Partitions,
    /// For delays.
    pub dice: Dice,
}

/// A process that runs.
pub struct Replica {
    /// `replica-N`.
    pub name: String,
    /// Its clock, which may go wrong.
    pub clock: SimulatedClock,
    /// Whether it lives.
    pub life: Arc<Life>,
    /// The slowest transaction, in milliseconds.
    pub slowest_millis: Arc<AtomicU64>,
    /// Its services.
    pub services: Services,
    /// Its gateway, for hosts.
    pub gateway: Router,
    tasks: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
}

/// A transaction's longest way there and back, when nothing is slow.
pub const USUAL_MILLIS: u64 = 2;

/// Where hosts find the gateway of a replica.
pub fn gateway_url(number: usize) -> String {
    format!("https://replica-{number}")
}

impl Common {
    /// The services over a handle of the database; nothing of them runs by itself.
    ///
    /// # Errors
    /// When they cannot be put together.
    pub async fn assemble(&self, db: &Database) -> Result<Services> {
        let with = Surroundings {
            policy: Policy::new(server::POLICIES)?,
            keys: KeySource::Seeded(self.seed),
            kit: KitConfig { rate: RateLimit { per_second: 0, burst: 0 }, ..KitConfig::default() },
            identity: IdentityConfig {
                token_lifetime: Duration::from_secs(30 * 24 * 3600),
                hashing: HASHING,
                hashing_workers: 0,
                ..IdentityConfig::default()
            },
            images: FileStore::open(&self.directory.join("images"))?,
        };
        let services = server::assemble(db, with).await?;
        services.app.set_ready(true);
        Ok(services)
    }
}

impl Replica {
    /// Starts a process.
    ///
    /// # Errors
    /// When it cannot begin.
    pub async fn start(number: usize, common: &Common) -> Result<Replica> {
        let name = format!("replica-{number}");
        let (clock, life) = (common.clock.of_another(), Arc::<Life>::default());
        let slowest_millis = Arc::new(AtomicU64::new(USUAL_MILLIS));
        let wire = DatabaseWire {
            name: name.clone(),
            life: life.clone(),
            partitions: common.partitions.clone(),
            dice: common.dice.clone(),
            slowest_millis: slowest_millis.clone(),
            answers_lost: 1,
        };
        let db = common.db.process(Arc::new(clock.clone()), Arc::new(wire));
        let services = common.assemble(&db).await?;
        let worker = services.engine.owner().to_owned();
        let now = clock.now();
        let registry = Registry::join(
            db.clone(),
            Registered {
                id: name.clone(),
                gateway: gateway_url(number),
                api: name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                worker: worker.clone(),
                epoch: 0,
                beat: 0,
                serving: true,
                started_at: now,
                seen_at: now,
            },
        )
        .await;
        let shutdown = CancellationToken::new();
        let gateway = gateway::router(Gateway {
            db: db.clone(),
            authority: common.authority.clone(),
            connections: services.connections.clone(),
            reports: Arc::new(ReportRouter {
                compute: Arc::new(services.compute.clone()),
                network: Arc::new(services.network.clone()),
            }),
            images: services.images.clone(),
            view: registry.view(),
            shutdown: shutdown.clone(),
        });
        let mut tasks = Vec::new();
        let (engine, stop) = (services.engine.clone(), shutdown.clone());
        tasks.push(tokio::spawn(async move { engine.run(stop).await }));
        let (identity, stop) = (services.identity.clone(), shutdown.clone());
        tasks.push(tokio::spawn(async move { identity.run(stop).await }));
        let connections = services.connections.clone();
        let heartbeat = gateway::heartbeat::run(db.clone(), connections.clone(), shutdown.clone());
        tasks.push(tokio::spawn(heartbeat));
        tasks.push(tokio::spawn(server::wake_hosts(db.clone(), connections, shutdown.clone())));
        tasks.push(tokio::spawn(services.relay.clone().run(shutdown.clone())));
        tasks.push(tokio::spawn(registry.run(shutdown.clone())));
        tasks.push(tokio::spawn(housekeeping::run(db.clone(), worker, shutdown.clone())));
        Ok(Replica { name, clock, life, slowest_millis, services, gateway, tasks, shutdown })
    }

    /// Ends the process at whatever its tasks wait for.
    pub fn crash(&self) {
        self.life.end();
        for task in &self.tasks {
            task.abort();
        }
        // What is left of it cannot reach anything any more; this lets it go.
        self.shutdown.cancel();
    }
}
