//! All SQL on policies, and on who uses what they share.

use std::collections::{BTreeSet, HashSet};

use cloud_types::{Fault, ProjectId, RbacPolicyId};
use database::{DatabaseError, Row, Tx, Value, params};

use super::model::{EVERYBODY, ObjectType, PolicyRow, SHARED};
use crate::attributes::as_bool;
use crate::faults::invalid_input;
use crate::listing::model::{Column, ListQuery};
use crate::listing::store::{Conditions, Page, page};

/// What a list of policies can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "r.id"),
    Column::text("object_type", "r.object_type"),
    Column::text("object_id", "r.object_id"),
    Column::text("action", "r.action"),
    Column::text("target_tenant", "r.target"),
    Column::text("target_project", "r.target"),
    Column::text("project_id", "r.project_id"),
    Column::text("tenant_id", "r.project_id"),
];

fn read(row: &Row) -> Result<PolicyRow, DatabaseError> {
    Ok(PolicyRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        object_type: ObjectType::from_name(&row.text("object_type")?)
            .unwrap_or(ObjectType::Network),
        object_id: row.text("object_id")?,
        action: row.text("action")?,
        target: row.text("target")?,
        implied: row.bool("implied")?,
    })
}

/// The policy.
pub async fn get(tx: &mut Tx, id: &RbacPolicyId) -> Result<Option<PolicyRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM rbac_policies WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read).transpose()
}

/// A page of the policies that `viewer` made; of all when it is `None`.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<PolicyRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        conditions.and(format!("r.project_id = {project}"));
    }
    conditions.filter(query, "'[]'", "0");
    let select = "SELECT r.* FROM rbac_policies r";
    let Page { rows, cut } = page(tx, select, conditions, query, "RBAC policy").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

/// Adds a policy; `false` when there is one that says the same.
pub async fn insert(tx: &mut Tx, row: &PolicyRow) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "INSERT INTO rbac_policies (id, project_id, object_type, object_id, action, target, \
             implied) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (object_id, object_type, action, target) DO NOTHING",
            &params![
                row.id,
                row.project_id,
                row.object_type.as_str(),
                row.object_id,
                row.action,
                row.target,
                row.implied
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// Gives a policy another target. The caller has looked that no other says the same.
pub async fn set_target(tx: &mut Tx, id: &RbacPolicyId, target: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE rbac_policies SET target = $2, implied = 0 WHERE id = $1",
        &params![id, target],
    )
    .await?;
    Ok(())
}

/// Removes a policy.
pub async fn delete(tx: &mut Tx, id: &RbacPolicyId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM rbac_policies WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// The policies of an object.
pub async fn of_object(
    tx: &mut Tx,
    kind: ObjectType,
    id: &str,
) -> Result<Vec<PolicyRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM rbac_policies WHERE object_id = $1 AND object_type = $2 ORDER BY id",
            &params![id, kind.as_str()],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Whether the object is shared with the project.
pub async fn is_shared_with(
    tx: &mut Tx,
    kind: ObjectType,
    id: &str,
    project: &ProjectId,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM rbac_policies WHERE object_id = $1 AND object_type = $2 \
             AND action = 'access_as_shared' AND target IN ('*', $3) LIMIT 1",
            &params![id, kind.as_str(), project],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Those of the objects that are shared with everybody, or with the project.
pub async fn shared_among(
    tx: &mut Tx,
    kind: ObjectType,
    ids: &[String],
    project: Option<&ProjectId>,
) -> Result<HashSet<String>, DatabaseError> {
    let mut found = HashSet::new();
    for chunk in ids.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        conditions.and(format!("object_id IN ({places})"));
        let kind = conditions.bind(kind.as_str());
        conditions.and(format!("object_type = {kind} AND action = 'access_as_shared'"));
        let project = conditions.bind(project.map_or(EVERYBODY, ProjectId::as_str));
        conditions.and(format!("target IN ('*', {project})"));
        let sql = format!("SELECT object_id FROM rbac_policies WHERE {}", conditions.text());
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.insert(row.text("object_id")?);
        }
    }
    Ok(found)
}

/// SQL: the ids of what is shared with everybody or with the project at this place.
pub fn shared_ids(kind: ObjectType, project: &str) -> String {
    format!(
        "SELECT rbac.object_id FROM rbac_policies rbac WHERE rbac.object_type = '{}' \
         AND rbac.action = '{SHARED}' AND rbac.target IN ('*', {project})",
        kind.as_str()
    )
}

/// Adds the filter `shared`, which is a question about the caller: whether the object is shared with
/// everybody or with the caller's own project. `id` is the expression of the object's id.
pub fn filter_shared(
    conditions: &mut Conditions,
    query: &ListQuery,
    kind: ObjectType,
    id: &str,
    caller: Option<&ProjectId>,
) -> Result<(), Fault> {
    let values = query.special.iter().filter(|(name, _)| name == "shared");
    let mut wanted = BTreeSet::new();
    for value in values.flat_map(|(_, values)| values) {
        let read = as_bool(&serde_json::Value::from(value.as_str()));
        wanted.insert(read.ok_or_else(|| {
            invalid_input(format!("shared: '{value}' cannot be converted to boolean"))
        })?);
    }
    // Both, or neither, asks for everything.
    if wanted.len() == 1 {
        let project = conditions.bind(caller.map_or(EVERYBODY, ProjectId::as_str));
        let not = if wanted.contains(&true) { "" } else { "NOT " };
        conditions.and(format!("{id} {not}IN ({})", shared_ids(kind, &project)));
    }
    Ok(())
}

/// The owner of an object, if it is there.
pub async fn owner_of(
    tx: &mut Tx,
    kind: ObjectType,
    id: &str,
) -> Result<Option<ProjectId>, DatabaseError> {
    let sql = match kind {
        ObjectType::Network => "SELECT project_id FROM networks WHERE id = $1",
        ObjectType::SecurityGroup => "SELECT project_id FROM security_groups WHERE id = $1",
        ObjectType::AddressGroup => "SELECT project_id FROM address_groups WHERE id = $1",
        ObjectType::AddressScope => "SELECT project_id FROM address_scopes WHERE id = $1",
        ObjectType::SubnetPool => "SELECT project_id FROM subnet_pools WHERE id = $1",
    };
    tx.query_opt(sql, &params![id]).await?.map(|row| row.parse("project_id")).transpose()
}

/// Counts a change of who may use an object as a change of the object.
pub async fn bump(
    tx: &mut Tx,
    kind: ObjectType,
    id: &str,
    everybody: bool,
) -> Result<(), DatabaseError> {
    if kind == ObjectType::Network {
        tx.execute(
            "UPDATE networks SET revision = revision + 1, shared = $2 WHERE id = $1",
            &params![id, everybody],
        )
        .await?;
        return Ok(());
    }
    let sql = match kind {
        ObjectType::Network | ObjectType::SecurityGroup => {
            "UPDATE security_groups SET revision = revision + 1 WHERE id = $1"
        }
        ObjectType::AddressGroup => {
            "UPDATE address_groups SET revision = revision + 1 WHERE id = $1"
        }
        ObjectType::AddressScope => {
            "UPDATE address_scopes SET revision = revision + 1 WHERE id = $1"
        }
        ObjectType::SubnetPool => "UPDATE subnet_pools SET revision = revision + 1 WHERE id = $1",
    };
    tx.execute(sql, &params![id]).await?;
    Ok(())
}

/// The projects that use an object.
pub async fn users_of(
    tx: &mut Tx,
    kind: ObjectType,
    id: &str,
) -> Result<BTreeSet<ProjectId>, DatabaseError> {
    let sql = match kind {
        ObjectType::Network => "SELECT DISTINCT project_id FROM ports WHERE network_id = $1",
        ObjectType::SecurityGroup => {
            "SELECT DISTINCT p.project_id FROM ports p \
             JOIN port_security_groups m ON m.port_id = p.id WHERE m.group_id = $1 \
             UNION SELECT project_id FROM security_group_rules WHERE remote_group_id = $1"
        }
        ObjectType::AddressGroup => {
            "SELECT DISTINCT project_id FROM security_group_rules \
             WHERE remote_address_group_id = $1"
        }
        ObjectType::AddressScope => {
            "SELECT DISTINCT project_id FROM subnet_pools WHERE address_scope_id = $1"
        }
        ObjectType::SubnetPool => {
            "SELECT DISTINCT project_id FROM subnets WHERE subnetpool_id = $1"
        }
    };
    let rows = tx.query(sql, &params![id]).await?;
    rows.iter().map(|row| row.parse("project_id")).collect()
}
