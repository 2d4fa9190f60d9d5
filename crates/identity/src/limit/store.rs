//! The SQL of `identity_registered_limits` and `identity_limits`. What is unset is the empty text
//! there, so that a resource can be unique.

use cloud_types::DomainId;
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::{Limit, RegisteredLimit, Resource};
use crate::filter::Where;

fn set(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn resource_of(row: &Row) -> Result<Resource, DatabaseError> {
    Ok(Resource {
        service_id: row.text("service_id")?,
        region_id: set(row.text("region_id")?),
        name: row.text("resource_name")?,
    })
}

fn registered_of(row: &Row) -> Result<RegisteredLimit, DatabaseError> {
    Ok(RegisteredLimit {
        id: row.text("id")?,
        resource: resource_of(row)?,
        default_limit: row.int("default_limit")?,
        description: row.opt_text("description")?,
    })
}

fn limit_of(row: &Row) -> Result<Limit, DatabaseError> {
    Ok(Limit {
        id: row.text("id")?,
        project_id: set(row.text("project_id")?),
        domain_id: set(row.text("domain_id")?),
        resource: resource_of(row)?,
        resource_limit: row.int("resource_limit")?,
        description: row.opt_text("description")?,
    })
}

fn place(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

/// The filters that both lists have.
fn resource_filters(condition: &mut Where, filters: &Filters) {
    for (column, key) in [
        ("service_id", "service_id"),
        ("region_id", "region_id"),
        ("resource_name", "resource_name"),
    ] {
        condition.text(column, key, filters);
    }
}

pub(crate) async fn registered_limits(
    tx: &mut Tx,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<RegisteredLimit>, DatabaseError> {
    let mut condition = Where::default();
    resource_filters(&mut condition, filters);
    let (clause, params) = condition.page("id", page);
    let sql = format!("SELECT * FROM identity_registered_limits{clause}");
    tx.query_dynamic(sql, &params).await?.iter().map(registered_of).collect()
}

pub(crate) async fn registered_limit(
    tx: &mut Tx,
    id: &str,
) -> Result<Option<RegisteredLimit>, DatabaseError> {
    let row = tx
        .query_opt("SELECT * FROM identity_registered_limits WHERE id = $1", &params![id])
        .await?;
    row.as_ref().map(registered_of).transpose()
}

/// The default of a resource.
pub(crate) async fn registered_for(
    tx: &mut Tx,
    resource: &Resource,
) -> Result<Option<RegisteredLimit>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_registered_limits
             WHERE service_id = $1 AND region_id = $2 AND resource_name = $3",
            &params![resource.service_id, place(resource.region_id.as_ref()), resource.name],
        )
        .await?;
    row.as_ref().map(registered_of).transpose()
}

/// False when the resource has a default already.
pub(crate) async fn add_registered(
    tx: &mut Tx,
    limit: &RegisteredLimit,
) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO identity_registered_limits
                 (id, service_id, region_id, resource_name, default_limit, description)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &params![
                limit.id,
                limit.resource.service_id,
                place(limit.resource.region_id.as_ref()),
                limit.resource.name,
                limit.default_limit,
                limit.description
            ],
        )
        .await?;
    Ok(added == 1)
}

pub(crate) async fn update_registered(
    tx: &mut Tx,
    limit: &RegisteredLimit,
) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_registered_limits SET service_id = $2, region_id = $3,
                 resource_name = $4, default_limit = $5, description = $6
             WHERE id = $1",
            &params![
                limit.id,
                limit.resource.service_id,
                place(limit.resource.region_id.as_ref()),
                limit.resource.name,
                limit.default_limit,
                limit.description
            ],
        )
        .await?;
    tx.expect_one(changed, "registered_limit", &limit.id)
}

pub(crate) async fn delete_registered(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_registered_limits WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// Whether a service or region has registered limits.
pub(crate) async fn any_registered_for(
    tx: &mut Tx,
    service_or_region: &str,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_registered_limits
             WHERE service_id = $1 OR region_id = $1 LIMIT 1",
            &params![service_or_region],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Whether projects or domains have limits of the resource.
pub(crate) async fn is_referred_to(
    tx: &mut Tx,
    resource: &Resource,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_limits
             WHERE service_id = $1 AND region_id = $2 AND resource_name = $3 LIMIT 1",
            &params![resource.service_id, place(resource.region_id.as_ref()), resource.name],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Which limits a caller sees.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    All,
    /// Those of a domain and its projects.
    Domain(DomainId),
    Project(String),
    Nothing,
}

pub(crate) async fn limits(
    tx: &mut Tx,
    seen: &Seen,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Limit>, DatabaseError> {
    let mut condition = Where::default();
    match seen {
        Seen::All => {}
        Seen::Nothing => return Ok(Vec::new()),
        Seen::Project(id) => condition.equal("project_id", id),
        Seen::Domain(id) => condition.with(
            "(domain_id = {} OR project_id IN
                 (SELECT id FROM identity_projects WHERE domain_id = {}))",
            id,
        ),
    }
    resource_filters(&mut condition, filters);
    condition.text("project_id", "project_id", filters);
    condition.text("domain_id", "domain_id", filters);
    let (clause, params) = condition.page("id", page);
    let sql = format!("SELECT * FROM identity_limits{clause}");
    tx.query_dynamic(sql, &params).await?.iter().map(limit_of).collect()
}

/// The limits that projects have, for showing them with a tree of projects.
pub(crate) async fn all_of_projects(tx: &mut Tx) -> Result<Vec<Limit>, DatabaseError> {
    let rows =
        tx.query("SELECT * FROM identity_limits WHERE project_id <> '' ORDER BY id", &[]).await?;
    rows.iter().map(limit_of).collect()
}

pub(crate) async fn limit(tx: &mut Tx, id: &str) -> Result<Option<Limit>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_limits WHERE id = $1", &params![id]).await?;
    row.as_ref().map(limit_of).transpose()
}

/// The limit of a domain for a resource.
pub(crate) async fn of_domain(
    tx: &mut Tx,
    domain: &str,
    resource: &Resource,
) -> Result<Option<Limit>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_limits WHERE domain_id = $1 AND project_id = ''
                 AND service_id = $2 AND region_id = $3 AND resource_name = $4",
            &params![
                domain,
                resource.service_id,
                place(resource.region_id.as_ref()),
                resource.name
            ],
        )
        .await?;
    row.as_ref().map(limit_of).transpose()
}

/// The limits of a domain's projects for a resource.
pub(crate) async fn of_projects_in(
    tx: &mut Tx,
    domain: &str,
    resource: &Resource,
) -> Result<Vec<Limit>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_limits
             WHERE project_id IN (SELECT id FROM identity_projects WHERE domain_id = $1)
                 AND service_id = $2 AND region_id = $3 AND resource_name = $4 ORDER BY id",
            &params![
                domain,
                resource.service_id,
                place(resource.region_id.as_ref()),
                resource.name
            ],
        )
        .await?;
    rows.iter().map(limit_of).collect()
}

/// False when the project or domain has a limit of that resource already.
pub(crate) async fn add(tx: &mut Tx, limit: &Limit) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO identity_limits (id, project_id, domain_id, service_id, region_id,
                 resource_name, resource_limit, description)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            &params![
                limit.id,
                place(limit.project_id.as_ref()),
                place(limit.domain_id.as_ref()),
                limit.resource.service_id,
                place(limit.resource.region_id.as_ref()),
                limit.resource.name,
                limit.resource_limit,
                limit.description
            ],
        )
        .await?;
    Ok(added == 1)
}

pub(crate) async fn update(tx: &mut Tx, limit: &Limit) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_limits SET resource_limit = $2, description = $3 WHERE id = $1",
            &params![limit.id, limit.resource_limit, limit.description],
        )
        .await?;
    tx.expect_one(changed, "limit", &limit.id)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_limits WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// The limits of a project or domain that is deleted.
pub(crate) async fn delete_of(tx: &mut Tx, project_or_domain: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_limits WHERE project_id = $1 OR domain_id = $1",
        &params![project_or_domain],
    )
    .await?;
    Ok(())
}
