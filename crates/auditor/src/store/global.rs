//! Reads what is small, or summed up, as a whole.

use std::collections::BTreeMap;

use cloud_types::Timestamp;
use database::{DatabaseError, Tx, params};
use serde_json::Value;

use super::slices::workflow;
use crate::checks::Existing;
use crate::rows::{
    ForgottenAddress, HostRow, JournalRow, OrphanRow, StepRow, WaitRow, WorkflowRow,
};

/// The most rows of one kind of fault that are looked at: one would be enough to act.
const MOST: i64 = 1000;

/// References between tables: name, the query of those that lead nowhere, and whether what refers
/// means nothing without what is missing.
pub(super) const ORPHANS: &[(&str, &str, bool)] = &[
    (
        "subnets of a network",
        "SELECT DISTINCT a.network_id AS missing FROM subnets a
         LEFT JOIN networks b ON b.id = a.network_id WHERE b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "rules of a security group",
        "SELECT DISTINCT a.group_id AS missing FROM security_group_rules a
         LEFT JOIN security_groups b ON b.id = a.group_id WHERE b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "members of a security group",
        "SELECT DISTINCT a.group_id AS missing FROM port_security_groups a
         LEFT JOIN security_groups b ON b.id = a.group_id WHERE b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "security groups of a port",
        "SELECT DISTINCT a.port_id AS missing FROM port_security_groups a
         LEFT JOIN ports b ON b.id = a.port_id WHERE b.id IS NULL LIMIT $1",
        true,
    ),
    (
        "subnets of a pool",
        "SELECT DISTINCT a.subnetpool_id AS missing FROM subnets a
         LEFT JOIN subnet_pools b ON b.id = a.subnetpool_id
         WHERE a.subnetpool_id <> '' AND b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "pools of an address scope",
        "SELECT DISTINCT a.address_scope_id AS missing FROM subnet_pools a
         LEFT JOIN address_scopes b ON b.id = a.address_scope_id
         WHERE a.address_scope_id <> '' AND b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "rules about an address group",
        "SELECT DISTINCT a.remote_address_group_id AS missing FROM security_group_rules a
         LEFT JOIN address_groups b ON b.id = a.remote_address_group_id
         WHERE a.remote_address_group_id <> '' AND b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "policies of a network",
        "SELECT DISTINCT a.object_id AS missing FROM rbac_policies a
         LEFT JOIN networks b ON b.id = a.object_id
         WHERE a.object_type = 'network' AND b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "payloads of a server",
        "SELECT DISTINCT a.server_id AS missing FROM server_payloads a
         LEFT JOIN servers b ON b.id = a.server_id WHERE b.id IS NULL LIMIT $1",
        true,
    ),
    (
        "tags of a server",
        "SELECT DISTINCT a.server_id AS missing FROM server_tags a
         LEFT JOIN servers b ON b.id = a.server_id WHERE b.id IS NULL LIMIT $1",
        true,
    ),
    (
        "actions of a server",
        "SELECT DISTINCT a.server_id AS missing FROM server_actions a
         LEFT JOIN servers b ON b.id = a.server_id WHERE b.id IS NULL LIMIT $1",
        true,
    ),
    (
        "members of an image",
        "SELECT DISTINCT a.image_id AS missing FROM image_members a
         LEFT JOIN images b ON b.id = a.image_id WHERE b.id IS NULL LIMIT $1",
        true,
    ),
    (
        "documents of a host",
        "SELECT DISTINCT a.host_id AS missing FROM host_documents a
         LEFT JOIN hosts b ON b.id = a.host_id WHERE b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "claims on a host",
        "SELECT DISTINCT a.host_id AS missing FROM allocations a
         LEFT JOIN hosts b ON b.id = a.host_id WHERE b.id IS NULL LIMIT $1",
        false,
    ),
    (
        "released addresses of a subnet",
        "SELECT DISTINCT a.subnet_id AS missing FROM released_addresses a
         LEFT JOIN subnets b ON b.id = a.subnet_id WHERE b.id IS NULL LIMIT $1",
        true,
    ),
];

/// References that lead nowhere.
pub async fn orphans(tx: &mut Tx) -> Result<Vec<OrphanRow>, DatabaseError> {
    let mut found = Vec::new();
    for (reference, sql, disposable) in ORPHANS {
        for row in tx.query(sql, &params![MOST]).await? {
            found.push(OrphanRow {
                reference,
                missing: row.text("missing")?,
                disposable: *disposable,
            });
        }
    }
    Ok(found)
}

/// Hosts with their sums, their claims and what they have.
pub async fn hosts(tx: &mut Tx) -> Result<Vec<HostRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT h.host_id, h.vcpus, h.memory_mib, h.disk_gib, h.servers, x.facts,
                 CAST(COALESCE(a.vcpus, 0) AS BIGINT) AS sum_vcpus,
                 CAST(COALESCE(a.memory_mib, 0) AS BIGINT) AS sum_memory,
                 CAST(COALESCE(a.disk_gib, 0) AS BIGINT) AS sum_disk,
                 CAST(COALESCE(a.servers, 0) AS BIGINT) AS sum_servers
             FROM compute_hosts h
             LEFT JOIN hosts x ON x.id = h.host_id
             LEFT JOIN (SELECT host_id, SUM(vcpus) AS vcpus, SUM(memory_mib) AS memory_mib,
                            SUM(disk_gib) AS disk_gib, COUNT(*) AS servers
                        FROM allocations GROUP BY host_id) a ON a.host_id = h.host_id",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let facts: Option<Value> = row.opt_json("facts")?;
            let number = |facts: &Value, name: &str| facts[name].as_i64().unwrap_or(0);
            Ok(HostRow {
                id: row.text("host_id")?,
                written: [
                    row.int("vcpus")?,
                    row.int("memory_mib")?,
                    row.int("disk_gib")?,
                    row.int("servers")?,
                ],
                claimed: [
                    row.int("sum_vcpus")?,
                    row.int("sum_memory")?,
                    row.int("sum_disk")?,
                    row.int("sum_servers")?,
                ],
                capacity: facts.map(|facts| {
                    [
                        number(&facts, "vcpus"),
                        number(&facts, "memory_mib"),
                        number(&facts, "disk_gib"),
                    ]
                }),
            })
        })
        .collect()
}

/// Workflows that have not ended, and when hosts last said something of the servers that they wait
/// for.
pub async fn open_workflows(
    tx: &mut Tx,
) -> Result<(Vec<WorkflowRow>, BTreeMap<String, Timestamp>), DatabaseError> {
    let rows = tx
        .query(
            "SELECT id, kind, owner_kind, owner_id, status, step, wait_event, lease_owner, due_at,
                 deadline, updated_at, lease_epoch
             FROM workflows WHERE status IN ('runnable', 'waiting', 'parked')
             ORDER BY deadline LIMIT 20000",
            &[],
        )
        .await?;
    let open: Vec<WorkflowRow> = rows.iter().map(workflow).collect::<Result<_, _>>()?;
    let mut word = BTreeMap::new();
    let rows = tx
        .query(
            "SELECT d.id, MAX(r.reported_at) AS said FROM workflows w
             JOIN host_documents d ON d.kind = 'server' AND d.id = w.owner_id
             JOIN host_reports r ON r.host_id = d.host_id AND r.kind = d.kind AND r.id = d.id
             WHERE w.status IN ('runnable', 'waiting', 'parked') AND w.owner_kind = 'server'
             GROUP BY d.id",
            &[],
        )
        .await?;
    for row in &rows {
        if let Some(said) = row.opt_timestamp("said")? {
            word.insert(row.text("id")?, said);
        }
    }
    Ok((open, word))
}

/// Histories of workflows that were written after `since`.
pub async fn steps(tx: &mut Tx, since: Timestamp) -> Result<Vec<StepRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT s.workflow_id, s.direction, s.step_index, s.lease_epoch, s.worker,
                 w.lease_epoch AS newest, w.lease_worker
             FROM workflow_steps s JOIN workflows w ON w.id = s.workflow_id
             WHERE w.updated_at >= $1 OR w.status IN ('runnable', 'waiting', 'parked')",
            &params![since],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(StepRow {
                workflow: row.text("workflow_id")?,
                undo: row.text("direction")? == "undo",
                index: row.int("step_index")?,
                epoch: row.int("lease_epoch")?,
                worker: row.text("worker")?,
                lease: (row.int("newest")?, row.text("lease_worker")?),
            })
        })
        .collect()
}

/// What numbers wait for.
pub async fn waits(tx: &mut Tx) -> Result<Vec<WaitRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT w.host_id, w.kind, w.document_id, w.scope, w.number, n.owner, n.released,
                 d.id AS document
             FROM locator_waits w
             LEFT JOIN locator_numbers n ON n.scope = w.scope AND n.number = w.number
             LEFT JOIN host_documents d
                 ON d.host_id = w.host_id AND d.kind = w.kind AND d.id = w.document_id
             WHERE n.owner IS NULL OR n.owner <> w.document_id OR d.id IS NULL LIMIT $1",
            &params![MOST],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(WaitRow {
                host: row.text("host_id")?,
                kind: row.text("kind")?,
                document: row.text("document_id")?,
                scope: row.text("scope")?,
                number: row.int("number")?,
                owner: row.opt_text("owner")?,
                released: row.opt_int("released")? == Some(1),
                document_exists: row.opt_text("document")?.is_some(),
            })
        })
        .collect()
}

/// Released addresses that wait for a port which has nothing quarantined.
pub async fn forgotten_addresses(tx: &mut Tx) -> Result<Vec<ForgottenAddress>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT r.subnet_id, r.ip_key, r.port_id FROM released_addresses r
             WHERE r.port_id <> '' AND NOT EXISTS (
                 SELECT 1 FROM locator_numbers n WHERE n.owner = r.port_id AND n.released = 1)
             LIMIT $1",
            &params![MOST],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ForgottenAddress {
                subnet: row.text("subnet_id")?,
                key: row.text("ip_key")?,
                port: row.text("port_id")?,
            })
        })
        .collect()
}

/// Reports on documents that are not there: (host, kind, id).
pub async fn reports_without_documents(
    tx: &mut Tx,
) -> Result<Vec<(String, String, String)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT r.host_id, r.kind, r.id FROM host_reports r
             LEFT JOIN host_documents d
                 ON d.host_id = r.host_id AND d.kind = r.kind AND d.id = r.id
             WHERE d.id IS NULL LIMIT $1",
            &params![MOST],
        )
        .await?;
    rows.iter().map(|row| Ok((row.text("host_id")?, row.text("kind")?, row.text("id")?))).collect()
}

/// Tables of the kinds whose objects' existence the journal is compared with.
const JOURNALLED: &[(&str, &str)] = &[
    ("server", "SELECT id FROM servers WHERE id = $1 AND deleted_at IS NULL"),
    ("network", "SELECT id FROM networks WHERE id = $1"),
    ("subnet", "SELECT id FROM subnets WHERE id = $1"),
    ("port", "SELECT id FROM ports WHERE id = $1"),
    ("security_group", "SELECT id FROM security_groups WHERE id = $1"),
    ("host", "SELECT id FROM hosts WHERE id = $1"),
];

/// At most `limit` entries after a sequence number, the last one's number, and which of their
/// objects there are.
pub async fn journal(
    tx: &mut Tx,
    after: i64,
    limit: i64,
) -> Result<(Vec<JournalRow>, i64, Existing), DatabaseError> {
    let rows = tx
        .query(
            "SELECT sequence, kind, object_id, action, before_json, after_json, request_id
             FROM journal WHERE sequence > $1 ORDER BY sequence LIMIT $2",
            &params![after, limit],
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut last = after;
    let mut existing = Existing::new();
    for row in &rows {
        last = row.int("sequence")?;
        entries.push(JournalRow {
            kind: row.text("kind")?,
            id: row.text("object_id")?,
            action: row.text("action")?,
            before: row.opt_json("before_json")?,
            after: row.opt_json("after_json")?,
            request_id: row.text("request_id")?,
        });
    }
    for (kind, sql) in JOURNALLED {
        let mut there = std::collections::BTreeSet::new();
        let mut asked = std::collections::BTreeSet::new();
        for entry in entries.iter().filter(|entry| entry.kind == *kind) {
            if asked.insert(&entry.id) && tx.query_opt(sql, &params![entry.id]).await?.is_some() {
                there.insert(entry.id.clone());
            }
        }
        existing.insert((*kind).to_owned(), there);
    }
    Ok((entries, last, existing))
}
