//! All SQL on subnet pools.

use cloud_types::{AddressScopeId, Fault, ProjectId, SubnetPoolId};
use database::{DatabaseError, Row, Tx, params};
use ipnet::IpNet;

use super::model::{Bounds, PoolRow};
use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::rbac::model::ObjectType;
use crate::rbac::store::{filter_shared, shared_ids};

/// What a list of pools can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "s.id"),
    Column::text("name", "s.name"),
    Column::text("description", "s.description"),
    Column::text("project_id", "s.project_id"),
    Column::text("tenant_id", "s.project_id"),
    Column::text("address_scope_id", "s.address_scope_id"),
    Column::of("ip_version", "s.ip_version", Kind::Int),
    Column::of("min_prefixlen", "s.min_prefixlen", Kind::Int),
    Column::of("max_prefixlen", "s.max_prefixlen", Kind::Int),
    Column::of("default_prefixlen", "s.default_prefixlen", Kind::Int),
    Column::of("default_quota", "COALESCE(s.default_quota, -1)", Kind::Int),
    Column::of("is_default", "s.is_default", Kind::Bool),
    Column::of("revision_number", "s.revision", Kind::Int),
    Column::of("created_at", "s.created_at", Kind::Time),
    Column::of("updated_at", "s.updated_at", Kind::Time),
];

fn length(row: &Row, name: &str) -> Result<u8, DatabaseError> {
    Ok(u8::try_from(row.int(name)?).unwrap_or(u8::MAX))
}

fn read(row: &Row) -> Result<PoolRow, DatabaseError> {
    Ok(PoolRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        ip_version: length(row, "ip_version")?,
        prefixes: row.json("prefixes")?,
        bounds: Bounds {
            min: length(row, "min_prefixlen")?,
            max: length(row, "max_prefixlen")?,
            default: length(row, "default_prefixlen")?,
        },
        default_quota: row.opt_int("default_quota")?,
        is_default: row.bool("is_default")?,
        address_scope_id: row.text("address_scope_id")?.parse().ok(),
        tags: row.json("tags")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The pool.
pub async fn get(tx: &mut Tx, id: &SubnetPoolId) -> Result<Option<PoolRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM subnet_pools WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read).transpose()
}

/// The cloud's pool of a version for those who name none.
pub async fn default_of(tx: &mut Tx, version: u8) -> Result<Option<PoolRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM subnet_pools WHERE is_default = 1 AND ip_version = $1 \
             ORDER BY id LIMIT 1",
            &params![version],
        )
        .await?;
    rows.first().map(read).transpose()
}

/// The pools in a scope.
pub async fn of_scope(tx: &mut Tx, scope: &AddressScopeId) -> Result<Vec<PoolRow>, DatabaseError> {
    let rows =
        tx.query("SELECT * FROM subnet_pools WHERE address_scope_id = $1", &params![scope]).await?;
    rows.iter().map(read).collect()
}

/// A page of the pools that `viewer` sees; of all when it is `None`. `caller` is the caller's own
/// project.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    caller: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<PoolRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        let shared = shared_ids(ObjectType::SubnetPool, &project);
        conditions.and(format!("s.project_id = {project} OR s.id IN ({shared})"));
    }
    conditions.filter(query, "s.tags", "s.updated_at");
    filter_shared(&mut conditions, query, ObjectType::SubnetPool, "s.id", caller)?;
    let select = "SELECT s.* FROM subnet_pools s";
    let Page { rows, cut } = page(tx, select, conditions, query, "subnet pool").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

/// The ranges that were given from the pool, with the project of each.
pub async fn ranges(
    tx: &mut Tx,
    id: &SubnetPoolId,
) -> Result<Vec<(ProjectId, IpNet)>, DatabaseError> {
    let rows = tx
        .query("SELECT project_id, cidr FROM subnets WHERE subnetpool_id = $1", &params![id])
        .await?;
    rows.iter().map(|row| Ok((row.parse("project_id")?, row.parse("cidr")?))).collect()
}

fn scope(row: &PoolRow) -> String {
    row.address_scope_id.map(|id| id.to_string()).unwrap_or_default()
}

/// Adds a pool.
pub async fn insert(tx: &mut Tx, row: &PoolRow) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO subnet_pools (id, project_id, name, description, ip_version, prefixes, \
         min_prefixlen, max_prefixlen, default_prefixlen, default_quota, is_default, \
         address_scope_id, tags, revision, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        &params![
            row.id,
            row.project_id,
            row.name,
            row.description,
            row.ip_version,
            serde_json::json!(row.prefixes),
            row.bounds.min,
            row.bounds.max,
            row.bounds.default,
            row.default_quota,
            row.is_default,
            scope(row),
            serde_json::json!(row.tags),
            row.revision,
            row.created_at,
            row.updated_at
        ],
    )
    .await?;
    Ok(())
}

/// Writes a changed pool; `row.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, row: &mut PoolRow) -> Result<(), DatabaseError> {
    row.updated_at = tx.now();
    let rows = tx
        .execute(
            "UPDATE subnet_pools SET name = $3, description = $4, prefixes = $5, \
             min_prefixlen = $6, max_prefixlen = $7, default_prefixlen = $8, default_quota = $9, \
             is_default = $10, address_scope_id = $11, tags = $12, updated_at = $13, \
             revision = revision + 1 WHERE id = $1 AND revision = $2",
            &params![
                row.id,
                row.revision,
                row.name,
                row.description,
                serde_json::json!(row.prefixes),
                row.bounds.min,
                row.bounds.max,
                row.bounds.default,
                row.default_quota,
                row.is_default,
                scope(row),
                serde_json::json!(row.tags),
                row.updated_at
            ],
        )
        .await?;
    tx.expect_one(rows, "subnet pool", row.id)?;
    row.revision += 1;
    Ok(())
}

/// Removes a pool.
pub async fn delete(tx: &mut Tx, id: &SubnetPoolId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM subnet_pools WHERE id = $1", &params![id]).await?;
    Ok(())
}
