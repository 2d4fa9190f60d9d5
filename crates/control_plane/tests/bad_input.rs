//! Whatever is sent, the answer is a fault in the caller's terms: a 4xx that names the field, and
//! never a 500. The routes come from the running router; the bodies from `fuzz/samples.rs`.

mod fuzz;
mod world;

use axum::body::Body;
use axum::http::Request;
use fuzz::samples::{self, Places, Sample};
use fuzz::{Bad, Seeded, all_bad};
use serde_json::{Value, json};
use service_kit::{Method, Service};
use world::{Answer, World};

/// Bad bodies of each route that are tried when not all are.
const SOME: usize = 60;

struct Tried {
    world: World,
    token: String,
    places: Places,
    findings: Vec<String>,
    sent: usize,
}

impl Tried {
    async fn new() -> Self {
        let world = World::new().await;
        let token = world.login("admin", "admin").await;
        let mut tried =
            Tried { world, token, places: Places::default(), findings: Vec::new(), sent: 0 };
        tried.places.0.insert("domain_id", "default".into());
        for (name, path, body, root) in [
            ("user_id", "/identity/v3/users", json!({"user": {"name": "victim"}}), "user"),
            (
                "project_id",
                "/identity/v3/projects",
                json!({"project": {"name": "victim"}}),
                "project",
            ),
            ("group_id", "/identity/v3/groups", json!({"group": {"name": "victim"}}), "group"),
            ("role_id", "/identity/v3/roles", json!({"role": {"name": "victim"}}), "role"),
            ("region_id", "/identity/v3/regions", json!({"region": {"id": "victim"}}), "region"),
            ("domain_id", "/identity/v3/domains", json!({"domain": {"name": "victim"}}), "domain"),
            (
                "service_id",
                "/identity/v3/services",
                json!({"service": {"type": "victim"}}),
                "service",
            ),
            (
                "network_id",
                "/network/v2.0/networks",
                json!({"network": {"name": "victim"}}),
                "network",
            ),
        ] {
            tried.make(name, path, body, root).await;
        }
        let body = json!({"endpoint": {"service_id": "$service_id", "interface": "public",
                          "url": "https://example.org"}});
        let body = tried.places.body(&body);
        tried.make("endpoint_id", "/identity/v3/endpoints", body, "endpoint").await;
        tried.find_own().await;
        for (name, path, root, list) in [
            ("credential_id", "/identity/v3/credentials", "credential", None),
            (
                "registered_limit_id",
                "/identity/v3/registered_limits",
                "registered_limits",
                Some("victim"),
            ),
            ("limit_id", "/identity/v3/limits", "limits", Some("victim")),
            // One that no limit stands on, so that it can be changed.
            (
                "registered_limit_id",
                "/identity/v3/registered_limits",
                "registered_limits",
                Some("spare"),
            ),
            ("policy_id", "/identity/v3/policies", "policy", None),
            (
                "endpoint_group_id",
                "/identity/v3/OS-EP-FILTER/endpoint_groups",
                "endpoint_group",
                None,
            ),
            ("consumer_id", "/identity/v3/OS-OAUTH1/consumers", "consumer", None),
        ] {
            let sample = samples::identity().into_iter().find(|s| s.0 == "POST" && s.1 == path);
            let mut body = tried.places.body(&sample.expect(path).2);
            if let Some(name) = list {
                body[root][0]["resource_name"] = name.into();
            }
            // What is made here is another one than the sample makes.
            if name == "limit_id" {
                body[root][0]["project_id"] = tried.places.0["project_id"].as_str().into();
            }
            if name == "credential_id" {
                body[root]["blob"] = json!({"access": "victim", "secret": "s"}).to_string().into();
            }
            tried.make(name, path, body, root).await;
        }
        tried.places.0.insert("group", "identity".into());
        tried.places.0.insert("option", "list_limit".into());
        tried
    }

    /// Who asks, and where.
    async fn find_own(&mut self) {
        let request = Request::builder()
            .uri("/identity/v3/auth/tokens")
            .header("x-auth-token", &self.token)
            .header("x-subject-token", &self.token)
            .body(Body::empty())
            .unwrap();
        let answer = self.world.send(request).await;
        let token: Value = serde_json::from_str(&answer.text).unwrap();
        for (name, place) in [("own_id", "user"), ("own_project_id", "project")] {
            let id = token["token"][place]["id"].as_str().expect(place);
            self.places.0.insert(name, id.to_owned());
        }
    }

    async fn make(&mut self, name: &'static str, path: &str, body: Value, root: &str) {
        let answer = self.world.ask(&Method::POST, path, Some(&self.token), Some(body)).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text);
        let made: Value = serde_json::from_str(&answer.text).unwrap();
        let made = made[root].get(0).unwrap_or(&made[root]);
        let id = made["id"].as_str().expect(path).to_owned();
        self.places.0.insert(name, id);
    }

    async fn send(&mut self, method: &str, path: &str, bytes: Vec<u8>) -> Answer {
        self.sent += 1;
        let request = |token: &str| {
            Request::builder()
                .method(method)
                .uri(path)
                .header("x-auth-token", token)
                .header("x-subject-token", "none")
                .header("content-type", "application/json")
                .body(Body::from(bytes.clone()))
                .unwrap()
        };
        let answer = self.world.send(request(&self.token)).await;
        // Something that was tried may have ended the token.
        if answer.status == 401 && !path.contains("/auth/tokens") && !path.ends_with("/password") {
            self.token = self.world.login("admin", "admin").await;
            return self.world.send(request(&self.token)).await;
        }
        answer
    }

    /// Tries bad bodies on the route of a sample.
    async fn bodies(&mut self, sample: &Sample, bodies: Vec<Bad>, names_fields: bool) {
        let (method, route, _) = sample;
        for bad in bodies {
            let path = self.places.path(route);
            let answer = self.send(method, &path, bad.bytes.clone()).await;
            let what = format!("{method} {route}: {} {:?}", bad.field, bad.change);
            self.judge(&what, &answer, Service::of_path(&path));
            if !names_fields || answer.status != 400 {
                continue;
            }
            let message = message_of(&answer.text);
            let readable = !bad.is_unreadable();
            if readable && !names(&message, &bad) {
                self.findings.push(format!("{what}: the field is not named: {message}"));
            }
        }
    }

    fn judge(&mut self, what: &str, answer: &Answer, service: Option<Service>) {
        if answer.status >= 500 {
            self.findings.push(format!("{what}: {} {}", answer.status, answer.text));
        } else if answer.status >= 400 && service == Some(Service::Identity) {
            let fault: Value = serde_json::from_str(&answer.text).unwrap_or_default();
            let receipt = fault.get("receipt").is_some();
            if fault["error"]["code"] != answer.status && !receipt {
                self.findings.push(format!("{what}: no fault: {} {}", answer.status, answer.text));
            }
        }
    }

    fn report(self) {
        let count = self.findings.len();
        let shown = self.findings.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
        assert_eq!(count, 0, "{count} of {} answers are wrong:\n{shown}", self.sent);
        println!("{} answers were right", self.sent);
    }
}

fn message_of(text: &str) -> String {
    let fault: Value = serde_json::from_str(text).unwrap_or_default();
    fault["error"]["message"].as_str().unwrap_or(text).to_owned()
}

/// Fields that are right by themselves and not with another one, which is what the answer says:
/// upstream's clients know these texts.
const WRONG_TOGETHER: [(&str, &str); 4] = [
    ("project/no_such_attribute", "Cascade update is only allowed for enabled attribute"),
    ("trust/allow_redelegation", "remaining_uses must not be set if redelegation is allowed"),
    ("protocol/mapping_id", "Invalid mapping id: "),
    ("limits/0/region_id", "a limit that has no corresponding registered limit"),
];

/// Whether the message names the field, or the one that it is in, or (of an object that is another
/// one now) what is wrong inside.
fn names(message: &str, bad: &Bad) -> bool {
    let together = |(field, text): &(&str, &str)| bad.field == *field && message.contains(text);
    // What stands beside the object is nobody's, as upstream; the answer may speak of the object.
    let beside = bad.field.starts_with("no_such_attribute");
    if bad.field.is_empty() || beside || WRONG_TOGETHER.iter().any(together) {
        return true;
    }
    let inside = ["is a required property", "Additional properties are not allowed"];
    if bad.is_another_object() && inside.iter().any(|text| message.contains(text)) {
        return true;
    }
    let mut parts: Vec<&str> =
        bad.field.split('/').filter(|p| p.parse::<usize>().is_err()).collect();
    // An unknown attribute is named itself; of a field that is missing, the object may be. Of a
    // list of roles, the role.
    let own = parts.pop().unwrap_or_default();
    message.contains(own)
        || parts.last().is_some_and(|around| message.contains(around.trim_end_matches('s')))
}

#[tokio::test]
async fn every_field_of_every_route_of_identity_is_judged_in_the_callers_terms() {
    let mut seed = Seeded::new();
    let mut tried = Tried::new().await;
    for sample in samples::identity() {
        let body = tried.places.body(&sample.2);
        let all = all_bad(&body);
        let count = all.len();
        let bodies = seed.some(all, count);
        tried.bodies(&sample, bodies, true).await;
    }
    tried.report();
}

#[tokio::test]
async fn no_body_makes_an_error_of_ours_in_any_service() {
    let mut seed = Seeded::new();
    let mut tried = Tried::new().await;
    for sample in samples::others() {
        let body = tried.places.body(&sample.2);
        let bodies = seed.some(all_bad(&body), SOME);
        tried.bodies(&sample, bodies, false).await;
    }
    // Routes without a sample get the shape that most of them have.
    let sampled: Vec<(&str, &str)> =
        samples::identity().iter().chain(&samples::others()).map(|s| (s.0, s.1)).collect();
    for route in tried.world.routes() {
        let method = route.method.as_str();
        if ["GET", "DELETE", "HEAD"].contains(&method)
            || sampled.contains(&(method, route.path.as_str()))
        {
            continue;
        }
        let last = route.path.split('/').rev().find(|part| !part.starts_with('{'));
        let root = last.unwrap_or("object").trim_end_matches('s').replace('-', "_");
        let shape = json!({(root): {"name": "n", "description": "d", "id": "i"}});
        for bad in seed.some(all_bad(&shape), 12) {
            let path = tried.places.path(&route.path);
            let answer = tried.send(method, &path, bad.bytes.clone()).await;
            let what = format!("{method} {}: {} {:?}", route.path, bad.field, bad.change);
            tried.judge(&what, &answer, Service::of_path(&path));
        }
    }
    tried.report();
}

#[tokio::test]
async fn no_path_and_no_query_makes_an_error_of_ours() {
    const IDS: [&str; 8] =
        ["x", "%00", "%ff%fe", "..%2f..", "%F0%9F%92%A9", "%20", "%2525", "a%0d%0ab"];
    const QUERIES: [&str; 10] = [
        "limit=-1",
        "limit=99999999999999999999&marker=x",
        "marker=%00",
        "name=%ff",
        "sort_key=nothing&sort_dir=up",
        "name__icontains=%25%5f&enabled=&effective",
        "fields=a&fields=b&id=",
        "user.id=x&group.id=y&scope.project.id=%20",
        "password_expires_at=lt:x&created_at=gt:y",
        "domain_id=%F0%9F%92%A9&all_tenants=maybe&status=",
    ];
    let mut seed = Seeded::new();
    let mut tried = Tried::new().await;
    let long = "a".repeat(300);
    for route in tried.world.routes() {
        let method = route.method.as_str();
        if method == "DELETE" && route.path.ends_with("/auth/tokens") {
            continue;
        }
        let has_ids = route.path.contains('{');
        let mut wanted: Vec<(String, &str)> = Vec::new();
        if has_ids {
            let ids: Vec<&str> = IDS.iter().copied().chain([long.as_str()]).collect();
            for id in seed.some(ids, 4) {
                let part = |part: &str| {
                    if part.starts_with('{') { id.to_owned() } else { part.to_owned() }
                };
                wanted.push((route.path.split('/').map(part).collect::<Vec<_>>().join("/"), ""));
            }
        }
        if method == "GET" {
            let path = tried.places.path(&route.path);
            for query in seed.some(QUERIES.to_vec(), 5) {
                wanted.push((path.clone(), query));
            }
        }
        for (path, query) in wanted {
            let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
            let answer = tried.send(method, &target, b"{}".to_vec()).await;
            tried.judge(&format!("{method} {target}"), &answer, Service::of_path(&path));
        }
    }
    tried.report();
}

/// Whether a route of identity says all that it does in its path or its headers.
fn takes_no_body(method: &Method, path: &str) -> bool {
    const SIGNED: [&str; 2] = ["/OS-OAUTH1/access_token", "/OS-OAUTH1/request_token"];
    const ENDS: [&str; 9] = [
        "/roles/{role_id}",
        "/inherited_to_projects",
        "/implies/{implied_role_id}",
        "/tags/{value}",
        "/groups/{group_id}/users/{user_id}",
        "/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}",
        "/OS-ENDPOINT-POLICY/services/{service_id}",
        "/services/{service_id}/regions/{region_id}",
        "/projects/{project_id}/endpoints/{endpoint_id}",
    ];
    let attaches = ENDS.iter().any(|end| path.ends_with(end))
        || path.ends_with("/endpoint_groups/{endpoint_group_id}/projects/{project_id}");
    // People from elsewhere bring a token in a header, or a form.
    const FROM_ELSEWHERE: [&str; 4] =
        ["/auth", "/websso", "/websso/{protocol_id}", "/backchannel_logout"];
    let from_elsewhere =
        path.contains("/OS-FEDERATION/") && FROM_ELSEWHERE.iter().any(|end| path.ends_with(end));
    if method == Method::POST && from_elsewhere {
        return true;
    }
    (method == Method::PUT && attaches) || SIGNED.iter().any(|end| path.ends_with(end))
}

#[tokio::test]
async fn every_route_of_identity_that_takes_a_body_has_a_sample() {
    let world = World::new().await;
    let sampled: Vec<(&str, &str)> = samples::identity().iter().map(|s| (s.0, s.1)).collect();
    let without: Vec<String> = world
        .routes()
        .into_iter()
        .filter(|route| Service::of_path(&route.path) == Some(Service::Identity))
        .filter(|route| ["POST", "PUT", "PATCH"].contains(&route.method.as_str()))
        .filter(|route| !sampled.contains(&(route.method.as_str(), route.path.as_str())))
        .filter(|route| !takes_no_body(&route.method, &route.path))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    // A request token comes from a signed request; what its approval refuses is with its own tests.
    assert_eq!(without, ["PUT /identity/v3/OS-OAUTH1/authorize/{request_token_id}"]);
}

#[tokio::test]
async fn every_sample_is_a_good_body_of_a_route() {
    let mut tried = Tried::new().await;
    let routes = tried.world.routes();
    for sample in samples::identity().iter().chain(&samples::others()) {
        let (method, path, body) = sample;
        let there = routes.iter().any(|r| r.method.as_str() == *method && r.path == *path);
        assert!(there, "no route {method} {path}: its sample tries nothing");
        let body = tried.places.body(body);
        let place = tried.places.path(path);
        let answer = tried.send(method, &place, body.to_string().into_bytes()).await;
        let good = [200, 201, 202, 204];
        // An object that a sample names may be missing here, and no password or key is known.
        let nearly = answer.status == 400 && answer.text.contains("$");
        let needs_a_secret = ["/password", "/ec2tokens", "/s3tokens"];
        let unknown = needs_a_secret.iter().any(|end| path.ends_with(end))
            && [401, 404].contains(&answer.status);
        // A region is made with the identifier of one that is there.
        let twice = *method == "PUT" && answer.status == 409;
        if !(good.contains(&answer.status) || nearly || unknown || twice) {
            tried.findings.push(format!("{method} {path}: {} {}", answer.status, answer.text));
        }
    }
    tried.report();
}
