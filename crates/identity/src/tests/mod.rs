//! The API as a whole, through the same app that serves it, on a database in memory.

mod attacks_on_sso;
mod compliance;
mod delegation;
mod directory;
mod factors;
mod federation;
mod grants;
mod import;
mod login;
mod matrix;
mod objects;
mod recovery;
mod resources;
mod sealed;
mod secrets;
mod sso;

use std::time::Duration;

use axum::body::Body;
use cloud_types::{TestClock, Timestamp};
use database::test_support::TestDatabase;
use database::{Database, MigrationSet};
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use service_kit::{App, Kit, KitConfig, Policy, Routes};
use tower::ServiceExt as _;

use crate::{
    BootstrapConfig, Bootstrapped, ComplianceRules, DemoConfig, HashParams, Identity,
    IdentityConfig, KeySource, LoginLimits, POLICY, SecurityCompliance, Tokens, bootstrap, routes,
};

const MIGRATIONS: &[MigrationSet] = &[service_kit::MIGRATIONS, crate::MIGRATIONS];

struct Cloud {
    app: App,
    db: Database,
    identity: Identity,
    clock: TestClock,
    made: Bootstrapped,
    /// With which another process can be opened.
    keys: KeySource,
    /// Kept: they go with their database, and their keys.
    _place: (TestDatabase, tempfile::TempDir),
}

/// Runs tests on both databases: `name::sqlite`, `name::postgres`.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use super::Cloud;

            #[tokio::test]
            async fn sqlite() {
                super::$name(Cloud::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$name(Cloud::postgres().await).await;
            }
        }
    )*};
}
use on_both;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    fn token(&self) -> String {
        self.headers["x-subject-token"].to_str().unwrap().to_owned()
    }
}

fn config() -> BootstrapConfig {
    BootstrapConfig {
        admin_password: "root-secret".into(),
        region: "region-1".into(),
        base_url: "https://cloud.example".into(),
        demo: Some(DemoConfig { name: "demo".into(), password: "demo-secret".into() }),
        hashing: HashParams::CHEAP,
    }
}

impl Cloud {
    async fn sqlite() -> Cloud {
        Cloud::on(TestDatabase::sqlite(MIGRATIONS).await).await
    }

    async fn postgres() -> Cloud {
        Cloud::on(TestDatabase::postgres(MIGRATIONS).await).await
    }

    async fn on(place: TestDatabase) -> Cloud {
        let (db, clock) = (place.db.clone(), place.clock.clone());
        clock.set(Timestamp(1_700_000_000_000_000));
        let made = bootstrap(&db, &config()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySource::Directory(directory.path().to_owned());
        let tokens = Tokens::open(&db, &keys).await.unwrap();
        let policy = Policy::new(&[POLICY]).unwrap();
        let kit = Kit::new(db.clone(), policy, tokens.clone(), KitConfig::default());
        let settings = IdentityConfig { hashing: HashParams::CHEAP, ..IdentityConfig::default() };
        let identity = Identity::new(kit.clone(), tokens, settings);
        let all: Vec<Routes> = vec![routes(identity.clone())];
        let app = App::new(kit, all).unwrap();
        Cloud { app, db, identity, clock, made, keys, _place: (place, directory) }
    }

    /// The same rows under other settings, as after a restart.
    async fn restarted(self, change: impl FnOnce(&mut IdentityConfig)) -> Cloud {
        self.restarted_under(Policy::new(&[POLICY]).unwrap(), change).await
    }

    /// The same rows under other rules and settings.
    async fn restarted_under(
        self,
        policy: Policy,
        change: impl FnOnce(&mut IdentityConfig),
    ) -> Cloud {
        let tokens = Tokens::open(&self.db, &KeySource::Ephemeral).await.unwrap();
        let kit = Kit::new(self.db.clone(), policy, tokens.clone(), KitConfig::default());
        let mut settings =
            IdentityConfig { hashing: HashParams::CHEAP, ..IdentityConfig::default() };
        change(&mut settings);
        let identity = Identity::new(kit.clone(), tokens, settings);
        let app = App::new(kit, vec![routes(identity.clone())]).unwrap();
        Cloud { app, identity, ..self }
    }

    /// The same rows, and other things are asked of passwords.
    async fn asking(self, change: impl FnOnce(&mut SecurityCompliance)) -> Cloud {
        let mut compliance = SecurityCompliance::default();
        change(&mut compliance);
        self.restarted(|settings| {
            settings.compliance = ComplianceRules::new(compliance).unwrap();
        })
        .await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let body =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/identity{path}"))
            .header("host", "cloud.example");
        if !token.is_empty() {
            request = request.header("x-auth-token", token);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    /// Only the status, of a request that may be nonsense.
    async fn raw(&self, token: &str, method: &str, path: &str, query: &str, body: &str) -> u16 {
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{query}"))
            .header("x-auth-token", token)
            .header("x-subject-token", "x")
            .body(Body::from(body.to_owned()))
            .unwrap();
        // Time must pass, or the limit on requests for each second answers.
        self.clock.advance(Duration::from_millis(1));
        self.app.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, Value::Null).await
    }

    async fn about(&self, token: &str, method: &str, subject: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri("/identity/v3/auth/tokens")
            .header("x-auth-token", token)
            .header("x-subject-token", subject)
            .body(Body::empty())
            .unwrap();
        self.send(request).await
    }

    async fn login(&self, user: &str, password: &str, scope: Value) -> Answer {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"id": "default"}, "password": password}}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.call("", "POST", "/v3/auth/tokens", json!({"auth": auth})).await
    }

    async fn rescope(&self, token: &str, scope: Value) -> Answer {
        let auth = json!({"identity": {"methods": ["token"], "token": {"id": token}},
                          "scope": scope});
        self.call("", "POST", "/v3/auth/tokens", json!({"auth": auth})).await
    }

    async fn admin(&self) -> String {
        let scope = json!({"project": {"name": "admin", "domain": {"name": "Default"}}});
        self.login("admin", "root-secret", scope).await.expect(201).token()
    }

    async fn demo(&self) -> String {
        self.login("demo", "demo-secret", Value::Null).await.expect(201).token()
    }

    /// 200 while the token is good.
    async fn is_good(&self, token: &str) -> bool {
        let answer = self.get(token, "/v3/auth/projects").await;
        assert!([200, 401].contains(&answer.status.as_u16()), "{}", answer.body);
        answer.status == 200
    }

    async fn role(&self, token: &str, name: &str) -> String {
        let found = self.get(token, &format!("/v3/roles?name={name}")).await.expect(200);
        found.body["roles"][0]["id"].as_str().unwrap().to_owned()
    }
}
