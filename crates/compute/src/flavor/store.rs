//! The rows of flavors and of who may use them.

use cloud_types::ProjectId;
use database::{DatabaseError, Row, Tx, Value, params};
use service_kit::page::Direction;

use super::model::Flavor;

macro_rules! columns {
    () => {
        "id, flavor_id, name, vcpus, memory_mib, disk_gib, ephemeral_gib, swap_mib, rxtx_factor, \
         is_public, description, extra_specs, created_at"
    };
}

fn read(row: &Row) -> Result<Flavor, DatabaseError> {
    Ok(Flavor {
        id: row.parse("id")?,
        flavor_id: row.text("flavor_id")?,
        name: row.text("name")?,
        vcpus: row.u32("vcpus")?,
        memory_mib: row.u64("memory_mib")?,
        disk_gib: row.u64("disk_gib")?,
        ephemeral_gib: row.u64("ephemeral_gib")?,
        swap_mib: row.u64("swap_mib")?,
        rxtx_factor: row.parse("rxtx_factor")?,
        is_public: row.bool("is_public")?,
        description: row.opt_text("description")?,
        extra_specs: row.json("extra_specs")?,
        created_at: row.timestamp("created_at")?,
    })
}

fn specs_json(flavor: &Flavor) -> String {
    serde_json::to_string(&flavor.extra_specs).unwrap_or_else(|_| "{}".to_owned())
}

/// Whether a flavor has this id, or this name.
pub async fn taken(tx: &mut Tx, flavor: &Flavor) -> Result<(bool, bool), DatabaseError> {
    let rows = tx
        .query(
            "SELECT flavor_id, name FROM flavors WHERE flavor_id = $1 OR name = $2",
            &params![flavor.flavor_id, flavor.name],
        )
        .await?;
    let mut taken = (false, false);
    for row in rows {
        taken.0 |= row.text("flavor_id")? == flavor.flavor_id;
        taken.1 |= row.text("name")? == flavor.name;
    }
    Ok(taken)
}

/// Stores a new flavor.
pub async fn insert(tx: &mut Tx, flavor: &Flavor) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO flavors (id, flavor_id, name, vcpus, memory_mib, disk_gib, ephemeral_gib,
             swap_mib, rxtx_factor, is_public, description, extra_specs, created_at, updated_at,
             generation)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 1)",
        &params![
            flavor.id,
            flavor.flavor_id,
            flavor.name,
            flavor.vcpus,
            flavor.memory_mib,
            flavor.disk_gib,
            flavor.ephemeral_gib,
            flavor.swap_mib,
            flavor.rxtx_factor.to_string(),
            flavor.is_public,
            flavor.description,
            specs_json(flavor),
            flavor.created_at,
            now
        ],
    )
    .await?;
    Ok(())
}

/// A flavor by its public id.
pub async fn get(tx: &mut Tx, flavor_id: &str) -> Result<Option<Flavor>, DatabaseError> {
    tx.query_opt(
        concat!("SELECT ", columns!(), " FROM flavors WHERE flavor_id = $1"),
        &params![flavor_id],
    )
    .await?
    .map(|row| read(&row))
    .transpose()
}

/// Stores description and extra specs.
pub async fn save(tx: &mut Tx, flavor: &Flavor) -> Result<(), DatabaseError> {
    let now = tx.now();
    let changed = tx
        .execute(
            "UPDATE flavors SET description = $1, extra_specs = $2, updated_at = $3,
                 generation = generation + 1
             WHERE id = $4",
            &params![flavor.description, specs_json(flavor), now, flavor.id],
        )
        .await?;
    tx.expect_one(changed, "flavor", &flavor.flavor_id)
}

/// Removes a flavor with its access list.
pub async fn delete(tx: &mut Tx, flavor: &Flavor) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM flavor_access WHERE flavor_id = $1", &params![flavor.flavor_id])
        .await?;
    tx.execute("DELETE FROM flavors WHERE id = $1", &params![flavor.id]).await?;
    Ok(())
}

/// Which flavors, in which order.
#[derive(Clone, Debug, Default)]
pub struct FlavorQuery {
    /// Only public ones, only others, or all.
    pub is_public: Option<bool>,
    /// And those that this project was given access to.
    pub or_shared_with: Option<ProjectId>,
    /// With at least so much memory.
    pub min_ram: Option<i64>,
    /// With at least so much disk.
    pub min_disk: Option<i64>,
    /// By which key of [`SORT_KEYS`].
    pub sort: Option<(String, Direction)>,
    /// After the flavor of this id.
    pub marker: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// Sort keys by their wire name.
pub const SORT_KEYS: &[(&str, &str)] = &[
    ("flavorid", "flavor_id"),
    ("name", "name"),
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
    ("description", "COALESCE(description, '')"),
    ("ephemeral_gb", "ephemeral_gib"),
    ("id", "id"),
    ("is_public", "is_public"),
    ("memory_mb", "memory_mib"),
    ("root_gb", "disk_gib"),
    ("rxtx_factor", "rxtx_factor"),
    ("swap", "swap_mib"),
    ("vcpus", "vcpus"),
    ("disabled", "0"),
    ("vcpu_weight", "0"),
];

/// The page; `None` when the marker names no flavor.
pub async fn list(tx: &mut Tx, query: &FlavorQuery) -> Result<Option<Vec<Flavor>>, DatabaseError> {
    let mut conditions: Vec<String> = Vec::new();
    let mut parameters: Vec<Value> = Vec::new();
    if let Some(is_public) = query.is_public {
        parameters.push(is_public.into());
        let mut condition = format!("is_public = ${}", parameters.len());
        if let Some(project) = &query.or_shared_with {
            parameters.push(project.into());
            condition = format!(
                "({condition} OR EXISTS (SELECT 1 FROM flavor_access a
                   WHERE a.flavor_id = flavors.flavor_id AND a.project_id = ${}))",
                parameters.len()
            );
        }
        conditions.push(condition);
    }
    if let Some(min_ram) = query.min_ram {
        parameters.push(min_ram.into());
        conditions.push(format!("memory_mib >= ${}", parameters.len()));
    }
    if let Some(min_disk) = query.min_disk {
        parameters.push(min_disk.into());
        conditions.push(format!("disk_gib >= ${}", parameters.len()));
    }
    let (expression, direction) = match &query.sort {
        Some((key, direction)) => (
            SORT_KEYS.iter().find(|(name, _)| name == key).map_or("flavor_id", |(_, sql)| *sql),
            *direction,
        ),
        None => ("flavor_id", Direction::Ascending),
    };
    if let Some(marker) = &query.marker {
        let sql = format!("SELECT {expression} AS k, id FROM flavors WHERE flavor_id = $1");
        let rows = tx.query_dynamic(sql, &[marker.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        parameters.push(row.value("k")?.clone());
        let key = parameters.len();
        parameters.push(row.value("id")?.clone());
        let id = parameters.len();
        let sign = if direction == Direction::Ascending { ">" } else { "<" };
        conditions.push(format!(
            "({expression} {sign} ${key} OR ({expression} = ${key} AND id {sign} ${id}))"
        ));
    }
    parameters.push(query.limit.into());
    let conditions = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    let sql = format!(
        concat!("SELECT ", columns!(), " FROM flavors{} ORDER BY {} {}, id {} LIMIT ${}"),
        conditions,
        expression,
        direction.sql(),
        direction.sql(),
        parameters.len()
    );
    tx.query_dynamic(sql, &parameters).await?.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// Whether the project is on the flavor's access list.
pub async fn has_access(
    tx: &mut Tx,
    flavor_id: &str,
    project: &ProjectId,
) -> Result<bool, DatabaseError> {
    Ok(tx
        .query_opt(
            "SELECT 1 AS one FROM flavor_access WHERE flavor_id = $1 AND project_id = $2",
            &params![flavor_id, project],
        )
        .await?
        .is_some())
}

/// The projects on the flavor's access list.
pub async fn access_list(tx: &mut Tx, flavor_id: &str) -> Result<Vec<String>, DatabaseError> {
    tx.query(
        "SELECT project_id FROM flavor_access WHERE flavor_id = $1 ORDER BY project_id",
        &params![flavor_id],
    )
    .await?
    .iter()
    .map(|row| row.text("project_id"))
    .collect()
}

/// Puts a project on the list; whether it was not there.
pub async fn add_access(
    tx: &mut Tx,
    flavor_id: &str,
    project: &ProjectId,
) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO flavor_access (flavor_id, project_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &params![flavor_id, project],
        )
        .await?;
    Ok(added == 1)
}

/// Takes a project off the list; whether it was there.
pub async fn remove_access(
    tx: &mut Tx,
    flavor_id: &str,
    project: &ProjectId,
) -> Result<bool, DatabaseError> {
    let removed = tx
        .execute(
            "DELETE FROM flavor_access WHERE flavor_id = $1 AND project_id = $2",
            &params![flavor_id, project],
        )
        .await?;
    Ok(removed == 1)
}
