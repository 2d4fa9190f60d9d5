//! `/`, `/v2.1`, `/v2.1/extensions`, and the lists that are always empty here.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, Answer, ApiResult, Ctx, Json, Method, Path, Routes, Service, StatusCode,
};

use crate::Compute;
use crate::links;

/// The routes.
pub fn routes() -> Routes<Compute> {
    let rule = Access::Rule;
    Routes::new(Service::Compute)
        .route(Method::GET, "", Access::Public, versions)
        .route(Method::GET, "/v2.1", Access::Public, version)
        .route(Method::GET, "/v2.1/extensions", rule("compute:extensions:list"), extensions)
        .route(Method::GET, "/v2.1/extensions/{alias}", rule("compute:extensions:list"), extension)
        .route(
            Method::GET,
            "/v2.1/os-server-groups",
            rule("compute:server_groups:list"),
            server_groups,
        )
}

fn range(ctx: &Ctx) -> (String, String) {
    ctx.service.microversions().map_or_else(
        || (String::new(), String::new()),
        |range| (range.min.to_string(), range.max.to_string()),
    )
}

fn summary(ctx: &Ctx) -> Value {
    let (min, max) = range(ctx);
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": max,
        "min_version": min,
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{}/", links::base(ctx))}],
    })
}

async fn versions(ctx: Ctx) -> Answer<Value> {
    Answer(StatusCode::OK, json!({"versions": [summary(&ctx)]}))
}

async fn version(ctx: Ctx) -> Answer<Value> {
    let mut shown = summary(&ctx);
    shown["media-types"] = json!([{
        "base": "application/json",
        "type": "application/vnd.openstack.compute+json;version=2.1",
    }]);
    if let Some(list) = shown["links"].as_array_mut() {
        list.push(json!({
            "rel": "describedby",
            "type": "text/html",
            "href": "https://docs.openstack.org/api-ref/compute/",
        }));
    }
    Answer(StatusCode::OK, json!({"version": shown}))
}

/// Extensions froze with v2.1: a list for clients that still look at it.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("os-availability-zone", "AvailabilityZone", "Availability zones."),
    ("os-aggregates", "Aggregates", "Clusters of hosts."),
    ("os-attach-interfaces", "AttachInterfaces", "Ports of servers."),
    ("os-config-drive", "ConfigDrive", "Config drives."),
    ("os-console-output", "ConsoleOutput", "Serial consoles."),
    ("os-disk-config", "DiskConfig", "Disk configuration."),
    ("os-extended-availability-zone", "ExtendedAvailabilityZone", "Zones of servers."),
    ("os-extended-status", "ExtendedStatus", "States of servers in full."),
    ("os-flavor-access", "FlavorAccess", "Access to private flavors."),
    ("os-flavor-extra-specs", "FlavorExtraSpecs", "Extra specs of flavors."),
    ("os-flavor-manage", "FlavorManage", "Making and deleting flavors."),
    ("os-hypervisors", "Hypervisors", "Hosts, for operators."),
    ("os-instance-actions", "InstanceActions", "What was done to servers."),
    ("os-keypairs", "Keypairs", "Key pairs."),
    ("os-lock-server", "LockServer", "Locking servers."),
    ("os-multiple-create", "MultipleCreate", "Several servers by one request."),
    ("os-quota-sets", "Quotas", "Quotas."),
    ("os-scheduler-hints", "SchedulerHints", "Scheduler hints."),
    ("os-security-groups", "SecurityGroups", "Security groups of servers."),
    ("os-server-start-stop", "ServerStartStop", "Starting and stopping servers."),
    ("os-server-tags", "ServerTags", "Tags of servers."),
    ("os-services", "Services", "Agents of hosts."),
    ("os-used-limits", "UsedLimits", "Usage in limits."),
    ("os-user-data", "UserData", "User data."),
];

fn extension_view((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({
        "alias": alias,
        "name": name,
        "description": description,
        "links": [],
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
    })
}

async fn extensions() -> Json<Value> {
    let all: Vec<Value> = EXTENSIONS.iter().map(extension_view).collect();
    Json(json!({"extensions": all}))
}

async fn extension(Path(alias): Path<String>) -> ApiResult<Json<Value>> {
    match EXTENSIONS.iter().find(|(known, _, _)| *known == alias) {
        Some(found) => Ok(Json(json!({"extension": extension_view(found)}))),
        None => Err(Fault::not_found("The resource could not be found.").into()),
    }
}

/// No group can be made yet, so there is none.
async fn server_groups(State(_): State<Compute>) -> Json<Value> {
    Json(json!({"server_groups": []}))
}
