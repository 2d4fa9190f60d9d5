//! The SQL of `identity_trusts` and `identity_trust_roles`.

use cloud_types::{ProjectId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::Trust;
use crate::filter::Where;

fn trust_of(row: &Row) -> Result<Trust, DatabaseError> {
    Ok(Trust {
        id: row.text("id")?,
        trustor: row.parse("trustor_user_id")?,
        trustee: row.parse("trustee_user_id")?,
        project_id: row.opt_parse("project_id")?,
        impersonation: row.bool("impersonation")?,
        expires_at: row.opt_timestamp("expires_at")?,
        remaining_uses: row.opt_int("remaining_uses")?,
        redelegated_trust_id: row.opt_text("redelegated_trust_id")?,
        redelegation_count: row.int("redelegation_count")?,
        roles: Vec::new(),
        created_at: row.timestamp("created_at")?,
    })
}

/// A trust, whether or not it is still usable.
pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<Trust>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_trusts WHERE id = $1", &params![id]).await?;
    let Some(mut trust) = row.as_ref().map(trust_of).transpose()? else {
        return Ok(None);
    };
    let roles = tx
        .query(
            "SELECT role_id FROM identity_trust_roles WHERE trust_id = $1 ORDER BY role_id",
            &params![id],
        )
        .await?;
    trust.roles = roles.iter().map(|row| row.parse("role_id")).collect::<Result<_, _>>()?;
    Ok(Some(trust))
}

/// A page of trusts, without their roles.
pub(crate) async fn list(
    tx: &mut Tx,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Trust>, DatabaseError> {
    let mut condition = Where::default();
    condition.text("trustor_user_id", "trustor_user_id", filters);
    condition.text("trustee_user_id", "trustee_user_id", filters);
    let (clause, params) = condition.page("id", page);
    let rows = tx.query_dynamic(format!("SELECT * FROM identity_trusts{clause}"), &params).await?;
    rows.iter().map(trust_of).collect()
}

pub(crate) async fn insert(tx: &mut Tx, trust: &Trust) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_trusts
             (id, trustor_user_id, trustee_user_id, project_id, impersonation, expires_at,
              remaining_uses, redelegated_trust_id, redelegation_count, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &params![
            trust.id,
            trust.trustor,
            trust.trustee,
            trust.project_id,
            trust.impersonation,
            trust.expires_at,
            trust.remaining_uses,
            trust.redelegated_trust_id,
            trust.redelegation_count,
            trust.created_at
        ],
    )
    .await?;
    for role in &trust.roles {
        tx.execute(
            "INSERT INTO identity_trust_roles (trust_id, role_id) VALUES ($1, $2)",
            &params![trust.id, role],
        )
        .await?;
    }
    Ok(())
}

/// Counts one use. False when none was left.
pub(crate) async fn use_once(tx: &mut Tx, id: &str) -> Result<bool, DatabaseError> {
    let used = tx
        .execute(
            "UPDATE identity_trusts SET remaining_uses = remaining_uses - 1
             WHERE id = $1 AND remaining_uses > 0",
            &params![id],
        )
        .await?;
    Ok(used == 1)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_trust_roles WHERE trust_id = $1", &params![id]).await?;
    tx.execute("DELETE FROM identity_trusts WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// Those that were handed on by a trust.
pub(crate) async fn handed_on_by(tx: &mut Tx, id: &str) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query("SELECT id FROM identity_trusts WHERE redelegated_trust_id = $1", &params![id])
        .await?;
    rows.iter().map(|row| row.text("id")).collect()
}

/// Those that a user gave or has.
pub(crate) async fn of_user(tx: &mut Tx, user: &UserId) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_trusts WHERE trustor_user_id = $1
             UNION SELECT id FROM identity_trusts WHERE trustee_user_id = $1",
            &params![user],
        )
        .await?;
    rows.iter().map(|row| row.text("id")).collect()
}

pub(crate) async fn of_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Vec<String>, DatabaseError> {
    let rows =
        tx.query("SELECT id FROM identity_trusts WHERE project_id = $1", &params![project]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}
