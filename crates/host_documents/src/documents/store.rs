//! SQL of documents.

use cloud_types::HostId;
use database::{DatabaseError, Row, Tx, params};
use host_protocol::{Document, DocumentKind, Position};

fn read(row: &Row) -> Result<Document, DatabaseError> {
    let number = |column| row.int(column).map(|n| u64::try_from(n).unwrap_or_default());
    Ok(Document {
        kind: row.parse("kind")?,
        id: row.text("id")?,
        generation: number("generation")?,
        epoch: number("epoch")?,
        position: number("position")?,
        tombstone: row.bool("tombstone")?,
        request_id: row.text("request_id")?,
        spec: row.json("spec")?,
    })
}

/// Takes the host's next position. The row stays locked until the end of the transaction, so
/// positions are committed in their order. `None`: there is no such host.
pub async fn next_position(tx: &mut Tx, host: &HostId) -> Result<Option<i64>, DatabaseError> {
    let row = tx
        .query_opt(
            "UPDATE hosts SET position = position + 1 WHERE id = $1 RETURNING position",
            &params![host],
        )
        .await?;
    row.map(|row| row.int("position")).transpose()
}

pub async fn position(tx: &mut Tx, host: &HostId) -> Result<Position, DatabaseError> {
    let row = tx.query_opt("SELECT position FROM hosts WHERE id = $1", &params![host]).await?;
    let position = row.map(|row| row.int("position")).transpose()?;
    Ok(position.and_then(|n| u64::try_from(n).ok()).unwrap_or_default())
}

pub async fn upsert(tx: &mut Tx, host: &HostId, document: &Document) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO host_documents
             (host_id, kind, id, generation, epoch, position, tombstone, request_id, spec)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (host_id, kind, id) DO UPDATE SET
             generation = excluded.generation, epoch = excluded.epoch,
             position = excluded.position, tombstone = excluded.tombstone,
             request_id = excluded.request_id, spec = excluded.spec",
        &params![
            host,
            document.kind.as_str(),
            document.id,
            document.generation,
            document.epoch,
            document.position,
            document.tombstone,
            document.request_id,
            document.spec
        ],
    )
    .await?;
    Ok(())
}

pub async fn get(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<Document>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT kind, id, generation, epoch, position, tombstone, request_id, spec
             FROM host_documents WHERE host_id = $1 AND kind = $2 AND id = $3",
            &params![host, kind.as_str(), id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

pub async fn after(
    tx: &mut Tx,
    host: &HostId,
    position: Position,
    limit: i64,
) -> Result<Vec<Document>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT kind, id, generation, epoch, position, tombstone, request_id, spec
             FROM host_documents WHERE host_id = $1 AND position > $2 ORDER BY position LIMIT $3",
            &params![host, position, limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub async fn list_of_kind(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
) -> Result<Vec<Document>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT kind, id, generation, epoch, position, tombstone, request_id, spec
             FROM host_documents WHERE host_id = $1 AND kind = $2 ORDER BY id",
            &params![host, kind.as_str()],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub async fn delete(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<u64, DatabaseError> {
    tx.execute(
        "DELETE FROM host_documents WHERE host_id = $1 AND kind = $2 AND id = $3",
        &params![host, kind.as_str(), id],
    )
    .await
}
