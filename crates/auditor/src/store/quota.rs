//! Counts what projects have.

use std::collections::BTreeMap;

use database::{DatabaseError, Tx, Value, params};
use serde_json::Value as Json;

use crate::rows::UsageRow;

/// Servers whose description is read at a time.
const PAGE: i64 = 2000;

/// Resources that are rows: name, and the count of rows by project.
const COUNTED: &[(&str, &str)] = &[
    ("network", "SELECT project_id AS project, COUNT(*) AS n FROM networks GROUP BY project_id"),
    ("subnet", "SELECT project_id AS project, COUNT(*) AS n FROM subnets GROUP BY project_id"),
    ("port", "SELECT project_id AS project, COUNT(*) AS n FROM ports GROUP BY project_id"),
    (
        "security_group",
        "SELECT project_id AS project, COUNT(*) AS n FROM security_groups GROUP BY project_id",
    ),
    (
        "security_group_rule",
        "SELECT g.project_id AS project, COUNT(*) AS n FROM security_group_rules r
         JOIN security_groups g ON g.id = r.group_id GROUP BY g.project_id",
    ),
    (
        "rbac_policy",
        "SELECT project_id AS project, COUNT(*) AS n FROM rbac_policies WHERE implied = 0
         GROUP BY project_id",
    ),
    (
        "subnetpool",
        "SELECT project_id AS project, COUNT(*) AS n FROM subnet_pools GROUP BY project_id",
    ),
    (
        "address_scope",
        "SELECT project_id AS project, COUNT(*) AS n FROM address_scopes GROUP BY project_id",
    ),
    (
        "address_group",
        "SELECT project_id AS project, COUNT(*) AS n FROM address_groups GROUP BY project_id",
    ),
    (
        "image_count_total",
        "SELECT owner AS project, COUNT(*) AS n FROM images
         WHERE status <> 'deleted' GROUP BY owner",
    ),
    (
        "image_size_total",
        "SELECT owner AS project, SUM((COALESCE(size, 0) + 1048575) / 1048576) AS n FROM images
         WHERE status <> 'deleted' GROUP BY owner",
    ),
];

/// What a project has, by project and resource.
type Counts = BTreeMap<(String, String), i64>;

/// Usage as written and as counted, of every project and resource that has either.
pub async fn usage(tx: &mut Tx) -> Result<Vec<UsageRow>, DatabaseError> {
    let mut counts = Counts::new();
    for (resource, sql) in COUNTED {
        for row in tx.query(sql, &[]).await? {
            let key = (row.text("project")?, (*resource).to_owned());
            // SQLite gives a sum as an integer, PostgreSQL as a number.
            counts.insert(key, row.int("n")?);
        }
    }
    count_servers(tx, &mut counts).await?;
    let known: Vec<&str> = COUNTED
        .iter()
        .map(|(resource, _)| *resource)
        .chain(["instances", "cores", "ram"])
        .collect();
    let mut usage = Vec::new();
    for row in tx.query("SELECT project_id, resource, in_use FROM quota_usage", &[]).await? {
        let (project, resource) = (row.text("project_id")?, row.text("resource")?);
        if !known.contains(&resource.as_str()) {
            continue;
        }
        let counted = counts.remove(&(project.clone(), resource.clone())).unwrap_or(0);
        usage.push(UsageRow { project, resource, written: row.int("in_use")?, counted });
    }
    for ((project, resource), counted) in counts {
        usage.push(UsageRow { project, resource, written: 0, counted });
    }
    Ok(usage)
}

/// Servers count until their deletion is asked for.
async fn count_servers(tx: &mut Tx, counts: &mut Counts) -> Result<(), DatabaseError> {
    let mut after = String::new();
    loop {
        let rows = tx
            .query(
                "SELECT id, project_id, fixed FROM servers
                 WHERE id > $1 AND deleted_at IS NULL AND terminated_at IS NULL
                 ORDER BY id LIMIT $2",
                &params![after, Value::from(PAGE)],
            )
            .await?;
        for row in &rows {
            let (project, fixed): (String, Json) = (row.text("project_id")?, row.json("fixed")?);
            let flavor = &fixed["flavor"];
            for (resource, amount) in [
                ("instances", 1),
                ("cores", flavor["vcpus"].as_i64().unwrap_or(0)),
                ("ram", flavor["memory_mib"].as_i64().unwrap_or(0)),
            ] {
                *counts.entry((project.clone(), resource.to_owned())).or_default() += amount;
            }
        }
        match rows.last() {
            Some(last) if rows.len() as i64 == PAGE => after = last.text("id")?,
            _ => return Ok(()),
        }
    }
}

/// What one project has of one resource, counted in the caller's transaction.
pub(super) async fn count(
    tx: &mut Tx,
    project: &str,
    resource: &str,
) -> Result<Option<i64>, DatabaseError> {
    let usage = usage(tx).await?;
    Ok(usage
        .into_iter()
        .find(|row| row.project == project && row.resource == resource)
        .map(|row| row.counted))
}
