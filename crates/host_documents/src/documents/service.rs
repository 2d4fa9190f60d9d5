//! Writing and reading documents, inside the caller's transaction. Callers hold the lock of the
//! object that a document describes, and write to several hosts in the order of their ids.

use cloud_types::HostId;
use database::{DatabaseError, Tx};
use host_protocol::{Document, DocumentKind, Generation, PlacementEpoch, Position};
use serde::Serialize;

use super::{CHANNEL, store};
use crate::reports;

/// Says that a host should have this. When the same is written already, nothing happens and the
/// generation stays.
///
/// # Errors
/// [`DatabaseError::Stale`] when there is no such host.
pub async fn put(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
    epoch: PlacementEpoch,
    spec: &impl Serialize,
) -> Result<Generation, DatabaseError> {
    let spec = serde_json::to_value(spec).map_err(|error| {
        DatabaseError::Misuse(format!("a {kind} document could not be written as JSON: {error}"))
    })?;
    write(tx, host, kind, id, epoch, spec, false).await
}

/// Says that a host should no longer have this. Without a document there is nothing to take
/// away, and the answer is `None`.
pub async fn put_tombstone(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<Generation>, DatabaseError> {
    match store::get(tx, host, kind, id).await? {
        None => Ok(None),
        Some(known) => write(tx, host, kind, id, known.epoch, known.spec, true).await.map(Some),
    }
}

async fn write(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
    epoch: PlacementEpoch,
    spec: serde_json::Value,
    tombstone: bool,
) -> Result<Generation, DatabaseError> {
    if let Some(known) = store::get(tx, host, kind, id).await?
        && known.spec == spec
        && known.epoch == epoch
        && known.tombstone == tombstone
    {
        return Ok(known.generation);
    }
    let position = store::next_position(tx, host)
        .await?
        .and_then(|position| u64::try_from(position).ok())
        .ok_or_else(|| DatabaseError::Stale { kind: "host", id: host.to_string() })?;
    let document = Document {
        kind,
        id: id.to_owned(),
        generation: position,
        epoch,
        position,
        tombstone,
        request_id: tx.origin().request_id.clone(),
        spec,
    };
    store::upsert(tx, host, &document).await?;
    tx.notify(CHANNEL, host.to_string());
    Ok(position)
}

/// One document.
pub async fn get(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<Document>, DatabaseError> {
    store::get(tx, host, kind, id).await
}

/// At most `limit` documents after a position, in order.
pub async fn after(
    tx: &mut Tx,
    host: &HostId,
    position: Position,
    limit: i64,
) -> Result<Vec<Document>, DatabaseError> {
    store::after(tx, host, position, limit).await
}

/// All documents of a host in the order in which they are applied, and the position they show.
pub async fn snapshot(
    tx: &mut Tx,
    host: &HostId,
) -> Result<(Vec<Document>, Position), DatabaseError> {
    // The position is read first: a document written in between is sent again, never missed.
    let position = store::position(tx, host).await?;
    let mut documents = store::after(tx, host, 0, i64::MAX).await?;
    documents.sort_by_key(|document| (document.kind, document.position));
    Ok((documents, position))
}

/// All documents of one kind on a host, by id.
pub async fn list_of_kind(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
) -> Result<Vec<Document>, DatabaseError> {
    store::list_of_kind(tx, host, kind).await
}

/// Takes a document and its report out at once, without asking the host. For objects that leave
/// nothing on a host: an operation that is over.
pub async fn remove(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<(), DatabaseError> {
    store::delete(tx, host, kind, id).await?;
    reports::forget(tx, host, kind, id).await
}
