//! The SQL of `identity_credentials`.

use cloud_types::{Fault, ProjectId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::Credential;
use crate::filter::Where;
use crate::vault::{Column, Sealed, Vault};

/// What is sealed here.
pub(crate) const SEALED: Column = Column {
    table: "identity_credentials",
    prefix: "",
    key: "id",
    sealed: "blob",
    key_id: Some("key_id"),
    plain: None,
};

fn opened(vault: &Vault, row: &Row) -> Result<Credential, Fault> {
    let id = row.text("id")?;
    Ok(Credential {
        blob: vault.open_sealed(&id, &row.bytes("blob")?)?,
        id,
        user_id: row.parse("user_id")?,
        project_id: row.opt_parse("project_id")?,
        kind: row.text("type")?,
        extra: row.json("extra")?,
        serial: u64::try_from(row.int("serial")?).unwrap_or(0),
        totp_step: row.opt_int("totp_step")?,
        generation: row.int("generation")?,
        created_at: row.timestamp("created_at")?,
    })
}

pub(crate) async fn get(tx: &mut Tx, vault: &Vault, id: &str) -> Result<Option<Credential>, Fault> {
    let row =
        tx.query_opt("SELECT * FROM identity_credentials WHERE id = $1", &params![id]).await?;
    row.as_ref().map(|row| opened(vault, row)).transpose()
}

/// The serial of a credential, if there is one.
pub(crate) async fn serial(tx: &mut Tx, id: &str) -> Result<Option<u64>, DatabaseError> {
    let row = tx
        .query_opt("SELECT id, serial FROM identity_credentials WHERE id = $1", &params![id])
        .await?;
    row.map(|row| Ok(stamp_of(&row)?.1)).transpose()
}

/// Which credentials are listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Only of this user.
    pub user: Option<UserId>,
    /// Only of this project.
    pub project: Option<ProjectId>,
}

pub(crate) async fn list(
    tx: &mut Tx,
    vault: &Vault,
    wanted: &Wanted,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Credential>, Fault> {
    let mut condition = Where::default();
    if let Some(user) = &wanted.user {
        condition.equal("user_id", user);
    }
    if let Some(project) = &wanted.project {
        condition.equal("project_id", project);
    }
    condition.text("user_id", "user_id", filters);
    condition.text("type", "type", filters);
    let (clause, params) = condition.page("id", page);
    let rows =
        tx.query_dynamic(format!("SELECT * FROM identity_credentials{clause}"), &params).await?;
    rows.iter().map(|row| opened(vault, row)).collect()
}

/// All of one user and type.
pub(crate) async fn of_user(
    tx: &mut Tx,
    vault: &Vault,
    user: &UserId,
    kind: &str,
) -> Result<Vec<Credential>, Fault> {
    let rows = tx
        .query(
            "SELECT * FROM identity_credentials WHERE user_id = $1 AND type = $2 ORDER BY id",
            &params![user, kind],
        )
        .await?;
    rows.iter().map(|row| opened(vault, row)).collect()
}

/// False when the id is taken.
pub(crate) async fn insert(
    tx: &mut Tx,
    vault: &Vault,
    credential: &Credential,
) -> Result<bool, Fault> {
    let Sealed { key, bytes } = vault.seal(tx, &credential.id, &credential.blob)?;
    let inserted = tx
        .execute(
            "INSERT INTO identity_credentials
                 (id, user_id, project_id, type, blob, key_id, extra, serial, totp_step,
                  generation, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, 1, $9)
             ON CONFLICT DO NOTHING",
            &params![
                credential.id,
                credential.user_id,
                credential.project_id,
                credential.kind,
                bytes,
                key,
                serde_json::Value::Object(credential.extra.clone()).to_string(),
                credential.serial,
                credential.created_at
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Writes what may change, at the generation that was read.
pub(crate) async fn update(
    tx: &mut Tx,
    vault: &Vault,
    credential: &Credential,
) -> Result<(), Fault> {
    let Sealed { key, bytes } = vault.seal(tx, &credential.id, &credential.blob)?;
    let changed = tx
        .execute(
            "UPDATE identity_credentials
             SET user_id = $3, project_id = $4, type = $5, blob = $6, key_id = $7, extra = $8,
                 serial = $9, totp_step = $10, generation = generation + 1
             WHERE id = $1 AND generation = $2",
            &params![
                credential.id,
                credential.generation,
                credential.user_id,
                credential.project_id,
                credential.kind,
                bytes,
                key,
                serde_json::Value::Object(credential.extra.clone()).to_string(),
                credential.serial,
                credential.totp_step
            ],
        )
        .await?;
    Ok(tx.expect_one(changed, "credential", &credential.id)?)
}

/// Marks the code of a step of time as used. False when it, or a later one, was used already: a
/// code counts once.
pub(crate) async fn use_totp_step(tx: &mut Tx, id: &str, step: i64) -> Result<bool, DatabaseError> {
    let used = tx
        .execute(
            "UPDATE identity_credentials SET totp_step = $2, generation = generation + 1
             WHERE id = $1 AND (totp_step IS NULL OR totp_step < $2)",
            &params![id, step],
        )
        .await?;
    Ok(used == 1)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_credentials WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// Ids and serials of a user's EC2 keys.
pub(crate) async fn ec2_keys_of_user(
    tx: &mut Tx,
    user: &UserId,
) -> Result<Vec<(String, u64)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id, serial FROM identity_credentials WHERE user_id = $1 AND type = 'ec2'",
            &params![user],
        )
        .await?;
    rows.iter().map(stamp_of).collect()
}

/// Ids and serials of a project's EC2 keys.
pub(crate) async fn ec2_keys_of_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Vec<(String, u64)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id, serial FROM identity_credentials WHERE project_id = $1 AND type = 'ec2'",
            &params![project],
        )
        .await?;
    rows.iter().map(stamp_of).collect()
}

fn stamp_of(row: &Row) -> Result<(String, u64), DatabaseError> {
    Ok((row.text("id")?, u64::try_from(row.int("serial")?).unwrap_or(0)))
}

pub(crate) async fn delete_of_user(tx: &mut Tx, user: &UserId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_credentials WHERE user_id = $1", &params![user]).await?;
    Ok(())
}

pub(crate) async fn delete_of_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_credentials WHERE project_id = $1", &params![project]).await?;
    Ok(())
}
