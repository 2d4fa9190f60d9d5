//! A whole region for the tests that walk its routes: the running router, without hosts.

// Each test uses a part of it.
#![allow(dead_code)]

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use cloud_types::SystemClock;
use control_plane::server::{self, Services, Surroundings};
use database::{Database, DatabaseConfig};
use identity::{BootstrapConfig, DemoConfig, HashParams, IdentityConfig, KeySource, LoginLimits};
use serde_json::{Value, json};
use service_kit::{KitConfig, Method, Policy, RateLimit, RouteInfo};
use storage::image::FileStore;
use tower::ServiceExt;

const PASSWORD: &str = "a-password-for-tests";

/// A region in this process, on a database in memory.
pub struct World {
    /// Its services.
    pub services: Services,
    _directory: tempfile::TempDir,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    /// `X-Subject-Token`.
    pub token: Option<String>,
    /// Whether it is an answer that was stored for an idempotency key.
    pub replayed: bool,
    pub text: String,
}

impl World {
    pub async fn new() -> Self {
        let db =
            Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
        server::migrate(&db).await.unwrap();
        let wanted = BootstrapConfig {
            admin_password: PASSWORD.to_owned(),
            region: "region-1".to_owned(),
            base_url: "http://localhost".to_owned(),
            demo: Some(DemoConfig { name: "demo".to_owned(), password: PASSWORD.to_owned() }),
            hashing: HashParams::CHEAP,
        };
        identity::bootstrap(&db, &wanted).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let with = Surroundings {
            policy: Policy::new(server::POLICIES).unwrap(),
            keys: KeySource::Ephemeral,
            kit: KitConfig { rate: RateLimit { per_second: 0, burst: 0 }, ..KitConfig::default() },
            identity: IdentityConfig {
                hashing: HashParams::CHEAP,
                login_limits: LoginLimits::NONE,
                ..IdentityConfig::default()
            },
            images: FileStore::open(directory.path()).unwrap(),
        };
        let services = server::assemble(&db, with).await.unwrap();
        services.app.set_ready(true);
        World { services, _directory: directory }
    }

    /// A request, with a JSON body.
    pub async fn ask(
        &self,
        method: &Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("x-auth-token", token);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// A request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.services.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let token = response.headers().get("x-subject-token");
        let token = token.and_then(|token| token.to_str().ok()).map(str::to_owned);
        let replayed = response.headers().contains_key("idempotent-replayed");
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, token, replayed, text: String::from_utf8_lossy(&body).into_owned() }
    }

    /// A token of a user of the bootstrap.
    pub async fn login(&self, user: &str, project: &str) -> String {
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": user, "domain": domain, "password": PASSWORD}}},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let answer = self.ask(&Method::POST, "/identity/v3/auth/tokens", None, Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.token.unwrap()
    }

    /// The table of routes.
    pub fn routes(&self) -> Vec<RouteInfo> {
        self.services.app.table().to_vec()
    }
}
