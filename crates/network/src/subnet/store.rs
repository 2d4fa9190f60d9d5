//! All SQL on subnets.

use std::net::IpAddr;

use cloud_types::{Fault, NetworkId, ProjectId, SubnetId, SubnetPoolId};
use database::{DatabaseError, Row, Tx, params};

use super::model::{Ipv6Mode, SubnetRow};
use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::rbac::model::ObjectType;
use crate::rbac::store::{filter_shared, shared_ids};

/// What a list of subnets can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "s.id"),
    Column::text("name", "s.name"),
    Column::text("description", "s.description"),
    Column::text("project_id", "s.project_id"),
    Column::text("tenant_id", "s.project_id"),
    Column::text("network_id", "s.network_id"),
    Column::text("cidr", "s.cidr"),
    Column::text("gateway_ip", "s.gateway_ip"),
    Column::text("ipv6_ra_mode", "s.ipv6_ra_mode"),
    Column::text("ipv6_address_mode", "s.ipv6_address_mode"),
    Column::text("subnetpool_id", "s.subnetpool_id"),
    Column::of("ip_version", "s.ip_version", Kind::Int),
    Column::of("enable_dhcp", "s.enable_dhcp", Kind::Bool),
    Column::of("shared", "n.shared", Kind::Bool),
    Column::of("revision_number", "s.revision", Kind::Int),
    Column::of("created_at", "s.created_at", Kind::Time),
    Column::of("updated_at", "s.updated_at", Kind::Time),
];

const SELECT: &str = "SELECT s.* FROM subnets s JOIN networks n ON n.id = s.network_id";

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn read(row: &Row) -> Result<SubnetRow, DatabaseError> {
    Ok(SubnetRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        network_id: row.parse("network_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        cidr: row.parse("cidr")?,
        gateway_ip: address(&row.text("gateway_ip")?),
        enable_dhcp: row.bool("enable_dhcp")?,
        allocation_pools: row.json("allocation_pools")?,
        dns_nameservers: row.json("dns_nameservers")?,
        host_routes: row.json("host_routes")?,
        ipv6_ra_mode: Ipv6Mode::from_name(&row.text("ipv6_ra_mode")?),
        ipv6_address_mode: Ipv6Mode::from_name(&row.text("ipv6_address_mode")?),
        next_key: row.text("next_key")?,
        subnetpool_id: row.text("subnetpool_id")?.parse().ok(),
        service_types: row.json("service_types")?,
        tags: row.json("tags")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The subnet.
pub async fn get(tx: &mut Tx, id: &SubnetId) -> Result<Option<SubnetRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM subnets WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read).transpose()
}

/// All subnets of a network, oldest first.
pub async fn of_network(tx: &mut Tx, network: &NetworkId) -> Result<Vec<SubnetRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM subnets WHERE network_id = $1 ORDER BY created_at, id",
            &params![network],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// A page of the subnets that `viewer` sees; of all when it is `None`. `caller` is the caller's own
/// project.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    caller: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<SubnetRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        let shared = shared_ids(ObjectType::Network, &project);
        conditions.and(format!(
            "s.project_id = {project} OR n.project_id = {project} OR s.network_id IN ({shared})"
        ));
    }
    conditions.filter(query, "s.tags", "s.updated_at");
    filter_shared(&mut conditions, query, ObjectType::Network, "s.network_id", caller)?;
    let Page { rows, cut } = page(tx, SELECT, conditions, query, "subnet").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

fn mode(mode: Option<Ipv6Mode>) -> &'static str {
    mode.map_or("", Ipv6Mode::as_str)
}

fn pool(row: &SubnetRow) -> String {
    row.subnetpool_id.map(|id| id.to_string()).unwrap_or_default()
}

/// A subnet that is of this version, and on a network with subnets of the pool, but not of the pool.
pub async fn beside_pool(
    tx: &mut Tx,
    id: &SubnetPoolId,
    version: u8,
) -> Result<Option<SubnetId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT o.id FROM subnets o WHERE o.ip_version = $2 AND o.subnetpool_id <> $1 \
             AND o.network_id IN (SELECT s.network_id FROM subnets s WHERE s.subnetpool_id = $1) \
             ORDER BY o.id LIMIT 1",
            &params![id, version],
        )
        .await?;
    rows.first().map(|row| row.parse("id")).transpose()
}

/// Adds a subnet.
pub async fn insert(tx: &mut Tx, row: &SubnetRow) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO subnets (id, project_id, network_id, name, description, ip_version, cidr, \
         gateway_ip, enable_dhcp, allocation_pools, dns_nameservers, host_routes, ipv6_ra_mode, \
         ipv6_address_mode, next_key, tags, revision, created_at, updated_at, subnetpool_id, \
         service_types) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
         $16, $17, $18, $19, $20, $21)",
        &params![
            row.id,
            row.project_id,
            row.network_id,
            row.name,
            row.description,
            row.ip_version(),
            row.cidr.to_string(),
            row.gateway_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            row.enable_dhcp,
            serde_json::json!(row.allocation_pools),
            serde_json::json!(row.dns_nameservers),
            serde_json::json!(row.host_routes),
            mode(row.ipv6_ra_mode),
            mode(row.ipv6_address_mode),
            row.next_key,
            serde_json::json!(row.tags),
            row.revision,
            row.created_at,
            row.updated_at,
            pool(row),
            serde_json::json!(row.service_types)
        ],
    )
    .await?;
    Ok(())
}

/// Writes a changed subnet; `row.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, row: &mut SubnetRow) -> Result<(), DatabaseError> {
    row.updated_at = tx.now();
    let rows = tx
        .execute(
            "UPDATE subnets SET name = $3, description = $4, gateway_ip = $5, enable_dhcp = $6, \
             allocation_pools = $7, dns_nameservers = $8, host_routes = $9, next_key = $10, \
             tags = $11, updated_at = $12, subnetpool_id = $13, service_types = $14, \
             revision = revision + 1 WHERE id = $1 AND revision = $2",
            &params![
                row.id,
                row.revision,
                row.name,
                row.description,
                row.gateway_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                row.enable_dhcp,
                serde_json::json!(row.allocation_pools),
                serde_json::json!(row.dns_nameservers),
                serde_json::json!(row.host_routes),
                row.next_key,
                serde_json::json!(row.tags),
                row.updated_at,
                pool(row),
                serde_json::json!(row.service_types)
            ],
        )
        .await?;
    tx.expect_one(rows, "subnet", row.id)?;
    row.revision += 1;
    Ok(())
}

/// Remembers where automatic allocation goes on. No change that anybody sees, so no new revision.
pub async fn set_next_key(tx: &mut Tx, id: &SubnetId, key: &str) -> Result<(), DatabaseError> {
    tx.execute("UPDATE subnets SET next_key = $2 WHERE id = $1", &params![id, key]).await?;
    Ok(())
}

/// Removes a subnet.
pub async fn delete(tx: &mut Tx, id: &SubnetId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM subnets WHERE id = $1", &params![id]).await?;
    Ok(())
}
