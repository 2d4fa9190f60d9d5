//! A cloud for tests: the real services on a database in memory, asked over HTTP without a socket,
//! with hosts that read their documents and report as agents do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cloud_types::{Fault, HostId, TestClock, Timestamp};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, DatabaseConfig, MigrationSet, Origin, Tx};
use host_documents::reports::{ReportSink, apply, get as report_of};
use host_documents::{documents, hosts};
use host_protocol::{
    DesiredPower, Document, DocumentKind, HostAnswer, HostFacts, HostQuery, OperationSpec,
    PortFacts, PowerState, Report, ReportError, ReportState, ServerFacts, ServerSpec,
};
use network::Network;
use serde_json::{Value, json};
use service_kit::{
    App, Ctx, FixedTokens, Kit, KitConfig, Method, Microversion, Policy, Service, StatusCode, Token,
};
use storage::image::{FileStore, Images};
use tower::ServiceExt as _;
use workflow_engine::{Engine, EngineConfig};

use crate::host::HostQueries;
use crate::{Compute, Ratios};

pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// On which database a test's cloud lives.
#[derive(Clone, Copy, Debug)]
pub enum On {
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl On {
    /// A cloud there, with so many hosts.
    pub async fn cloud(self, hosts: usize) -> Cloud {
        let database = match self {
            On::Sqlite => TestDatabase::sqlite(&MIGRATIONS).await,
            On::Postgres => TestDatabase::postgres(&MIGRATIONS).await,
        };
        Cloud::over(database.db.clone(), database.clock.clone(), Some(database), hosts).await
    }
}

/// Makes each test two: on a SQLite file, and on PostgreSQL.
macro_rules! on_both {
    ($(async fn $name:ident($on:ident: On) $body:block)*) => {
        $(async fn $name($on: On) $body)*
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::test_support::On::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::test_support::On::Postgres).await;
            })*
        }
    };
}
pub(crate) use on_both;

const MIGRATIONS: [MigrationSet; 6] = [
    workflow_engine::MIGRATIONS,
    service_kit::MIGRATIONS,
    host_documents::MIGRATIONS,
    network::MIGRATIONS,
    storage::MIGRATIONS,
    crate::MIGRATIONS,
];

/// How a host behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It does what its documents say.
    Works,
    /// It cannot start guests, and says so with this code; whether it goes on trying.
    Fails(&'static str, bool),
    /// It is not heard of.
    Silent,
}

#[derive(Debug)]
struct SimulatedHost {
    id: HostId,
    name: String,
    behaviour: Behaviour,
    /// What the guests did by themselves.
    power: HashMap<String, PowerState>,
    /// Operations that were carried out, in order.
    operations: Vec<String>,
    /// The generation for which each server was given up.
    given_up: HashMap<String, u64>,
}

/// The hosts, shared with the one who asks them for consoles.
#[derive(Clone, Default)]
struct Hosts(Arc<Mutex<Vec<SimulatedHost>>>);

impl HostQueries for Hosts {
    fn ask(&self, host: &HostId, query: HostQuery) -> BoxFuture<'_, Result<HostAnswer, Fault>> {
        let known = self.0.lock().unwrap().iter().any(|known| known.id == *host);
        let HostQuery::ConsoleLog { server_id, lines } = query;
        Box::pin(async move {
            if !known {
                return Err(Fault::unavailable("The host is not connected."));
            }
            Ok(HostAnswer::ConsoleLog { output: format!("{server_id} {lines:?} login:\u{7} ") })
        })
    }
}

/// Compute and network, as the control plane composes them.
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

/// A cloud.
pub struct Cloud {
    pub kit: Kit,
    pub clock: TestClock,
    pub compute: Compute,
    pub network: Network,
    pub app: App,
    hosts: Hosts,
    sequence: AtomicU64,
    pub image: String,
    pub network_id: String,
    _directory: tempfile::TempDir,
    _database: Option<TestDatabase>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The body, of an answer with this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

fn facts(name: &str) -> HostFacts {
    HostFacts {
        hostname: name.to_owned(),
        vcpus: 4,
        memory_mib: 8192,
        disk_gib: 100,
        disk_free_gib: 90,
        accelerator: "tcg".to_owned(),
        qemu_version: "7.2.22".to_owned(),
        ovs_version: "3.1.0".to_owned(),
        host_ip: "127.0.0.1".to_owned(),
        cpu_model: "test".to_owned(),
        agent_version: "0".to_owned(),
    }
}

impl Cloud {
    /// A cloud in memory with so many hosts, a flavor `1` (1 vCPU, 512 MiB, 1 GiB), a network and
    /// an image of project `p1`.
    pub async fn new(count: usize) -> Cloud {
        let clock = TestClock::at(START);
        let db =
            Database::open(&DatabaseConfig::SqliteMemory, Arc::new(clock.clone())).await.unwrap();
        db.migrate(&MIGRATIONS).await.unwrap();
        Self::over(db, clock, None, count).await
    }

    async fn over(
        db: Database,
        clock: TestClock,
        database: Option<TestDatabase>,
        count: usize,
    ) -> Cloud {
        clock.set(START);
        let tokens = FixedTokens::default()
            .with("admin", Token::for_test("root", Some("ops"), &["admin"]))
            .with("member", Token::for_test("alice", Some("p1"), &["member"]))
            .with("reader", Token::for_test("bob", Some("p1"), &["reader"]))
            .with("other", Token::for_test("eve", Some("p2"), &["member"]))
            .with("nobody", Token::for_test("nil", Some("p3"), &["stranger"]));
        let policy =
            Policy::new(&[crate::POLICY, network::POLICY, storage::image::POLICY]).unwrap();
        let config = KitConfig {
            rate: service_kit::RateLimit { per_second: 0, burst: 0 },
            ..KitConfig::default()
        };
        let kit = Kit::new(db, policy, Arc::new(tokens), config);
        let directory = tempfile::tempdir().unwrap();
        let network = Network::new(kit.clone(), network::Settings::default());
        let images = Images::new(kit.clone(), Arc::new(FileStore::open(directory.path()).unwrap()));
        let hosts = Hosts::default();
        let compute = Compute::new(
            kit.clone(),
            network.clone(),
            images.clone(),
            Arc::new(hosts.clone()),
            Ratios::default(),
        );
        let app = App::new(kit.clone(), vec![compute.routes(), network.routes()]).unwrap();
        let mut cloud = Cloud {
            kit,
            clock,
            compute,
            network,
            app,
            hosts,
            sequence: AtomicU64::new(0),
            image: String::new(),
            network_id: String::new(),
            _directory: directory,
            _database: database,
        };
        cloud.register_quotas().await;
        for number in 1..=count {
            cloud.join(&format!("host-{number}"), "zone-1").await;
        }
        cloud.drive().await;
        cloud.furnish(&images).await;
        cloud
    }

    async fn register_quotas(&self) {
        self.transact(|tx| {
            Box::pin(async move {
                service_kit::quota::register(tx, crate::QUOTA_DEFAULTS).await?;
                service_kit::quota::register(tx, network::QUOTA_DEFAULTS).await?;
                Ok(())
            })
        })
        .await;
    }

    async fn furnish(&mut self, images: &Images) {
        let flavor =
            json!({"flavor": {"id": "1", "name": "tiny", "ram": 512, "vcpus": 1, "disk": 1}});
        self.call(Method::POST, "/compute/v2.1/flavors", flavor, "admin").await.expect(200);
        let body = json!({"network": {"name": "net"}});
        let made = self.call(Method::POST, "/network/v2.0/networks", body, "member").await;
        self.network_id = text(&made.expect(201)["network"]["id"]);
        let body = json!({"subnet": {
            "network_id": self.network_id, "ip_version": 4, "cidr": "10.0.0.0/16",
        }});
        self.call(Method::POST, "/network/v2.0/subnets", body, "member").await.expect(201);
        let ctx = self.ctx(Service::Image, "member");
        let attributes = json!({"name": "disk", "disk_format": "raw", "container_format": "bare"});
        let image = images.create(&ctx, attributes.as_object().unwrap().clone()).await.unwrap();
        let body = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"disk"))]);
        images.upload(&ctx, image.id, body).await.unwrap();
        self.image = image.id.to_string();
    }

    /// A context for calls of services.
    pub fn ctx(&self, service: Service, token: &str) -> Ctx {
        let token = self.kit.verifier.verify(token, self.clock_now()).unwrap();
        let request_id = format!("req-{}", self.next());
        let mut ctx = Ctx::internal(service, request_id, self.kit.policy.clone());
        if service == Service::Compute {
            ctx.microversion = Microversion::new(2, 96);
        }
        ctx.with_token(token)
    }

    fn clock_now(&self) -> Timestamp {
        self.kit.clock.now()
    }

    fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Runs a closure in a transaction.
    pub async fn transact<T, F>(&self, closure: F) -> T
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        self.kit.db.transact(&Origin::system("test"), closure).await.unwrap()
    }

    /// A new host.
    pub async fn join(&self, name: &str, zone: &str) -> HostId {
        let (wanted, zone) = (name.to_owned(), zone.to_owned());
        let host = self
            .transact(move |tx| {
                let (name, zone) = (wanted.clone(), zone.clone());
                Box::pin(async move {
                    let token = hosts::create_join_token(tx, &zone, "c1", "l2-1").await?;
                    hosts::enrol(tx, &token, &name).await
                })
            })
            .await;
        self.hosts.0.lock().unwrap().push(SimulatedHost {
            id: host.id,
            name: host.name,
            behaviour: Behaviour::Works,
            power: HashMap::new(),
            operations: Vec::new(),
            given_up: HashMap::new(),
        });
        host.id
    }

    /// Changes how a host behaves from now on.
    pub fn behave(&self, name: &str, behaviour: Behaviour) {
        let mut hosts = self.hosts.0.lock().unwrap();
        hosts.iter_mut().find(|host| host.name == name).unwrap().behaviour = behaviour;
    }

    /// The guest does something by itself, on whichever host it runs.
    pub fn guest(&self, server: &str, power: PowerState) {
        for host in self.hosts.0.lock().unwrap().iter_mut() {
            host.power.insert(server.to_owned(), power);
        }
    }

    /// Operations that hosts carried out.
    pub fn operations(&self) -> Vec<String> {
        let hosts = self.hosts.0.lock().unwrap();
        hosts.iter().flat_map(|host| host.operations.clone()).collect()
    }

    /// Every host looks at its documents once and reports what changed. Whether any had news.
    pub async fn drive(&self) -> bool {
        let ids: Vec<HostId> = self.hosts.0.lock().unwrap().iter().map(|host| host.id).collect();
        let mut news = false;
        for id in ids {
            let behaviour = self.with_host(id, |host| host.behaviour.clone());
            if behaviour == Behaviour::Silent {
                continue;
            }
            let known = self
                .transact(move |tx| {
                    Box::pin(async move {
                        hosts::seen(tx, &id).await?;
                        let (known, _) = documents::snapshot(tx, &id).await?;
                        let mut told = Vec::new();
                        for document in known {
                            let last = report_of(tx, &id, document.kind, &document.id).await?;
                            told.push((document, last.map(|stored| stored.report)));
                        }
                        Ok(told)
                    })
                })
                .await;
            for (document, last) in known {
                let Some(report) = self.answer(id, &behaviour, &document, last.as_ref()) else {
                    continue;
                };
                news = true;
                self.report(id, report).await;
            }
        }
        news
    }

    async fn report(&self, host: HostId, report: Report) {
        let sink = Arc::new(Both(self.compute.clone(), self.network.clone()));
        self.transact(move |tx| {
            let (sink, report) = (sink.clone(), report.clone());
            Box::pin(async move {
                apply(tx, &host, &report, &*sink).await?;
                Ok(())
            })
        })
        .await;
    }

    fn with_host<T>(&self, id: HostId, look: impl Fn(&mut SimulatedHost) -> T) -> T {
        let mut hosts = self.hosts.0.lock().unwrap();
        look(hosts.iter_mut().find(|host| host.id == id).unwrap())
    }

    /// What the host says of a document, if that is news.
    fn answer(
        &self,
        host: HostId,
        behaviour: &Behaviour,
        document: &Document,
        last: Option<&Report>,
    ) -> Option<Report> {
        let mut error = None;
        let (state, facts) = match document.kind {
            _ if document.tombstone => (ReportState::Gone, Value::Null),
            DocumentKind::Host => {
                (ReportState::Done, json!(facts(&self.with_host(host, |host| host.name.clone()))))
            }
            DocumentKind::Port => {
                (ReportState::Done, json!(PortFacts { bound: true, device: "tap0".into() }))
            }
            DocumentKind::Network | DocumentKind::Neighbour => (ReportState::Done, Value::Null),
            DocumentKind::Operation => {
                let spec: OperationSpec = document.read().unwrap();
                if last.is_none() {
                    self.with_host(host, |host| host.operations.push(document.id.clone()));
                }
                let host_protocol::OperationAction::Reboot { server_id, .. } = spec.action;
                self.with_host(host, |host| host.power.remove(&server_id));
                (ReportState::Done, Value::Null)
            }
            DocumentKind::Server => {
                let spec: ServerSpec = document.read().unwrap();
                let given_up = self.with_host(host, |host| {
                    if let Behaviour::Fails(_, false) = behaviour {
                        host.given_up.insert(document.id.clone(), document.generation);
                    }
                    host.given_up.get(&document.id) == Some(&document.generation)
                });
                let failure = match behaviour {
                    Behaviour::Fails(code, retrying) => Some((*code, *retrying)),
                    _ if given_up => Some(("gave_up", false)),
                    _ => None,
                };
                if let Some((code, retrying)) = failure {
                    let message = "it cannot".to_owned();
                    error = Some(ReportError { code: code.to_owned(), message, retrying });
                    (ReportState::Failed, Value::Null)
                } else {
                    let own = self.with_host(host, |host| host.power.get(&document.id).copied());
                    let power = match (spec.power, own) {
                        (DesiredPower::Stopped, _) => PowerState::Shutdown,
                        (DesiredPower::Running, Some(own)) => own,
                        (DesiredPower::Running, None) => PowerState::Running,
                    };
                    let facts = ServerFacts {
                        power_state: power,
                        incarnation: 1,
                        stages: Vec::new(),
                        image_checksum: None,
                    };
                    (ReportState::Done, json!(facts))
                }
            }
        };
        if document.tombstone && document.kind == DocumentKind::Server {
            self.with_host(host, |host| host.power.remove(&document.id));
        }
        let same = last.is_some_and(|last| {
            last.generation == document.generation && last.state == state && last.facts == facts
        });
        if same {
            return None;
        }
        Some(Report {
            kind: document.kind,
            id: document.id.clone(),
            generation: document.generation,
            epoch: document.epoch,
            sequence: self.next(),
            state,
            facts,
            error,
        })
    }

    /// A worker that knows the workflows.
    pub fn engine(&self) -> Engine {
        let engine = Engine::new(self.kit.db.clone(), EngineConfig::default());
        self.compute.register(&engine);
        engine
    }

    /// Lets workers and hosts work until nobody has anything to do at this moment.
    pub async fn settle(&self) {
        let engine = self.engine();
        for _ in 0..200 {
            engine.run_until_idle().await.unwrap();
            if !self.drive().await {
                engine.run_until_idle().await.unwrap();
                return;
            }
        }
        panic!("workers and hosts never come to rest");
    }

    /// Lets time pass second by second, working on.
    pub async fn pass(&self, seconds: u64) {
        for _ in 0..seconds.div_ceil(5) {
            self.clock.advance(Duration::from_secs(5));
            self.settle().await;
        }
    }

    /// A request in the newest microversion.
    pub async fn call(&self, method: Method, path: &str, body: Value, token: &str) -> Answer {
        self.call_at(method, path, body, token, "2.96").await
    }

    /// A request.
    pub async fn call_at(
        &self,
        method: Method,
        path: &str,
        body: Value,
        token: &str,
        version: &str,
    ) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "cloud.test")
            .header("x-auth-token", token)
            .header("content-type", "application/json")
            .header("openstack-api-version", format!("compute {version}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = service_kit::read_body(body, 64 << 20).await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)))
        };
        Answer { status: parts.status.as_u16(), body }
    }

    /// `GET` by a member, in the newest microversion.
    pub async fn get(&self, path: &str) -> Value {
        let path = format!("/compute/v2.1{path}");
        self.call(Method::GET, &path, Value::Null, "member").await.expect(200)
    }

    /// A body for a server on the furnished network.
    pub fn wish(&self, name: &str) -> Value {
        json!({"server": {
            "name": name, "flavorRef": "1", "imageRef": self.image,
            "networks": [{"uuid": self.network_id}],
        }})
    }

    /// Accepts a server; its id.
    pub async fn boot(&self, name: &str) -> String {
        let answer =
            self.call(Method::POST, "/compute/v2.1/servers", self.wish(name), "member").await;
        text(&answer.expect(StatusCode::ACCEPTED.as_u16())["server"]["id"])
    }

    /// Accepts a server under an idempotency key; its id.
    pub async fn boot_with_key(&self, wish: &Value, key: &str) -> String {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri("/compute/v2.1/servers")
            .header("host", "cloud.test")
            .header("x-auth-token", "member")
            .header("content-type", "application/json")
            .header("openstack-api-version", "compute 2.96")
            .header("idempotency-key", key)
            .body(Body::from(wish.to_string()))
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let bytes = service_kit::read_body(response.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        text(&body["server"]["id"])
    }

    /// A host's id by its name.
    pub async fn compute_host(&self, name: &str) -> HostId {
        let hosts = self.hosts.0.lock().unwrap();
        hosts.iter().find(|host| host.name == name).unwrap().id
    }

    /// Accepts a server and lets it be built.
    pub async fn boot_settled(&self, name: &str) -> String {
        let id = self.boot(name).await;
        self.settle().await;
        id
    }

    /// An action on a server; the status.
    pub async fn act(&self, id: &str, body: Value) -> Answer {
        self.call(Method::POST, &format!("/compute/v2.1/servers/{id}/action"), body, "member").await
    }

    /// A server as its owner sees it.
    pub async fn server(&self, id: &str) -> Value {
        self.get(&format!("/servers/{id}")).await["server"].clone()
    }

    /// The server document on each host that has one.
    pub async fn server_documents(&self, id: &str) -> Vec<(HostId, Document)> {
        let ids: Vec<HostId> = self.hosts.0.lock().unwrap().iter().map(|host| host.id).collect();
        let id = id.to_owned();
        self.transact(move |tx| {
            let (ids, id) = (ids.clone(), id.clone());
            Box::pin(async move {
                let mut found = Vec::new();
                for host in ids {
                    let kind = DocumentKind::Server;
                    if let Some(document) = documents::get(tx, &host, kind, &id).await? {
                        found.push((host, document));
                    }
                }
                Ok(found)
            })
        })
        .await
    }

    /// Documents on all hosts other than the hosts' own, by kind.
    pub async fn leftovers(&self) -> Vec<(DocumentKind, String)> {
        let ids: Vec<HostId> = self.hosts.0.lock().unwrap().iter().map(|host| host.id).collect();
        self.transact(move |tx| {
            let ids = ids.clone();
            Box::pin(async move {
                let mut left = Vec::new();
                for host in ids {
                    let (all, _) = documents::snapshot(tx, &host).await?;
                    left.extend(
                        all.into_iter()
                            .filter(|document| document.kind != DocumentKind::Host)
                            .map(|document| (document.kind, document.id)),
                    );
                }
                Ok(left)
            })
        })
        .await
    }

    /// Claims in all, and hosts whose sums are not those of their claims.
    pub async fn claims(&self) -> (u64, Vec<HostId>) {
        self.transact(|tx| {
            Box::pin(async move {
                let usage = crate::host::store::usage(tx).await?;
                let claims = usage.values().map(|usage| usage.servers).sum();
                Ok((claims, crate::host::store::wrong_sums(tx).await?))
            })
        })
        .await
    }

    /// What project `p1` uses of a resource.
    pub async fn used(&self, resource: &'static str) -> i64 {
        self.transact(move |tx| {
            Box::pin(async move {
                let project = "p1".parse().unwrap();
                Ok(service_kit::quota::one(tx, &project, resource).await?.in_use)
            })
        })
        .await
    }

    /// Ports of the project, by network's API.
    pub async fn ports(&self) -> usize {
        let answer =
            self.call(Method::GET, "/network/v2.0/ports", Value::Null, "member").await.expect(200);
        answer["ports"].as_array().unwrap().len()
    }
}

/// A JSON string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text")).to_owned()
}
