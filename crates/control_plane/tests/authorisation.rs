//! Every route that is served, walked with every persona. The routes come from the running router,
//! so one that is added without a thought about who may call it fails here.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use cloud_types::SystemClock;
use control_plane::server::{self, Services, Surroundings};
use database::{Database, DatabaseConfig};
use identity::{BootstrapConfig, DemoConfig, HashParams, IdentityConfig, KeySource};
use serde_json::{Value, json};
use service_kit::{Access, KitConfig, Method, Policy, RateLimit, RouteInfo};
use storage::image::FileStore;
use tower::ServiceExt;

const PASSWORD: &str = "a-password-for-tests";

struct World {
    services: Services,
    _directory: tempfile::TempDir,
}

struct Answer {
    status: u16,
    token: Option<String>,
    text: String,
}

impl World {
    async fn new() -> Self {
        let db =
            Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
        server::migrate(&db).await.unwrap();
        let wanted = BootstrapConfig {
            admin_password: PASSWORD.to_owned(),
            region: "region-1".to_owned(),
            base_url: "http://localhost".to_owned(),
            demo: Some(DemoConfig { name: "demo".to_owned(), password: PASSWORD.to_owned() }),
            hashing: HashParams::default(),
        };
        identity::bootstrap(&db, &wanted).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let with = Surroundings {
            policy: Policy::new(server::POLICIES).unwrap(),
            keys: KeySource::Ephemeral,
            kit: KitConfig { rate: RateLimit { per_second: 0, burst: 0 }, ..KitConfig::default() },
            identity: IdentityConfig::default(),
            images: FileStore::open(directory.path()).unwrap(),
        };
        let services = server::assemble(&db, with).await.unwrap();
        services.app.set_ready(true);
        World { services, _directory: directory }
    }

    async fn ask(
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
        let response =
            self.services.app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let token = response.headers().get("x-subject-token");
        let token = token.and_then(|token| token.to_str().ok()).map(str::to_owned);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        Answer { status, token, text: String::from_utf8_lossy(&body).into_owned() }
    }

    async fn login(&self, user: &str, project: &str) -> String {
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

    fn routes(&self) -> Vec<RouteInfo> {
        self.services.app.table().to_vec()
    }
}

/// A path with something in the place of each parameter.
fn concrete(path: &str) -> String {
    path.split('/')
        .map(
            |part| {
                if part.starts_with('{') { "00000000-0000-4000-8000-000000000000" } else { part }
            },
        )
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn no_route_but_the_public_ones_answers_without_a_token() {
    let world = World::new().await;
    let mut public = Vec::new();
    for route in world.routes() {
        let path = concrete(&route.path);
        if route.access == Access::Public {
            public.push(format!("{} {}", route.method, route.path));
            continue;
        }
        for token in [None, Some("not-a-token"), Some("")] {
            let answer = world.ask(&route.method, &path, token, None).await;
            assert_eq!(
                answer.status, 401,
                "{} {path} with {token:?}: {}",
                route.method, answer.text
            );
        }
    }
    public.sort();
    public.dedup();
    // Discovery, and the one way in. A route that joins this list does so on purpose.
    let expected = include_str!("public_routes.txt");
    assert_eq!(public.join("\n"), expected.trim_end(), "the public routes have changed");
}

#[tokio::test]
async fn a_rule_that_refuses_a_persona_is_asked_before_anything_else() {
    let world = World::new().await;
    let (admin, demo) = (world.login("admin", "admin").await, world.login("demo", "demo").await);
    let (mut refused, mut reached) = (0, 0);
    for route in world.routes() {
        let Access::Rule(rule) = route.access else { continue };
        let path = concrete(&route.path);
        let admin_only = ["rule:admin", "rule:admin_required", "role:admin"];
        let policy = &world.services.app.kit().policy;
        let (_, expression, _) = policy.rules().find(|(name, ..)| *name == rule).unwrap();
        if admin_only.contains(&expression) {
            let answer = world.ask(&route.method, &path, Some(&demo), Some(json!({}))).await;
            assert_eq!(answer.status, 403, "{} {path} ({rule}): {}", route.method, answer.text);
            refused += 1;
        }
        let answer = world.ask(&route.method, &path, Some(&admin), Some(json!({}))).await;
        assert!(
            ![401, 403].contains(&answer.status) || answer.text.contains("read-only"),
            "{} {path} ({rule}) refuses the administrator: {}",
            route.method,
            answer.text
        );
        assert!(answer.status < 500, "{} {path}: {}", route.method, answer.text);
        reached += 1;
    }
    assert!(
        refused > 20 && reached > 100,
        "the table is too short: {refused} refused, {reached} reached"
    );
}
