//! One domain attacks another: its manager, with each token that they can get, calls every route
//! of the running router with every identifier of the other domain, in the path, the query and the
//! body. They learn no name and no identifier, and nothing of the other domain changes.

mod world;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use service_kit::{Method, RouteInfo};
use world::{Answer, World};

/// Every name of the other domain has this in it.
const MARK: &str = "vIcTiM";

/// A domain with something of everything in it, by kind.
struct Domain {
    ids: BTreeMap<&'static str, String>,
}

impl Domain {
    fn id(&self, kind: &str) -> &str {
        &self.ids[kind]
    }
}

async fn call(world: &World, method: &str, path: &str, token: &str, body: Value) -> Answer {
    let body = (!body.is_null()).then_some(body);
    world.ask(&method.parse().unwrap(), path, Some(token), body).await
}

/// Makes something; answers its id.
async fn make(world: &World, token: &str, path: &str, root: &str, body: Value) -> String {
    let answer = call(world, "POST", path, token, json!({root: body})).await;
    assert!([200, 201, 202].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    let made: Value = serde_json::from_str(&answer.text).unwrap();
    made[root]["id"].as_str().unwrap_or_else(|| panic!("{path}: {made}")).to_owned()
}

async fn login(world: &World, user: &str, password: &str, scope: Value) -> String {
    let auth = json!({"auth": {
        "identity": {"methods": ["password"], "password": {
            "user": {"id": user, "password": password}}},
        "scope": scope,
    }});
    let answer = world.ask(&Method::POST, "/identity/v3/auth/tokens", None, Some(auth)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.token.unwrap()
}

async fn role(world: &World, admin: &str, name: &str) -> String {
    let path = format!("/identity/v3/roles?name={name}");
    let answer = call(world, "GET", &path, admin, Value::Null).await;
    let found: Value = serde_json::from_str(&answer.text).unwrap();
    found["roles"][0]["id"].as_str().unwrap().to_owned()
}

/// A domain, its manager, and something of each kind. `name` is part of every name.
async fn domain(world: &World, admin: &str, name: &str) -> Domain {
    let v3 = |path: &str| format!("/identity/v3/{path}");
    let mut ids = BTreeMap::new();
    let domain = make(world, admin, &v3("domains"), "domain", json!({"name": name})).await;
    let user = json!({"name": format!("{name}-boss"), "password": "p4ssword-of-tests",
                      "domain_id": domain});
    let boss = make(world, admin, &v3("users"), "user", user).await;
    let project = json!({"name": format!("{name}-project"), "domain_id": domain,
                         "tags": [format!("{name}-tag")]});
    let project = make(world, admin, &v3("projects"), "project", project).await;
    let group = json!({"name": format!("{name}-group"), "domain_id": domain});
    let group = make(world, admin, &v3("groups"), "group", group).await;
    let own_role = json!({"name": format!("{name}-role"), "domain_id": domain});
    let own_role = make(world, admin, &v3("roles"), "role", own_role).await;
    let manager = role(world, admin, "manager").await;
    for path in [
        format!("domains/{domain}/users/{boss}/roles/{manager}"),
        format!("projects/{project}/users/{boss}/roles/{manager}"),
        format!("domains/{domain}/groups/{group}/roles/{manager}"),
        format!("groups/{group}/users/{boss}"),
    ] {
        let answer = call(world, "PUT", &v3(&path), admin, Value::Null).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.text);
    }
    let answer = call(world, "GET", &v3("services"), admin, Value::Null).await;
    let services: Value = serde_json::from_str(&answer.text).unwrap();
    let service = services["services"][0]["id"].as_str().unwrap().to_owned();
    // The cloud's own, which everybody may see.
    let resource = "cores-of-tests";
    let registered = json!({"registered_limits": [
        {"service_id": service, "resource_name": resource, "default_limit": 5}]});
    call(world, "POST", &v3("registered_limits"), admin, registered).await;
    let limit = json!({"limits": [{"service_id": service, "resource_name": resource,
                                   "resource_limit": 3, "project_id": project}]});
    let answer = call(world, "POST", &v3("limits"), admin, limit).await;
    let limits: Value = serde_json::from_str(&answer.text).unwrap();
    let limit = limits["limits"][0]["id"].as_str().unwrap().to_owned();

    // How its people come from elsewhere, with a secret of the cloud's at their provider.
    let provider = format!("{name}-provider");
    let rules = json!([{"local": [{"user": {"name": "{0}"}}],
                        "remote": [{"type": format!("{name}-claim")}]}]);
    let client = json!({"issuer": format!("https://{name}.example"), "client_id": "cloud",
                        "client_secret": format!("{name}-secret")});
    let of_provider = format!("OS-FEDERATION/identity_providers/{provider}");
    for (path, body) in [
        (format!("OS-FEDERATION/mappings/{provider}"), json!({"mapping": {"rules": rules}})),
        (of_provider.clone(), json!({"identity_provider": {"domain_id": domain}})),
        (
            format!("{of_provider}/protocols/{provider}"),
            json!({"protocol": {"mapping_id": provider}}),
        ),
        (
            format!("{of_provider}/protocols/{provider}/openid_client"),
            json!({"openid_client": client}),
        ),
        // Its directory is not there; nobody is looked up in it before the attack is over.
        (
            format!("domains/{domain}/config"),
            json!({"config": {"ldap": {
            "url": format!("ldap://{name}.example"), "password": format!("{name}-secret")}}}),
        ),
    ] {
        let answer = call(world, "PUT", &v3(&path), admin, body).await;
        assert!([200, 201].contains(&answer.status), "{path}: {}", answer.text);
    }

    let member =
        login(world, &boss, "p4ssword-of-tests", json!({"project": {"id": project}})).await;
    let network = json!({"name": format!("{name}-network")});
    let network = make(world, &member, "/network/v2.0/networks", "network", network).await;
    let subnet = json!({"name": format!("{name}-subnet"), "network_id": network, "ip_version": 4,
                        "cidr": "10.9.0.0/24"});
    let subnet = make(world, &member, "/network/v2.0/subnets", "subnet", subnet).await;
    let port = json!({"name": format!("{name}-port"), "network_id": network});
    let port = make(world, &member, "/network/v2.0/ports", "port", port).await;
    let path = "/network/v2.0/security-groups";
    let security = json!({"name": format!("{name}-security")});
    let security = make(world, &member, path, "security_group", security).await;
    let scope = json!({"name": format!("{name}-scope"), "ip_version": 4});
    let path = "/network/v2.0/address-scopes";
    let scope = make(world, &member, path, "address_scope", scope).await;
    let pool = json!({"name": format!("{name}-pool"), "prefixes": ["10.9.0.0/16"],
                      "address_scope_id": scope});
    let pool = make(world, &member, "/network/v2.0/subnetpools", "subnetpool", pool).await;
    let list = json!({"name": format!("{name}-list"), "addresses": ["10.9.0.0/16"]});
    let path = "/network/v2.0/address-groups";
    let list = make(world, &member, path, "address_group", list).await;
    // Shared with somebody else, who is not the intruder.
    let policy = json!({"object_type": "network", "object_id": network,
                        "action": "access_as_shared",
                        "target_tenant": "0123456789abcdef0123456789abcdef"});
    let path = "/network/v2.0/rbac-policies";
    let policy = make(world, &member, path, "rbac_policy", policy).await;
    let image = json!({"name": format!("{name}-image"), "disk_format": "qcow2",
                       "container_format": "bare", "visibility": "private"});
    let answer = call(world, "POST", "/image/v2/images", &member, image).await;
    let image: Value = serde_json::from_str(&answer.text).unwrap();
    let image = image["id"].as_str().unwrap_or_else(|| panic!("{image}")).to_owned();
    for (kind, id) in [
        ("domain", domain),
        ("user", boss),
        ("project", project),
        ("group", group),
        ("role", own_role),
        ("limit", limit),
        ("network", network),
        ("subnet", subnet),
        ("port", port),
        ("security", security),
        ("scope", scope),
        ("pool", pool),
        ("list", list),
        ("policy", policy),
        ("image", image),
        ("provider", provider),
    ] {
        ids.insert(kind, id);
    }
    Domain { ids }
}

/// What there is of a domain, as the administrator sees it.
async fn state(world: &World, admin: &str, of: &Domain) -> Vec<(String, String)> {
    let (domain, project, user) = (of.id("domain"), of.id("project"), of.id("user"));
    let mut seen = Vec::new();
    for path in [
        format!("/identity/v3/domains/{domain}"),
        format!("/identity/v3/users?domain_id={domain}"),
        format!("/identity/v3/groups?domain_id={domain}"),
        format!("/identity/v3/groups/{}/users", of.id("group")),
        format!("/identity/v3/projects?domain_id={domain}"),
        format!("/identity/v3/roles?domain_id={domain}"),
        format!("/identity/v3/role_assignments?scope.domain.id={domain}"),
        format!("/identity/v3/role_assignments?scope.project.id={project}"),
        format!("/identity/v3/role_assignments?user.id={user}"),
        format!("/identity/v3/role_assignments?group.id={}", of.id("group")),
        format!("/identity/v3/limits?project_id={project}"),
        format!("/identity/v3/OS-EP-FILTER/projects/{project}/endpoints"),
        format!("/network/v2.0/networks?project_id={project}"),
        format!("/network/v2.0/subnets?project_id={project}"),
        format!("/network/v2.0/ports?project_id={project}"),
        format!("/network/v2.0/security-groups?project_id={project}"),
        format!("/network/v2.0/address-scopes?project_id={project}"),
        format!("/network/v2.0/subnetpools?project_id={project}"),
        format!("/network/v2.0/address-groups?project_id={project}"),
        format!("/network/v2.0/rbac-policies?project_id={project}"),
        format!("/network/v2.0/quotas/{project}"),
        format!("/image/v2/images/{}", of.id("image")),
        format!("/compute/v2.1/os-quota-sets/{project}"),
        format!("/identity/v3/domains/{domain}/config"),
        format!("/identity/v3/OS-FEDERATION/identity_providers/{}", of.id("provider")),
        format!("/identity/v3/OS-FEDERATION/mappings/{}", of.id("provider")),
        format!(
            "/identity/v3/OS-FEDERATION/identity_providers/{0}/protocols/{0}/openid_client",
            of.id("provider")
        ),
    ] {
        let answer = call(world, "GET", &path, admin, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        seen.push((path, answer.text));
    }
    seen
}

/// The path with the other domain's identifier in each place: the one that the place is named
/// after, and where it has no such name, each in turn.
fn paths(route: &RouteInfo, victim: &Domain) -> Vec<String> {
    let fill = |any: &str| -> String {
        let mut before = "";
        let parts: Vec<String> = route
            .path
            .split('/')
            .map(|part| {
                let name = part.trim_matches(['{', '}', '*']);
                let filled = match part.starts_with('{') {
                    false => part.to_owned(),
                    true => {
                        let kind = match (name.trim_end_matches("_id"), before) {
                            (_, "users") | ("user", _) => "user",
                            (_, "groups") | ("group", _) => "group",
                            (_, "projects") | ("project" | "tenant", _) => "project",
                            (_, "domains") | ("domain", _) => "domain",
                            (_, "roles") | ("role" | "prior_role" | "implied_role", _) => "role",
                            (_, "limits") => "limit",
                            (_, "networks") => "network",
                            (_, "subnets") => "subnet",
                            (_, "ports") => "port",
                            (_, "security-groups") => "security",
                            (_, "address-scopes") => "scope",
                            (_, "subnetpools") => "pool",
                            (_, "address-groups") => "list",
                            (_, "rbac-policies") => "policy",
                            (_, "images") => "image",
                            (_, "quotas" | "os-quota-sets") => "project",
                            (_, "identity_providers" | "protocols" | "mappings" | "websso") => {
                                "provider"
                            }
                            _ => any,
                        };
                        victim.id(kind).to_owned()
                    }
                };
                before = part;
                filled
            })
            .collect();
        parts.join("/")
    };
    let mut paths: Vec<String> = victim.ids.keys().map(|kind| fill(kind)).collect();
    paths.dedup();
    paths
}

fn queries(victim: &Domain) -> Vec<String> {
    let (domain, project, user) = (victim.id("domain"), victim.id("project"), victim.id("user"));
    vec![
        String::new(),
        format!("?domain_id={domain}"),
        format!("?project_id={project}&tenant_id={project}&all_tenants=1&all_projects=True"),
        format!("?user.id={user}&include_names=True&effective"),
        format!("?scope.project.id={project}&include_subtree=True&include_names"),
        format!("?scope.domain.id={domain}&include_names=True"),
        format!("?group.id={}&include_names=True", victim.id("group")),
        format!("?owner={project}&visibility=all&user_id={user}&name__contains={MARK}"),
        "?subtree_as_list&parents_as_list&include_limits=True".to_owned(),
        format!("?parent_id={project}&tags={MARK}-tag&is_domain=True"),
    ]
}

/// Bodies that try to reach into the other domain: those that a route with such a path may read.
fn bodies(victim: &Domain, path: &str, method: &str) -> Vec<Value> {
    let all = all_bodies(victim);
    let words = path.replace('-', "_").replace("os_", "");
    let fits = |body: &&Value| {
        let root = body.as_object().and_then(|map| map.keys().next().cloned());
        root.is_none_or(|root| words.contains(root.trim_end_matches('y')))
    };
    all.iter()
        .filter(|body| method != "DELETE" || **body == json!({}))
        .filter(fits)
        .cloned()
        .collect()
}

fn all_bodies(victim: &Domain) -> Vec<Value> {
    let (domain, project, user) = (victim.id("domain"), victim.id("project"), victim.id("user"));
    let (network, role) = (victim.id("network"), victim.id("role"));
    let mut bodies = vec![json!({})];
    for root in [
        "user",
        "project",
        "group",
        "role",
        "domain",
        "network",
        "port",
        "subnet",
        "security_group",
        "security_group_rule",
        "subnetpool",
        "address_scope",
        "address_group",
        "rbac_policy",
        "limit",
        "quota",
        "quota_set",
        "consumer",
        "credential",
        "trust",
        "application_credential",
        "server",
        "keypair",
        "config",
        "endpoint_group",
        "policy",
        "identity_provider",
        "protocol",
        "mapping",
        "openid_client",
    ] {
        bodies.push(json!({root: {
            "name": format!("intruder-{root}"), "domain_id": domain, "project_id": project,
            "tenant_id": project, "parent_id": project, "user_id": user, "network_id": network,
            "security_group_id": victim.id("security"),
            "subnetpool_id": victim.id("pool"), "address_scope_id": victim.id("scope"),
            "remote_address_group_id": victim.id("list"), "object_id": network,
            "object_type": "network", "target_tenant": "*", "enabled": false, "description": "taken",
            "trustee_user_id": user, "trustor_user_id": user, "roles": [{"id": role}],
            "password": "taken-0ver", "resource_limit": 1, "type": "cert", "blob": "{}",
        }}));
        bodies.push(json!({root: {"enabled": false, "description": "taken"}}));
        bodies.push(json!({root: {"name": "taken", "domain_id": domain}}));
        bodies.push(json!({root: {"name": "taken", "parent_id": project}}));
        bodies.push(json!({root: {"name": "taken", "project_id": project, "network_id": network}}));
    }
    bodies.push(json!({"tags": ["taken"]}));
    for (kind, object) in [
        ("network", "network"),
        ("security_group", "security"),
        ("address_group", "list"),
        ("address_scope", "scope"),
        ("subnetpool", "pool"),
    ] {
        bodies.push(json!({"rbac_policy": {"object_type": kind, "object_id": victim.id(object),
            "action": "access_as_shared", "target_tenant": project}}));
    }
    bodies.push(json!({"subnet": {"network_id": network, "ip_version": 4,
                                  "subnetpool_id": victim.id("pool"), "prefixlen": 24}}));
    bodies.push(json!({"subnetpool": {"name": "taken", "prefixes": ["10.200.0.0/16"],
                                      "address_scope_id": victim.id("scope")}}));
    bodies.push(json!({"member": project}));
    bodies.push(json!({"limits": [{"project_id": project, "resource_limit": 0,
                                   "resource_name": "cores-of-tests"}]}));
    bodies
}

/// Whether an answer tells anything of the other domain. A refusal may repeat what was asked.
fn tells(answer: &Answer, victim: &Domain, asked: &str) -> Option<String> {
    if answer.text.contains(MARK) && !asked.contains(MARK) {
        return Some(format!("the name {MARK}"));
    }
    if !(200..300).contains(&answer.status) {
        return None;
    }
    let own_words = |id: &str| asked.contains(id);
    victim
        .ids
        .iter()
        .find(|(_, id)| answer.text.contains(id.as_str()) && !own_words(id))
        .map(|(kind, id)| format!("the {kind} {id}"))
}

#[tokio::test]
async fn one_domain_reaches_nothing_of_another_by_any_route() {
    let world = World::new().await;
    let admin = world.login("admin", "admin").await;
    let victim = domain(&world, &admin, MARK).await;
    let intruder = domain(&world, &admin, "intruder").await;
    let before = state(&world, &admin, &victim).await;
    assert!(before.iter().any(|(_, text)| text.contains(MARK)));

    let (boss, password) = (intruder.id("user"), "p4ssword-of-tests");
    let domain_scope = json!({"domain": {"id": intruder.id("domain")}});
    let project_scope = json!({"project": {"id": intruder.id("project")}});
    let mut tried = 0;
    for scope in [domain_scope, project_scope] {
        let token = login(&world, boss, password, scope.clone()).await;
        for route in world.routes() {
            // Both end the session that attacks.
            let path = &route.path;
            if path.ends_with("/auth/tokens") || path.ends_with("/password") {
                continue;
            }
            let method = route.method.as_str();
            let reads = ["GET", "HEAD"].contains(&method);
            for path in paths(&route, &victim) {
                if reads {
                    for query in queries(&victim) {
                        let asked = format!("{path}{query}");
                        let answer = call(&world, method, &asked, &token, Value::Null).await;
                        let told = tells(&answer, &victim, &asked);
                        assert_eq!(told, None, "{method} {asked} ({scope}): {}", answer.text);
                        tried += 1;
                    }
                    continue;
                }
                for body in bodies(&victim, &path, method) {
                    let asked = format!("{path} {body}");
                    let answer = call(&world, method, &path, &token, body).await;
                    let told = tells(&answer, &victim, &asked);
                    assert_eq!(told, None, "{method} {asked} ({scope}): {}", answer.text);
                    assert!(answer.status < 500, "{method} {asked}: {}", answer.text);
                    tried += 1;
                }
            }
            // The attack must go on with a good token, whatever it did to itself.
            let own = call(&world, "GET", "/identity/v3/auth/projects", &token, Value::Null).await;
            assert_eq!(own.status, 200, "{method} {} ended the intruder's own session", route.path);
        }
    }
    assert!(tried > 5000, "only {tried} attempts were made");
    let after = state(&world, &admin, &victim).await;
    for ((path, was), (_, is)) in before.iter().zip(&after) {
        assert_eq!(was, is, "{path} has changed");
    }
}
