//! The SQL of `identity_users`.

use cloud_types::{DomainId, ProjectId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::{Standing, User};
use crate::compliance;
use crate::filter::{ExpiryFilter, Where};

fn user_of(row: &Row) -> Result<User, DatabaseError> {
    Ok(User {
        id: row.parse("id")?,
        domain_id: row.parse("domain_id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        enabled: row.bool("enabled")?,
        default_project_id: row
            .opt_text("default_project_id")?
            .and_then(|id| id.parse::<ProjectId>().ok()),
        password_hash: row.opt_text("password_hash")?,
        password_changed_at: row.opt_timestamp("password_changed_at")?,
        standing: Standing {
            password_expires_at: row.opt_timestamp("password_expires_at")?,
            chosen: row.bool("password_self_service")?,
            last_active_day: row.opt_int("last_active_day")?,
            valid_until: row.opt_timestamp("valid_until")?,
        },
        options: row.json("options")?,
        extra: row.json("extra")?,
        serial: u64::try_from(row.int("serial")?).unwrap_or(0),
        generation: row.int("generation")?,
        created_at: row.timestamp("created_at")?,
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &UserId) -> Result<Option<User>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_users WHERE id = $1", &params![id]).await?;
    row.as_ref().map(user_of).transpose()
}

pub(crate) async fn by_name(
    tx: &mut Tx,
    domain: &DomainId,
    name: &str,
) -> Result<Option<User>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_users WHERE domain_id = $1 AND name = $2",
            &params![domain, name],
        )
        .await?;
    row.as_ref().map(user_of).transpose()
}

pub(crate) async fn list(
    tx: &mut Tx,
    domains: &[DomainId],
    enabled: Option<bool>,
    expiry: Option<&ExpiryFilter>,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<User>, DatabaseError> {
    let mut condition = Where::default();
    for domain in domains {
        condition.equal("domain_id", domain);
    }
    if let Some(enabled) = enabled {
        condition.equal("enabled", enabled);
    }
    if let Some(expiry) = expiry {
        condition.with(expiry.condition, expiry.time);
    }
    condition.text("name", "name", filters);
    let (clause, params) = condition.page("id", page);
    let sql = format!("SELECT * FROM identity_users{clause}");
    let rows = tx.query_dynamic(sql, &params).await?;
    rows.iter().map(user_of).collect()
}

pub(crate) async fn in_group(tx: &mut Tx, group: &str) -> Result<Vec<User>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT u.* FROM identity_users u
             JOIN identity_group_members m ON m.user_id = u.id
             WHERE m.group_id = $1 ORDER BY u.id",
            &params![group],
        )
        .await?;
    rows.iter().map(user_of).collect()
}

/// False when the name is taken in the domain.
pub(crate) async fn insert(tx: &mut Tx, user: &User) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_users
                 (id, domain_id, name, description, enabled, default_project_id, password_hash,
                  password_changed_at, options, extra, serial, generation, created_at,
                  password_expires_at, password_self_service, last_active_day, valid_until)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             ON CONFLICT DO NOTHING",
            &params![
                user.id,
                user.domain_id,
                user.name,
                user.description,
                user.enabled,
                user.default_project_id,
                user.password_hash,
                user.password_changed_at,
                serde_json::Value::Object(user.options.clone()).to_string(),
                serde_json::Value::Object(user.extra.clone()).to_string(),
                i64::try_from(user.serial).unwrap_or(i64::MAX),
                user.generation,
                user.created_at,
                user.standing.password_expires_at,
                user.standing.chosen,
                user.standing.last_active_day,
                user.standing.valid_until
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Writes what may change, at the generation that was read.
pub(crate) async fn update(tx: &mut Tx, user: &User) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_users
             SET name = $3, description = $4, enabled = $5, default_project_id = $6,
                 password_hash = $7, password_changed_at = $8, options = $9, extra = $10,
                 serial = $11, password_expires_at = $12, password_self_service = $13,
                 valid_until = $14, generation = generation + 1
             WHERE id = $1 AND generation = $2",
            &params![
                user.id,
                user.generation,
                user.name,
                user.description,
                user.enabled,
                user.default_project_id,
                user.password_hash,
                user.password_changed_at,
                serde_json::Value::Object(user.options.clone()).to_string(),
                serde_json::Value::Object(user.extra.clone()).to_string(),
                i64::try_from(user.serial).unwrap_or(i64::MAX),
                user.standing.password_expires_at,
                user.standing.chosen,
                user.standing.valid_until
            ],
        )
        .await?;
    tx.expect_one(changed, "user", &user.id)
}

/// Raises the serial; answers the new one, which is the first good one. `None`: no such user.
pub(crate) async fn raise_serial(tx: &mut Tx, id: &UserId) -> Result<Option<u64>, DatabaseError> {
    let row = tx
        .query_opt(
            "UPDATE identity_users SET serial = serial + 1, generation = generation + 1
             WHERE id = $1 RETURNING serial",
            &params![id],
        )
        .await?;
    row.map(|row| Ok(u64::try_from(row.int("serial")?).unwrap_or(0))).transpose()
}

pub(crate) async fn delete(tx: &mut Tx, id: &UserId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_users WHERE id = $1", &params![id]).await?;
    compliance::store::forget(tx, id).await?;
    tx.execute("DELETE FROM identity_group_members WHERE user_id = $1", &params![id]).await?;
    crate::federation::store::forget_user(tx, id).await?;
    tx.execute("DELETE FROM identity_directory_sessions WHERE user_id = $1", &params![id]).await?;
    tx.execute(
        "DELETE FROM identity_assignments WHERE actor_kind = 'user' AND actor_id = $1",
        &params![id],
    )
    .await?;
    Ok(())
}

/// Users whose default project is gone keep none.
pub(crate) async fn forget_default_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE identity_users SET default_project_id = NULL, generation = generation + 1
         WHERE default_project_id = $1",
        &params![project],
    )
    .await?;
    Ok(())
}

pub(crate) async fn any_in_domain(
    tx: &mut Tx,
    domain: &DomainId,
) -> Result<Vec<UserId>, DatabaseError> {
    let rows =
        tx.query("SELECT id FROM identity_users WHERE domain_id = $1", &params![domain]).await?;
    rows.iter().map(|row| row.parse("id")).collect()
}
