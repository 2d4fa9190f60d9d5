//! Forgetting what is kept for a while: what `docs/operations.md` says about how long.
//!
//! Each kind of row goes in batches, oldest first, each batch in a transaction of its own, so that
//! no request waits behind a long one. Of several replicas the one that holds the lease does it;
//! each batch checks that it still does.

use std::time::Duration;

use cloud_types::{Fault, Timestamp};
use compute::Compute;
use database::{BoxFuture, Database, Origin, Tx, journal, leases};
use host_documents::{hosts, questions};
use service_kit::idempotency;
use tokio_util::sync::CancellationToken;

use crate::replica;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3600);
/// The lease of whoever does it.
const LEASE: &str = "housekeeping";
/// How long one round may take before another replica begins it.
const LEASE_LENGTH: Duration = Duration::from_secs(600);
/// A replica that was silent for so long does not come back under its name.
pub const REPLICAS_KEPT: Duration = Duration::from_secs(7 * DAY.as_secs());
/// A question to a host whose asker has not fetched the answer by now is dead.
const QUESTIONS_KEPT: Duration = Duration::from_secs(600);
/// Rows of a kind in one transaction.
const BATCH: u32 = 500;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Operators can list and show deleted servers for so long.
pub const DELETED_SERVERS_KEPT: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Who did what, for so long; consumers of the journal that are behind keep it longer.
pub const JOURNAL_KEPT: Duration = Duration::from_secs(90 * DAY.as_secs());
/// Join tokens after their end, for an operator who wonders what became of one.
pub const JOIN_TOKENS_KEPT: Duration = Duration::from_secs(30 * DAY.as_secs());

type Forget = for<'c> fn(&'c mut Tx, Timestamp) -> BoxFuture<'c, Result<u64, Fault>>;

const KINDS: [(&str, Duration, Forget); 6] = [
    ("deleted servers", DELETED_SERVERS_KEPT, |tx, before| {
        Box::pin(Compute::purge_deleted(tx, before, BATCH))
    }),
    ("journal entries", JOURNAL_KEPT, |tx, before| {
        Box::pin(async move { Ok(journal::trim(tx, before, BATCH).await?) })
    }),
    ("join tokens", JOIN_TOKENS_KEPT, |tx, before| {
        Box::pin(async move { Ok(hosts::forget_tokens(tx, before, BATCH).await?) })
    }),
    ("replicas", REPLICAS_KEPT, |tx, before| {
        Box::pin(async move { Ok(replica::forget_silent(tx, before, BATCH).await?) })
    }),
    ("questions to hosts", QUESTIONS_KEPT, |tx, before| {
        Box::pin(async move { Ok(questions::forget(tx, before, BATCH).await?) })
    }),
    // All at once: there are few, as claiming a key sweeps now and then.
    ("idempotency keys", Duration::ZERO, |tx, _| {
        Box::pin(async move { idempotency::expire(tx).await.map(|_| 0).map_err(Fault::from) })
    }),
];

/// Looks now and every hour until `shutdown`, as `holder` of the lease.
pub async fn run(db: Database, holder: String, shutdown: CancellationToken) {
    loop {
        if let Err(fault) = forget(&db, &holder).await {
            tracing::warn!(%fault, "forgetting what is old failed; it is tried again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Forgets what is old enough, unless somebody else is at it.
///
/// # Errors
/// The database's; what was forgotten until then stays forgotten.
pub async fn forget(db: &Database, holder: &str) -> Result<(), Fault> {
    let holder = holder.to_owned();
    let taken = db
        .transact(&Origin::system("housekeeping"), move |tx| {
            let holder = holder.clone();
            Box::pin(async move {
                Ok::<_, Fault>(leases::take(tx, LEASE, &holder, LEASE_LENGTH).await?)
            })
        })
        .await?;
    let Some(epoch) = taken else { return Ok(()) };
    for (what, kept, forget) in KINDS {
        let mut gone = 0;
        loop {
            let batch = db
                .transact(&Origin::system("housekeeping"), move |tx| {
                    Box::pin(async move {
                        leases::check(tx, LEASE, epoch).await?;
                        let before = tx.now().before(kept);
                        forget(tx, before).await
                    })
                })
                .await?;
            gone += batch;
            if batch < u64::from(BATCH) {
                break;
            }
        }
        if gone > 0 {
            tracing::info!(gone, "forgot old {what}");
        }
    }
    Ok(())
}
