//! What is asked for. Half of the requests live servers' lives; the others take a route of the table
//! at random, so that every route is used, and one that is added without a wish here fails the test.

use http::Method;
use serde_json::{Value, json};
use service_kit::RouteInfo;

use super::Tenant;
use crate::network::Dice;
use crate::world::Region;

/// A request.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its body.
    pub body: Option<Value>,
    /// The body's media type, when it is not plain JSON.
    pub media: Option<&'static str>,
    /// `X-Subject-Token`.
    pub subject: Option<String>,
    /// Whether an administrator asks.
    pub as_admin: bool,
    /// The object that the path names last: collection and id.
    pub about: Option<(&'static str, String)>,
}

impl Wish {
    fn new(method: Method, path: impl Into<String>, body: Option<Value>) -> Wish {
        Wish {
            method,
            path: path.into(),
            body,
            media: None,
            subject: None,
            as_admin: false,
            about: None,
        }
    }

    /// What the body asks for, in a word or two, for the trace.
    pub fn note(&self) -> String {
        let Some(body) = self.body.as_ref().and_then(Value::as_object) else {
            return String::new();
        };
        let mut note = String::new();
        for (key, value) in body {
            note.push_str(&format!(" {key}"));
            if let Some(name) = value["name"].as_str() {
                note.push_str(&format!(" {name}"));
            }
        }
        note
    }
}

/// Routes that the load leaves out, and why.
pub const NOT_USED: &[(&str, &str, &str)] = &[
    ("PUT", "/image/v2/images/{id}/file", "files are real, and so is the time that they take"),
    ("GET", "/image/v2/images/{id}/file", "files are real, and so is the time that they take"),
    ("POST", "/meridian/v1/audit", "the simulation audits by itself, without repairs"),
    ("POST", "/identity/v3/ec2tokens", "signed by a program with a key of its own"),
    ("POST", "/identity/v3/s3tokens", "signed by a program with a key of its own"),
    ("POST", "/identity/v3/OS-OAUTH1/request_token", "signed by a program with a key of its own"),
    ("POST", "/identity/v3/OS-OAUTH1/access_token", "signed by a program with a key of its own"),
    ("PUT", OPENID_CLIENT, "with one, the cloud would speak with a provider, and there is none"),
    ("POST", OPENID_LOGIN, "brings what a provider signed, and there is none"),
    ("POST", OPENID_LOGOUT, "brings what a provider signed, and there is none"),
    ("POST", OPENID_WEB, "sends a browser to a provider, and there is none"),
    ("POST", OPENID_WEB_BY_PROTOCOL, "sends a browser to a provider, and there is none"),
];

const OPENID_CLIENT: &str = "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/\
                             {protocol_id}/openid_client";
const OPENID_LOGIN: &str =
    "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth";
const OPENID_LOGOUT: &str = "/identity/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/\
                             protocols/{protocol_id}/backchannel_logout";
const OPENID_WEB: &str =
    "/identity/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso";
const OPENID_WEB_BY_PROTOCOL: &str = "/identity/v3/auth/OS-FEDERATION/websso/{protocol_id}";

/// Whether the load uses a route; if not, and it is not left out on purpose, the test fails.
pub fn is_used(route: &RouteInfo) -> bool {
    let method = route.method.as_str();
    if left_out(route) {
        return false;
    }
    ["GET", "HEAD", "DELETE"].contains(&method) || BODIES.iter().any(|b| b.is_for(route))
}

/// Whether the route is left out on purpose.
pub fn left_out(route: &RouteInfo) -> bool {
    NOT_USED.iter().any(|(method, path, _)| *method == route.method && *path == route.path)
}

/// What tenants may do themselves; the administrator does the rest.
fn needs_admin(route: &RouteInfo) -> bool {
    route.path.starts_with("/identity")
        || route.path.starts_with("/meridian")
        || route.path.contains("/flavors")
        || route.path.contains("/quota")
        || route.path.contains("/default-security-group-rules")
        || route.path.contains("/network-ip-availabilities")
        || route.path.contains("/os-services")
        || route.path.contains("/os-hypervisors")
}

/// What goes into a body.
struct Made<'a> {
    dice: &'a Dice,
    tenant: &'a Tenant,
    region: &'a Region,
}

impl Made<'_> {
    fn name(&self) -> String {
        format!("wish-{}", self.region.next_number())
    }

    fn any(&self, collection: &str) -> String {
        self.tenant.pool.any(self.dice, collection).unwrap_or_else(nobody)
    }

    fn cidr(&self) -> String {
        format!("10.{}.{}.0/24", self.dice.below(250), self.dice.below(250))
    }
}

fn nobody() -> String {
    "00000000-0000-4000-8000-000000000000".to_owned()
}

/// A body for a route with this method and path.
struct BodyOf {
    method: &'static str,
    path: &'static str,
    make: fn(&Made<'_>) -> Value,
}

impl BodyOf {
    fn is_for(&self, route: &RouteInfo) -> bool {
        self.method == route.method.as_str() && self.path == route.path
    }
}

macro_rules! bodies {
    ($($method:ident $path:literal => $make:expr;)*) => {
        const BODIES: &[BodyOf] = &[
            $(BodyOf { method: stringify!($method), path: $path, make: $make },)*
        ];
    };
}

fn server(m: &Made<'_>) -> Value {
    let networks = if m.dice.chance(300) { "tight-networks" } else { "base-networks" };
    let mut server = json!({
        "name": m.name(),
        "flavorRef": m.any("base-flavors"),
        "imageRef": m.any("base-images"),
        "networks": [{"uuid": m.any(networks)}],
    });
    if m.dice.chance(150) {
        server["metadata"] = json!({"purpose": "simulation"});
    }
    if m.dice.chance(100) && m.tenant.pool.count("ports") > 0 {
        server["networks"] = json!([{"port": m.any("ports")}]);
    }
    json!({ "server": server })
}

fn action(m: &Made<'_>) -> Value {
    match m.dice.below(8) {
        0 | 1 => json!({"os-stop": null}),
        2 | 3 => json!({"os-start": null}),
        4 => json!({"reboot": {"type": "HARD"}}),
        5 => json!({"reboot": {"type": "SOFT"}}),
        6 => json!({"lock": null}),
        _ => json!({"unlock": null}),
    }
}

fn mapping(m: &Made<'_>) -> Value {
    json!({"mapping": {"rules": [{"local": [{"user": {"name": m.name()}}],
                                  "remote": [{"type": "OIDC-sub"}]}]}})
}

fn quota(m: &Made<'_>) -> Value {
    let _ = m;
    json!({"quota_set": {"instances": 1000, "cores": 4000, "ram": 4_000_000}})
}

bodies! {
    POST "/identity/v3/auth/tokens" => |m| json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": m.tenant.name, "domain": {"name": "Default"},
            "password": crate::world::PASSWORD}}},
        "scope": {"project": {"id": m.tenant.project}}}});
    POST "/identity/v3/domains" => |m| json!({"domain": {"name": m.name(), "enabled": false}});
    PATCH "/identity/v3/domains/{domain_id}" => |m| json!({"domain": {"description": m.name(), "enabled": false}});
    POST "/identity/v3/projects" => |m| json!({"project": {"name": m.name(), "domain_id": "default"}});
    PATCH "/identity/v3/projects/{project_id}" => |m| json!({"project": {"description": m.name()}});
    POST "/identity/v3/users" => |m| json!({"user": {"name": m.name(), "domain_id": "default", "password": "a-long-password"}});
    PATCH "/identity/v3/users/{user_id}" => |m| json!({"user": {"description": m.name()}});
    POST "/identity/v3/users/{user_id}/password" => |_| json!({"user": {"original_password": "a-long-password", "password": "another-password"}});
    POST "/identity/v3/groups" => |m| json!({"group": {"name": m.name(), "domain_id": "default"}});
    PATCH "/identity/v3/groups/{group_id}" => |m| json!({"group": {"description": m.name()}});
    PUT "/identity/v3/groups/{group_id}/users/{user_id}" => |_| Value::Null;
    POST "/identity/v3/roles" => |m| json!({"role": {"name": m.name()}});
    PATCH "/identity/v3/roles/{role_id}" => |m| json!({"role": {"description": m.name()}});
    PUT "/identity/v3/roles/{role_id}/implies/{implied_role_id}" => |_| Value::Null;
    PUT "/identity/v3/projects/{project_id}/users/{user_id}/roles/{role_id}" => |_| Value::Null;
    PUT "/identity/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}" => |_| Value::Null;
    PUT "/identity/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}" => |_| Value::Null;
    PUT "/identity/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}" => |_| Value::Null;
    PUT "/identity/v3/system/users/{user_id}/roles/{role_id}" => |_| Value::Null;
    PUT "/identity/v3/system/groups/{group_id}/roles/{role_id}" => |_| Value::Null;
    PUT "/identity/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects" => |_| Value::Null;
    PUT "/identity/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects" => |_| Value::Null;
    PUT "/identity/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects" => |_| Value::Null;
    PUT "/identity/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects" => |_| Value::Null;
    POST "/identity/v3/services" => |m| json!({"service": {"type": "test", "name": m.name()}});
    PATCH "/identity/v3/services/{service_id}" => |m| json!({"service": {"description": m.name()}});
    POST "/identity/v3/endpoints" => |m| json!({"endpoint": {"service_id": m.any("services"), "interface": "public", "url": "http://localhost/x"}});
    PATCH "/identity/v3/endpoints/{endpoint_id}" => |m| json!({"endpoint": {"url": format!("http://localhost/{}", m.dice.below(100))}});
    POST "/identity/v3/regions" => |m| json!({"region": {"id": m.name()}});
    PUT "/identity/v3/regions/{region_id}" => |m| json!({"region": {"description": m.name()}});
    PATCH "/identity/v3/regions/{region_id}" => |m| json!({"region": {"description": m.name()}});
    PATCH "/identity/v3/projects/{project_id}/cascade" => |m| json!({"project": {"enabled": m.dice.chance(700)}});
    PUT "/identity/v3/projects/{project_id}/tags" => |_| json!({"tags": ["a", "b"]});
    PUT "/identity/v3/projects/{project_id}/tags/{value}" => |_| Value::Null;
    // With the driver ldap, the domain's people would be looked for in a directory, and there is none.
    PUT "/identity/v3/domains/{domain_id}/config" => |_| json!({"config": {"identity": {"driver": "sql"}, "ldap": {"url": "ldap://directory.test"}}});
    PATCH "/identity/v3/domains/{domain_id}/config" => |_| json!({"config": {"ldap": {"url": "ldap://other.test"}}});
    PATCH "/identity/v3/domains/{domain_id}/config/{group}" => |_| json!({"config": {"ldap": {"url": "ldap://other.test"}}});
    PATCH "/identity/v3/domains/{domain_id}/config/{group}/{option}" => |_| json!({"config": {"url": "ldap://other.test"}});
    POST "/identity/v3/credentials" => |m| json!({"credential": {"type": "cert", "blob": m.name(), "user_id": m.any("users")}});
    PATCH "/identity/v3/credentials/{credential_id}" => |m| json!({"credential": {"blob": m.name()}});
    POST "/identity/v3/users/{user_id}/credentials/OS-EC2" => |m| json!({"tenant_id": m.tenant.project});
    POST "/identity/v3/users/{user_id}/application_credentials" => |m| json!({"application_credential": {"name": m.name(),
        "access_rules": [{"service": "compute", "method": "GET", "path": "/v2.1/servers"}]}});
    POST "/identity/v3/OS-TRUST/trusts" => |m| json!({"trust": {"trustor_user_id": m.any("administrator"),
        "trustee_user_id": m.any("users"), "impersonation": false}});
    PUT "/identity/v3/OS-FEDERATION/mappings/{mapping_id}" => mapping;
    PATCH "/identity/v3/OS-FEDERATION/mappings/{mapping_id}" => mapping;
    PUT "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}" => |m| json!({"identity_provider": {"description": m.name(), "domain_id": "default"}});
    PATCH "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}" => |m| json!({"identity_provider": {"description": m.name(), "enabled": m.dice.chance(500)}});
    PUT "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}" => |_| json!({"protocol": {"mapping_id": nobody()}});
    PATCH "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}" => |_| json!({"protocol": {"mapping_id": nobody()}});
    PUT "/identity/v3/OS-FEDERATION/service_providers/{service_provider_id}" => |m| json!({"service_provider": {
        "auth_url": "https://beta.test/v3/auth", "sp_url": "https://beta.test/saml", "description": m.name()}});
    PATCH "/identity/v3/OS-FEDERATION/service_providers/{service_provider_id}" => |m| json!({"service_provider": {"description": m.name(), "enabled": m.dice.chance(500)}});
    POST "/identity/v3/OS-OAUTH1/consumers" => |m| json!({"consumer": {"description": m.name()}});
    PATCH "/identity/v3/OS-OAUTH1/consumers/{consumer_id}" => |m| json!({"consumer": {"description": m.name()}});
    PUT "/identity/v3/OS-OAUTH1/authorize/{request_token_id}" => |m| json!({"roles": [{"id": m.any("roles")}]});
    POST "/identity/v3/policies" => |m| json!({"policy": {"type": "text/plain", "blob": m.name()}});
    PATCH "/identity/v3/policies/{policy_id}" => |m| json!({"policy": {"blob": m.name()}});
    PUT "/identity/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}" => |_| Value::Null;
    PUT "/identity/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}" => |_| Value::Null;
    PUT "/identity/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}" => |_| Value::Null;
    POST "/identity/v3/OS-EP-FILTER/endpoint_groups" => |m| json!({"endpoint_group": {"name": m.name(), "filters": {"service_id": m.any("services")}}});
    PATCH "/identity/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}" => |m| json!({"endpoint_group": {"description": m.name()}});
    PUT "/identity/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}" => |_| Value::Null;
    PUT "/identity/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}" => |_| Value::Null;
    POST "/identity/v3/registered_limits" => |m| json!({"registered_limits": [
        {"service_id": m.any("services"), "resource_name": "simulated", "default_limit": 5}]});
    PATCH "/identity/v3/registered_limits/{registered_limit_id}" => |m| json!({"registered_limit": {"default_limit": m.dice.below(50)}});
    POST "/identity/v3/limits" => |m| json!({"limits": [{"service_id": m.any("services"),
        "resource_name": "simulated", "resource_limit": 2, "domain_id": "default"}]});
    PATCH "/identity/v3/limits/{limit_id}" => |m| json!({"limit": {"resource_limit": m.dice.below(50)}});

    POST "/network/v2.0/networks" => |m| json!({"network": {"name": m.name()}});
    PUT "/network/v2.0/networks/{id}" => |m| json!({"network": {"description": m.name()}});
    POST "/network/v2.0/subnets" => |m| json!({"subnet": {"name": m.name(), "network_id": m.any("networks"), "ip_version": 4, "cidr": m.cidr()}});
    PUT "/network/v2.0/subnets/{id}" => |m| json!({"subnet": {"dns_nameservers": [format!("9.9.9.{}", m.dice.below(200))]}});
    POST "/network/v2.0/ports" => |m| json!({"port": {"name": m.name(), "network_id": m.any("networks")}});
    PUT "/network/v2.0/ports/{id}" => |m| json!({"port": {"description": m.name()}});
    POST "/network/v2.0/security-groups" => |m| json!({"security_group": {"name": m.name()}});
    PUT "/network/v2.0/security-groups/{id}" => |m| json!({"security_group": {"description": m.name()}});
    POST "/network/v2.0/security-group-rules" => |m| json!({"security_group_rule": {
        "security_group_id": m.any("security-groups"), "direction": "ingress", "protocol": "tcp",
        "port_range_min": 1 + m.dice.below(60000), "port_range_max": 65000}});
    POST "/network/v2.0/address-groups" => |m| json!({"address_group": {"name": m.name(), "addresses": [m.cidr()]}});
    PUT "/network/v2.0/address-groups/{id}" => |m| json!({"address_group": {"description": m.name()}});
    PUT "/network/v2.0/address-groups/{id}/add_addresses" => |m| json!({"addresses": [m.cidr()]});
    PUT "/network/v2.0/address-groups/{id}/remove_addresses" => |m| json!({"addresses": [m.cidr()]});
    POST "/network/v2.0/address-scopes" => |m| json!({"address_scope": {"name": m.name(), "ip_version": 4}});
    PUT "/network/v2.0/address-scopes/{id}" => |m| json!({"address_scope": {"name": m.name()}});
    POST "/network/v2.0/subnetpools" => |m| json!({"subnetpool": {"name": m.name(), "prefixes": [m.cidr()], "min_prefixlen": 24}});
    PUT "/network/v2.0/subnetpools/{id}" => |m| json!({"subnetpool": {"description": m.name()}});
    PUT "/network/v2.0/subnetpools/{id}/add_prefixes" => |m| json!({"prefixes": [m.cidr()]});
    PUT "/network/v2.0/subnetpools/{id}/remove_prefixes" => |m| json!({"prefixes": [m.cidr()]});
    PUT "/network/v2.0/subnetpools/{id}/onboard_network_subnets" => |m| json!({"network_id": m.any("networks")});
    POST "/network/v2.0/rbac-policies" => |m| json!({"rbac_policy": {"object_type": "network",
        "object_id": m.any("networks"), "action": "access_as_shared", "target_tenant": m.tenant.project}});
    PUT "/network/v2.0/rbac-policies/{id}" => |m| json!({"rbac_policy": {"target_tenant": m.tenant.project}});
    POST "/network/v2.0/default-security-group-rules" => |_| json!({"default_security_group_rule": {
        "direction": "ingress", "protocol": "udp", "used_in_default_sg": true}});
    PUT "/network/v2.0/quotas/{project}" => |_| json!({"quota": {"network": 1000, "port": 5000}});
    PUT "/network/v2.0/{collection}/{id}/tags" => |_| json!({"tags": ["a", "b"]});
    PUT "/network/v2.0/{collection}/{id}/tags/{tag}" => |_| Value::Null;

    POST "/compute/v2.1/servers" => server;
    PUT "/compute/v2.1/servers/{id}" => |m| json!({"server": {"name": m.name()}});
    POST "/compute/v2.1/servers/{id}/action" => action;
    POST "/compute/v2.1/servers/{id}/metadata" => |m| json!({"metadata": {"k": m.name()}});
    PUT "/compute/v2.1/servers/{id}/metadata" => |m| json!({"metadata": {"k": m.name()}});
    PUT "/compute/v2.1/servers/{id}/metadata/{key}" => |m| json!({"meta": {"key-1": m.name()}});
    PUT "/compute/v2.1/servers/{id}/tags" => |_| json!({"tags": ["a", "b"]});
    PUT "/compute/v2.1/servers/{id}/tags/{tag}" => |_| Value::Null;
    POST "/compute/v2.1/flavors" => |m| json!({"flavor": {"name": m.name(), "ram": 64, "vcpus": 1, "disk": 1}});
    PUT "/compute/v2.1/flavors/{id}" => |m| json!({"flavor": {"description": m.name()}});
    POST "/compute/v2.1/flavors/{id}/action" => |m| json!({"addTenantAccess": {"tenant": m.tenant.project}});
    POST "/compute/v2.1/flavors/{id}/os-extra_specs" => |_| json!({"extra_specs": {"hw:a": "1"}});
    PUT "/compute/v2.1/flavors/{id}/os-extra_specs/{key}" => |_| json!({"key-1": "1"});
    POST "/compute/v2.1/os-keypairs" => |m| json!({"keypair": {"name": m.name(), "public_key": crate::world::PUBLIC_KEY}});
    PUT "/compute/v2.1/os-quota-sets/{project}" => quota;
    PUT "/compute/v2.1/os-services/{id}" => |m| json!({"status": if m.dice.chance(300) { "disabled" } else { "enabled" }});

    POST "/image/v2/images" => |m| json!({"name": m.name(), "disk_format": "raw", "container_format": "bare"});
    PATCH "/image/v2/images/{id}" => |m| json!([{"op": "replace", "path": "/name", "value": m.name()}]);
    POST "/image/v2/images/{id}/actions/deactivate" => |_| Value::Null;
    POST "/image/v2/images/{id}/actions/reactivate" => |_| Value::Null;
    POST "/image/v2/images/{id}/members" => |m| json!({"member": m.tenant.project});
    PUT "/image/v2/images/{id}/members/{member}" => |_| json!({"status": "accepted"});
    PUT "/image/v2/images/{id}/tags/{tag}" => |_| Value::Null;
}

/// The next request of somebody.
pub fn next(dice: &Dice, tenant: &Tenant, routes: &[RouteInfo], region: &Region) -> Option<Wish> {
    let made = Made { dice, tenant, region };
    let servers = tenant.pool.count("servers");
    match dice.below(100) {
        0..=19 if servers < region.most_servers() => {
            Some(Wish::new(Method::POST, "/compute/v2.1/servers", Some(server(&made))))
        }
        0..=34 => about(&made, Method::DELETE, "/compute/v2.1/servers", "servers", "", None),
        35..=49 => {
            let body = Some(action(&made));
            about(&made, Method::POST, "/compute/v2.1/servers", "servers", "/action", body)
        }
        50..=57 => {
            let known = if dice.chance(850) { "base-networks" } else { "networks" };
            let port = json!({"port": {"name": made.name(), "network_id": made.any(known)}});
            Some(Wish::new(Method::POST, "/network/v2.0/ports", Some(port)))
        }
        58..=64 => about(&made, Method::DELETE, "/network/v2.0/ports", "ports", "", None),
        _ => any_route(&made, routes),
    }
}

fn about(
    m: &Made<'_>,
    method: Method,
    below: &str,
    collection: &'static str,
    after: &str,
    body: Option<Value>,
) -> Option<Wish> {
    let id = m.tenant.pool.any(m.dice, collection)?;
    let mut wish = Wish::new(method, format!("{below}/{id}{after}"), body);
    wish.about = Some((collection, id));
    Some(wish)
}

fn any_route(m: &Made<'_>, routes: &[RouteInfo]) -> Option<Wish> {
    let route = m.dice.pick(routes).filter(|route| is_used(route))?;
    let body = BODIES.iter().find(|body| body.is_for(route)).map(|body| (body.make)(m));
    let mut wish = Wish::new(route.method.clone(), "", body.filter(|body| !body.is_null()));
    wish.as_admin = needs_admin(route);
    let (path, about) = concrete(m, &route.path);
    (wish.path, wish.about) = (path, about);
    if route.path.starts_with("/image") && route.method == Method::PATCH {
        wish.media = Some("application/openstack-images-v2.1-json-patch");
    }
    if route.path.ends_with("/auth/tokens") && route.method != Method::POST {
        // A token that nobody works with: it may be revoked.
        wish.subject = Some(m.tenant.pool.any(m.dice, "tokens")?);
    }
    Some(wish)
}

/// Below a user, what only that user may make.
const OWN: [&str; 2] = ["/application_credentials", "/access_rules"];

/// The path with something in the place of each parameter.
fn concrete(m: &Made<'_>, template: &str) -> (String, Option<(&'static str, String)>) {
    let (mut path, mut about, mut before) = (String::new(), None, "");
    for part in template.split('/').skip(1) {
        path.push('/');
        let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let Some(name) = name else {
            path.push_str(part);
            before = part;
            continue;
        };
        let collection = super::pool::COLLECTIONS
            .iter()
            .map(|(many, _)| *many)
            .find(|many| *many == before || format!("{}_id", super::pool::singular(many)) == name);
        let value = match (name, collection) {
            ("collection", _) => {
                before = "networks";
                "networks".to_owned()
            }
            ("project", _) => m.any("projects"),
            ("tag" | "value", _) => "a".to_owned(),
            ("key", _) => "key-1".to_owned(),
            // Options of a domain.
            ("group", None) => "ldap".to_owned(),
            ("option", None) => "url".to_owned(),
            // What only the one who asks may make for themselves.
            ("user_id", _) if OWN.iter().any(|own| template.contains(own)) => {
                m.any("administrator")
            }
            ("member", _) => m.tenant.project.clone(),
            (_, Some(collection)) => {
                let id = m.any(collection);
                about = Some((collection, id.clone()));
                id
            }
            ("implied_role_id", None) => m.any("roles"),
            (_, None) => nobody(),
        };
        path.push_str(&value);
    }
    (path, about)
}
