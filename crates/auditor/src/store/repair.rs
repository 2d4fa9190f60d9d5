//! Puts right what rows alone prove to be wrong. Each repair looks again, in its own transaction
//! and under the locks of those who write the same rows.

use database::{DatabaseError, JournalEntry, Tx, params};
use serde_json::json;

use super::quota;
use crate::model::Repair;

/// Rows that mean nothing without what they refer to: the reference's name, and how they go.
const DISPOSABLE: &[(&str, &str)] = &[
    (
        "security groups of a port",
        "DELETE FROM port_security_groups WHERE port_id = $1
         AND NOT EXISTS (SELECT 1 FROM ports b WHERE b.id = $1)",
    ),
    (
        "payloads of a server",
        "DELETE FROM server_payloads WHERE server_id = $1
         AND NOT EXISTS (SELECT 1 FROM servers b WHERE b.id = $1)",
    ),
    (
        "tags of a server",
        "DELETE FROM server_tags WHERE server_id = $1
         AND NOT EXISTS (SELECT 1 FROM servers b WHERE b.id = $1)",
    ),
    (
        "actions of a server",
        "DELETE FROM server_actions WHERE server_id = $1
         AND NOT EXISTS (SELECT 1 FROM servers b WHERE b.id = $1)",
    ),
    (
        "members of an image",
        "DELETE FROM image_members WHERE image_id = $1
         AND NOT EXISTS (SELECT 1 FROM images b WHERE b.id = $1)",
    ),
    (
        "released addresses of a subnet",
        "DELETE FROM released_addresses WHERE subnet_id = $1
         AND NOT EXISTS (SELECT 1 FROM subnets b WHERE b.id = $1)",
    ),
];

/// Whether something was put right.
pub async fn repair(tx: &mut Tx, repair: &Repair) -> Result<bool, DatabaseError> {
    let changed = match repair {
        Repair::Recount { project, resource } => recount(tx, project, resource).await?,
        Repair::AddUp { host } => add_up(tx, host).await?,
        Repair::ForgetReport { host, kind, id } => {
            tx.execute(
                "DELETE FROM host_reports WHERE host_id = $1 AND kind = $2 AND id = $3
                 AND NOT EXISTS (SELECT 1 FROM host_documents d
                     WHERE d.host_id = $1 AND d.kind = $2 AND d.id = $3)",
                &params![host, kind, id],
            )
            .await?
        }
        Repair::DeleteOrphan { reference, missing } => {
            let sql = DISPOSABLE.iter().find(|(name, _)| name == reference).map(|(_, sql)| *sql);
            match sql {
                Some(sql) => tx.execute(sql, &params![missing]).await?,
                None => 0,
            }
        }
    };
    if changed > 0 {
        tx.journal(JournalEntry {
            kind: "audit_repair",
            id: format!("{repair:?}").chars().take(200).collect(),
            project: None,
            action: "update",
            before: None,
            after: Some(json!({ "rows": changed })),
        });
    }
    Ok(changed > 0)
}

/// The row of the usage is written first, with its own value, so that nobody changes it, or what it
/// counts, between the count and the correction: every change of usage writes this row.
async fn recount(tx: &mut Tx, project: &str, resource: &str) -> Result<u64, DatabaseError> {
    let held = tx
        .execute(
            "UPDATE quota_usage SET in_use = in_use WHERE project_id = $1 AND resource = $2",
            &params![project, resource],
        )
        .await?;
    if held == 0 {
        tx.execute(
            "INSERT INTO quota_usage (project_id, resource, in_use) VALUES ($1, $2, 0)
             ON CONFLICT (project_id, resource) DO NOTHING",
            &params![project, resource],
        )
        .await?;
    }
    let Some(counted) = quota::count(tx, project, resource).await? else { return Ok(0) };
    tx.execute(
        "UPDATE quota_usage SET in_use = $3
         WHERE project_id = $1 AND resource = $2 AND in_use <> $3",
        &params![project, resource, counted],
    )
    .await
}

/// As with usage: every claim writes the host's row first.
async fn add_up(tx: &mut Tx, host: &str) -> Result<u64, DatabaseError> {
    tx.execute("UPDATE compute_hosts SET servers = servers WHERE host_id = $1", &params![host])
        .await?;
    let sums = tx
        .query_one(
            "SELECT CAST(COALESCE(SUM(vcpus), 0) AS BIGINT) AS vcpus,
                 CAST(COALESCE(SUM(memory_mib), 0) AS BIGINT) AS memory_mib,
                 CAST(COALESCE(SUM(disk_gib), 0) AS BIGINT) AS disk_gib, COUNT(*) AS servers
             FROM allocations WHERE host_id = $1",
            &params![host],
        )
        .await?;
    let (vcpus, memory) = (sums.int("vcpus")?, sums.int("memory_mib")?);
    let (disk, servers) = (sums.int("disk_gib")?, sums.int("servers")?);
    tx.execute(
        "UPDATE compute_hosts SET vcpus = $2, memory_mib = $3, disk_gib = $4, servers = $5
         WHERE host_id = $1
           AND (vcpus <> $2 OR memory_mib <> $3 OR disk_gib <> $4 OR servers <> $5)",
        &params![host, vcpus, memory, disk, servers],
    )
    .await
}
