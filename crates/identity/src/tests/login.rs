//! Tokens: what they say, when they end, and that nothing answers without one.

use super::*;

on_both!(
    clients_discover_the_version,
    a_password_token_says_who_and_where,
    scopes_are_given_only_where_there_are_roles,
    wrong_and_unknown_are_the_same,
    malformed_logins_are_400_and_name_the_field,
    a_token_describes_itself_until_it_expires,
    what_is_told_of_a_token_follows_every_change_at_once,
    a_token_from_a_token_ends_with_it_in_time,
    a_revoked_token_is_dead_at_once_and_others_live,
    another_process_hears_of_a_revocation,
    no_route_but_the_public_ones_answers_without_a_token_or_right,
    nothing_that_is_sent_makes_an_error_of_ours,
);

async fn clients_discover_the_version(cloud: Cloud) {
    let versions = cloud.get("", "").await.expect(300);
    let value = &versions.body["versions"]["values"][0];
    assert_eq!(value["id"], "v3.14");
    assert_eq!(value["links"][0]["href"], "http://cloud.example/identity/v3/");
    for path in ["/v3", "/v3/"] {
        let version = cloud.get("", path).await.expect(200);
        assert_eq!(version.body["version"]["status"], "stable");
    }
}

async fn a_password_token_says_who_and_where(cloud: Cloud) {
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

async fn scopes_are_given_only_where_there_are_roles(cloud: Cloud) {
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

async fn wrong_and_unknown_are_the_same(cloud: Cloud) {
    let wrong = cloud.login("demo", "guess", Value::Null).await.expect(401);
    let unknown = cloud.login("nobody", "guess", Value::Null).await.expect(401);
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(wrong.body["error"]["code"], 401);
    assert_eq!(wrong.body["error"]["title"], "Unauthorized");
    let challenge = "Keystone uri=\"http://cloud.example/identity/v3\"";
    assert_eq!(wrong.headers["www-authenticate"], challenge);
    let none = cloud.get("", "/v3/users").await.expect(401);
    assert_eq!(none.body["error"]["message"], "The request you have made requires authentication.");
}

async fn malformed_logins_are_400_and_name_the_field(cloud: Cloud) {
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

async fn a_token_describes_itself_until_it_expires(cloud: Cloud) {
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

async fn what_is_told_of_a_token_follows_every_change_at_once(cloud: Cloud) {
    let (admin, token) = (cloud.admin().await, cloud.demo().await);
    let project = cloud.made.demo.as_ref().unwrap().1.clone();
    let path = format!("/v3/projects/{project}");
    // Twice each, so that the second answer may be one that was kept.
    for name in ["demo", "renamed", "renamed-again"] {
        cloud.call(&admin, "PATCH", &path, json!({"project": {"name": name}})).await.expect(200);
        for _ in 0..2 {
            let told = cloud.about(&admin, "GET", &token).await.expect(200);
            assert_eq!(told.body["token"]["project"]["name"], name);
            assert_eq!(told.headers["content-type"], "application/json");
        }
    }
    cloud.about(&token, "GET", &token).await.expect(200);
    cloud.about(&token, "DELETE", &token).await.expect(204);
    cloud.about(&admin, "GET", &token).await.expect(404);
}

async fn a_token_from_a_token_ends_with_it_in_time(cloud: Cloud) {
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

async fn a_revoked_token_is_dead_at_once_and_others_live(cloud: Cloud) {
    let (one, two) = (cloud.demo().await, cloud.demo().await);
    cloud.about(&one, "DELETE", &one).await.expect(204);
    assert!(!cloud.is_good(&one).await);
    assert!(cloud.is_good(&two).await);
    let admin = cloud.admin().await;
    cloud.about(&admin, "GET", &one).await.expect(404);
    cloud.rescope(&one, json!("unscoped")).await.expect(401);
    cloud.about(&two, "DELETE", &admin).await.expect(403);
}

async fn another_process_hears_of_a_revocation(cloud: Cloud) {
    let directory = tempfile::tempdir().unwrap();
    let source = KeySource::Directory(directory.path().to_owned());
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

async fn no_route_but_the_public_ones_answers_without_a_token_or_right(cloud: Cloud) {
    let nobody = cloud.login("demo", "demo-secret", json!("unscoped")).await.expect(201).token();
    let mut refused = 0;
    for route in cloud.app.table() {
        let path = route.path.strip_prefix("/identity").unwrap();
        let path = path.replace(['{', '}'], "");
        let method = route.method.as_str();
        if route.access == service_kit::Access::Public {
            continue;
        }
        if !route.access.rules().is_empty() {
            let body = if method == "GET" { Value::Null } else { json!({}) };
            let answer = cloud.call(&nobody, method, &path, body).await;
            let policy = &cloud.app.kit().policy;
            let open = policy
                .rules()
                .any(|(name, text, _)| text.is_empty() && route.access.rules().contains(&name));
            // Everybody lists their own.
            let own = method == "GET" && path == "/v3/credentials";
            let open = open || own;
            let status = answer.status.as_u16();
            assert!(open || [400, 403, 404].contains(&status), "{method} {path}: {status}");
            refused += usize::from(status == 403);
        }
        cloud.call("", method, &path, Value::Null).await.expect(401);
        cloud.call("forged", method, &path, Value::Null).await.expect(401);
    }
    assert!(refused > 60, "{refused}");
}

async fn nothing_that_is_sent_makes_an_error_of_ours(cloud: Cloud) {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let mut bodies = vec![
        String::new(),
        "{".into(),
        "null".into(),
        "[]".into(),
        "\"\\u0000\"".into(),
        "{\"auth\": {\"identity\": null}}".into(),
        deep,
        "\u{feff}{}".into(),
    ];
    for kind in [
        "user",
        "project",
        "domain",
        "role",
        "group",
        "region",
        "service",
        "endpoint",
        "policy",
        "endpoint_group",
        "limit",
        "limits",
        "registered_limit",
        "registered_limits",
        "config",
        "tags",
    ] {
        for value in [
            json!(null),
            json!(7),
            json!({}),
            json!({"name": "x\u{0}y"}),
            json!({"name": {"a": [null]}, "enabled": "x", "description": 5}),
            json!({"name": "n", "domain_id": "../..", "parent_id": "é", "id": "\u{202e}"}),
            json!({"name": "n", "options": [], "tags": [7], "type": null, "interface": "x"}),
        ] {
            bodies.push(json!({kind: value}).to_string());
        }
    }
    let admin = cloud.admin().await;
    for route in cloud.app.table() {
        if route.path.ends_with("/auth/tokens") && route.method == "DELETE" {
            continue;
        }
        for id in ["x", "%00", "%ff", "..%2f..", "%F0%9F%92%A9", &"a".repeat(300)] {
            let mut path = String::new();
            for part in route.path.split('/').skip(1) {
                path.push('/');
                path.push_str(if part.starts_with('{') { id } else { part });
            }
            for query in ["", "?limit=-1&marker=%00", "?name__icontains=%25&enabled=&effective"] {
                let answer = cloud.raw(&admin, route.method.as_str(), &path, query, "{}").await;
                assert!(answer < 500, "{} {path}{query}: {answer}", route.method);
            }
            if route.method == "GET" || id != "x" {
                continue;
            }
            for body in &bodies {
                let answer = cloud.raw(&admin, route.method.as_str(), &path, "", body).await;
                assert!(answer < 500, "{} {path} {body}: {answer}", route.method);
            }
        }
    }
    assert!(cloud.is_good(&admin).await);
}
