//! `/ips`, `/os-interface`, `/os-security-groups`, `/os-volume_attachments` of a server.

use std::collections::BTreeMap;

use axum::extract::State;
use cloud_types::{Fault, SecurityGroupId};
use host_protocol::Direction;
use network::{GroupView, PortStatus, PortView, RuleRow};
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

/// The groups of the server's ports, with their inbound rules, as Nova shows those of Neutron.
pub async fn security_groups(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    let (worn, groups) = compute.security_groups(&ctx, server_id(id)?).await?;
    let shown: Vec<Value> = worn
        .iter()
        .filter_map(|id| groups.get(id))
        .map(|view| {
            let inbound =
                view.rules.iter().filter(|rule| rule.spec.direction == Direction::Ingress);
            json!({
                "id": view.group.id, "name": view.group.name,
                "description": view.group.description, "tenant_id": view.group.project_id,
                "rules": inbound.map(|rule| nova_rule(rule, &groups)).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(Json(json!({"security_groups": shown})))
}

/// A rule in Nova's words: no ports are all of them for TCP and UDP, and -1 for what has none.
fn nova_rule(rule: &RuleRow, groups: &BTreeMap<SecurityGroupId, GroupView>) -> Value {
    let spec = &rule.spec;
    let all = match spec.protocol.as_deref() {
        Some("tcp" | "udp" | "6" | "17") => (json!(1), json!(65535)),
        Some(_) => (json!(-1), json!(-1)),
        None => (Value::Null, Value::Null),
    };
    let (group, range) = match spec.remote_group_id {
        Some(id) => {
            let group = groups.get(&id).map(|view| &view.group);
            let named = group.map(|g| json!({"name": g.name, "tenant_id": g.project_id}));
            (named.unwrap_or_else(|| json!({})), json!({}))
        }
        None => {
            let everybody = if spec.ipv6 { "::/0" } else { "0.0.0.0/0" };
            let cidr = spec.remote_ip_prefix.map_or(everybody.to_owned(), |net| net.to_string());
            (json!({}), json!({"cidr": cidr}))
        }
    };
    json!({
        "id": rule.id, "parent_group_id": rule.group_id, "ip_protocol": spec.protocol,
        "from_port": spec.port_min.map_or(all.0, |port| json!(port)),
        "to_port": spec.port_max.map_or(all.1, |port| json!(port)),
        "group": group, "ip_range": range,
    })
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
