//! The SQL of `identity_consumers`, `identity_request_tokens` and `identity_access_tokens`.

use cloud_types::{Fault, RoleId, UserId};
use database::{DatabaseError, Row, Tx, params};
use zeroize::Zeroizing;

use super::model::{ACCESS, AccessToken, Authorised, CONSUMER, Consumer, REQUEST, RequestToken};
use crate::vault::{Column, Plain, Stored, Vault};

const fn sealed_in(table: &'static str, prefix: &'static str) -> Column {
    let plain = Plain { column: "secret", empty: "", rows: "secret <> ''" };
    Column { table, prefix, key: "id", sealed: "sealed", key_id: None, plain: Some(plain) }
}

/// What is sealed here.
pub(crate) const CONSUMERS: Column = sealed_in("identity_consumers", CONSUMER);
pub(crate) const REQUESTS: Column = sealed_in("identity_request_tokens", REQUEST);
pub(crate) const ACCESSES: Column = sealed_in("identity_access_tokens", ACCESS);

/// The columns of a secret: sealed, and as an earlier release kept it.
fn columns(secret: &Stored) -> (Option<&[u8]>, &str) {
    match secret {
        Stored::Sealed(bytes) => (Some(bytes), ""),
        Stored::Plain(text) => (None, text),
    }
}

fn consumer_of(row: &Row) -> Result<Consumer, DatabaseError> {
    Ok(Consumer {
        id: row.text("id")?,
        description: row.opt_text("description")?,
        secret: Stored::of(row, "secret")?,
        made: None,
    })
}

pub(crate) async fn consumers(tx: &mut Tx) -> Result<Vec<Consumer>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_consumers ORDER BY id", &[]).await?;
    rows.iter().map(consumer_of).collect()
}

pub(crate) async fn consumer(tx: &mut Tx, id: &str) -> Result<Option<Consumer>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_consumers WHERE id = $1", &params![id]).await?;
    row.as_ref().map(consumer_of).transpose()
}

/// Adds the consumer or changes its description; its secret stays.
pub(crate) async fn put_consumer(tx: &mut Tx, consumer: &Consumer) -> Result<(), DatabaseError> {
    let (sealed, plain) = columns(&consumer.secret);
    tx.execute(
        "INSERT INTO identity_consumers (id, description, sealed, secret) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET description = excluded.description",
        &params![consumer.id, consumer.description, sealed, plain],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete_consumer(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_request_tokens WHERE consumer_id = $1", &params![id]).await?;
    tx.execute("DELETE FROM identity_access_tokens WHERE consumer_id = $1", &params![id]).await?;
    tx.execute("DELETE FROM identity_consumers WHERE id = $1", &params![id]).await?;
    Ok(())
}

fn request_of(vault: &Vault, row: &Row) -> Result<RequestToken, Fault> {
    let id = row.text("id")?;
    let authorised = match row.opt_text("user_id")? {
        None => None,
        Some(user) => user.parse::<UserId>().ok().map(|user_id| -> Result<_, DatabaseError> {
            Ok(Authorised {
                user_id,
                roles: row.json("roles")?,
                verifier: Zeroizing::new(row.text("verifier")?),
            })
        }),
    };
    Ok(RequestToken {
        secret: vault.read(&format!("{REQUEST}{id}"), &Stored::of(row, "secret")?)?,
        id,
        consumer_id: row.text("consumer_id")?,
        project_id: row.parse("project_id")?,
        expires_at: row.timestamp("expires_at")?,
        authorised: authorised.transpose()?,
    })
}

pub(crate) async fn add_request(
    tx: &mut Tx,
    vault: &Vault,
    token: &RequestToken,
) -> Result<(), Fault> {
    let sealed = vault.seal(tx, &format!("{REQUEST}{}", token.id), &token.secret)?;
    tx.execute(
        "INSERT INTO identity_request_tokens
             (id, sealed, consumer_id, project_id, expires_at, secret, verifier, roles)
         VALUES ($1, $2, $3, $4, $5, '', '', '[]')",
        &params![token.id, sealed.bytes, token.consumer_id, token.project_id, token.expires_at],
    )
    .await?;
    Ok(())
}

pub(crate) async fn request(
    tx: &mut Tx,
    vault: &Vault,
    id: &str,
) -> Result<Option<RequestToken>, Fault> {
    let row =
        tx.query_opt("SELECT * FROM identity_request_tokens WHERE id = $1", &params![id]).await?;
    row.as_ref().map(|row| request_of(vault, row)).transpose()
}

pub(crate) async fn authorise(
    tx: &mut Tx,
    id: &str,
    authorised: &Authorised,
) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_request_tokens SET user_id = $2, roles = $3, verifier = $4
             WHERE id = $1",
            &params![
                id,
                authorised.user_id,
                serde_json::json!(authorised.roles).to_string(),
                authorised.verifier.as_str()
            ],
        )
        .await?;
    tx.expect_one(changed, "request_token", id)
}

/// False when it is gone: used by another request.
pub(crate) async fn use_request(tx: &mut Tx, id: &str) -> Result<bool, DatabaseError> {
    let used =
        tx.execute("DELETE FROM identity_request_tokens WHERE id = $1", &params![id]).await?;
    Ok(used == 1)
}

fn access_of(row: &Row) -> Result<AccessToken, DatabaseError> {
    let roles: Vec<RoleId> = row.json("roles")?;
    Ok(AccessToken {
        id: row.text("id")?,
        secret: Stored::of(row, "secret")?,
        made: None,
        consumer_id: row.text("consumer_id")?,
        project_id: row.parse("project_id")?,
        user_id: row.parse("user_id")?,
        roles,
        expires_at: row.timestamp("expires_at")?,
    })
}

pub(crate) async fn add_access(tx: &mut Tx, token: &AccessToken) -> Result<(), DatabaseError> {
    let (sealed, plain) = columns(&token.secret);
    tx.execute(
        "INSERT INTO identity_access_tokens
             (id, sealed, secret, consumer_id, project_id, user_id, roles, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &params![
            token.id,
            sealed,
            plain,
            token.consumer_id,
            token.project_id,
            token.user_id,
            serde_json::json!(token.roles).to_string(),
            token.expires_at
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn access(tx: &mut Tx, id: &str) -> Result<Option<AccessToken>, DatabaseError> {
    let row =
        tx.query_opt("SELECT * FROM identity_access_tokens WHERE id = $1", &params![id]).await?;
    row.as_ref().map(access_of).transpose()
}

pub(crate) async fn access_of_user(
    tx: &mut Tx,
    user: &UserId,
) -> Result<Vec<AccessToken>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_access_tokens WHERE user_id = $1 ORDER BY id",
            &params![user],
        )
        .await?;
    rows.iter().map(access_of).collect()
}

pub(crate) async fn delete_access(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_access_tokens WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// What a user or project that is deleted let others do.
pub(crate) async fn forget(tx: &mut Tx, user_or_project: &str) -> Result<(), DatabaseError> {
    for sql in [
        "DELETE FROM identity_access_tokens WHERE user_id = $1 OR project_id = $1",
        "DELETE FROM identity_request_tokens WHERE user_id = $1 OR project_id = $1",
    ] {
        tx.execute(sql, &params![user_or_project]).await?;
    }
    Ok(())
}

/// Removes request tokens that nobody answered in time, and access tokens that are over.
pub(crate) async fn sweep(tx: &mut Tx) -> Result<(), DatabaseError> {
    let now = tx.now();
    for sql in [
        "DELETE FROM identity_request_tokens WHERE expires_at < $1",
        "DELETE FROM identity_access_tokens WHERE expires_at < $1",
    ] {
        tx.execute(sql, &params![now]).await?;
    }
    Ok(())
}
