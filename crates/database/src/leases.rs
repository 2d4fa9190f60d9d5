//! Leases: which of several processes does a piece of background work.
//!
//! ```text
//!              take: epoch + 1                 take by the holder: longer, same epoch
//!   (free) ───────────────────▶ held until T ─────────────────────────────────────┐
//!      ▲                          │     ▲                                          │
//!      │   give_up, give_up_all   │     └──────────────────────────────────────────┘
//!      └──────────────────────────┤ T is over: whoever takes it has the next epoch
//! ```
//! Time decides only who should work, never who may: each transaction of the work calls [`check`]
//! with its epoch, which keeps others from taking the lease until it ends. So a process that was
//! stopped past its lease, or whose clock is wrong, changes nothing once another has begun.

use std::time::Duration;

use crate::{DatabaseError, Tx, params};

/// Takes a lease that is free, over, or `holder`'s own, for `length` from now. Answers its epoch;
/// `None` while somebody else holds it.
///
/// # Errors
/// The database's.
pub async fn take(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    length: Duration,
) -> Result<Option<u64>, DatabaseError> {
    let now = tx.now();
    let row = tx
        .query_opt(
            "INSERT INTO leases (name, holder, epoch, held_until) VALUES ($1, $2, 1, $3)
             ON CONFLICT (name) DO UPDATE SET
                 epoch = leases.epoch + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END,
                 holder = excluded.holder, held_until = excluded.held_until
             WHERE leases.holder = excluded.holder OR leases.held_until <= $4
             RETURNING epoch",
            &params![name, holder, now.after(length), now],
        )
        .await?;
    row.map(|row| row.u64("epoch")).transpose()
}

/// Checks that the lease is still held under `epoch`, and keeps it so until the transaction ends.
///
/// # Errors
/// [`DatabaseError::Stale`] when somebody else has taken it; the database's.
pub async fn check(tx: &mut Tx, name: &str, epoch: u64) -> Result<(), DatabaseError> {
    let held = tx
        .execute(
            "UPDATE leases SET held_until = held_until WHERE name = $1 AND epoch = $2",
            &params![name, epoch],
        )
        .await?;
    if held == 1 {
        return Ok(());
    }
    // Not worth another attempt, so this does not go through `Tx::expect_one`.
    Err(DatabaseError::Stale { kind: "lease", id: name.to_owned() })
}

/// Gives every lease of a holder up, also on behalf of one that is dead. Whoever takes one of them
/// next has a higher epoch.
///
/// # Errors
/// The database's.
pub async fn give_up_all(tx: &mut Tx, holder: &str) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE leases SET holder = '', held_until = $2 WHERE holder = $1",
        &params![holder, now],
    )
    .await
}
