//! The SQL of `identity_regions`, `identity_services` and `identity_endpoints`.

use database::{DatabaseError, Row, Tx, params};

use super::model::{CatalogService, Endpoint, Region};

fn region_of(row: &Row) -> Result<Region, DatabaseError> {
    Ok(Region {
        id: row.text("id")?,
        description: row.text("description")?,
        parent_region_id: row.opt_text("parent_region_id")?,
    })
}

fn service_of(row: &Row) -> Result<CatalogService, DatabaseError> {
    Ok(CatalogService {
        id: row.text("id")?,
        kind: row.text("type")?,
        name: row.text("name")?,
        description: row.text("description")?,
        enabled: row.bool("enabled")?,
    })
}

fn endpoint_of(row: &Row) -> Result<Endpoint, DatabaseError> {
    Ok(Endpoint {
        id: row.text("id")?,
        service_id: row.text("service_id")?,
        region_id: row.opt_text("region_id")?,
        interface: row.text("interface")?,
        url: row.text("url")?,
        enabled: row.bool("enabled")?,
        makes_region: false,
    })
}

pub(crate) async fn regions(tx: &mut Tx) -> Result<Vec<Region>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_regions ORDER BY id", &[]).await?;
    rows.iter().map(region_of).collect()
}

pub(crate) async fn region(tx: &mut Tx, id: &str) -> Result<Option<Region>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_regions WHERE id = $1", &params![id]).await?;
    row.as_ref().map(region_of).transpose()
}

/// Whether a region is `below` itself, or anywhere above it.
pub(crate) async fn is_at_or_above(
    tx: &mut Tx,
    id: &str,
    below: &str,
) -> Result<bool, DatabaseError> {
    // UNION without ALL ends on a circle that an earlier release let through.
    let row = tx
        .query_opt(
            "WITH RECURSIVE above(id) AS (
                 SELECT CAST($1 AS TEXT)
                 UNION SELECT r.parent_region_id FROM identity_regions r JOIN above a ON r.id = a.id
                 WHERE r.parent_region_id IS NOT NULL)
             SELECT id FROM above WHERE id = $2",
            &params![below, id],
        )
        .await?;
    Ok(row.is_some())
}

/// False when the id is taken.
pub(crate) async fn add_region(tx: &mut Tx, region: &Region) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO identity_regions (id, description, parent_region_id)
             VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &params![region.id, region.description, region.parent_region_id],
        )
        .await?;
    Ok(added == 1)
}

pub(crate) async fn update_region(tx: &mut Tx, region: &Region) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_regions SET description = $2, parent_region_id = $3 WHERE id = $1",
            &params![region.id, region.description, region.parent_region_id],
        )
        .await?;
    tx.expect_one(changed, "region", &region.id)
}

/// Whether endpoints or other regions name the region.
pub(crate) async fn region_is_used(tx: &mut Tx, id: &str) -> Result<bool, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_endpoints WHERE region_id = $1
             UNION ALL SELECT id FROM identity_regions WHERE parent_region_id = $1 LIMIT 1",
            &params![id],
        )
        .await?;
    Ok(!rows.is_empty())
}

pub(crate) async fn delete_region(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_regions WHERE id = $1", &params![id]).await?;
    Ok(())
}

pub(crate) async fn services(tx: &mut Tx) -> Result<Vec<CatalogService>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_services ORDER BY type, id", &[]).await?;
    rows.iter().map(service_of).collect()
}

pub(crate) async fn service(
    tx: &mut Tx,
    id: &str,
) -> Result<Option<CatalogService>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_services WHERE id = $1", &params![id]).await?;
    row.as_ref().map(service_of).transpose()
}

/// Adds the service or replaces what it says.
pub(crate) async fn put_service(
    tx: &mut Tx,
    service: &CatalogService,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_services (id, type, name, description, enabled)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET type = excluded.type, name = excluded.name,
             description = excluded.description, enabled = excluded.enabled",
        &params![service.id, service.kind, service.name, service.description, service.enabled],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete_service(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_endpoints WHERE service_id = $1", &params![id]).await?;
    tx.execute("DELETE FROM identity_services WHERE id = $1", &params![id]).await?;
    Ok(())
}

pub(crate) async fn endpoints(tx: &mut Tx) -> Result<Vec<Endpoint>, DatabaseError> {
    let rows = tx
        .query("SELECT * FROM identity_endpoints ORDER BY service_id, interface, id", &[])
        .await?;
    rows.iter().map(endpoint_of).collect()
}

pub(crate) async fn endpoint(tx: &mut Tx, id: &str) -> Result<Option<Endpoint>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_endpoints WHERE id = $1", &params![id]).await?;
    row.as_ref().map(endpoint_of).transpose()
}

/// Adds the endpoint or replaces what it says.
pub(crate) async fn put_endpoint(tx: &mut Tx, endpoint: &Endpoint) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_endpoints (id, service_id, region_id, interface, url, enabled)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET service_id = excluded.service_id,
             region_id = excluded.region_id, interface = excluded.interface,
             url = excluded.url, enabled = excluded.enabled",
        &params![
            endpoint.id,
            endpoint.service_id,
            endpoint.region_id,
            endpoint.interface,
            endpoint.url,
            endpoint.enabled
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete_endpoint(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_endpoints WHERE id = $1", &params![id]).await?;
    Ok(())
}
