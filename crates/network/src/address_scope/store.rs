//! All SQL on address scopes.

use cloud_types::{AddressScopeId, Fault, ProjectId};
use database::{DatabaseError, Row, Tx, params};
use serde::Serialize;

use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::rbac::model::ObjectType;
use crate::rbac::store::{filter_shared, shared_ids};

/// What a list of scopes can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "s.id"),
    Column::text("name", "s.name"),
    Column::text("project_id", "s.project_id"),
    Column::text("tenant_id", "s.project_id"),
    Column::of("ip_version", "s.ip_version", Kind::Int),
];

/// A scope as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScopeRow {
    /// Its id.
    pub id: AddressScopeId,
    /// The owner.
    pub project_id: ProjectId,
    /// Free text.
    pub name: String,
    /// 4 or 6.
    pub ip_version: u8,
    /// Counts changes.
    pub revision: i64,
}

fn read(row: &Row) -> Result<ScopeRow, DatabaseError> {
    Ok(ScopeRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.text("name")?,
        ip_version: if row.int("ip_version")? == 6 { 6 } else { 4 },
        revision: row.int("revision")?,
    })
}

/// The scope.
pub async fn get(tx: &mut Tx, id: &AddressScopeId) -> Result<Option<ScopeRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM address_scopes WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read).transpose()
}

/// A page of the scopes that `viewer` sees; of all when it is `None`. `caller` is the caller's own
/// project.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    caller: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<ScopeRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        let shared = shared_ids(ObjectType::AddressScope, &project);
        conditions.and(format!("s.project_id = {project} OR s.id IN ({shared})"));
    }
    conditions.filter(query, "'[]'", "0");
    filter_shared(&mut conditions, query, ObjectType::AddressScope, "s.id", caller)?;
    let select = "SELECT s.* FROM address_scopes s";
    let Page { rows, cut } = page(tx, select, conditions, query, "address scope").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

/// Adds a scope.
pub async fn insert(tx: &mut Tx, row: &ScopeRow) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO address_scopes (id, project_id, name, ip_version, revision) \
         VALUES ($1, $2, $3, $4, $5)",
        &params![row.id, row.project_id, row.name, row.ip_version, row.revision],
    )
    .await?;
    Ok(())
}

/// Writes a changed scope; `row.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, row: &mut ScopeRow) -> Result<(), DatabaseError> {
    let rows = tx
        .execute(
            "UPDATE address_scopes SET name = $3, revision = revision + 1 \
             WHERE id = $1 AND revision = $2",
            &params![row.id, row.revision, row.name],
        )
        .await?;
    tx.expect_one(rows, "address scope", row.id)?;
    row.revision += 1;
    Ok(())
}

/// Removes a scope.
pub async fn delete(tx: &mut Tx, id: &AddressScopeId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM address_scopes WHERE id = $1", &params![id]).await?;
    Ok(())
}
