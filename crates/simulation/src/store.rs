//! What the simulation reads of the database besides what the auditor does.

use std::collections::BTreeMap;

use database::{Database, DatabaseError, params};
use serde_json::Value;

use crate::ledger::Entry;
use crate::machines::Told;

/// The whole journal, in order, as the ledger reads it.
///
/// # Errors
/// The database's.
pub async fn journal(db: &Database) -> Result<Vec<Entry>, DatabaseError> {
    db.read(|tx| {
        Box::pin(async move {
            let rows = tx
                .query(
                    "SELECT kind, object_id, action, after_json FROM journal ORDER BY sequence",
                    &[],
                )
                .await?;
            rows.iter()
                .map(|row| {
                    Ok(Entry {
                        kind: row.text("kind")?,
                        id: row.text("object_id")?,
                        action: row.text("action")?,
                        after: row.opt_json("after_json")?,
                    })
                })
                .collect()
        })
    })
    .await
}

/// How many workflows have not ended.
///
/// # Errors
/// The database's.
pub async fn open_workflows(db: &Database) -> Result<i64, DatabaseError> {
    db.read(|tx| {
        Box::pin(async move {
            tx.query_one(
                "SELECT COUNT(*) AS n FROM workflows
                 WHERE status IN ('runnable', 'waiting', 'parked')",
                &[],
            )
            .await?
            .int("n")
        })
    })
    .await
}

/// Hosts that have said what they have.
///
/// # Errors
/// The database's.
pub async fn ready_hosts(db: &Database) -> Result<usize, DatabaseError> {
    db.read(|tx| {
        Box::pin(async move {
            let rows = tx.query("SELECT id FROM hosts WHERE facts IS NOT NULL", &[]).await?;
            Ok(rows.len())
        })
    })
    .await
}

/// What each host was told, by its id.
///
/// # Errors
/// The database's.
pub async fn told(db: &Database) -> Result<BTreeMap<String, Told>, DatabaseError> {
    db.read(|tx| {
        Box::pin(async move {
            let rows = tx
                .query(
                    "SELECT d.host_id, d.kind, d.id, d.tombstone, d.spec, r.state, s.vm_state
                     FROM host_documents d
                     LEFT JOIN host_reports r
                         ON r.host_id = d.host_id AND r.kind = d.kind AND r.id = d.id
                     LEFT JOIN servers s ON d.kind = 'server' AND s.id = d.id
                     WHERE d.kind IN ('server', 'port')",
                    &[],
                )
                .await?;
            let mut told: BTreeMap<String, Told> = BTreeMap::new();
            for row in &rows {
                let (kind, id) = (row.text("kind")?, row.text("id")?);
                let host = told.entry(row.text("host_id")?).or_default();
                let going = row.int("tombstone")? != 0;
                match (kind.as_str(), going) {
                    ("port", false) => {
                        host.ports.insert(id);
                    }
                    ("server", true) => {
                        host.going.insert(id);
                    }
                    ("server", false) => {
                        let spec: Value = row.json("spec")?;
                        let given_up = row.opt_text("state")?.as_deref() == Some("failed")
                            || row.opt_text("vm_state")?.as_deref() == Some("error");
                        let runs = spec["power"].as_str() == Some("running");
                        host.servers.insert(id, (!given_up).then_some(runs));
                    }
                    _ => {}
                }
            }
            Ok(told)
        })
    })
    .await
}

/// What rows, documents and reports say of an object, a line each.
///
/// # Errors
/// The database's.
pub async fn story(db: &Database, object: &str) -> Result<Vec<String>, DatabaseError> {
    let object = object.to_owned();
    db.read(move |tx| {
        let object = object.clone();
        Box::pin(async move {
            let mut lines = Vec::new();
            let rows = tx
                .query(
                    "SELECT time, kind, action, request_id, after_json FROM journal
                     WHERE object_id = $1 ORDER BY sequence DESC LIMIT 25",
                    &params![object],
                )
                .await?;
            for row in rows.iter().rev() {
                let after = row.opt_text("after_json")?.unwrap_or_default();
                let passed = row.int("time")? - crate::clock::BEGIN.0;
                lines.push(format!(
                    "{:>11.6}  journal: {} {} ({}) {}",
                    passed as f64 / 1e6,
                    row.text("kind")?,
                    row.text("action")?,
                    row.text("request_id")?,
                    after.chars().take(300).collect::<String>()
                ));
            }
            let rows = tx
                .query(
                    "SELECT d.host_id, d.kind, d.generation, d.epoch, d.tombstone,
                         r.generation AS reported, r.state, r.facts
                     FROM host_documents d
                     LEFT JOIN host_reports r
                         ON r.host_id = d.host_id AND r.kind = d.kind AND r.id = d.id
                     WHERE d.id = $1",
                    &params![object],
                )
                .await?;
            for row in &rows {
                lines.push(format!(
                    "             document: {} on {} generation {} epoch {} tombstone {}; report: {} \
                     of generation {}: {}",
                    row.text("kind")?,
                    row.text("host_id")?,
                    row.int("generation")?,
                    row.int("epoch")?,
                    row.int("tombstone")?,
                    row.opt_text("state")?.unwrap_or_else(|| "none".to_owned()),
                    row.opt_int("reported")?.unwrap_or_default(),
                    row.opt_text("facts")?.unwrap_or_default()
                ));
            }
            let rows = tx
                .query(
                    "SELECT id, kind, status, direction, step, wait_event, sentence, lease_epoch
                     FROM workflows WHERE owner_id = $1 OR id = $1 ORDER BY created_at",
                    &params![object],
                )
                .await?;
            for row in &rows {
                lines.push(format!(
                    "             workflow: {} {} is {} {} at {} (waits for {}; epoch {}): {}",
                    row.text("kind")?,
                    row.text("id")?,
                    row.text("status")?,
                    row.text("direction")?,
                    row.text("step")?,
                    row.opt_text("wait_event")?.unwrap_or_else(|| "nothing".to_owned()),
                    row.int("lease_epoch")?,
                    row.text("sentence")?
                ));
            }
            Ok(lines)
        })
    })
    .await
}
