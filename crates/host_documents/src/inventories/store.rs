//! SQL of inventories.

use cloud_types::{HostId, Timestamp};
use database::{DatabaseError, Tx, params};
use host_protocol::Held;

/// Keeps what a host said.
pub async fn put(tx: &mut Tx, host: &HostId, held: &[Held]) -> Result<(), DatabaseError> {
    let text = serde_json::to_string(held)
        .map_err(|error| DatabaseError::Misuse(format!("cannot be written as JSON: {error}")))?;
    let now = tx.now();
    tx.execute(
        "INSERT INTO host_inventories (host_id, held, heard_at) VALUES ($1, $2, $3)
         ON CONFLICT (host_id) DO UPDATE SET held = excluded.held, heard_at = excluded.heard_at",
        &params![host, text, now],
    )
    .await?;
    Ok(())
}

/// What each host said, and when.
pub async fn list(tx: &mut Tx) -> Result<Vec<(HostId, Timestamp, Vec<Held>)>, DatabaseError> {
    let rows = tx
        .query("SELECT host_id, held, heard_at FROM host_inventories ORDER BY host_id", &[])
        .await?;
    rows.iter()
        .map(|row| Ok((row.parse("host_id")?, row.timestamp("heard_at")?, row.json("held")?)))
        .collect()
}

/// Forgets all of it.
pub async fn clear(tx: &mut Tx) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM host_inventories", &[]).await?;
    Ok(())
}
