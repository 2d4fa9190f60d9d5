//! Identity, network, images and compute on one port, over a database in memory and simulated
//! hosts: for trying a client, and for looking at answers without a hypervisor.
//!
//! `cargo run -p compute --example compute_server -- 127.0.0.1:8774 3 [FILE]`, then
//! `OS_AUTH_URL=http://127.0.0.1:8774/identity/v3 OS_USERNAME=admin OS_PASSWORD=admin
//! OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default openstack …`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloud_types::{Fault, HostId, SystemClock};
use compute::{Compute, HostQueries, Ratios};
use database::{BoxFuture, Database, DatabaseConfig, Notification, Origin, Tx};
use host_documents::reports::{ReportSink, apply};
use host_documents::{CHANNEL, documents, hosts};
use host_protocol::{
    DesiredPower, Document, DocumentKind, HostAnswer, HostFacts, HostQuery, PortFacts, PowerState,
    Report, ReportState, ServerFacts, ServerSpec,
};
use identity::{
    BootstrapConfig, DemoConfig, HashParams, Identity, IdentityConfig, KeySource, Tokens,
};
use network::Network;
use serde_json::{Value, json};
use service_kit::{App, Kit, KitConfig, Policy, ServeConfig, serve};
use storage::image::{FileStore, Images};
use tokio_util::sync::CancellationToken;
use workflow_engine::{Engine, EngineConfig};

struct Consoles;

impl HostQueries for Consoles {
    fn ask(&self, _: &HostId, query: HostQuery) -> BoxFuture<'_, Result<HostAnswer, Fault>> {
        Box::pin(async move {
            Ok(match query {
                HostQuery::ConsoleLog { server_id, .. } => {
                    HostAnswer::ConsoleLog { output: format!("{server_id} login: ") }
                }
                HostQuery::Inventory => HostAnswer::Inventory { held: Vec::new() },
                HostQuery::NetworkState { .. } | HostQuery::Trace { .. } => {
                    HostAnswer::Failed { message: "no switch".to_owned(), not_found: false }
                }
            })
        })
    }
}

struct Both(Compute, Network);

impl ReportSink for Both {
    fn reported<'c>(
        &'c self,
        tx: &'c mut Tx,
        host: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            self.1.reported(tx, host, report).await?;
            self.0.reported(tx, host, report).await
        })
    }
}

fn facts(name: &str) -> HostFacts {
    HostFacts {
        hostname: name.to_owned(),
        vcpus: 64,
        memory_mib: 262_144,
        disk_gib: 4_000,
        disk_free_gib: 3_900,
        accelerator: "simulated".to_owned(),
        qemu_version: "7.2.22".to_owned(),
        ovs_version: "3.1.0".to_owned(),
        host_ip: "127.0.0.1".to_owned(),
        cpu_model: "simulated".to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        booted_at: None,
        flows_mended: 0,
        flows_mended_at: None,
    }
}

/// What a host that does everything at once says of a document.
fn outcome(name: &str, document: &Document) -> (ReportState, Value) {
    if document.tombstone {
        return (ReportState::Gone, Value::Null);
    }
    let facts = match document.kind {
        DocumentKind::Host => json!(facts(name)),
        DocumentKind::Port => json!(PortFacts { bound: true, device: "tap".to_owned() }),
        DocumentKind::Server => {
            let running =
                document.read::<ServerSpec>().is_ok_and(|spec| spec.power == DesiredPower::Running);
            let power_state = if running { PowerState::Running } else { PowerState::Shutdown };
            json!(ServerFacts {
                power_state,
                incarnation: 1,
                stages: Vec::new(),
                image_checksum: None
            })
        }
        DocumentKind::Network | DocumentKind::Neighbour | DocumentKind::Operation => Value::Null,
    };
    (ReportState::Done, facts)
}

/// Carries out a host's documents whenever they change, and says every few seconds that it lives.
async fn simulate(db: Database, id: HostId, name: String, sink: Arc<Both>) -> Result<(), Fault> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(1);
    let mut changes = db.subscribe(CHANNEL);
    let origin = Origin::system("simulated-host");
    let mut position = 0;
    loop {
        db.transact(&origin, move |tx| Box::pin(async move { hosts::seen(tx, &id).await })).await?;
        let news = db
            .read(move |tx| {
                Box::pin(
                    async move { Ok::<_, Fault>(documents::after(tx, &id, position, 1000).await?) },
                )
            })
            .await?;
        for document in news {
            position = document.position;
            let (state, facts) = outcome(&name, &document);
            let report = Report {
                kind: document.kind,
                id: document.id,
                generation: document.generation,
                epoch: document.epoch,
                sequence: SEQUENCE.fetch_add(1, Ordering::SeqCst),
                state,
                facts,
                error: None,
            };
            let sink = sink.clone();
            db.transact(&origin, move |tx| {
                let (sink, report) = (sink.clone(), report.clone());
                Box::pin(async move { apply(tx, &id, &report, &*sink).await })
            })
            .await?;
        }
        let sign_of_life = tokio::time::sleep(Duration::from_secs(10));
        tokio::pin!(sign_of_life);
        loop {
            tokio::select! {
                () = &mut sign_of_life => break,
                change = changes.recv() => match change {
                    Notification::Key(key) if key != id.to_string() => {}
                    _ => break,
                },
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8774".to_owned());
    let count: u32 = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(2);
    // A file is what a small cloud runs on; memory has no reader beside the writer.
    let config = match std::env::args().nth(3) {
        Some(path) => DatabaseConfig::Sqlite { path: path.into() },
        None => DatabaseConfig::SqliteMemory,
    };
    let db = Database::open(&config, Arc::new(SystemClock)).await?;
    db.migrate(&[
        workflow_engine::MIGRATIONS,
        service_kit::MIGRATIONS,
        host_documents::MIGRATIONS,
        identity::MIGRATIONS,
        network::MIGRATIONS,
        storage::MIGRATIONS,
        compute::MIGRATIONS,
    ])
    .await?;
    let first = BootstrapConfig {
        admin_password: "admin".to_owned(),
        region: "region-1".to_owned(),
        base_url: format!("http://{address}"),
        demo: Some(DemoConfig { name: "demo".to_owned(), password: "demo".to_owned() }),
        hashing: HashParams::default(),
    };
    identity::bootstrap(&db, &first).await?;
    let tokens = Tokens::open(&db, &KeySource::Ephemeral).await?;
    let policy =
        Policy::new(&[identity::POLICY, network::POLICY, storage::image::POLICY, compute::POLICY])?;
    let kit = Kit::new(db.clone(), policy, tokens.clone(), KitConfig::default());
    let identity = Identity::new(kit.clone(), tokens, IdentityConfig::default());
    let network = Network::new(kit.clone(), network::Settings::default());
    let files = std::env::temp_dir().join(format!("compute-example-{}", std::process::id()));
    let images = Images::new(kit.clone(), Arc::new(FileStore::open(&files)?));
    let compute = Compute::new(
        kit.clone(),
        network.clone(),
        images.clone(),
        Arc::new(Consoles),
        Ratios::default(),
    );
    let sink = Arc::new(Both(compute.clone(), network.clone()));
    for number in 1..=count {
        let name = format!("host-{number}");
        let wanted = name.clone();
        let host = db
            .transact(&Origin::system("example"), move |tx| {
                let name = wanted.clone();
                Box::pin(async move {
                    service_kit::quota::register(tx, compute::QUOTA_DEFAULTS).await?;
                    service_kit::quota::register(tx, network::QUOTA_DEFAULTS).await?;
                    let token = hosts::create_join_token(tx, "zone-1", "c1", "l2-1").await?;
                    hosts::enrol(tx, &token, &name, name.as_bytes()).await
                })
            })
            .await?;
        tokio::spawn(simulate(db.clone(), host.id, name, sink.clone()));
    }
    let shutdown = CancellationToken::new();
    let engine = Engine::new(db, EngineConfig::default());
    compute.register(&engine);
    let worker = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { engine.run(shutdown).await })
    };
    let routes = vec![
        identity::routes(identity),
        compute.routes(),
        network.routes(),
        storage::image::routes(images),
    ];
    let app = App::new(kit, routes)?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    println!("http://{address}/identity/v3, {count} simulated hosts");
    serve(listener, None, app, ServeConfig::default(), shutdown).await;
    worker.await?;
    let _ = std::fs::remove_dir_all(files);
    Ok(())
}
