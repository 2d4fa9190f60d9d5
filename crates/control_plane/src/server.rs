//! Puts the services together into one server: the public API, the hosts' gateway, and the
//! workers behind them. Nothing is decided here; this is where the arrows meet.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use auditor::Auditor;
use cloud_types::HostId;
use compute::{Compute, Ratios};
use database::{Database, DatabaseError, Notification, Origin};
use identity::{BootstrapConfig, DemoConfig, Identity, IdentityConfig, KeySource, Tokens};
use network::{Network, Settings};
use service_kit::{App, Kit, KitConfig, Policy, PolicyFile, ServeConfig};
use storage::Images;
use storage::image::FileStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use workflow_engine::{Engine, EngineConfig};

use crate::config::Config;
use crate::gateway::{self, Connections, Gateway, Relay, ReportRouter};
use crate::layout::Layout;
use crate::pki::Authority;
use crate::replica::{self, Registry, Replica, View};
use crate::{adoption, housekeeping, image_store, init};

/// Every migration, in the order of the crates' arrows.
const MIGRATIONS: &[database::MigrationSet] = &[
    workflow_engine::MIGRATIONS,
    service_kit::MIGRATIONS,
    host_documents::MIGRATIONS,
    identity::MIGRATIONS,
    network::MIGRATIONS,
    storage::MIGRATIONS,
    compute::MIGRATIONS,
    replica::MIGRATIONS,
    auditor::MIGRATIONS,
];

/// Every resource that is counted, with the limit that holds unless said otherwise.
const QUOTAS: [&[service_kit::quota::QuotaDefault]; 3] =
    [network::QUOTA_DEFAULTS, storage::image::QUOTA_DEFAULTS, compute::QUOTA_DEFAULTS];

/// Every rule that a route or a service asks about.
pub const POLICIES: &[&[service_kit::PolicyRule]] =
    &[identity::POLICY, network::POLICY, storage::image::POLICY, compute::POLICY, auditor::POLICY];

/// Brings the schema up to this release and makes the counted resources known.
pub async fn migrate(db: &Database) -> Result<()> {
    db.migrate(MIGRATIONS).await.context("migrating the database")?;
    let unregistered = db
        .read(|tx| {
            Box::pin(async move {
                for defaults in QUOTAS {
                    if service_kit::quota::unregistered(tx, defaults).await? {
                        return Ok::<_, DatabaseError>(true);
                    }
                }
                Ok(false)
            })
        })
        .await
        .context("looking at the registered quotas")?;
    if !unregistered {
        return Ok(());
    }
    db.transact(&Origin::system("start"), |tx| {
        Box::pin(async move {
            for defaults in QUOTAS {
                service_kit::quota::register(tx, defaults).await?;
            }
            Ok::<_, DatabaseError>(())
        })
    })
    .await
    .context("registering quotas")
}

/// Makes the first users, roles and catalogue, or leaves them as they are.
pub async fn bootstrap_identity(
    layout: &Layout,
    config: &Config,
    db: &Database,
    admin_password: &str,
    demo_password: &str,
) -> Result<()> {
    // A first signing key is made now, so that a start after this only reads.
    Tokens::open(db, &KeySource::Directory(layout.token_keys())).await?;
    let wanted = BootstrapConfig {
        admin_password: admin_password.to_owned(),
        region: config.region.clone(),
        base_url: config.api.public_url.clone(),
        demo: Some(DemoConfig { name: "demo".to_owned(), password: demo_password.to_owned() }),
        hashing: config.password_hashing.params(),
    };
    identity::bootstrap(db, &wanted).await.context("making the first users")?;
    Ok(())
}

/// A control plane that runs.
pub struct Running {
    shutdown: CancellationToken,
    tasks: TaskTracker,
    app: App,
}

impl Running {
    /// Takes no new requests, lets those under way end, and returns when nothing runs.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }

    /// The route table, as it is served.
    pub fn app(&self) -> &App {
        &self.app
    }
}

/// All services over one database, without a listener.
pub struct Services {
    /// The public API.
    pub app: App,
    /// Who is who.
    pub identity: Identity,
    /// Networks, subnets, ports, security groups.
    pub network: Network,
    /// The zone's images.
    pub images: Images,
    /// Servers.
    pub compute: Compute,
    /// Runs workflows, once it is told to.
    pub engine: Engine,
    /// Hosts connected to this process.
    pub connections: Arc<Connections>,
    /// Asks hosts, wherever they are connected.
    pub relay: Relay,
    /// Looks whether all that is written agrees.
    pub auditor: Auditor,
}

/// What the services need besides rows.
pub struct Surroundings {
    /// The rules in force.
    pub policy: Policy,
    /// Where token keys are.
    pub keys: KeySource,
    /// Limits and names of the API.
    pub kit: KitConfig,
    /// How passwords are hashed, and how long tokens live.
    pub identity: IdentityConfig,
    /// Where images' files are.
    pub images: FileStore,
}

/// Puts the services together over a database that has been migrated.
pub async fn assemble(db: &Database, with: Surroundings) -> Result<Services> {
    let tokens = Tokens::open(db, &with.keys).await?;
    let engine = Engine::new(db.clone(), EngineConfig::default());
    // One name for all that this process holds.
    let kit = KitConfig { worker: engine.owner().to_owned(), ..with.kit };
    let kit = Kit::new(db.clone(), with.policy, tokens.clone(), kit);
    let identity = Identity::new(kit.clone(), tokens, with.identity);
    let network = Network::new(kit.clone(), Settings::default());
    let images = Images::new(kit.clone(), Arc::new(with.images));
    let connections = Arc::new(Connections::default());
    connections.register(&kit.metrics);
    let relay = Relay::new(db.clone(), connections.clone(), engine.owner());
    let compute = Compute::new(
        kit.clone(),
        network.clone(),
        images.clone(),
        Arc::new(relay.clone()),
        Ratios::default(),
    );
    compute.register(&engine);
    let auditor = Auditor::new(kit.clone(), promised(Ratios::default()));
    let routes = vec![
        auditor::routes(auditor.clone()),
        identity::routes(identity.clone()),
        compute.routes(),
        network.routes(),
        storage::image::routes(images.clone()),
    ];
    let app = App::new(kit, routes).context("putting the routes together")?;
    Ok(Services { app, identity, network, images, compute, engine, connections, relay, auditor })
}

/// How much of what they have hosts may promise, in percent: processors, memory, disk.
pub fn promised(ratios: Ratios) -> [u64; 3] {
    [ratios.vcpu_percent, ratios.memory_percent, ratios.disk_percent]
}

/// Starts everything; returns when both ports answer.
pub async fn start(layout: &Layout, config: Config) -> Result<Running> {
    init::ensure_server_certificates(layout, &config)?;
    let mut db = init::open_database(layout, &config).await?;
    migrate(&db).await?;
    if adoption::is_pending(&db).await? {
        adoption::review(layout, &config, &db, &CancellationToken::new()).await?;
        // Hosts follow another lineage from now on, and this process has the former one in mind.
        db.close().await;
        db = init::open_database(layout, &config).await?;
    }
    let images = layout.root().join(&config.zone.images);
    image_store::check(&db, &images).await?;
    let store = FileStore::open(&images).context("opening the zone's image store")?;
    let public_url = Some(config.api.public_url.clone());
    let with = Surroundings {
        policy: read_policy(layout)?,
        keys: KeySource::Directory(layout.token_keys()),
        kit: KitConfig { public_url, ..KitConfig::default() },
        identity: config.identity().map_err(anyhow::Error::msg)?,
        images: store,
    };
    let Services { app, identity, network, images, compute, engine, connections, relay, auditor } =
        assemble(&db, with).await?;

    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let listener = TcpListener::bind(config.gateway.listen)
        .await
        .with_context(|| format!("listening on {} for hosts", config.gateway.listen))?;
    let api_listener = TcpListener::bind(config.api.listen)
        .await
        .with_context(|| format!("listening on {} for the API", config.api.listen))?;
    // Both ports are ours, so no other process of this replica runs.
    let own = this_replica(layout, &config, engine.owner())?;
    let registry = Registry::join(db.clone(), own).await;
    let gateway = Gateway {
        db: db.clone(),
        authority: Arc::new(Authority::open_or_create(&layout.pki(), "Meridian")?),
        connections: connections.clone(),
        reports: Arc::new(ReportRouter { compute: Arc::new(compute), network: Arc::new(network) }),
        images: images.clone(),
        view: registry.view(),
        shutdown: shutdown.clone(),
    };
    let tls = gateway::tls_config(
        gateway.authority.certificate(),
        &init::server_certificate(layout, "gateway")?,
    )?;
    tasks.spawn(gateway::serve(
        listener,
        Arc::new(tls),
        gateway::router(gateway),
        shutdown.clone(),
    ));
    tasks.spawn(gateway::heartbeat::run(db.clone(), connections.clone(), shutdown.clone()));
    tasks.spawn(wake_hosts(db.clone(), connections, shutdown.clone()));
    tasks.spawn(relay.run(shutdown.clone()));
    tasks.spawn(housekeeping::run(db.clone(), engine.owner().to_owned(), shutdown.clone()));
    let view = registry.view();
    tasks.spawn(registry.run(shutdown.clone()));
    {
        let shutdown = shutdown.clone();
        tasks.spawn(async move { identity.run(shutdown).await });
    }
    {
        let shutdown = shutdown.clone();
        tasks.spawn(async move { images.run(shutdown).await });
    }
    {
        let (holder, shutdown) = (engine.owner().to_owned(), shutdown.clone());
        tasks.spawn(async move { auditor.run(&holder, shutdown).await });
    }

    let tls = service_kit::tls::server_config(
        &layout.pki().join("api.pem"),
        &layout.pki().join("api.key"),
    )?;
    if !db.is_shared() {
        // No other process of this cloud runs on this file.
        let origin = Origin::system("start");
        let given_up =
            db.transact(&origin, |tx| Box::pin(service_kit::idempotency::succeed_all(tx))).await;
        if let Err(error) = given_up {
            tracing::warn!(%error, "claims on idempotency keys of a former process grow stale");
        }
        match engine.succeed_all().await {
            Ok(0) => {}
            Ok(taken) => tracing::info!(taken, "taking over what a former process was at work on"),
            Err(error) => {
                tracing::warn!(%error, "leases of a former process run out by themselves")
            }
        }
    }
    {
        let shutdown = shutdown.clone();
        tasks.spawn(async move { engine.run(shutdown).await });
    }
    app.set_ready(view.borrow().in_touch);
    tasks.spawn(follow_readiness(app.clone(), view, shutdown.clone()));
    tasks.spawn(service_kit::serve(
        api_listener,
        Some(tls),
        app.clone(),
        ServeConfig::default(),
        shutdown.clone(),
    ));
    tasks.close();
    tracing::info!(api = %config.api.listen, gateway = %config.gateway.listen, "ready");
    Ok(Running { shutdown, tasks, app })
}

/// How this process registers among the replicas.
fn this_replica(layout: &Layout, config: &Config, worker: &str) -> Result<Replica> {
    let now = crate::clock::clock().now();
    Ok(Replica {
        id: init::replica_id(layout)?,
        gateway: config.gateway.url.clone(),
        api: config.api.listen.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        worker: worker.to_owned(),
        epoch: 0,
        beat: 0,
        serving: true,
        started_at: now,
        seen_at: now,
    })
}

/// `/healthz` says whether a balancer should send requests here.
async fn follow_readiness(app: App, mut view: watch::Receiver<View>, shutdown: CancellationToken) {
    loop {
        app.set_ready(view.borrow_and_update().in_touch);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// An operator's rules are in one of these, in `etc/`.
pub const POLICY_FILES: [&str; 3] = ["policy.yaml", "policy.json", "policy.toml"];

/// The declared rules, with the operator's `etc/policy.yaml` (or `policy.json`, `policy.toml`) over
/// them where there is one.
pub fn read_policy(layout: &Layout) -> Result<Policy> {
    let mut found: Option<(std::path::PathBuf, String)> = None;
    for name in POLICY_FILES {
        let path = layout.root().join("etc").join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                if let Some((other, _)) = &found {
                    bail!(
                        "there are two policy files, {} and {}. Keep one: which of two would hold \
                         could not be told.",
                        other.display(),
                        path.display()
                    );
                }
                found = Some((path, text));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    let Some((path, text)) = found else {
        return Ok(Policy::new(POLICIES)?);
    };
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    let file = if is_toml { PolicyFile::Toml(&text) } else { PolicyFile::Yaml(&text) };
    Policy::with_overrides(POLICIES, Some(file)).with_context(|| path.display().to_string())
}

/// Wakes the streams of hosts whose documents changed, whichever process changed them, and ends
/// those of hosts that opened another, wherever.
pub async fn wake_hosts(db: Database, connections: Arc<Connections>, shutdown: CancellationToken) {
    let mut changes = db.subscribe(host_documents::CHANNEL);
    let mut sessions = db.subscribe(host_documents::hosts::SESSIONS);
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => change,
            opened = sessions.recv() => {
                // One that is missed is noticed at the stream's next sign of life.
                if let Notification::Key(key) = opened
                    && let Some((host, session)) = key.split_once(' ')
                    && let (Ok(host), Ok(session)) = (host.parse(), session.parse())
                {
                    connections.supersede(host, session);
                }
                continue;
            }
        };
        match change {
            Notification::Key(key) => {
                if let Ok(host) = key.parse::<HostId>() {
                    connections.wake(host);
                }
            }
            Notification::Lagged => connections.wake_all(),
        }
    }
}
