//! The API as a whole, through the same app that serves it, on a database in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use cloud_types::{TestClock, Timestamp};
use database::{Database, DatabaseConfig};
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use service_kit::{App, Kit, KitConfig, Policy, Routes};
use tower::ServiceExt as _;

use crate::{
    BootstrapConfig, Bootstrapped, DemoConfig, HashParams, Identity, IdentityConfig, KeySource,
    POLICY, Tokens, bootstrap, routes,
};

struct Cloud {
    app: App,
    db: Database,
    clock: TestClock,
    made: Bootstrapped,
}

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
    async fn new() -> Cloud {
        let clock = TestClock::at(Timestamp(1_700_000_000_000_000));
        let db =
            Database::open(&DatabaseConfig::SqliteMemory, Arc::new(clock.clone())).await.unwrap();
        db.migrate(&[service_kit::MIGRATIONS, crate::MIGRATIONS]).await.unwrap();
        let made = bootstrap(&db, &config()).await.unwrap();
        let tokens = Tokens::open(&db, &KeySource::Ephemeral).await.unwrap();
        let policy = Policy::new(&[POLICY]).unwrap();
        let kit = Kit::new(db.clone(), policy, tokens.clone(), KitConfig::default());
        let settings = IdentityConfig { hashing: HashParams::CHEAP, ..IdentityConfig::default() };
        let identity = Identity::new(kit.clone(), tokens, settings);
        let all: Vec<Routes> = vec![routes(identity)];
        Cloud { app: App::new(kit, all).unwrap(), db, clock, made }
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

#[tokio::test]
async fn clients_discover_the_version() {
    let cloud = Cloud::new().await;
    let versions = cloud.get("", "").await.expect(300);
    let value = &versions.body["versions"]["values"][0];
    assert_eq!(value["id"], "v3.14");
    assert_eq!(value["links"][0]["href"], "http://cloud.example/identity/v3/");
    for path in ["/v3", "/v3/"] {
        let version = cloud.get("", path).await.expect(200);
        assert_eq!(version.body["version"]["status"], "stable");
    }
}

#[tokio::test]
async fn a_password_token_says_who_and_where() {
    let cloud = Cloud::new().await;
    let answer = cloud.login("demo", "demo-secret", Value::Null).await.expect(201);
    let token = &answer.body["token"];
    assert_eq!(token["methods"], json!(["password"]));
    assert_eq!(token["user"]["name"], "demo");
    assert_eq!(token["user"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(token["project"]["name"], "demo");
    assert_eq!(token["issued_at"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(token["expires_at"], "2023-11-14T23:13:20.000000Z");
    let roles: Vec<&str> =
        token["roles"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(roles, ["member", "reader"]);
    let catalog = token["catalog"].as_array().unwrap();
    let url = |kind: &str| {
        let service = catalog.iter().find(|service| service["type"] == kind).unwrap();
        assert_eq!(service["endpoints"].as_array().unwrap().len(), 3);
        service["endpoints"][0]["url"].clone()
    };
    assert_eq!(url("identity"), "https://cloud.example/identity");
    assert_eq!(url("compute"), "https://cloud.example/compute/v2.1");
    assert_eq!(url("network"), "https://cloud.example/network");
    assert_eq!(url("image"), "https://cloud.example/image");
    assert!(answer.token().len() < 600);
    assert!(answer.headers["x-openstack-request-id"].to_str().unwrap().starts_with("req-"));
}

#[tokio::test]
async fn scopes_are_given_only_where_there_are_roles() {
    let cloud = Cloud::new().await;
    let system = json!({"system": {"all": true}});
    let answer = cloud.login("admin", "root-secret", system.clone()).await.expect(201);
    assert_eq!(answer.body["token"]["system"], json!({"all": true}));
    cloud.login("demo", "demo-secret", system).await.expect(401);
    let project = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
    cloud.login("demo", "demo-secret", project).await.expect(401);
    cloud.login("admin", "root-secret", json!({"domain": {"id": "default"}})).await.expect(401);
    let answer = cloud.login("demo", "demo-secret", json!("unscoped")).await.expect(201);
    assert!(answer.body["token"].get("project").is_none());
    assert!(answer.body["token"].get("catalog").is_none());
    assert!(answer.body["token"].get("roles").is_none());
}

#[tokio::test]
async fn wrong_and_unknown_are_the_same() {
    let cloud = Cloud::new().await;
    let wrong = cloud.login("demo", "guess", Value::Null).await.expect(401);
    let unknown = cloud.login("nobody", "guess", Value::Null).await.expect(401);
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(wrong.body["error"]["code"], 401);
    assert_eq!(wrong.body["error"]["title"], "Unauthorized");
    assert_eq!(wrong.headers["www-authenticate"], "Keystone uri=\"http://cloud.example/identity\"");
    let none = cloud.get("", "/v3/users").await.expect(401);
    assert_eq!(none.body["error"]["message"], "The request you have made requires authentication.");
}

#[tokio::test]
async fn malformed_logins_are_400_and_name_the_field() {
    let cloud = Cloud::new().await;
    let user = json!({"name": "demo", "password": "x", "domain": {"id": "default"}});
    let cases = [
        (json!({}), "auth"),
        (json!({"auth": {"identity": {"methods": []}}}), "methods"),
        (json!({"auth": {"identity": {"methods": ["password"]}}}), "password"),
        (json!({"auth": {"identity": {"methods": "password"}}}), "auth.identity.methods"),
        (
            json!({"auth": {"identity": {"methods": ["password"],
                   "password": {"user": {"name": "a", "password": "b"}}}}}),
            "domain",
        ),
        (
            json!({"auth": {"identity": {"methods": ["password"],
                   "password": {"user": {"name": "a", "password": 5}}}}}),
            "auth.identity.password.user.password",
        ),
        (
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
                   "scope": {"project": {"id": "a"}, "domain": {"id": "b"}}}}),
            "scope",
        ),
    ];
    for (body, part) in cases {
        let answer = cloud.call("", "POST", "/v3/auth/tokens", body.clone()).await.expect(400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{body}: {message}");
        assert!(!message.contains("demo-secret"));
    }
    let body = json!({"auth": {"identity": {"methods": ["magic"]}}});
    cloud.call("", "POST", "/v3/auth/tokens", body).await.expect(401);
}

#[tokio::test]
async fn a_token_describes_itself_until_it_expires() {
    let cloud = Cloud::new().await;
    let token = cloud.demo().await;
    let answer = cloud.about(&token, "GET", &token).await.expect(200);
    assert_eq!(answer.body["token"]["user"]["name"], "demo");
    assert_eq!(answer.headers["x-subject-token"].to_str().unwrap(), token);
    cloud.about(&token, "HEAD", &token).await.expect(200);
    // Another's token only for who may look.
    let admin = cloud.admin().await;
    cloud.about(&token, "GET", &admin).await.expect(403);
    cloud.about(&admin, "GET", &token).await.expect(200);
    cloud.about(&admin, "GET", "nonsense").await.expect(404);
    cloud.clock.advance(Duration::from_secs(3599));
    assert!(cloud.is_good(&token).await);
    cloud.clock.advance(Duration::from_secs(1));
    assert!(!cloud.is_good(&token).await);
}

#[tokio::test]
async fn a_token_from_a_token_ends_with_it_in_time() {
    let cloud = Cloud::new().await;
    let unscoped = cloud.login("demo", "demo-secret", json!("unscoped")).await.expect(201);
    cloud.clock.advance(Duration::from_secs(600));
    let scope = json!({"project": {"id": cloud.made.demo.as_ref().unwrap().1}});
    let scoped = cloud.rescope(&unscoped.token(), scope).await.expect(201);
    let (old, new) = (&unscoped.body["token"], &scoped.body["token"]);
    assert_eq!(new["expires_at"], old["expires_at"]);
    assert_ne!(new["issued_at"], old["issued_at"]);
    assert_eq!(new["methods"], json!(["password", "token"]));
    assert_eq!(new["audit_ids"][1], old["audit_ids"][0]);
    assert_eq!(new["project"]["name"], "demo");
}

#[tokio::test]
async fn a_revoked_token_is_dead_at_once_and_others_live() {
    let cloud = Cloud::new().await;
    let (one, two) = (cloud.demo().await, cloud.demo().await);
    cloud.about(&one, "DELETE", &one).await.expect(204);
    assert!(!cloud.is_good(&one).await);
    assert!(cloud.is_good(&two).await);
    let admin = cloud.admin().await;
    cloud.about(&admin, "GET", &one).await.expect(404);
    cloud.rescope(&one, json!("unscoped")).await.expect(401);
    cloud.about(&two, "DELETE", &admin).await.expect(403);
}

#[tokio::test]
async fn another_process_hears_of_a_revocation() {
    let directory = tempfile::tempdir().unwrap();
    let source = KeySource::Directory(directory.path().to_owned());
    let cloud = Cloud::new().await;
    let here = Tokens::open(&cloud.db, &source).await.unwrap();
    let there = Tokens::open(&cloud.db, &source).await.unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let follower = tokio::spawn(there.clone().run(shutdown.clone()));
    let policy = Policy::new(&[POLICY]).unwrap();
    let kit = Kit::new(cloud.db.clone(), policy, here.clone(), KitConfig::default());
    let settings = IdentityConfig { hashing: HashParams::CHEAP, ..IdentityConfig::default() };
    let identity = Identity::new(kit.clone(), here, settings);
    let cloud = Cloud { app: App::new(kit, vec![routes(identity)]).unwrap(), ..cloud };
    let token = cloud.demo().await;
    let now = Timestamp(1_700_000_001_000_000);
    assert!(there.check(&token, now).is_ok());
    cloud.about(&token, "DELETE", &token).await.expect(204);
    let heard = async {
        while there.check(&token, now).is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
    let later = Tokens::open(&cloud.db, &source).await.unwrap();
    assert!(later.check(&token, now).is_err(), "a process that starts later knows too");
    shutdown.cancel();
    follower.await.unwrap();
}

#[tokio::test]
async fn users_are_made_changed_and_deleted() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let body = json!({"user": {"name": "ann", "password": "one", "email": "ann@example.org",
                               "description": "Ann", "options": {}}});
    let made = cloud.call(&admin, "POST", "/v3/users", body.clone()).await.expect(201);
    let user = &made.body["user"];
    let path = format!("/v3/users/{}", user["id"].as_str().unwrap());
    assert_eq!(user["domain_id"], "default");
    assert_eq!(user["email"], "ann@example.org");
    assert!(user.get("password").is_none() && user.get("password_hash").is_none());
    assert_eq!(user["links"]["self"], format!("http://cloud.example/identity{path}"));
    let twice = cloud.call(&admin, "POST", "/v3/users", body).await.expect(409);
    assert_eq!(twice.body["error"]["title"], "Conflict");

    let token = cloud.login("ann", "one", Value::Null).await.expect(201).token();
    let shown = cloud.get(&token, &path).await.expect(200);
    assert_eq!(shown.body["user"]["name"], "ann");
    cloud.get(&token, "/v3/users").await.expect(403);

    // A new password ends the tokens, also one of the very same moment.
    let change = json!({"user": {"original_password": "one", "password": "two"}});
    let change_path = format!("{path}/password");
    cloud
        .call(
            &token,
            "POST",
            &change_path,
            json!({"user": {"original_password": "x", "password": "y"}}),
        )
        .await
        .expect(401);
    cloud.call(&token, "POST", &change_path, change).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.login("ann", "one", Value::Null).await.expect(401);
    let token = cloud.login("ann", "two", Value::Null).await.expect(201).token();
    assert!(cloud.is_good(&token).await);

    let off = json!({"user": {"enabled": false, "email": null}});
    let shown = cloud.call(&admin, "PATCH", &path, off).await.expect(200);
    assert_eq!(shown.body["user"]["enabled"], false);
    assert!(shown.body["user"].get("email").is_none());
    assert!(!cloud.is_good(&token).await);
    cloud.login("ann", "two", Value::Null).await.expect(401);
    let on = json!({"user": {"enabled": true, "name": "anne"}});
    cloud.call(&admin, "PATCH", &path, on).await.expect(200);
    assert!(!cloud.is_good(&token).await, "enabling brings no old token back");
    let token = cloud.login("anne", "two", Value::Null).await.expect(201).token();
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.get(&admin, &path).await.expect(404);
}

#[tokio::test]
async fn wrong_attributes_are_named() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    for (path, body, part) in [
        ("/v3/users", json!({"user": {"password": "x"}}), "'name'"),
        ("/v3/users", json!({"user": {"name": ""}}), "'name'"),
        ("/v3/users", json!({"user": {"name": 5}}), "'name'"),
        ("/v3/users", json!({"user": {"name": "a".repeat(256)}}), "'name'"),
        ("/v3/users", json!({"user": {"name": "a", "enabled": "yes"}}), "'enabled'"),
        ("/v3/users", json!({"name": "a"}), "'user'"),
        ("/v3/users", json!([]), "body"),
        ("/v3/projects", json!({"project": {"name": "p", "tags": "x"}}), "'tags'"),
        ("/v3/roles", json!({"role": {"name": "r", "colour": "red"}}), "'colour'"),
        ("/v3/endpoints", json!({"endpoint": {"interface": "public"}}), "'service_id'"),
    ] {
        let answer = cloud.call(&admin, "POST", path, body.clone()).await.expect(400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{body}: {message}");
    }
}

#[tokio::test]
async fn a_disabled_or_deleted_project_ends_its_tokens() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let project = cloud.made.demo.as_ref().unwrap().1.to_string();
    let path = format!("/v3/projects/{project}");
    let token = cloud.demo().await;
    let off = json!({"project": {"enabled": false}});
    cloud.call(&admin, "PATCH", &path, off).await.expect(200);
    assert!(!cloud.is_good(&token).await);
    // The default project does not work, so the login is unscoped.
    let answer = cloud.login("demo", "demo-secret", Value::Null).await.expect(201);
    assert!(answer.body["token"].get("project").is_none());
    cloud.call(&admin, "PATCH", &path, json!({"project": {"enabled": true}})).await.expect(200);
    assert!(!cloud.is_good(&token).await);
    let token = cloud.demo().await;
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.get(&admin, &path).await.expect(404);
}

#[tokio::test]
async fn projects_are_made_below_each_other_and_listed_for_their_users() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let make = |body: Value| cloud.call(&admin, "POST", "/v3/projects", json!({"project": body}));
    let top = make(json!({"name": "top", "description": "d", "tags": ["a"]})).await.expect(201);
    let top = &top.body["project"];
    assert_eq!(top["parent_id"], "default");
    assert_eq!(top["is_domain"], false);
    let top = top["id"].as_str().unwrap().to_owned();
    let sub = make(json!({"name": "sub", "parent_id": top})).await.expect(201);
    let sub = sub.body["project"]["id"].as_str().unwrap().to_owned();
    make(json!({"name": "sub"})).await.expect(409);
    make(json!({"name": "x", "parent_id": "nowhere"})).await.expect(404);
    cloud.call(&admin, "DELETE", &format!("/v3/projects/{top}"), Value::Null).await.expect(403);

    // A role handed down by the upper project counts below it, and not on it.
    let demo_user = &cloud.made.demo.as_ref().unwrap().0;
    let reader = cloud.role(&admin, "reader").await;
    let grant = format!(
        "/v3/OS-INHERIT/projects/{top}/users/{demo_user}/roles/{reader}/inherited_to_projects"
    );
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let token = cloud.demo().await;
    let listed = cloud.get(&token, "/v3/auth/projects").await.expect(200);
    let mut names: Vec<&str> = listed.body["projects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|project| project["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["demo", "sub"]);
    cloud.rescope(&token, json!({"project": {"id": sub}})).await.expect(201);
    cloud.rescope(&token, json!({"project": {"id": top}})).await.expect(401);
    let below = cloud.get(&admin, &format!("/v3/projects?parent_id={top}")).await.expect(200);
    assert_eq!(below.body["projects"].as_array().unwrap().len(), 1);
    let page = cloud.get(&admin, "/v3/projects?limit=2").await.expect(200);
    assert_eq!(page.body["projects"].as_array().unwrap().len(), 2);
    let next = page.body["links"]["next"].as_str().unwrap();
    let next = next.strip_prefix("http://cloud.example/identity").unwrap();
    let rest = cloud.get(&admin, next).await.expect(200);
    assert_eq!(rest.body["projects"].as_array().unwrap().len(), 2);
    assert_eq!(rest.body["links"]["next"], Value::Null);
}

#[tokio::test]
async fn grants_give_and_taking_them_away_ends_tokens_for_that_scope_only() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (user, demo) = cloud.made.demo.clone().unwrap();
    let body = json!({"project": {"name": "other"}});
    let other = cloud.call(&admin, "POST", "/v3/projects", body).await.expect(201);
    let other = other.body["project"]["id"].as_str().unwrap().to_owned();
    let role = cloud.role(&admin, "manager").await;
    let grant = format!("/v3/projects/{other}/users/{user}/roles/{role}");
    cloud.get(&admin, &grant).await.expect(404);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    cloud.get(&admin, &grant).await.expect(204);
    cloud.call(&admin, "HEAD", &grant, Value::Null).await.expect(204);
    let held = cloud.get(&admin, &format!("/v3/projects/{other}/users/{user}/roles")).await;
    assert_eq!(held.expect(200).body["roles"][0]["name"], "manager");

    let on_demo = cloud.demo().await;
    let answer = cloud.rescope(&on_demo, json!({"project": {"id": other}})).await.expect(201);
    let roles = answer.body["token"]["roles"].as_array().unwrap().len();
    assert_eq!(roles, 3, "manager, member, reader");
    let on_other = answer.token();
    // A member may grant nothing, a manager of a project neither.
    cloud.call(&on_other, "PUT", &grant, Value::Null).await.expect(403);

    cloud.call(&admin, "DELETE", &grant, Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &grant, Value::Null).await.expect(404);
    assert!(!cloud.is_good(&on_other).await);
    assert!(cloud.is_good(&on_demo).await);
    cloud.rescope(&on_demo, json!({"project": {"id": other}})).await.expect(401);
    cloud.rescope(&on_demo, json!({"project": {"id": demo}})).await.expect(201);
    let nobody = format!("/v3/projects/{other}/users/nobody/roles/{role}");
    cloud.call(&admin, "PUT", &nobody, Value::Null).await.expect(404);
}

#[tokio::test]
async fn assignments_are_listed_with_names_and_in_effect() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let (user, project) = cloud.made.demo.clone().unwrap();
    let plain = cloud.get(&admin, &format!("/v3/role_assignments?user.id={user}")).await;
    let plain = plain.expect(200).body["role_assignments"].clone();
    assert_eq!(plain.as_array().unwrap().len(), 1);
    assert_eq!(plain[0]["scope"], json!({"project": {"id": project}}));
    let query = format!("/v3/role_assignments?user.id={user}&effective&include_names=True");
    let full = cloud.get(&admin, &query).await.expect(200).body["role_assignments"].clone();
    assert_eq!(full.as_array().unwrap().len(), 2, "{full}");
    assert_eq!(full[0]["user"]["name"], "demo");
    assert_eq!(full[0]["user"]["domain"]["name"], "Default");
    assert_eq!(full[0]["scope"]["project"]["name"], "demo");
    let system = cloud.get(&admin, "/v3/role_assignments?scope.system").await.expect(200);
    let system = &system.body["role_assignments"];
    assert_eq!(system[0]["scope"], json!({"system": {"all": true}}));
    let demo = cloud.demo().await;
    cloud.get(&demo, "/v3/role_assignments").await.expect(403);
}

#[tokio::test]
async fn groups_carry_roles_and_leaving_one_ends_tokens() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let body = json!({"group": {"name": "crew", "description": "c"}});
    let group = cloud.call(&admin, "POST", "/v3/groups", body).await.expect(201);
    let group = group.body["group"]["id"].as_str().unwrap().to_owned();
    let member = format!("/v3/groups/{group}/users/{user}");
    cloud.get(&admin, &member).await.expect(404);
    cloud.call(&admin, "PUT", &member, Value::Null).await.expect(204);
    cloud.get(&admin, &member).await.expect(204);
    let role = cloud.role(&admin, "admin").await;
    let grant = format!("/v3/system/groups/{group}/roles/{role}");
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let system = json!({"system": {"all": true}});
    let token = cloud.login("demo", "demo-secret", system.clone()).await.expect(201).token();
    cloud.get(&token, "/v3/users").await.expect(200);
    cloud.call(&admin, "DELETE", &member, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.login("demo", "demo-secret", system).await.expect(401);
}

#[tokio::test]
async fn a_domain_manager_runs_that_domain_and_sees_no_other() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let body = json!({"domain": {"name": "firm", "description": "f"}});
    let domain = cloud.call(&admin, "POST", "/v3/domains", body).await.expect(201);
    let domain = domain.body["domain"]["id"].as_str().unwrap().to_owned();
    let body = json!({"user": {"name": "boss", "password": "b", "domain_id": domain}});
    let boss = cloud.call(&admin, "POST", "/v3/users", body).await.expect(201);
    let boss = boss.body["user"]["id"].as_str().unwrap().to_owned();
    let manager = cloud.role(&admin, "manager").await;
    let grant = format!("/v3/domains/{domain}/users/{boss}/roles/{manager}");
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let auth = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"id": boss, "password": "b"}}},
        "scope": {"domain": {"id": domain}}}});
    let token = cloud.call("", "POST", "/v3/auth/tokens", auth).await.expect(201).token();

    let users = cloud.get(&token, "/v3/users").await.expect(200);
    assert_eq!(users.body["users"].as_array().unwrap().len(), 1);
    cloud.get(&token, "/v3/users?domain_id=default").await.expect(403);
    let body = json!({"user": {"name": "clerk"}});
    let clerk = cloud.call(&token, "POST", "/v3/users", body).await.expect(201);
    assert_eq!(clerk.body["user"]["domain_id"], domain.as_str());
    let clerk = clerk.body["user"]["id"].as_str().unwrap().to_owned();
    let body = json!({"user": {"name": "spy", "domain_id": "default"}});
    cloud.call(&token, "POST", "/v3/users", body).await.expect(403);
    let (demo_user, demo_project) = cloud.made.demo.clone().unwrap();
    cloud.get(&token, &format!("/v3/users/{demo_user}")).await.expect(403);
    cloud.get(&token, &format!("/v3/projects/{demo_project}")).await.expect(403);
    let body = json!({"project": {"name": "mill"}});
    let mill = cloud.call(&token, "POST", "/v3/projects", body).await.expect(201);
    let mill = mill.body["project"]["id"].as_str().unwrap().to_owned();
    // What a manager has can be handed on, within the domain; admin cannot.
    let give = |project: &str, user: &str, role: &str| {
        let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
        let (cloud, token) = (&cloud, &token);
        async move { cloud.call(token, "PUT", &path, Value::Null).await }
    };
    give(&mill, &clerk, &manager).await.expect(204);
    give(&mill, &clerk, &cloud.role(&admin, "admin").await).await.expect(403);
    give(demo_project.as_str(), &clerk, &manager).await.expect(403);
    give(&mill, demo_user.as_str(), &manager).await.expect(403);
    let seen = cloud.get(&token, "/v3/role_assignments").await.expect(200);
    assert_eq!(seen.body["role_assignments"].as_array().unwrap().len(), 2);
    let domains = cloud.get(&token, "/v3/domains").await.expect(200);
    assert_eq!(domains.body["domains"].as_array().unwrap().len(), 1);

    // Disabling the domain ends all of that.
    let path = format!("/v3/domains/{domain}");
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(403);
    cloud.call(&admin, "PATCH", &path, json!({"domain": {"enabled": false}})).await.expect(200);
    assert!(!cloud.is_good(&token).await);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(409);
    cloud.call(&admin, "DELETE", &format!("/v3/projects/{mill}"), Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    cloud.get(&admin, &format!("/v3/users/{boss}")).await.expect(404);
}

#[tokio::test]
async fn roles_imply_and_deleting_one_takes_it_from_tokens() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let body = json!({"role": {"name": "auditor", "description": "looks"}});
    let role = cloud.call(&admin, "POST", "/v3/roles", body).await.expect(201);
    let auditor = role.body["role"]["id"].as_str().unwrap().to_owned();
    let reader = cloud.role(&admin, "reader").await;
    let implies = format!("/v3/roles/{auditor}/implies/{reader}");
    cloud.call(&admin, "PUT", &implies, Value::Null).await.expect(201);
    cloud.get(&admin, &implies).await.expect(200);
    let back = format!("/v3/roles/{reader}/implies/{auditor}");
    cloud.call(&admin, "PUT", &back, Value::Null).await.expect(403);
    let list = cloud.get(&admin, &format!("/v3/roles/{auditor}/implies")).await.expect(200);
    assert_eq!(list.body["role_inference"]["implies"][0]["name"], "reader");
    let all = cloud.get(&admin, "/v3/role_inferences").await.expect(200);
    assert_eq!(all.body["role_inferences"].as_array().unwrap().len(), 4);

    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let grant = format!("/v3/projects/{}/users/{user}/roles/{auditor}", cloud.made.admin_project);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let scope = json!({"project": {"id": cloud.made.admin_project}});
    let token = cloud.login("demo", "demo-secret", scope).await.expect(201);
    assert_eq!(token.body["token"]["roles"].as_array().unwrap().len(), 2);
    cloud.call(&admin, "DELETE", &format!("/v3/roles/{auditor}"), Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token.token()).await);
}

#[tokio::test]
async fn the_catalogue_can_be_changed() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let endpoints = cloud.get(&admin, "/v3/endpoints").await.expect(200);
    assert_eq!(endpoints.body["endpoints"].as_array().unwrap().len(), 15);
    let body = json!({"service": {"type": "object-store", "name": "swift"}});
    let service = cloud.call(&admin, "POST", "/v3/services", body).await.expect(201);
    let id = service.body["service"]["id"].as_str().unwrap().to_owned();
    let url = "https://cloud.example/object-store/v1/AUTH_%(project_id)s";
    let body = json!({"endpoint": {"service_id": id, "interface": "public", "url": url,
                                   "region_id": "region-1"}});
    let endpoint = cloud.call(&admin, "POST", "/v3/endpoints", body).await.expect(201);
    let endpoint = endpoint.body["endpoint"]["id"].as_str().unwrap().to_owned();
    let demo = cloud.demo().await;
    let catalog = cloud.get(&demo, "/v3/auth/catalog").await.expect(200).body["catalog"].clone();
    let swift = catalog.as_array().unwrap().iter().find(|s| s["type"] == "object-store").unwrap();
    let project = &cloud.made.demo.as_ref().unwrap().1;
    let wanted = format!("https://cloud.example/object-store/v1/AUTH_{project}");
    assert_eq!(swift["endpoints"][0]["url"], wanted);
    let one = cloud.get(&admin, "/v3/endpoints?interface=public&service_id=nothing").await;
    assert_eq!(one.expect(200).body["endpoints"], json!([]));
    cloud.call(&admin, "DELETE", "/v3/regions/region-1", Value::Null).await.expect(409);
    let path = format!("/v3/endpoints/{endpoint}");
    cloud.call(&admin, "PATCH", &path, json!({"endpoint": {"enabled": false}})).await.expect(200);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &format!("/v3/services/{id}"), Value::Null).await.expect(204);
    cloud.get(&demo, "/v3/endpoints").await.expect(403);
    cloud.get(&demo, "/v3/regions").await.expect(200);
}

#[tokio::test]
async fn bootstrap_again_changes_nothing_that_was_chosen() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let before = cloud.get(&admin, "/v3/role_assignments").await.expect(200).body;
    let path = format!("/v3/users/{}", cloud.made.admin_user);
    let body = json!({"user": {"password": "chosen"}});
    cloud.call(&admin, "PATCH", &path, body).await.expect(200);
    let moved = BootstrapConfig { base_url: "https://new.example/".into(), ..config() };
    assert_eq!(bootstrap(&cloud.db, &moved).await.unwrap(), cloud.made);
    cloud.login("admin", "root-secret", Value::Null).await.expect(401);
    let admin = cloud.login("admin", "chosen", Value::Null).await.expect(201).token();
    assert_eq!(cloud.get(&admin, "/v3/role_assignments").await.expect(200).body, before);
    let endpoints = cloud.get(&admin, "/v3/endpoints").await.expect(200).body;
    let endpoints = endpoints["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 15);
    assert!(
        endpoints.iter().all(|e| e["url"].as_str().unwrap().starts_with("https://new.example/"))
    );
}

#[tokio::test]
async fn no_route_but_the_public_ones_answers_without_a_token_or_right() {
    let cloud = Cloud::new().await;
    let nobody = cloud.login("demo", "demo-secret", json!("unscoped")).await.expect(201).token();
    let mut refused = 0;
    for route in cloud.app.table() {
        let path = route.path.strip_prefix("/identity").unwrap();
        let path = path.replace(['{', '}'], "");
        let method = route.method.as_str();
        match route.access {
            service_kit::Access::Public => continue,
            service_kit::Access::Token => {}
            service_kit::Access::Rule(rule) => {
                let body = if method == "GET" { Value::Null } else { json!({}) };
                let answer = cloud.call(&nobody, method, &path, body).await;
                // Rules that a reader of everything lacks, or that ask whose it is.
                let open = ["identity:get_region", "identity:list_regions"].contains(&rule);
                let status = answer.status.as_u16();
                assert!(open || [400, 403].contains(&status), "{method} {path}: {status}");
                refused += usize::from(status == 403);
            }
        }
        cloud.call("", method, &path, Value::Null).await.expect(401);
        cloud.call("forged", method, &path, Value::Null).await.expect(401);
    }
    assert!(refused > 60, "{refused}");
}

#[tokio::test]
async fn an_idempotency_key_makes_one_user_and_one_answer() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let send = |name: &'static str, key: &'static str| {
        let request = Request::builder()
            .method("POST")
            .uri("/identity/v3/users")
            .header("x-auth-token", &admin)
            .header("idempotency-key", key)
            .body(Body::from(json!({"user": {"name": name}}).to_string()))
            .unwrap();
        cloud.send(request)
    };
    let (one, two) = tokio::join!(send("twin", "k1"), send("twin", "k1"));
    let (one, two) = (one.expect(201), two.expect(201));
    assert_eq!(one.body, two.body);
    let replayed =
        [&one, &two].iter().filter(|a| a.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(replayed, 1);
    send("other", "k1").await.expect(409);
    let taken = send("twin", "k2").await.expect(409);
    let again = send("twin", "k2").await.expect(409);
    assert_eq!(taken.body, again.body);
    assert!(again.headers.contains_key("idempotent-replayed"));
}
