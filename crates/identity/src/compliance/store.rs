//! The SQL of `identity_failed_logins` and `identity_former_passwords`.

use cloud_types::{Timestamp, UserId};
use database::{DatabaseError, Tx, params};

use super::model::Failures;

/// Under this key stand the failures of users who do not exist: one row, so that guessing names
/// neither fills the table nor is answered sooner.
pub(crate) const NOBODY: &str = "";

pub(crate) async fn failures(tx: &mut Tx, user: &UserId) -> Result<Failures, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT failures, failed_at FROM identity_failed_logins WHERE user_id = $1",
            &params![user],
        )
        .await?;
    let Some(row) = row else { return Ok(Failures::default()) };
    Ok(Failures {
        count: u32::try_from(row.int("failures")?).unwrap_or(u32::MAX),
        at: row.opt_timestamp("failed_at")?,
    })
}

/// One more; `afresh` where an earlier lock is over.
pub(crate) async fn add_failure(
    tx: &mut Tx,
    user: &str,
    afresh: bool,
    now: Timestamp,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_failed_logins (user_id, failures, failed_at) VALUES ($1, 1, $2)
         ON CONFLICT (user_id) DO UPDATE
         SET failures = CASE WHEN $3 = 1 THEN 1 ELSE identity_failed_logins.failures + 1 END,
             failed_at = $2",
        &params![user, now, afresh],
    )
    .await?;
    Ok(())
}

pub(crate) async fn forget_failures(tx: &mut Tx, user: &UserId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_failed_logins WHERE user_id = $1", &params![user]).await?;
    Ok(())
}

/// The hashes of the last `count` passwords before the current one.
pub(crate) async fn former_passwords(
    tx: &mut Tx,
    user: &UserId,
    count: u32,
) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT password_hash FROM identity_former_passwords
             WHERE user_id = $1 ORDER BY number DESC LIMIT $2",
            &params![user, i64::from(count)],
        )
        .await?;
    rows.iter().map(|row| row.text("password_hash")).collect()
}

/// Remembers the password that was, and forgets all but the last `kept`.
pub(crate) async fn remember_password(
    tx: &mut Tx,
    user: &UserId,
    hash: &str,
    kept: u32,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_former_passwords (user_id, number, password_hash)
         SELECT $1, COALESCE(MAX(number), 0) + 1, $2
         FROM identity_former_passwords WHERE user_id = $1",
        &params![user, hash],
    )
    .await?;
    tx.execute(
        "DELETE FROM identity_former_passwords
         WHERE user_id = $1 AND number <=
             (SELECT MAX(number) FROM identity_former_passwords WHERE user_id = $1) - $2",
        &params![user, i64::from(kept)],
    )
    .await?;
    Ok(())
}

/// What is known of somebody who is deleted.
pub(crate) async fn forget(tx: &mut Tx, user: &UserId) -> Result<(), DatabaseError> {
    forget_failures(tx, user).await?;
    tx.execute("DELETE FROM identity_former_passwords WHERE user_id = $1", &params![user]).await?;
    Ok(())
}

/// A better hash of the same password, unless it was changed meanwhile. True when it was stored.
pub(crate) async fn renew_hash(
    tx: &mut Tx,
    user: &UserId,
    old: &str,
    new: &str,
) -> Result<bool, DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_users SET password_hash = $3, generation = generation + 1
             WHERE id = $1 AND password_hash = $2",
            &params![user, old, new],
        )
        .await?;
    Ok(changed == 1)
}

/// Notes that somebody was there today.
pub(crate) async fn note_activity(
    tx: &mut Tx,
    user: &UserId,
    day: i64,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE identity_users SET last_active_day = $2
         WHERE id = $1 AND (last_active_day IS NULL OR last_active_day < $2)",
        &params![user, day],
    )
    .await?;
    Ok(())
}

/// Users who were made for a while that is over.
pub(crate) async fn ended(tx: &mut Tx, now: Timestamp) -> Result<Vec<UserId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_users
             WHERE valid_until IS NOT NULL AND valid_until <= $1 ORDER BY id",
            &params![now],
        )
        .await?;
    rows.iter().map(|row| row.parse("id")).collect()
}

/// Enabled users who were not there since `day`, and are not exempt; at most `limit`. Whether people
/// of a directory may log in is decided there.
pub(crate) async fn inactive_since(
    tx: &mut Tx,
    day: i64,
    midnight: Timestamp,
    limit: i64,
) -> Result<Vec<UserId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_users
             WHERE enabled = 1 AND options NOT LIKE $4
               AND ((last_active_day IS NULL AND created_at < $2) OR last_active_day < $1)
               AND id NOT IN
                   (SELECT public_id FROM identity_directory_entries WHERE kind = 'user')
             ORDER BY id LIMIT $3",
            &params![day, midnight, limit, "%\"ignore_user_inactivity\":true%"],
        )
        .await?;
    rows.iter().map(|row| row.parse("id")).collect()
}
