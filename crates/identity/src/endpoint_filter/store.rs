//! The SQL of `identity_endpoint_groups`, `identity_project_endpoints` and
//! `identity_project_endpoint_groups`.

use database::{DatabaseError, Row, Tx, params};

use super::model::{EndpointGroup, ProjectFilter};

fn group_of(row: &Row) -> Result<EndpointGroup, DatabaseError> {
    Ok(EndpointGroup {
        id: row.text("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        filters: row.json("filters")?,
    })
}

pub(crate) async fn groups(tx: &mut Tx) -> Result<Vec<EndpointGroup>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_endpoint_groups ORDER BY id", &[]).await?;
    rows.iter().map(group_of).collect()
}

pub(crate) async fn group(tx: &mut Tx, id: &str) -> Result<Option<EndpointGroup>, DatabaseError> {
    let row =
        tx.query_opt("SELECT * FROM identity_endpoint_groups WHERE id = $1", &params![id]).await?;
    row.as_ref().map(group_of).transpose()
}

/// Adds the group or replaces what it says.
pub(crate) async fn put_group(tx: &mut Tx, group: &EndpointGroup) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_endpoint_groups (id, name, description, filters)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name,
             description = excluded.description, filters = excluded.filters",
        &params![
            group.id,
            group.name,
            group.description,
            serde_json::json!(group.filters).to_string()
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete_group(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_project_endpoint_groups WHERE endpoint_group_id = $1",
        &params![id],
    )
    .await?;
    tx.execute("DELETE FROM identity_endpoint_groups WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// What a project was given.
pub(crate) async fn of_project(tx: &mut Tx, project: &str) -> Result<ProjectFilter, DatabaseError> {
    let mut filter = ProjectFilter::default();
    let rows = tx
        .query(
            "SELECT endpoint_id FROM identity_project_endpoints WHERE project_id = $1",
            &params![project],
        )
        .await?;
    for row in rows {
        filter.endpoints.insert(row.text("endpoint_id")?);
    }
    let rows = tx
        .query(
            "SELECT g.* FROM identity_endpoint_groups g
             JOIN identity_project_endpoint_groups p ON p.endpoint_group_id = g.id
             WHERE p.project_id = $1 ORDER BY g.id",
            &params![project],
        )
        .await?;
    for row in &rows {
        filter.groups.push(group_of(row)?);
    }
    Ok(filter)
}

/// What is given to projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Endpoint(String),
    Group(String),
}

pub(crate) async fn give(tx: &mut Tx, project: &str, given: &Given) -> Result<bool, DatabaseError> {
    let (sql, id) = match given {
        Given::Endpoint(id) => (
            "INSERT INTO identity_project_endpoints (project_id, endpoint_id)
             VALUES ($1, $2) ON CONFLICT DO NOTHING",
            id,
        ),
        Given::Group(id) => (
            "INSERT INTO identity_project_endpoint_groups (project_id, endpoint_group_id)
             VALUES ($1, $2) ON CONFLICT DO NOTHING",
            id,
        ),
    };
    Ok(tx.execute(sql, &params![project, id]).await? == 1)
}

/// False when the project did not have it.
pub(crate) async fn take(tx: &mut Tx, project: &str, given: &Given) -> Result<bool, DatabaseError> {
    let (sql, id) = match given {
        Given::Endpoint(id) => (
            "DELETE FROM identity_project_endpoints WHERE project_id = $1 AND endpoint_id = $2",
            id,
        ),
        Given::Group(id) => (
            "DELETE FROM identity_project_endpoint_groups
             WHERE project_id = $1 AND endpoint_group_id = $2",
            id,
        ),
    };
    Ok(tx.execute(sql, &params![project, id]).await? == 1)
}

/// The projects to which something was given.
pub(crate) async fn projects_with(
    tx: &mut Tx,
    given: &Given,
) -> Result<Vec<String>, DatabaseError> {
    let (sql, id) = match given {
        Given::Endpoint(id) => (
            "SELECT project_id FROM identity_project_endpoints
             WHERE endpoint_id = $1 ORDER BY project_id",
            id,
        ),
        Given::Group(id) => (
            "SELECT project_id FROM identity_project_endpoint_groups
             WHERE endpoint_group_id = $1 ORDER BY project_id",
            id,
        ),
    };
    let rows = tx.query(sql, &params![id]).await?;
    rows.iter().map(|row| row.text("project_id")).collect()
}

pub(crate) async fn forget_endpoint(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_project_endpoints WHERE endpoint_id = $1", &params![id])
        .await?;
    Ok(())
}

pub(crate) async fn forget_project(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_project_endpoints WHERE project_id = $1", &params![id])
        .await?;
    tx.execute("DELETE FROM identity_project_endpoint_groups WHERE project_id = $1", &params![id])
        .await?;
    Ok(())
}
