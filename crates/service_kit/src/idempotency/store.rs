//! The SQL of `idempotency_keys`.

use std::time::Duration;

use database::{DatabaseError, Tx, params};
use planted_bugs::planted;

use super::{CHANNEL, Claim, Found, Stored, is_stale};

/// Claims the key, takes over a dead claim, or says what was found.
pub(super) async fn claim(
    tx: &mut Tx,
    claim: &Claim,
    body_hash: &str,
    lifetime: Duration,
    worker: &str,
) -> Result<Found, DatabaseError> {
    let now = tx.now();
    // Now and then sweep, so that the table stays small even where no worker does it.
    if tx.random_u64().is_multiple_of(64) {
        expire(tx).await?;
    }
    let inserted = tx
        .execute(
            "INSERT INTO idempotency_keys
                 (scope, body_hash, owner, state, effect, claimed_at, expires_at, worker)
             VALUES ($1, $2, $3, 'claimed', 0, $4, $5, $6)
             ON CONFLICT (scope) DO NOTHING",
            &params![claim.scope, body_hash, claim.owner, now, now.after(lifetime), worker],
        )
        .await?;
    if inserted == 1 {
        return Ok(Found::Claimed);
    }
    let row = tx
        .query_one(
            "SELECT body_hash, owner, state, effect, claimed_at, expires_at, answer
             FROM idempotency_keys WHERE scope = $1",
            &params![claim.scope],
        )
        .await?;
    let expired = row.timestamp("expires_at")? < now || planted("forget_idempotency");
    if !expired && row.text("body_hash")? != body_hash {
        return Ok(Found::OtherBody);
    }
    let owner = row.text("owner")?;
    if !expired && row.text("state")? == "answered" {
        let sealed = row.opt_bytes("answer")?.unwrap_or_default();
        // The same request opens what it sealed, unless the row was tampered with.
        return Ok(match claim.seal.open(&claim.scope, &sealed) {
            Some(stored) => Found::Answered(stored),
            None => Found::EffectWithoutAnswer { owner },
        });
    }
    if !expired && !is_stale(row.timestamp("claimed_at")?, now) {
        return Ok(Found::InProgress);
    }
    if !expired && row.bool("effect")? {
        return Ok(Found::EffectWithoutAnswer { owner });
    }
    let taken = tx
        .execute(
            "UPDATE idempotency_keys
             SET owner = $3, body_hash = $4, state = 'claimed', effect = 0, claimed_at = $5,
                 expires_at = $6, answer = NULL, worker = $7
             WHERE scope = $1 AND owner = $2",
            &params![claim.scope, owner, claim.owner, body_hash, now, now.after(lifetime), worker],
        )
        .await?;
    Ok(if taken == 1 { Found::Claimed } else { Found::InProgress })
}

pub(super) async fn mark_effect(tx: &mut Tx, claim: &Claim) -> Result<(), DatabaseError> {
    let marked = tx
        .execute(
            "UPDATE idempotency_keys SET effect = 1 WHERE scope = $1 AND owner = $2",
            &params![claim.scope, claim.owner],
        )
        .await?;
    held(marked, claim)
}

pub(super) async fn remember(
    tx: &mut Tx,
    claim: &Claim,
    stored: &Stored,
) -> Result<(), DatabaseError> {
    let sealed = claim.seal.close(tx, &claim.scope, stored);
    let changed = tx
        .execute(
            "UPDATE idempotency_keys SET state = 'answered', effect = 1, answer = $3
             WHERE scope = $1 AND owner = $2",
            &params![claim.scope, claim.owner, sealed],
        )
        .await?;
    held(changed, claim)?;
    tx.notify(CHANNEL, claim.scope.clone());
    Ok(())
}

/// A claim that somebody else took over is not worth another attempt, so this does not go through
/// `Tx::expect_one`, which asks for one.
fn held(changed: u64, claim: &Claim) -> Result<(), DatabaseError> {
    if changed == 1 {
        return Ok(());
    }
    Err(DatabaseError::Stale { kind: "idempotency key", id: claim.scope.clone() })
}

pub(super) async fn finish(
    tx: &mut Tx,
    claim: &Claim,
    stored: &Stored,
    lifetime: Duration,
) -> Result<(), DatabaseError> {
    if stored.is_transient() {
        tx.execute(
            "DELETE FROM idempotency_keys WHERE scope = $1 AND owner = $2 AND effect = 0",
            &params![claim.scope, claim.owner],
        )
        .await?;
    }
    let sealed = claim.seal.close(tx, &claim.scope, stored);
    // What the transaction itself has stored stays: it is the answer to the effect, also where the
    // request failed afterwards.
    tx.execute(
        "UPDATE idempotency_keys SET state = 'answered', answer = $3, expires_at = $4
         WHERE scope = $1 AND owner = $2 AND state = 'claimed'",
        &params![claim.scope, claim.owner, sealed, tx.now().after(lifetime)],
    )
    .await?;
    tx.notify(CHANNEL, claim.scope.clone());
    Ok(())
}

pub(super) async fn expire(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.execute("DELETE FROM idempotency_keys WHERE expires_at < $1", &params![now]).await
}

pub(super) async fn succeed_all(tx: &mut Tx) -> Result<u64, DatabaseError> {
    tx.execute("DELETE FROM idempotency_keys WHERE state = 'claimed' AND effect = 0", &params![])
        .await
}

/// Gives up what a process claimed: without an effect, the key is free; with one, the claim is
/// stale at once.
pub(super) async fn succeed(tx: &mut Tx, worker: &str) -> Result<u64, DatabaseError> {
    let freed = tx
        .execute(
            "DELETE FROM idempotency_keys
             WHERE worker = $1 AND state = 'claimed' AND effect = 0",
            &params![worker],
        )
        .await?;
    let stale = tx
        .execute(
            "UPDATE idempotency_keys SET claimed_at = 0 WHERE worker = $1 AND state = 'claimed'",
            &params![worker],
        )
        .await?;
    Ok(freed + stale)
}
