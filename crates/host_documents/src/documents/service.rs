//! Writing and reading documents, inside the caller's transaction. Callers hold the lock of the
//! object that a document describes.

use cloud_types::HostId;
use database::{DatabaseError, Tx};
use host_protocol::{Document, DocumentKind, Generation, PlacementEpoch, Position};
use planted_bugs::planted;
use serde::Serialize;

use super::store::Stored;
use super::{CHANNEL, store};
use crate::reports;

/// Says that a host should have this. When the same is written already, nothing happens and the
/// generation stays.
///
/// # Errors
/// [`DatabaseError::Stale`] when there is no such host; [`DatabaseError::Misuse`] for a placement
/// epoch below the one that the host was given.
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
        Some(_) if planted("lose_tombstone") && tx.random_u64().is_multiple_of(4) => Ok(None),
        Some(known) => {
            let (epoch, spec) = (known.document.epoch, known.document.spec);
            write(tx, host, kind, id, epoch, spec, true).await.map(Some)
        }
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
    let old = store::get(tx, host, kind, id).await?;
    if let Some(Stored { document: known, .. }) = &old {
        let stands = planted("let_tombstone_stand") && known.tombstone;
        let same = known.spec == spec && known.epoch == epoch;
        if same && (known.tombstone == tombstone || stands) {
            return Ok(known.generation);
        }
        if epoch < known.epoch {
            return Err(DatabaseError::Misuse(format!(
                "{kind} {id} is at placement epoch {} on host {host} and cannot go back to {epoch}",
                known.epoch
            )));
        }
    }
    let generation = match &old {
        Some(old) if old.is_pending() => old.document.generation,
        Some(old) => old.document.generation + 1,
        // Every version that anybody saw took a position, so this is above all of them.
        None => {
            1 + store::position(tx, host)
                .await?
                .ok_or_else(|| DatabaseError::Stale { kind: "host", id: host.to_string() })?
        }
    };
    let document = Document {
        kind,
        id: id.to_owned(),
        generation,
        epoch,
        position: 0,
        tombstone,
        request_id: tx.origin().request_id.clone(),
        spec,
    };
    store::write(tx, host, old.as_ref(), &document).await?;
    tx.notify(CHANNEL, host.to_string());
    Ok(generation)
}

/// Takes a document over as a host has it, in the host's own version: after a restore, where the
/// host is ahead of the rows.
pub async fn adopt(tx: &mut Tx, host: &HostId, held: &Document) -> Result<(), DatabaseError> {
    let old = store::get(tx, host, held.kind, &held.id).await?;
    let document =
        Document { position: 0, request_id: tx.origin().request_id.clone(), ..held.clone() };
    store::write(tx, host, old.as_ref(), &document).await?;
    tx.notify(CHANNEL, host.to_string());
    Ok(())
}

/// Says again what rows say, above the version that a host has, which is of a time that the rows
/// have forgotten. Nothing without such a document.
pub async fn rebase(tx: &mut Tx, host: &HostId, held: &Document) -> Result<(), DatabaseError> {
    let Some(old) = store::get(tx, host, held.kind, &held.id).await? else { return Ok(()) };
    let document = Document {
        generation: held.generation.max(old.document.generation) + 1,
        epoch: held.epoch.max(old.document.epoch),
        position: 0,
        ..old.document.clone()
    };
    store::write(tx, host, Some(&old), &document).await?;
    tx.notify(CHANNEL, host.to_string());
    Ok(())
}

/// Has the sequence of a host go on above everything that was given out before the restore:
/// generations of new documents are taken from it.
pub async fn skip_positions(
    tx: &mut Tx,
    host: &HostId,
    above: Position,
) -> Result<(), DatabaseError> {
    store::skip_positions(tx, host, above).await
}

/// One document. Its position is 0 when this transaction wrote it.
pub async fn get(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<Document>, DatabaseError> {
    Ok(store::get(tx, host, kind, id).await?.map(|stored| stored.document))
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

/// The position given out last; 0 for a host that was told nothing yet.
pub async fn position(tx: &mut Tx, host: &HostId) -> Result<Position, DatabaseError> {
    Ok(store::position(tx, host).await?.unwrap_or(0))
}

/// All documents of a host in the order in which they are applied, and the position they show.
pub async fn snapshot(
    tx: &mut Tx,
    host: &HostId,
) -> Result<(Vec<Document>, Position), DatabaseError> {
    // The position is read first: a document written in between is sent again, never missed.
    let position = store::position(tx, host).await?.unwrap_or(0);
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

/// The hosts that have a document, or a tombstone, of an object.
pub async fn holders(
    tx: &mut Tx,
    kind: DocumentKind,
    id: &str,
) -> Result<Vec<HostId>, DatabaseError> {
    store::holders(tx, kind, id).await
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

/// Begins the sequence of a new host.
pub(crate) async fn open(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    store::insert_counter(tx, host).await
}

/// Ends the sequence of a host that is removed.
pub(crate) async fn close(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    store::delete_host(tx, host).await
}

pub(crate) async fn count_besides_host(tx: &mut Tx, host: &HostId) -> Result<u64, DatabaseError> {
    store::count_besides(tx, host, DocumentKind::Host).await
}
