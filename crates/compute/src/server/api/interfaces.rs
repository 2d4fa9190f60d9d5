//! `/ips`, `/os-interface`, `/os-security-groups`, `/os-volume_attachments` of a server.

use axum::extract::State;
use cloud_types::Fault;
use network::{PortStatus, PortView};
use serde_json::{Value, json};
use service_kit::{ApiResult, Ctx, Json, Path};

use super::view::addresses;
use super::{parse_id, server_id};
use crate::Compute;

pub async fn ips(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    let (server, ports) = compute.ports(&ctx, server_id(id)?).await?;
    Ok(Json(json!({"addresses": addresses(&server, &ports, false)})))
}

pub async fn ips_of(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, network)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let (server, ports) = compute.ports(&ctx, parse_id(&id)?).await?;
    match addresses(&server, &ports, false).get(&network) {
        Some(list) => Ok(Json(json!({ network: list }))),
        None => Err(Fault::not_found("Instance is not a member of specified network").into()),
    }
}

fn attachment(ctx: &Ctx, port: &PortView) -> Value {
    let fixed_ips: Vec<Value> = port
        .ips
        .iter()
        .map(|(subnet, ip)| json!({"subnet_id": subnet, "ip_address": ip.to_string()}))
        .collect();
    let mut shown = json!({
        "port_id": port.port_id,
        "net_id": port.network_id,
        "mac_addr": port.mac,
        "port_state": if port.status == PortStatus::Active { "ACTIVE" } else { "DOWN" },
        "fixed_ips": fixed_ips,
    });
    if ctx.at_least(2, 70) {
        shown["tag"] = json!(port.tag);
    }
    shown
}

pub async fn list(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    let (_, ports) = compute.ports(&ctx, server_id(id)?).await?;
    let shown: Vec<Value> = ports.iter().map(|port| attachment(&ctx, port)).collect();
    Ok(Json(json!({"interfaceAttachments": shown})))
}

pub async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, port)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let (_, ports) = compute.ports(&ctx, parse_id(&id)?).await?;
    match ports.iter().find(|found| found.port_id.to_string() == port) {
        Some(found) => Ok(Json(json!({"interfaceAttachment": attachment(&ctx, found)}))),
        None => Err(Fault::not_found(format!(
            "Instance {id} does not have a port with id {}",
            port.chars().take(64).collect::<String>()
        ))
        .into()),
    }
}

/// The groups of the server's ports. Their rules are network's to show: here, as in Nova's answer
/// for groups of Neutron, they may be looked up by id.
pub async fn security_groups(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    let (server, ports) = compute.ports(&ctx, server_id(id)?).await?;
    let mut groups: Vec<_> =
        ports.iter().flat_map(|port| port.security_groups.iter().cloned()).collect();
    groups.sort();
    groups.dedup();
    let shown: Vec<Value> = groups
        .iter()
        .map(|(id, name)| {
            json!({
                "id": id, "name": name, "description": "", "tenant_id": server.project,
                "rules": [],
            })
        })
        .collect();
    Ok(Json(json!({"security_groups": shown})))
}

/// There are no volumes, so none is attached; clients ask whenever they show a server.
pub async fn volumes(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    compute.show_server(&ctx, server_id(id)?).await?;
    Ok(Json(json!({"volumeAttachments": []})))
}
