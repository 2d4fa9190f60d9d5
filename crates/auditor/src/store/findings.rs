//! The rows of `audit_findings`.

use cloud_types::Timestamp;
use database::{DatabaseError, Tx, params};

use crate::model::{Finding, StoredFinding};

/// Keeps a finding, or says that it was seen again.
pub async fn keep(tx: &mut Tx, finding: &Finding, repaired: bool) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO audit_findings
             (kind, object_kind, object_id, message, first_seen, last_seen, repaired)
         VALUES ($1, $2, $3, $4, $5, $5, $6)
         ON CONFLICT (kind, object_kind, object_id, message) DO UPDATE SET
             last_seen = excluded.last_seen, repaired = excluded.repaired",
        &params![
            finding.kind.as_str(),
            finding.object_kind,
            finding.object,
            finding.message,
            now,
            repaired
        ],
    )
    .await?;
    Ok(())
}

/// Forgets what was last seen before `before`.
pub async fn forget_old(tx: &mut Tx, before: Timestamp) -> Result<u64, DatabaseError> {
    tx.execute("DELETE FROM audit_findings WHERE last_seen < $1", &params![before]).await
}

/// What audits since `since` have seen, newest first.
pub async fn all(tx: &mut Tx, since: Timestamp) -> Result<Vec<StoredFinding>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT kind, object_kind, object_id, message, first_seen, last_seen, repaired
             FROM audit_findings WHERE last_seen >= $1
             ORDER BY last_seen DESC, kind, object_kind, object_id, message LIMIT 1000",
            &params![since],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(StoredFinding {
                kind: row.text("kind")?,
                object_kind: row.text("object_kind")?,
                object: row.text("object_id")?,
                message: row.text("message")?,
                first_seen: row.timestamp("first_seen")?,
                last_seen: row.timestamp("last_seen")?,
                repaired: row.bool("repaired")?,
            })
        })
        .collect()
}
