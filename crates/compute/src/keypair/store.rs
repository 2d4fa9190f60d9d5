//! The rows of key pairs.

use cloud_types::{Timestamp, UserId};
use database::{DatabaseError, Row, Tx, Value, params};

/// A key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The owner.
    pub user: UserId,
    /// Its name, unique for the user.
    pub name: String,
    /// Nova's numeric id, for show.
    pub number: i64,
    /// `ssh`.
    pub kind: String,
    /// MD5 fingerprint.
    pub fingerprint: String,
    /// The public key in OpenSSH's form.
    pub public_key: String,
    /// When it was made.
    pub created_at: Timestamp,
}

fn read(row: &Row) -> Result<KeyPair, DatabaseError> {
    Ok(KeyPair {
        user: row.parse("user_id")?,
        name: row.text("name")?,
        number: row.int("number")?,
        kind: row.text("type")?,
        fingerprint: row.text("fingerprint")?,
        public_key: row.text("public_key")?,
        created_at: row.timestamp("created_at")?,
    })
}

/// How many a user has, and the highest number in use.
pub async fn count(tx: &mut Tx, user: &UserId) -> Result<(i64, i64), DatabaseError> {
    let row = tx
        .query_one(
            "SELECT COUNT(*) AS held, (SELECT COALESCE(MAX(number), 0) FROM keypairs) AS highest
             FROM keypairs WHERE user_id = $1",
            &params![user],
        )
        .await?;
    Ok((row.int("held")?, row.int("highest")?))
}

/// Stores a pair; false when the user has one of that name.
pub async fn insert(tx: &mut Tx, pair: &KeyPair) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO keypairs (user_id, name, number, type, fingerprint, public_key, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            &params![
                pair.user,
                pair.name,
                pair.number,
                pair.kind,
                pair.fingerprint,
                pair.public_key,
                pair.created_at
            ],
        )
        .await?;
    Ok(added == 1)
}

/// A pair.
pub async fn get(tx: &mut Tx, user: &UserId, name: &str) -> Result<Option<KeyPair>, DatabaseError> {
    tx.query_opt(
        "SELECT user_id, name, number, type, fingerprint, public_key, created_at
         FROM keypairs WHERE user_id = $1 AND name = $2",
        &params![user, name],
    )
    .await?
    .map(|row| read(&row))
    .transpose()
}

/// Removes a pair; whether there was one.
pub async fn delete(tx: &mut Tx, user: &UserId, name: &str) -> Result<bool, DatabaseError> {
    let removed = tx
        .execute("DELETE FROM keypairs WHERE user_id = $1 AND name = $2", &params![user, name])
        .await?;
    Ok(removed == 1)
}

/// A user's pairs by name, after `marker`.
pub async fn list(
    tx: &mut Tx,
    user: &UserId,
    marker: Option<&str>,
    limit: i64,
) -> Result<Vec<KeyPair>, DatabaseError> {
    let after: Value = marker.unwrap_or_default().to_owned().into();
    tx.query(
        "SELECT user_id, name, number, type, fingerprint, public_key, created_at
         FROM keypairs WHERE user_id = $1 AND name > $2 ORDER BY name LIMIT $3",
        &[user.into(), after, limit.into()],
    )
    .await?
    .iter()
    .map(read)
    .collect()
}
