//! Routes and wire shapes of agents and availability zones.

use axum::extract::State;
use cloud_types::{Fault, Timestamp};
use host_documents::Host;
use serde_json::{Value, json};
use service_kit::{Access, ApiResult, Ctx, Filters, Json, Method, Path, Routes, Service};

use crate::Network;
use crate::listing::api::{one, short_list};

const AGENTS: &str = "/v2.0/agents";
const ZONES: &str = "/v2.0/availability_zones";
const GET: Access = Access::Rule("network:agents:get");

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, AGENTS, GET, list)
        .route(Method::GET, "/v2.0/agents/{id}", GET, show)
        .route(Method::GET, ZONES, Access::Rule("network:availability_zones:get"), zones)
}

fn time(moment: Timestamp) -> String {
    moment.rfc3339_seconds().replace('T', " ").replace('Z', "")
}

fn view(host: &Host, now: Timestamp) -> Value {
    let version = host.facts.as_ref().map(|facts| facts.agent_version.clone());
    json!({
        "id": host.id,
        "agent_type": "Meridian host agent",
        "binary": "meridian",
        "topic": "N/A",
        "host": host.name,
        "availability_zone": host.zone,
        "admin_state_up": host.is_enabled(),
        "alive": host.is_alive(now),
        "created_at": time(host.created_at),
        "started_at": time(host.created_at),
        "heartbeat_timestamp": host.last_seen.map(time),
        "description": null,
        "resources_synced": null,
        "configurations": {
            "l2_domain": host.l2_domain,
            "cluster": host.cluster,
            "host_number": host.host_number,
            "agent_version": version,
        },
    })
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let now = network.kit.clock.now();
    let items = network.agents(&ctx).await?.iter().map(|host| view(host, now)).collect();
    Ok(Json(short_list(&ctx, &filters, AGENTS, "agents", items, "id")?))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let now = network.kit.clock.now();
    let hosts = network.agents(&ctx).await?;
    let host = hosts.iter().find(|host| host.id.to_string() == id).ok_or_else(|| {
        Fault::not_found(format!("Agent {id} could not be found.")).named("AgentNotFound")
    })?;
    Ok(Json(one("agent", view(host, now), &filters)))
}

async fn zones(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let items = network
        .zones(&ctx)
        .await?
        .into_iter()
        .map(|(name, available)| {
            let state = if available { "available" } else { "unavailable" };
            json!({"name": name, "resource": "network", "state": state})
        })
        .collect();
    Ok(Json(short_list(&ctx, &filters, ZONES, "availability_zones", items, "name")?))
}
