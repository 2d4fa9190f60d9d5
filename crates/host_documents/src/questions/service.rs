//! Asking, taking and answering, inside the caller's transaction.

use cloud_types::{HostId, Timestamp};
use database::{DatabaseError, Tx};
use host_protocol::{HostAnswer, HostQuery};

use super::{ANSWERED, ASKED, store};

/// Asks a host through whoever has its stream.
pub async fn ask(
    tx: &mut Tx,
    id: &str,
    host: &HostId,
    question: &HostQuery,
) -> Result<(), DatabaseError> {
    store::insert(tx, id, host, question).await?;
    tx.notify(ASKED, format!("{id} {host}"));
    Ok(())
}

/// Takes a question to pass it on; `None` when somebody has, or it is gone.
pub async fn take(tx: &mut Tx, id: &str, by: &str) -> Result<Option<HostQuery>, DatabaseError> {
    store::take(tx, id, by).await
}

/// Says what the host answered. Nothing when nobody waits any more.
pub async fn answer(tx: &mut Tx, id: &str, answer: &HostAnswer) -> Result<(), DatabaseError> {
    if store::answer(tx, id, answer).await? {
        tx.notify(ANSWERED, id);
    }
    Ok(())
}

/// Takes the question away, with its answer if there is one.
pub async fn collect(tx: &mut Tx, id: &str) -> Result<Option<HostAnswer>, DatabaseError> {
    store::collect(tx, id).await
}

/// Forgets questions of askers that died, at most `limit`.
pub async fn forget(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, DatabaseError> {
    store::forget(tx, before, limit).await
}
