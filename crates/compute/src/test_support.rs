//! A cloud for tests: the real services on a database in memory, asked over HTTP without a socket,
//! with hosts that read their documents and report as agents do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cloud_types::{Fault, HostId, TestClock, Timestamp};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, DatabaseConfig, MigrationSet, Origin, Tx};
use host_documents::documents;
use host_protocol::{Document, DocumentKind};
use network::Network;
use serde_json::{Value, json};
use service_kit::{
    App, Ctx, FixedTokens, Kit, KitConfig, Method, Microversion, Policy, Service, StatusCode, Token,
};
use storage::image::{FileStore, Images};
use tower::ServiceExt as _;
use workflow_engine::{Engine, EngineConfig};

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

mod hosts;

pub use hosts::Behaviour;
use hosts::Hosts;

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
