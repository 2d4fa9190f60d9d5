//! All SQL on address groups.

use std::collections::HashMap;

use cloud_types::{AddressGroupId, Fault, ProjectId, Timestamp};
use database::{DatabaseError, Row, Tx, Value, params};
use ipnet::IpNet;
use serde::Serialize;

use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::rbac::model::ObjectType;
use crate::rbac::store::{filter_shared, shared_ids};

/// What a list of groups can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "a.id"),
    Column::text("name", "a.name"),
    Column::text("description", "a.description"),
    Column::text("project_id", "a.project_id"),
    Column::text("tenant_id", "a.project_id"),
    Column::of("revision_number", "a.revision", Kind::Int),
    Column::of("created_at", "a.created_at", Kind::Time),
    Column::of("updated_at", "a.updated_at", Kind::Time),
];

/// An address group as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressGroupRow {
    /// Its id.
    pub id: AddressGroupId,
    /// The owner.
    pub project_id: ProjectId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its ranges, without host bits, sorted, each once.
    pub addresses: Vec<IpNet>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

fn read(row: &Row) -> Result<AddressGroupRow, DatabaseError> {
    Ok(AddressGroupRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        addresses: row.json("addresses")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The group.
pub async fn get(
    tx: &mut Tx,
    id: &AddressGroupId,
) -> Result<Option<AddressGroupRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM address_groups WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read).transpose()
}

/// The ranges of each of the groups.
pub async fn addresses_of(
    tx: &mut Tx,
    ids: &[AddressGroupId],
) -> Result<HashMap<AddressGroupId, Vec<IpNet>>, DatabaseError> {
    let mut found = HashMap::new();
    for chunk in ids.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!("SELECT id, addresses FROM address_groups WHERE id IN ({places})");
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.insert(row.parse("id")?, row.json("addresses")?);
        }
    }
    Ok(found)
}

/// A page of the groups that `viewer` sees; of all when it is `None`. `caller` is the caller's own
/// project.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    caller: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<AddressGroupRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        let shared = shared_ids(ObjectType::AddressGroup, &project);
        conditions.and(format!("a.project_id = {project} OR a.id IN ({shared})"));
    }
    conditions.filter(query, "'[]'", "a.updated_at");
    filter_shared(&mut conditions, query, ObjectType::AddressGroup, "a.id", caller)?;
    let select = "SELECT a.* FROM address_groups a";
    let Page { rows, cut } = page(tx, select, conditions, query, "address group").await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

/// Adds a group.
pub async fn insert(tx: &mut Tx, row: &AddressGroupRow) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO address_groups (id, project_id, name, description, addresses, revision, \
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &params![
            row.id,
            row.project_id,
            row.name,
            row.description,
            serde_json::json!(row.addresses),
            row.revision,
            row.created_at,
            row.updated_at
        ],
    )
    .await?;
    Ok(())
}

/// Writes a changed group; `row.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, row: &mut AddressGroupRow) -> Result<(), DatabaseError> {
    row.updated_at = tx.now();
    let rows = tx
        .execute(
            "UPDATE address_groups SET name = $3, description = $4, addresses = $5, \
             updated_at = $6, revision = revision + 1 WHERE id = $1 AND revision = $2",
            &params![
                row.id,
                row.revision,
                row.name,
                row.description,
                serde_json::json!(row.addresses),
                row.updated_at
            ],
        )
        .await?;
    tx.expect_one(rows, "address group", row.id)?;
    row.revision += 1;
    Ok(())
}

/// Removes a group.
pub async fn delete(tx: &mut Tx, id: &AddressGroupId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM address_groups WHERE id = $1", &params![id]).await?;
    Ok(())
}
