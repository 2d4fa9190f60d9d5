//! All SQL on networks.

use std::collections::HashMap;

use cloud_types::{AddressScopeId, Fault, NetworkId, ProjectId, SubnetId};
use database::{DatabaseError, Row, Tx, Value, params};

use super::model::NetworkRow;
use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::rbac::model::ObjectType;
use crate::rbac::store::{filter_shared, shared_ids};

/// What a list of networks can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "n.id"),
    Column::text("name", "n.name"),
    Column::text("description", "n.description"),
    Column::text("project_id", "n.project_id"),
    Column::text("tenant_id", "n.project_id"),
    Column::of("admin_state_up", "n.admin_state_up", Kind::Bool),
    Column::of("shared", "n.shared", Kind::Bool),
    Column::of("port_security_enabled", "n.port_security_enabled", Kind::Bool),
    Column::of("mtu", "n.mtu", Kind::Int),
    Column::of("revision_number", "n.revision", Kind::Int),
    Column::of("created_at", "n.created_at", Kind::Time),
    Column::of("updated_at", "n.updated_at", Kind::Time),
    // There are no external networks yet; clients filter by the attribute all the same.
    Column::of("router:external", "0", Kind::Bool),
    // A network has no other status: it exists as soon as its row does.
    Column::text("status", "'ACTIVE'"),
    Column::text("dns_domain", "n.tenant_dns_domain"),
];

const SELECT: &str = "SELECT n.* FROM networks n";

fn read(row: &Row) -> Result<NetworkRow, DatabaseError> {
    Ok(NetworkRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        admin_state_up: row.bool("admin_state_up")?,
        shared: row.bool("shared")?,
        port_security_enabled: row.bool("port_security_enabled")?,
        mtu: u16::try_from(row.int("mtu")?).unwrap_or(u16::MAX),
        network_number: u32::try_from(row.int("network_number")?).unwrap_or(0),
        dns_domain: row.text("dns_domain")?,
        tenant_dns_domain: row.text("tenant_dns_domain")?,
        tags: row.json("tags")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The network.
pub async fn get(tx: &mut Tx, id: &NetworkId) -> Result<Option<NetworkRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM networks WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read).transpose()
}

/// A page of the networks that `viewer` sees; of all when it is `None`. `caller` is the caller's own
/// project.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    caller: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<NetworkRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        let shared = shared_ids(ObjectType::Network, &project);
        conditions.and(format!("n.project_id = {project} OR n.id IN ({shared})"));
    }
    conditions.filter(query, "n.tags", "n.updated_at");
    filter_shared(&mut conditions, query, ObjectType::Network, "n.id", caller)?;
    let Page { rows, cut } = page(tx, SELECT, conditions, query, "network").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

/// The networks that a server of the project may be put on when it names none: its own, then
/// those shared with it.
pub async fn available(tx: &mut Tx, project: &ProjectId) -> Result<Vec<NetworkRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM networks WHERE project_id = $1 OR id IN (\
             SELECT object_id FROM rbac_policies WHERE object_type = 'network' \
             AND action = 'access_as_shared' AND target IN ('*', $1)) \
             ORDER BY CASE WHEN project_id = $1 THEN 0 ELSE 1 END, id LIMIT 3",
            &params![project],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// The subnets of each of the networks.
pub async fn subnets_of(
    tx: &mut Tx,
    networks: &[NetworkId],
) -> Result<HashMap<NetworkId, Vec<SubnetId>>, DatabaseError> {
    let mut found: HashMap<NetworkId, Vec<SubnetId>> = HashMap::new();
    for chunk in networks.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!(
            "SELECT id, network_id FROM subnets WHERE network_id IN ({places}) ORDER BY created_at, id"
        );
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.entry(row.parse("network_id")?).or_default().push(row.parse("id")?);
        }
    }
    Ok(found)
}

/// The address scopes of each of the networks, by version of their subnets.
pub async fn scopes_of(
    tx: &mut Tx,
    networks: &[NetworkId],
) -> Result<HashMap<NetworkId, [Option<AddressScopeId>; 2]>, DatabaseError> {
    let mut found: HashMap<NetworkId, [Option<AddressScopeId>; 2]> = HashMap::new();
    for chunk in networks.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!(
            "SELECT DISTINCT s.network_id, p.ip_version, p.address_scope_id FROM subnets s \
             JOIN subnet_pools p ON p.id = s.subnetpool_id \
             WHERE s.network_id IN ({places}) AND p.address_scope_id <> ''"
        );
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            let [four, six] = found.entry(row.parse("network_id")?).or_default();
            let scope = Some(row.parse("address_scope_id")?);
            if row.int("ip_version")? == 4 { *four = scope } else { *six = scope }
        }
    }
    Ok(found)
}

/// Adds a network.
pub async fn insert(tx: &mut Tx, row: &NetworkRow) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO networks (id, project_id, name, description, admin_state_up, shared, \
         port_security_enabled, mtu, network_number, dns_domain, tenant_dns_domain, tags, \
         revision, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        &params![
            row.id,
            row.project_id,
            row.name,
            row.description,
            row.admin_state_up,
            row.shared,
            row.port_security_enabled,
            row.mtu,
            row.network_number,
            row.dns_domain,
            row.tenant_dns_domain,
            serde_json::json!(row.tags),
            row.revision,
            row.created_at,
            row.updated_at
        ],
    )
    .await?;
    Ok(())
}

/// Writes a changed network; `row.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, row: &mut NetworkRow) -> Result<(), DatabaseError> {
    row.updated_at = tx.now();
    let rows = tx
        .execute(
            "UPDATE networks SET name = $3, description = $4, admin_state_up = $5, shared = $6, \
             port_security_enabled = $7, tags = $8, updated_at = $9, mtu = $10, \
             tenant_dns_domain = $11, revision = revision + 1 WHERE id = $1 AND revision = $2",
            &params![
                row.id,
                row.revision,
                row.name,
                row.description,
                row.admin_state_up,
                row.shared,
                row.port_security_enabled,
                serde_json::json!(row.tags),
                row.updated_at,
                row.mtu,
                row.tenant_dns_domain
            ],
        )
        .await?;
    tx.expect_one(rows, "network", row.id)?;
    row.revision += 1;
    Ok(())
}

/// Counts a change of a network's subnets as a change of the network, as Neutron does.
pub async fn bump(tx: &mut Tx, id: &NetworkId) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE networks SET revision = revision + 1, updated_at = $2 WHERE id = $1",
        &params![id, now],
    )
    .await?;
    Ok(())
}

/// Removes a network.
pub async fn delete(tx: &mut Tx, id: &NetworkId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM networks WHERE id = $1", &params![id]).await?;
    Ok(())
}
