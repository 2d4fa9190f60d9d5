//! The SQL of quotas: `quota_defaults`, `quota_limits`, `quota_usage`.

use cloud_types::ProjectId;
use database::{DatabaseError, Tx, params};

use super::{QuotaDefault, QuotaUsage, UNLIMITED};

pub(super) async fn add_default(tx: &mut Tx, default: &QuotaDefault) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO quota_defaults (resource, max_value) VALUES ($1, $2)
         ON CONFLICT (resource) DO NOTHING",
        &params![default.resource, default.limit],
    )
    .await?;
    Ok(())
}

pub(super) async fn has_default(tx: &mut Tx, resource: &str) -> Result<bool, DatabaseError> {
    let row = tx
        .query_opt("SELECT max_value FROM quota_defaults WHERE resource = $1", &params![resource])
        .await?;
    Ok(row.is_some())
}

/// The limit is looked up, judged and used up by one statement on one row, so that it is judged on
/// the row's newest version under its lock, and costs one round trip.
const RAISE: &str = "UPDATE quota_usage SET in_use = in_use + $3
     WHERE project_id = $1 AND resource = $2 AND EXISTS (
         SELECT 1 FROM (
             SELECT COALESCE(
                 (SELECT l.max_value FROM quota_limits l
                  WHERE l.project_id = $1 AND l.resource = $2),
                 (SELECT d.max_value FROM quota_defaults d WHERE d.resource = $2),
                 0) AS max_value) q
         WHERE q.max_value = $4 OR quota_usage.in_use + $3 <= q.max_value)";

/// False when the limit is in the way.
pub(super) async fn raise(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &'static str,
    delta: i64,
) -> Result<bool, DatabaseError> {
    let raise = params![project, resource, delta, UNLIMITED];
    if tx.execute(RAISE, &raise).await? == 1 {
        return Ok(true);
    }
    // Over the limit, or the first of its kind in the project.
    // (Whether it is made here or was made meanwhile, the limit is judged again.)
    tx.execute(
        "INSERT INTO quota_usage (project_id, resource, in_use) VALUES ($1, $2, 0)
         ON CONFLICT (project_id, resource) DO NOTHING",
        &params![project, resource],
    )
    .await?;
    Ok(tx.execute(RAISE, &raise).await? == 1)
}

pub(super) async fn lower(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &'static str,
    delta: i64,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE quota_usage
         SET in_use = CASE WHEN in_use + $3 < 0 THEN 0 ELSE in_use + $3 END
         WHERE project_id = $1 AND resource = $2",
        &params![project, resource, delta],
    )
    .await?;
    Ok(())
}

async fn limit(tx: &mut Tx, project: &ProjectId, resource: &str) -> Result<i64, DatabaseError> {
    let own = tx
        .query_opt(
            "SELECT max_value FROM quota_limits WHERE project_id = $1 AND resource = $2",
            &params![project, resource],
        )
        .await?;
    match own {
        Some(row) => row.int("max_value"),
        None => default_limit(tx, resource).await,
    }
}

/// A resource that no service registered has no room at all: a typo must not mean "unlimited".
pub(super) async fn default_limit(tx: &mut Tx, resource: &str) -> Result<i64, DatabaseError> {
    let row = tx
        .query_opt("SELECT max_value FROM quota_defaults WHERE resource = $1", &params![resource])
        .await?;
    row.map_or(Ok(0), |row| row.int("max_value"))
}

pub(super) async fn usage(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &str,
) -> Result<QuotaUsage, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT in_use FROM quota_usage WHERE project_id = $1 AND resource = $2",
            &params![project, resource],
        )
        .await?;
    Ok(QuotaUsage {
        resource: resource.to_owned(),
        limit: limit(tx, project, resource).await?,
        in_use: row.map_or(Ok(0), |row| row.int("in_use"))?,
    })
}

pub(super) async fn set_limit(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &str,
    limit: i64,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO quota_limits (project_id, resource, max_value) VALUES ($1, $2, $3)
         ON CONFLICT (project_id, resource) DO UPDATE SET max_value = excluded.max_value",
        &params![project, resource, limit],
    )
    .await?;
    Ok(())
}

pub(super) async fn projects_with_limits(
    tx: &mut Tx,
    resources: &[&'static str],
) -> Result<Vec<ProjectId>, DatabaseError> {
    let mut projects = std::collections::BTreeSet::new();
    for resource in resources {
        let rows = tx
            .query("SELECT project_id FROM quota_limits WHERE resource = $1", &params![*resource])
            .await?;
        for row in rows {
            projects.insert(row.parse("project_id")?);
        }
    }
    Ok(projects.into_iter().collect())
}

pub(super) async fn clear_limit(
    tx: &mut Tx,
    project: &ProjectId,
    resource: &str,
) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM quota_limits WHERE project_id = $1 AND resource = $2",
        &params![project, resource],
    )
    .await?;
    Ok(())
}

pub(super) async fn set_default(
    tx: &mut Tx,
    resource: &str,
    limit: i64,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO quota_defaults (resource, max_value) VALUES ($1, $2)
         ON CONFLICT (resource) DO UPDATE SET max_value = excluded.max_value",
        &params![resource, limit],
    )
    .await?;
    Ok(())
}
