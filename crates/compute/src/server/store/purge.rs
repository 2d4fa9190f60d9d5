//! Forgetting servers that were deleted long ago.

use cloud_types::{ServerId, Timestamp};
use database::{DatabaseError, Tx, Value, params};

use super::placeholders;

/// What belongs to a server and goes with it, and the server last.
const TABLES: [(&str, &str); 5] = [
    ("server_payloads", "server_id"),
    ("server_tags", "server_id"),
    ("server_action_events", "server_id"),
    ("server_actions", "server_id"),
    ("servers", "id"),
];

/// Removes servers that were deleted before `before`, those that have been gone for longest first,
/// at most `limit`; with their actions and events. Returns how many.
pub async fn purge_deleted(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM servers WHERE deleted_at IS NOT NULL AND deleted_at < $1 \
             ORDER BY deleted_at, id LIMIT $2",
            &params![before, limit],
        )
        .await?;
    let ids = rows.iter().map(|row| row.parse("id")).collect::<Result<Vec<ServerId>, _>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let places = placeholders(1, ids.len());
    let values: Vec<Value> = ids.iter().map(Value::from).collect();
    for (table, column) in TABLES {
        let sql = format!("DELETE FROM {table} WHERE {column} IN ({places})");
        tx.execute_dynamic(sql, &values).await?;
    }
    Ok(ids.len() as u64)
}
