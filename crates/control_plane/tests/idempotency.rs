//! Every route that creates, asked twice with one `Idempotency-Key` and a crash between: the process
//! dies after the transaction and before it can store the answer. The repeat gets the same answer.
//! The routes come from the running router, so one that is added and forgets this fails here.

mod world;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use database::{BoxFuture, DatabaseError, Origin};
use serde_json::{Value, json};
use service_kit::Method;
use world::World;

/// Routes that make nothing which a repeat could make twice: what they change stays as they say,
/// however often it is said.
const CHANGING: [&str; 18] = [
    // Signed by a program, which has no token to remember a key for.
    "/identity/v3/OS-OAUTH1/access_token",
    "/identity/v3/OS-OAUTH1/request_token",
    "/compute/v2.1/flavors/{id}/action",
    "/compute/v2.1/flavors/{id}/os-extra_specs",
    "/compute/v2.1/servers/{id}/action",
    "/compute/v2.1/servers/{id}/metadata",
    // People who come from their identity provider: without a token, and back with what is used once.
    "/identity/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth",
    "/identity/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/\
     backchannel_logout",
    "/identity/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso",
    "/identity/v3/auth/OS-FEDERATION/websso/{protocol_id}",
    // A token is not kept; the next one is as good.
    "/identity/v3/auth/tokens",
    "/identity/v3/ec2tokens",
    "/identity/v3/s3tokens",
    "/identity/v3/users/{user_id}/password",
    "/image/v2/images/{id}/actions/deactivate",
    "/image/v2/images/{id}/actions/reactivate",
    "/compute/v2.1/servers/{id}/remote-consoles",
    // Looks, and repairs what it can prove.
    "/meridian/v1/audit",
];

struct Made {
    network: String,
    group: String,
    image: String,
    flavor: String,
    service: String,
    /// Who asks, somebody else, and a project.
    admin: String,
    user: String,
    project: String,
}

fn id(text: &str, key: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap();
    let made = if key.is_empty() { &answer } else { &answer[key] };
    made["id"].as_str().unwrap_or_else(|| panic!("no id in {text}")).to_owned()
}

/// What the requests refer to.
async fn prepare(world: &World, token: &str) -> Made {
    let make = async |path: &str, key: &str, body: Value| {
        let answer = world.ask(&Method::POST, path, Some(token), Some(body)).await;
        assert!(answer.status < 300, "POST {path}: {}", answer.text);
        id(&answer.text, key)
    };
    let network =
        make("/network/v2.0/networks", "network", json!({"network": {"name": "n"}})).await;
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.9.0.0/24"}});
    make("/network/v2.0/subnets", "subnet", subnet).await;
    let body = json!({"security_group": {"name": "g"}});
    let group = make("/network/v2.0/security-groups", "security_group", body).await;
    let body = json!({"name": "i", "disk_format": "raw", "container_format": "bare",
                      "visibility": "shared"});
    let image = make("/image/v2/images", "", body).await;
    let upload = Request::put(format!("/image/v2/images/{image}/file"))
        .header("x-auth-token", token)
        .header("content-type", "application/octet-stream")
        .body(Body::from(vec![7; 4096]))
        .unwrap();
    assert_eq!(world.send(upload).await.status, 204);
    let body = json!({"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1}});
    let flavor = make("/compute/v2.1/flavors", "flavor", body).await;
    let body = json!({"service": {"type": "s", "name": "s"}});
    let service = make("/identity/v3/services", "service", body).await;
    let user = make("/identity/v3/users", "user", json!({"user": {"name": "u"}})).await;
    let project = make("/identity/v3/projects", "project", json!({"project": {"name": "p"}})).await;
    let answer = world.ask(&Method::GET, "/identity/v3/users?name=admin", Some(token), None).await;
    let found: Value = serde_json::from_str(&answer.text).unwrap();
    let admin = found["users"][0]["id"].as_str().unwrap().to_owned();
    Made { network, group, image, flavor, service, admin, user, project }
}

/// A request to the route that creates something.
fn creating(route: &str, made: &Made) -> Option<(String, Value)> {
    let Made { network, group, image, flavor, service, admin, user, project } = made;
    let body = match route {
        "/network/v2.0/networks" => json!({"network": {"name": "once"}}),
        "/network/v2.0/subnets" => {
            json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.8.0.0/24"}})
        }
        "/network/v2.0/ports" => json!({"port": {"network_id": network}}),
        "/network/v2.0/security-groups" => json!({"security_group": {"name": "once"}}),
        "/network/v2.0/security-group-rules" => json!({"security_group_rule":
            {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}}),
        "/network/v2.0/subnetpools" => {
            json!({"subnetpool": {"name": "once", "prefixes": ["10.7.0.0/16"]}})
        }
        "/network/v2.0/address-scopes" => {
            json!({"address_scope": {"name": "once", "ip_version": 4}})
        }
        "/network/v2.0/address-groups" => {
            json!({"address_group": {"name": "once", "addresses": ["10.7.0.0/16"]}})
        }
        "/network/v2.0/rbac-policies" => json!({"rbac_policy": {"object_type": "network",
            "object_id": network, "action": "access_as_shared", "target_tenant": project}}),
        "/network/v2.0/default-security-group-rules" => json!({"default_security_group_rule":
            {"direction": "ingress", "protocol": "udp"}}),
        "/image/v2/images" => json!({"name": "once"}),
        "/image/v2/images/{id}/members" => {
            let body = json!({"member": "0123456789abcdef0123456789abcdef"});
            return Some((format!("/image/v2/images/{image}/members"), body));
        }
        "/compute/v2.1/flavors" => {
            json!({"flavor": {"name": "once", "ram": 64, "vcpus": 1, "disk": 1}})
        }
        "/compute/v2.1/os-keypairs" => json!({"keypair": {"name": "once"}}),
        "/compute/v2.1/servers" => json!({"server": {"name": "once", "imageRef": image,
            "flavorRef": flavor, "networks": [{"uuid": network}]}}),
        "/identity/v3/regions" => json!({"region": {"description": "once"}}),
        "/identity/v3/services" => json!({"service": {"type": "once", "name": "once"}}),
        "/identity/v3/endpoints" => json!({"endpoint":
            {"service_id": service, "interface": "public", "url": "http://once.test"}}),
        "/identity/v3/users" => json!({"user": {"name": "once", "password": "secret-once"}}),
        "/identity/v3/groups" => json!({"group": {"name": "once"}}),
        "/identity/v3/projects" => json!({"project": {"name": "once"}}),
        "/identity/v3/roles" => json!({"role": {"name": "once"}}),
        "/identity/v3/domains" => json!({"domain": {"name": "once"}}),
        "/identity/v3/OS-OAUTH1/consumers" => json!({"consumer": {"description": "once"}}),
        "/identity/v3/policies" => json!({"policy": {"type": "text/plain", "blob": "once"}}),
        "/identity/v3/OS-EP-FILTER/endpoint_groups" => {
            json!({"endpoint_group": {"name": "once", "filters": {"service_id": service}}})
        }
        "/identity/v3/registered_limits" => json!({"registered_limits": [
            {"service_id": service, "resource_name": "once", "default_limit": 1}]}),
        "/identity/v3/limits" => json!({"limits": [{"service_id": service,
            "resource_name": "once", "resource_limit": 2, "domain_id": "default"}]}),
        "/identity/v3/credentials" => {
            json!({"credential": {"type": "cert", "blob": "once", "user_id": user}})
        }
        "/identity/v3/users/{user_id}/credentials/OS-EC2" => {
            let body = json!({"tenant_id": project});
            return Some((format!("/identity/v3/users/{user}/credentials/OS-EC2"), body));
        }
        "/identity/v3/users/{user_id}/application_credentials" => {
            let body = json!({"application_credential": {"name": "once"}});
            return Some((format!("/identity/v3/users/{admin}/application_credentials"), body));
        }
        "/identity/v3/OS-TRUST/trusts" => json!({"trust": {"trustor_user_id": admin,
            "trustee_user_id": user, "impersonation": false}}),
        _ => return None,
    };
    Some((route.to_owned(), body))
}

#[tokio::test]
async fn a_creating_request_that_is_repeated_after_a_crash_gets_the_same_answer() {
    let world = World::new().await;
    let token = world.login("admin", "admin").await;
    let made = prepare(&world, &token).await;
    // The crash: what the guard of the routes stores after a handler never reaches the disk. Only
    // that statement sets the expiry together with the state.
    let crash = "CREATE TRIGGER crash BEFORE UPDATE OF expires_at ON idempotency_keys \
                 WHEN NEW.state = 'answered' BEGIN SELECT RAISE(ABORT, 'the process has died'); END";
    world
        .services
        .app
        .kit()
        .db
        .transact(&Origin::system("test"), move |tx| {
            Box::pin(async move { tx.execute(crash, &[]).await })
                as BoxFuture<'_, Result<u64, DatabaseError>>
        })
        .await
        .unwrap();

    let mut unknown = BTreeSet::new();
    let mut asked = 0;
    for route in world.routes().iter().filter(|route| route.method == Method::POST) {
        let Some((path, body)) = creating(&route.path, &made) else {
            if !CHANGING.contains(&route.path.as_str()) {
                unknown.insert(route.path.clone());
            }
            continue;
        };
        let ask = async || {
            let request = Request::post(&path)
                .header("x-auth-token", &token)
                .header("content-type", "application/json")
                .header("idempotency-key", format!("key of {path}"))
                .body(Body::from(body.to_string()))
                .unwrap();
            world.send(request).await
        };
        let first = ask().await;
        assert!(first.status < 300 && !first.replayed, "{path}: {} {}", first.status, first.text);
        let again = ask().await;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
        assert!(again.replayed, "{path}");
        asked += 1;
    }
    assert_eq!(unknown, BTreeSet::new(), "does it create? Then say here how it is asked");
    assert!(asked >= 16, "{asked} routes");
}
