//! SQL of documents.

use cloud_types::HostId;
use database::{DatabaseError, Row, Tx, params};
use host_protocol::{Document, DocumentKind, Position};

/// A document, and where it stands: negative until the transaction that wrote it ends.
pub struct Stored {
    pub document: Document,
    pub position: i64,
}

impl Stored {
    /// Whether this transaction wrote it, so that nobody else has seen it.
    pub fn is_pending(&self) -> bool {
        self.position < 0
    }
}

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

/// The position given out last; `None` for a host that is not known.
pub async fn position(tx: &mut Tx, host: &HostId) -> Result<Option<Position>, DatabaseError> {
    let row = tx
        .query_opt("SELECT position FROM host_positions WHERE host_id = $1", &params![host])
        .await?;
    row.map(|row| row.u64("position")).transpose()
}

pub async fn skip_positions(
    tx: &mut Tx,
    host: &HostId,
    above: Position,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE host_positions SET position = $2, base = $2 WHERE host_id = $1 AND position < $2",
        &params![host, above],
    )
    .await?;
    Ok(())
}

pub async fn insert_counter(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO host_positions (host_id, position, base) VALUES ($1, 0, 0)",
        &params![host],
    )
    .await?;
    Ok(())
}

pub async fn delete_host(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM host_documents WHERE host_id = $1", &params![host]).await?;
    tx.execute("DELETE FROM host_positions WHERE host_id = $1", &params![host]).await?;
    Ok(())
}

/// The place of the next document among those of this transaction for the host.
async fn next_pending(tx: &mut Tx, host: &HostId) -> Result<i64, DatabaseError> {
    let lowest = tx
        .query_one(
            "SELECT MIN(position) AS lowest FROM host_documents
             WHERE host_id = $1 AND position < 0",
            &params![host],
        )
        .await?
        .opt_int("lowest")?;
    Ok(lowest.unwrap_or(0) - 1)
}

/// Writes a version of a document and queues it for a position. `old` is the version that was
/// read; that nobody replaced it meanwhile is checked.
pub async fn write(
    tx: &mut Tx,
    host: &HostId,
    old: Option<&Stored>,
    document: &Document,
) -> Result<(), DatabaseError> {
    let position = match old {
        Some(old) if old.is_pending() => old.position,
        _ => next_pending(tx, host).await?,
    };
    let changed = match old {
        None => {
            tx.execute(
                "INSERT INTO host_documents
                     (host_id, kind, id, generation, epoch, position, tombstone, request_id, spec)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (host_id, kind, id) DO NOTHING",
                &params![
                    host,
                    document.kind.as_str(),
                    document.id,
                    document.generation,
                    document.epoch,
                    position,
                    document.tombstone,
                    document.request_id,
                    document.spec
                ],
            )
            .await?
        }
        Some(old) => {
            tx.execute(
                "UPDATE host_documents SET generation = $4, epoch = $5, position = $6,
                     tombstone = $7, request_id = $8, spec = $9
                 WHERE host_id = $1 AND kind = $2 AND id = $3 AND generation = $10
                   AND position = $11",
                &params![
                    host,
                    document.kind.as_str(),
                    document.id,
                    document.generation,
                    document.epoch,
                    position,
                    document.tombstone,
                    document.request_id,
                    document.spec,
                    old.document.generation,
                    old.position
                ],
            )
            .await?
        }
    };
    tx.expect_one(changed, "document", &document.id)?;
    // The counters of all hosts first, in the order of hosts; then the documents.
    tx.defer(
        20,
        "UPDATE host_positions SET base = position, position = position - COALESCE((
             SELECT MIN(d.position) FROM host_documents d
             WHERE d.host_id = $1 AND d.position < 0), 0)
         WHERE host_id = $1",
        &params![host],
    );
    tx.defer(
        21,
        "UPDATE host_documents SET position = (
             SELECT p.base FROM host_positions p WHERE p.host_id = $1) - position
         WHERE host_id = $1 AND position < 0",
        &params![host],
    );
    Ok(())
}

pub async fn get(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<Stored>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT kind, id, generation, epoch, position, tombstone, request_id, spec
             FROM host_documents WHERE host_id = $1 AND kind = $2 AND id = $3",
            &params![host, kind.as_str(), id],
        )
        .await?;
    row.map(|row| Ok(Stored { document: read(&row)?, position: row.int("position")? })).transpose()
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
             FROM host_documents WHERE host_id = $1 AND position > $2 AND position > 0
             ORDER BY position LIMIT $3",
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

pub async fn holders(
    tx: &mut Tx,
    kind: DocumentKind,
    id: &str,
) -> Result<Vec<HostId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT host_id FROM host_documents WHERE kind = $1 AND id = $2 ORDER BY host_id",
            &params![kind.as_str(), id],
        )
        .await?;
    rows.iter().map(|row| row.parse("host_id")).collect()
}

pub async fn count_besides(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
) -> Result<u64, DatabaseError> {
    tx.query_one(
        "SELECT COUNT(*) AS n FROM host_documents WHERE host_id = $1 AND kind <> $2",
        &params![host, kind.as_str()],
    )
    .await?
    .u64("n")
}
