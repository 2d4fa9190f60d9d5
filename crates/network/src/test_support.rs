//! A network service on a database of its own, with hosts, for this crate's tests. Requests go
//! through the whole HTTP kit; compute's calls are made as compute makes them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use cloud_types::{Fault, HostId, NetworkId, PortId, ServerId, TestClock, Timestamp};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, MigrationSet, Origin, Tx};
use host_documents::{Host, documents, hosts, reports};
use host_protocol::{Document, DocumentKind, Report, ReportResult, ReportState};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use service_kit::{
    App, Ctx, FixedTokens, Kit, KitConfig, Policy, RateLimit, Service, Token, quota,
};
use tower::ServiceExt;

use crate::{Network, NicRequest, Port, ServerOwner, Settings};

/// Tokens that the fixture knows: (text, project, role).
const TOKENS: [(&str, &str, &str); 5] = [
    ("admin", "p-admin", "admin"),
    ("alice", "p-alice", "member"),
    ("bob", "p-bob", "member"),
    ("carol", "p-carol", "member"),
    ("reader", "p-alice", "reader"),
];

/// Makes each test two: on a SQLite file, and on PostgreSQL.
macro_rules! on_both {
    ($(async fn $name:ident($cloud:ident: Cloud) $body:block)*) => {
        $(async fn $name($cloud: Cloud) $body)*
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::test_support::Cloud::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::test_support::Cloud::on_postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

const MIGRATIONS: [MigrationSet; 4] = [
    service_kit::MIGRATIONS,
    workflow_engine::MIGRATIONS,
    host_documents::MIGRATIONS,
    crate::MIGRATIONS,
];

/// The fixture.
#[derive(Clone)]
pub struct Cloud {
    pub db: Database,
    pub network: Network,
    pub app: App,
    pub clock: TestClock,
    /// Kept so that the database outlives the fixture's clones.
    _test: Arc<TestDatabase>,
}

impl Cloud {
    pub async fn on_sqlite() -> Cloud {
        Self::on(TestDatabase::sqlite(&MIGRATIONS).await).await
    }

    pub async fn on_postgres() -> Cloud {
        Self::on(TestDatabase::postgres(&MIGRATIONS).await).await
    }

    async fn on(test: TestDatabase) -> Cloud {
        let (db, clock) = (test.db.clone(), test.clock.clone());
        clock.set(Timestamp(1_700_000_000_000_000));
        let tokens =
            TOKENS.into_iter().fold(FixedTokens::default(), |all, (text, project, role)| {
                all.with(text, Token::for_test(text, Some(project), &[role]))
            });
        let policy = Policy::new(&[crate::POLICY]).unwrap();
        let config =
            KitConfig { rate: RateLimit { per_second: 0, burst: 0 }, ..KitConfig::default() };
        let kit = Kit::new(db.clone(), policy, Arc::new(tokens), config);
        let network = Network::new(kit.clone(), Settings::default());
        let app = App::new(kit, vec![network.routes()]).unwrap();
        let cloud = Cloud { db, network, app, clock, _test: Arc::new(test) };
        cloud
            .transact(|tx| {
                Box::pin(async move { Ok(quota::register(tx, crate::QUOTA_DEFAULTS).await?) })
            })
            .await
            .unwrap();
        cloud
    }

    /// Runs a closure in a transaction of its own.
    pub async fn transact<T, F>(&self, closure: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        self.db.transact(&Origin::system("test"), closure).await
    }

    /// A request context of one of the fixture's users.
    pub fn ctx(&self, user: &str) -> Ctx {
        let (text, project, role) =
            TOKENS.into_iter().find(|(text, _, _)| *text == user).expect("a known user");
        let policy = Arc::new(Policy::new(&[crate::POLICY]).unwrap());
        Ctx::internal(Service::Network, "req-test", policy).with_token(Arc::new(Token::for_test(
            text,
            Some(project),
            &[role],
        )))
    }

    /// A request through the whole kit.
    pub async fn call(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.call_if(user, method, path, None, body).await
    }

    /// A request through the whole kit, with `If-Match`.
    pub async fn call_if(
        &self,
        user: &str,
        method: &str,
        path: &str,
        if_match: Option<String>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("/network{path}"))
            .header("host", "cloud.test")
            .header("content-type", "application/json");
        if !user.is_empty() {
            request = request.header("x-auth-token", user);
        }
        if let Some(value) = if_match {
            request = request.header("if-match", value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes =
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        (status, value)
    }

    /// A GET that must succeed.
    pub async fn get(&self, user: &str, path: &str) -> Value {
        let (status, body) = self.call(user, "GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// A POST that must make something; the inner object of the answer.
    pub async fn make(&self, user: &str, path: &str, key: &str, body: Value) -> Value {
        let (status, answer) =
            self.call(user, "POST", path, Some(json!({ key: body.clone() }))).await;
        assert_eq!(status, 201, "POST {path} {body}: {answer}");
        answer[key].clone()
    }

    /// A request that must fail with this status and Neutron type.
    pub async fn refused(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        status: u16,
        name: &str,
    ) {
        let (got, answer) = self.call(user, method, path, body.clone()).await;
        assert_eq!(got, status, "{method} {path} {body:?}: {answer}");
        assert_eq!(answer["NeutronError"]["type"], name, "{method} {path} {body:?}: {answer}");
    }

    /// A network of alice with one subnet; their ids.
    pub async fn network_with(&self, cidr: &str) -> (NetworkId, String) {
        let network = self.make("alice", "/v2.0/networks", "network", json!({"name": "n"})).await;
        let id = network["id"].as_str().unwrap().to_owned();
        let subnet = self
            .make(
                "alice",
                "/v2.0/subnets",
                "subnet",
                json!({"network_id": id, "cidr": cidr, "ip_version": 4, "name": "s"}),
            )
            .await;
        (id.parse().unwrap(), subnet["id"].as_str().unwrap().to_owned())
    }

    /// A port of alice on the network.
    pub async fn port_on(&self, network: NetworkId, more: Value) -> Value {
        let mut body = json!({ "network_id": network });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.make("alice", "/v2.0/ports", "port", body).await
    }

    /// A host that joined.
    pub async fn host(&self, name: &str, l2_domain: &str) -> Host {
        let (name, l2_domain) = (name.to_owned(), l2_domain.to_owned());
        self.transact(move |tx| {
            let (name, l2_domain) = (name.clone(), l2_domain.clone());
            Box::pin(async move {
                let token = hosts::create_join_token(tx, "zone-1", "cluster-1", &l2_domain).await?;
                hosts::enrol(tx, &token, &name, name.as_bytes()).await
            })
        })
        .await
        .unwrap()
    }

    /// What compute does when alice creates a server.
    pub async fn prepare(
        &self,
        server: ServerId,
        requests: Vec<NicRequest>,
        groups: &[&str],
    ) -> Result<Vec<Port>, Fault> {
        let network = self.network.clone();
        let ctx = self.ctx("alice");
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        self.transact(move |tx| {
            let (network, ctx) = (network.clone(), ctx.clone());
            let (requests, groups) = (requests.clone(), groups.clone());
            Box::pin(async move {
                let owner = ServerOwner { server_id: server, hostname: "web-1".into(), zone: None };
                network.prepare_ports(tx, &ctx, &owner, &requests, &groups).await
            })
        })
        .await
    }

    /// A port of alice's new server, bound to the host.
    pub async fn boot(&self, on: NetworkId, host: &Host) -> (ServerId, Port) {
        let server = ServerId::random();
        let nic = NicRequest { network: Some(on), ..NicRequest::default() };
        let port = self.prepare(server, vec![nic], &[]).await.unwrap().remove(0);
        self.bind(port.id, host).await.unwrap();
        (server, port)
    }

    pub async fn bind(&self, port: PortId, host: &Host) -> Result<(), Fault> {
        let (network, host) = (self.network.clone(), host.clone());
        self.transact(move |tx| {
            let (network, host) = (network.clone(), host.clone());
            Box::pin(async move { network.bind_port(tx, &port, &host).await })
        })
        .await
    }

    pub async fn release(&self, server: ServerId) {
        let network = self.network.clone();
        self.transact(move |tx| {
            let network = network.clone();
            Box::pin(async move { network.release_ports(tx, &server).await })
        })
        .await
        .unwrap();
    }

    /// A host's documents of a kind.
    pub async fn documents(&self, host: &Host, kind: DocumentKind) -> Vec<Document> {
        let id = host.id;
        self.transact(move |tx| {
            Box::pin(async move { Ok(documents::list_of_kind(tx, &id, kind).await?) })
        })
        .await
        .unwrap()
    }

    /// A host's documents of a kind that are no tombstones, read.
    pub async fn specs<T: DeserializeOwned>(&self, host: &Host, kind: DocumentKind) -> Vec<T> {
        let all = self.documents(host, kind).await;
        all.iter()
            .filter(|document| !document.tombstone)
            .map(|document| document.read().unwrap())
            .collect()
    }

    /// The host says that it has done what its document says, or carried the tombstone out.
    pub async fn report(&self, host: &Host, kind: DocumentKind, id: &str) {
        let found = self.documents(host, kind).await;
        let document = found.into_iter().find(|document| document.id == id).expect("a document");
        let state = if document.tombstone { ReportState::Gone } else { ReportState::Done };
        self.report_state(host.id, document, state, None).await;
    }

    /// [`Cloud::report`] by two hosts at once: neither transaction is stored before the other has done
    /// its part, or had a second for it.
    pub async fn report_together(&self, of: [(&Host, DocumentKind); 2], id: &str) {
        let meet = Arc::new(tokio::sync::Barrier::new(2));
        let mut both = Vec::new();
        for (host, kind) in of {
            let found = self.documents(host, kind).await;
            let document = found.into_iter().find(|document| document.id == id);
            let (cloud, host, meet) = (self.clone(), host.id, meet.clone());
            both.push(tokio::spawn(async move {
                let document = document.expect("a document");
                cloud.report_state(host, document, ReportState::Gone, Some(meet)).await;
            }));
        }
        for one in both {
            one.await.unwrap();
        }
    }

    /// The host says so of everything that it was told.
    pub async fn report_all(&self, host: &Host) {
        for kind in [DocumentKind::Network, DocumentKind::Port, DocumentKind::Neighbour] {
            for document in self.documents(host, kind).await {
                self.report(host, kind, &document.id).await;
            }
        }
    }

    async fn report_state(
        &self,
        host: HostId,
        document: Document,
        state: ReportState,
        meet: Option<Arc<tokio::sync::Barrier>>,
    ) {
        let network = self.network.clone();
        let sequence = u64::try_from(self.clock_tick()).unwrap();
        let result = self
            .transact(move |tx| {
                let (network, meet) = (network.clone(), meet.clone());
                let report = Report {
                    kind: document.kind,
                    id: document.id.clone(),
                    generation: document.generation,
                    epoch: document.epoch,
                    sequence,
                    state,
                    facts: Value::Null,
                    error: None,
                };
                Box::pin(async move {
                    let result = reports::apply(tx, &host, &report, &network).await?;
                    // SQLite's one writer meets nobody, and its thread has no timers.
                    if let (Some(meet), Ok(_)) = (meet, tokio::runtime::Handle::try_current()) {
                        let _ = tokio::time::timeout(Duration::from_secs(1), meet.wait()).await;
                    }
                    Ok(result)
                })
            })
            .await
            .unwrap();
        assert_eq!(result, ReportResult::Accepted);
    }

    fn clock_tick(&self) -> i64 {
        self.clock.advance(Duration::from_micros(1));
        cloud_types::Clock::now(&self.clock).0
    }
}

/// The id of a resource in an answer.
pub fn id(resource: &Value) -> String {
    resource["id"].as_str().expect("an id").to_owned()
}

/// The only address of a port in an answer.
pub fn address(port: &Value) -> IpAddr {
    port["fixed_ips"][0]["ip_address"].as_str().expect("an address").parse().unwrap()
}
