//! A good body for each route that takes one: what bad input is made from.
//!
//! In a path, `{name}` is as in the table of routes. Texts of the form `$name` are replaced by the
//! object of that name which the test has made (see `Places`).

use std::collections::HashMap;

use serde_json::{Value, json};

/// Method, path, body.
pub type Sample = (&'static str, &'static str, Value);

/// Routes of a user that nobody else may use, not even an administrator.
const OWN: [&str; 1] = ["/identity/v3/users/{user_id}/application_credentials"];

/// Identifiers of objects that exist, by the name that routes and samples have for them.
#[derive(Default)]
pub struct Places(pub HashMap<&'static str, String>);

impl Places {
    /// The path with objects in the place of its parameters; what is not known gets an identifier
    /// that nothing has.
    pub fn path(&self, path: &str) -> String {
        // What only the person concerned may do is done by the one who asks.
        if OWN.iter().any(|own| path.starts_with(own))
            && let Some(own) = self.0.get("own_id")
        {
            return self.path(&path.replace("{user_id}", own));
        }
        let part = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) => self
                .0
                .get(name)
                .cloned()
                .unwrap_or_else(|| "00000000000040008000000000000000".to_owned()),
            None => part.to_owned(),
        };
        path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    /// The body with objects in it.
    pub fn body(&self, body: &Value) -> Value {
        match body {
            Value::String(text) => match text.strip_prefix('$').and_then(|name| self.0.get(name)) {
                Some(id) => json!(id),
                None => body.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.body(item)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), self.body(value))).collect()
            }
            other => other.clone(),
        }
    }
}

/// Identity's: every route that takes a body.
pub fn identity() -> Vec<Sample> {
    [people_and_catalog(), delegation(), limits_and_older_corners(), federation()].concat()
}

/// People who come from elsewhere. The identifiers in the paths are made by the samples.
fn federation() -> Vec<Sample> {
    let mapping = json!({"mapping": {"schema_version": "1.0", "rules": [{
        "local": [{"user": {"name": "{0}", "email": "{1}"}},
                  {"groups": "{2}", "domain": {"name": "Default"}}],
        "remote": [{"type": "OIDC-sub"}, {"type": "OIDC-email"},
                   {"type": "OIDC-groups", "whitelist": ["staff"]}]}]}});
    let provider = json!({"enabled": true, "description": "d", "authorization_ttl": 5,
                          "remote_ids": ["https://login.example.org"]});
    let mut new_provider = provider.clone();
    new_provider["domain_id"] = json!("default");
    let protocol = json!({"protocol": {"mapping_id": "00000000000040008000000000000000",
                                       "remote_id_attribute": "HTTP_OIDC_ISS"}});
    let client = json!({"openid_client": {
        "issuer": "https://login.example.org", "client_id": "cloud", "client_secret": "s",
        "scopes": ["openid", "email"], "audiences": ["cloud"], "access_tokens": "introspection",
        "trusted_dashboards": ["https://console.example.org/auth/websso/"]}});
    let service = json!({"service_provider": {
        "auth_url": "https://beta.example.org/v3/auth", "sp_url": "https://beta.example.org/saml",
        "description": "d", "enabled": true, "relay_state_prefix": "ss:mem:"}});
    vec![
        ("PUT", "/identity/v3/OS-FEDERATION/mappings/{mapping_id}", mapping.clone()),
        ("PATCH", "/identity/v3/OS-FEDERATION/mappings/{mapping_id}", mapping),
        (
            "PUT",
            "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}",
            json!({"identity_provider": new_provider}),
        ),
        (
            "PATCH",
            "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}",
            json!({"identity_provider": provider}),
        ),
        (
            "PUT",
            "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}",
            protocol.clone(),
        ),
        (
            "PATCH",
            "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}",
            protocol,
        ),
        (
            "PUT",
            "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/\
             openid_client",
            client,
        ),
        (
            "PUT",
            "/identity/v3/OS-FEDERATION/service_providers/{service_provider_id}",
            service.clone(),
        ),
        ("PATCH", "/identity/v3/OS-FEDERATION/service_providers/{service_provider_id}", service),
    ]
}

/// Credentials of all kinds, and trusts.
fn delegation() -> Vec<Sample> {
    let blob = json!({"access": "sample", "secret": "s"}).to_string();
    vec![
        (
            "POST",
            "/identity/v3/credentials",
            json!({"credential": {"type": "ec2", "blob": &blob, "user_id": "$user_id",
                   "project_id": "$project_id"}}),
        ),
        (
            "PATCH",
            "/identity/v3/credentials/{credential_id}",
            json!({"credential": {"type": "ec2", "blob": blob, "user_id": "$user_id",
                   "project_id": "$project_id"}}),
        ),
        (
            "POST",
            "/identity/v3/users/{user_id}/credentials/OS-EC2",
            json!({"tenant_id": "$project_id"}),
        ),
        (
            "POST",
            "/identity/v3/ec2tokens",
            json!({"credentials": {"access": "a", "signature": "s", "host": "h", "verb": "GET",
                   "path": "/", "params": {"SignatureVersion": "2", "AWSAccessKeyId": "a"},
                   "headers": {"authorization": "x"}, "body_hash": "y"}}),
        ),
        (
            "POST",
            "/identity/v3/s3tokens",
            json!({"credentials": {"access": "a", "signature": "s", "token": "dA=="}}),
        ),
        (
            "POST",
            "/identity/v3/users/{user_id}/application_credentials",
            json!({"application_credential": {"name": "sample", "description": "d",
                   "secret": "a-secret", "unrestricted": false,
                   "expires_at": "2099-01-01T00:00:00.000000Z",
                   "roles": [{"name": "reader"}],
                   "access_rules": [{"service": "compute", "method": "GET",
                                     "path": "/v2.1/servers"}]}}),
        ),
        (
            "POST",
            "/identity/v3/OS-TRUST/trusts",
            json!({"trust": {"trustor_user_id": "$own_id", "trustee_user_id": "$user_id",
                   "project_id": "$own_project_id", "impersonation": false,
                   "allow_redelegation": false, "remaining_uses": 3,
                   "expires_at": "2099-01-01T00:00:00.000000Z",
                   "roles": [{"name": "reader"}]}}),
        ),
    ]
}

/// Limits, policies, endpoint groups, a domain's options, and consumers.
fn limits_and_older_corners() -> Vec<Sample> {
    let group = json!({"endpoint_group": {"name": "sample", "description": "d",
        "filters": {"interface": "public", "service_id": "$service_id"}}});
    let policy = json!({"policy": {"type": "text/plain", "blob": "b"}});
    let config = json!({"config": {"identity": {"list_limit": 5}}});
    vec![
        (
            "POST",
            "/identity/v3/registered_limits",
            json!({"registered_limits": [{"service_id": "$service_id", "region_id": "$region_id",
                   "resource_name": "sample", "default_limit": 7, "description": "d"}]}),
        ),
        (
            "PATCH",
            "/identity/v3/registered_limits/{registered_limit_id}",
            json!({"registered_limit": {"resource_name": "sample-2", "default_limit": 8,
                   "description": "d"}}),
        ),
        (
            "POST",
            "/identity/v3/limits",
            json!({"limits": [{"service_id": "$service_id", "region_id": "$region_id",
                   "resource_name": "victim",
                   "project_id": "$own_project_id", "resource_limit": 3, "description": "d"}]}),
        ),
        (
            "PATCH",
            "/identity/v3/limits/{limit_id}",
            json!({"limit": {"resource_limit": 4, "description": "d"}}),
        ),
        ("POST", "/identity/v3/policies", policy.clone()),
        ("PATCH", "/identity/v3/policies/{policy_id}", policy),
        ("POST", "/identity/v3/OS-EP-FILTER/endpoint_groups", group.clone()),
        ("PATCH", "/identity/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}", group),
        ("POST", "/identity/v3/OS-OAUTH1/consumers", json!({"consumer": {"description": "d"}})),
        (
            "PATCH",
            "/identity/v3/OS-OAUTH1/consumers/{consumer_id}",
            json!({"consumer": {"description": "d"}}),
        ),
        ("PUT", "/identity/v3/domains/{domain_id}/config", config.clone()),
        ("PATCH", "/identity/v3/domains/{domain_id}/config", config),
        (
            "PATCH",
            "/identity/v3/domains/{domain_id}/config/{group}",
            json!({"config": {"identity": {"list_limit": 6}}}),
        ),
        (
            "PATCH",
            "/identity/v3/domains/{domain_id}/config/{group}/{option}",
            json!({"config": {"list_limit": 6}}),
        ),
        ("PUT", "/identity/v3/projects/{project_id}/tags", json!({"tags": ["one", "two"]})),
        (
            "PATCH",
            "/identity/v3/projects/{project_id}/cascade",
            json!({"project": {"enabled": true}}),
        ),
    ]
}

/// People, what they are in, and the catalogue.
fn people_and_catalog() -> Vec<Sample> {
    let user = json!({"user": {
        "name": "sample", "domain_id": "default", "password": "a-secret", "enabled": true,
        "description": "d", "default_project_id": "$project_id", "email": "x@example.org",
        "options": {"lock_password": false, "multi_factor_auth_rules": [["password", "token"]]},
    }});
    let change = json!({"user": {"name": "sample-2", "password": "a-secret", "enabled": true,
        "description": null, "options": {"ignore_password_expiry": true}}});
    let project = json!({"project": {
        "name": "sample", "domain_id": "default", "description": "d", "enabled": true,
        "is_domain": false, "parent_id": "default", "tags": ["a", "b"],
        "options": {"immutable": false},
    }});
    let login = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "demo", "domain": {"name": "Default"}, "password": "a-password-for-tests"}}},
        "scope": {"project": {"name": "demo", "domain": {"id": "default"}}},
    }});
    let endpoint = json!({"endpoint": {
        "service_id": "$service_id", "region_id": "$region_id", "interface": "public",
        "url": "https://example.org/%(project_id)s", "enabled": true, "name": "n",
    }});
    vec![
        ("POST", "/identity/v3/auth/tokens", login),
        ("POST", "/identity/v3/users", user),
        ("PATCH", "/identity/v3/users/{user_id}", change),
        (
            "POST",
            "/identity/v3/users/{user_id}/password",
            json!({"user": {"original_password": "a-secret", "password": "another"}}),
        ),
        ("POST", "/identity/v3/projects", project),
        (
            "PATCH",
            "/identity/v3/projects/{project_id}",
            json!({"project": {"name": "sample-2", "description": "d", "enabled": true,
                   "tags": ["c"], "options": {"immutable": false}}}),
        ),
        (
            "POST",
            "/identity/v3/domains",
            json!({"domain": {"name": "sample", "description": "d", "enabled": true,
                   "options": {"immutable": false}}}),
        ),
        (
            "PATCH",
            "/identity/v3/domains/{domain_id}",
            json!({"domain": {"name": "sample-2", "description": "d", "enabled": true}}),
        ),
        (
            "POST",
            "/identity/v3/groups",
            json!({"group": {"name": "sample", "description": "d", "domain_id": "default"}}),
        ),
        (
            "PATCH",
            "/identity/v3/groups/{group_id}",
            json!({"group": {"name": "sample-2", "description": "d"}}),
        ),
        (
            "POST",
            "/identity/v3/roles",
            json!({"role": {"name": "sample", "description": "d",
                   "options": {"immutable": false}}}),
        ),
        (
            "PATCH",
            "/identity/v3/roles/{role_id}",
            json!({"role": {"name": "sample-2", "description": "d"}}),
        ),
        (
            "POST",
            "/identity/v3/regions",
            json!({"region": {"id": "sample", "description": "d",
                   "parent_region_id": "$region_id"}}),
        ),
        (
            "PATCH",
            "/identity/v3/regions/{region_id}",
            json!({"region": {"description": "d", "parent_region_id": null}}),
        ),
        (
            "PUT",
            "/identity/v3/regions/{region_id}",
            json!({"region": {"id": "$region_id", "description": "d", "parent_region_id": null}}),
        ),
        (
            "POST",
            "/identity/v3/services",
            json!({"service": {"type": "sample", "name": "n", "description": "d",
                   "enabled": true}}),
        ),
        (
            "PATCH",
            "/identity/v3/services/{service_id}",
            json!({"service": {"type": "sample", "name": "n", "description": "d",
                   "enabled": true}}),
        ),
        ("POST", "/identity/v3/endpoints", endpoint.clone()),
        ("PATCH", "/identity/v3/endpoints/{endpoint_id}", endpoint),
    ]
}

/// The other services': what is created most.
pub fn others() -> Vec<Sample> {
    vec![
        (
            "POST",
            "/network/v2.0/networks",
            json!({"network": {"name": "sample", "description": "d", "admin_state_up": true,
                   "mtu": 1400, "dns_domain": "example.org."}}),
        ),
        (
            "POST",
            "/network/v2.0/subnets",
            json!({"subnet": {"name": "s", "network_id": "$network_id", "ip_version": 4,
                   "cidr": "10.9.0.0/24", "gateway_ip": "10.9.0.1", "enable_dhcp": true,
                   "dns_nameservers": ["10.9.0.2"], "service_types": ["compute:nova"],
                   "allocation_pools": [{"start": "10.9.0.10", "end": "10.9.0.20"}],
                   "host_routes": [{"destination": "10.8.0.0/24", "nexthop": "10.9.0.3"}]}}),
        ),
        (
            "POST",
            "/network/v2.0/ports",
            json!({"port": {"name": "p", "network_id": "$network_id", "admin_state_up": true,
                   "mac_address": "fa:16:3e:00:00:01", "security_groups": [],
                   "dns_name": "web", "tags": ["a"], "device_owner": "compute:nova",
                   "allowed_address_pairs": [{"ip_address": "10.9.0.9"}]}}),
        ),
        (
            "POST",
            "/network/v2.0/security-groups",
            json!({"security_group": {"name": "g", "description": "d", "stateful": true}}),
        ),
        (
            "POST",
            "/network/v2.0/address-groups",
            json!({"address_group": {"name": "a", "description": "d",
                   "addresses": ["10.9.0.0/24", "fd00::/64"]}}),
        ),
        (
            "POST",
            "/network/v2.0/address-scopes",
            json!({"address_scope": {"name": "a", "ip_version": 4, "shared": false}}),
        ),
        (
            "POST",
            "/network/v2.0/subnetpools",
            json!({"subnetpool": {"name": "p", "description": "d", "prefixes": ["10.9.0.0/16"],
                   "min_prefixlen": 20, "max_prefixlen": "28", "default_prefixlen": 24,
                   "default_quota": 4096, "is_default": false, "shared": false,
                   "address_scope_id": null}}),
        ),
        (
            "POST",
            "/network/v2.0/rbac-policies",
            json!({"rbac_policy": {"object_type": "network", "object_id": "$network_id",
                   "action": "access_as_shared", "target_tenant": "$project_id"}}),
        ),
        (
            "POST",
            "/network/v2.0/default-security-group-rules",
            json!({"default_security_group_rule": {"direction": "ingress", "ethertype": "IPv4",
                   "protocol": "tcp", "port_range_min": 22, "port_range_max": 22,
                   "remote_ip_prefix": "10.9.0.0/24", "used_in_default_sg": false,
                   "used_in_non_default_sg": true, "description": "d"}}),
        ),
        (
            "POST",
            "/compute/v2.1/flavors",
            json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1, "id": "auto",
                   "swap": 0, "rxtx_factor": 1.0}}),
        ),
        ("POST", "/compute/v2.1/os-keypairs", json!({"keypair": {"name": "k"}})),
        (
            "POST",
            "/compute/v2.1/servers",
            json!({"server": {"name": "s", "imageRef": "$image_id", "flavorRef": "$flavor_id",
                   "networks": [{"uuid": "$network_id"}], "metadata": {"a": "b"},
                   "min_count": 1, "max_count": 1, "user_data": "aGVsbG8="}}),
        ),
        (
            "POST",
            "/image/v2/images",
            json!({"name": "i", "disk_format": "raw", "container_format": "bare",
                   "min_disk": 0, "min_ram": 0, "visibility": "private", "tags": ["t"],
                   "protected": false}),
        ),
    ]
}
