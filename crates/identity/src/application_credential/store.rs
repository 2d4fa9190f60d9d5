//! The SQL of application credentials and access rules.

use std::collections::BTreeMap;

use cloud_types::{ProjectId, RoleId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{AccessRule, Filters, PageRequest};

use super::model::{ApplicationCredential, OwnRule};
use crate::filter::Where;

fn credential_of(row: &Row) -> Result<ApplicationCredential, DatabaseError> {
    Ok(ApplicationCredential {
        id: row.text("id")?,
        user_id: row.parse("user_id")?,
        project_id: row.parse("project_id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        secret_hash: row.text("secret_hash")?,
        unrestricted: row.bool("unrestricted")?,
        expires_at: row.opt_timestamp("expires_at")?,
        roles: Vec::new(),
        access_rules: Vec::new(),
        created_at: row.timestamp("created_at")?,
    })
}

fn rule_of(row: &Row) -> Result<OwnRule, DatabaseError> {
    Ok(OwnRule {
        id: row.text("id")?,
        rule: AccessRule {
            service: row.text("service")?,
            method: row.text("method")?,
            path: row.text("path")?,
        },
    })
}

pub(crate) async fn get(
    tx: &mut Tx,
    id: &str,
) -> Result<Option<ApplicationCredential>, DatabaseError> {
    let row = tx
        .query_opt("SELECT * FROM identity_application_credentials WHERE id = $1", &params![id])
        .await?;
    let Some(mut credential) = row.as_ref().map(credential_of).transpose()? else {
        return Ok(None);
    };
    let roles = tx
        .query(
            "SELECT role_id FROM identity_application_credential_roles
             WHERE application_credential_id = $1 ORDER BY role_id",
            &params![id],
        )
        .await?;
    credential.roles = roles.iter().map(|row| row.parse("role_id")).collect::<Result<_, _>>()?;
    let rules = tx
        .query(
            "SELECT r.* FROM identity_access_rules r
             JOIN identity_application_credential_rules c ON c.access_rule_id = r.id
             WHERE c.application_credential_id = $1 ORDER BY r.id",
            &params![id],
        )
        .await?;
    credential.access_rules = rules.iter().map(rule_of).collect::<Result<_, _>>()?;
    Ok(Some(credential))
}

pub(crate) async fn by_name(
    tx: &mut Tx,
    user: &UserId,
    name: &str,
) -> Result<Option<ApplicationCredential>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT id FROM identity_application_credentials WHERE user_id = $1 AND name = $2",
            &params![user, name],
        )
        .await?;
    match row {
        Some(row) => get(tx, &row.text("id")?).await,
        None => Ok(None),
    }
}

/// A page of a user's credentials.
pub(crate) async fn list(
    tx: &mut Tx,
    user: &UserId,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<ApplicationCredential>, DatabaseError> {
    let mut condition = Where::default();
    condition.equal("user_id", user);
    condition.text("name", "name", filters);
    let (clause, params) = condition.page("id", page);
    let sql = format!("SELECT * FROM identity_application_credentials{clause}");
    let rows = tx.query_dynamic(sql, &params).await?;
    let mut found = rows.iter().map(credential_of).collect::<Result<Vec<_>, _>>()?;
    let mut roles: BTreeMap<String, Vec<RoleId>> = BTreeMap::new();
    for row in tx
        .query(
            "SELECT r.application_credential_id, r.role_id
             FROM identity_application_credential_roles r
             JOIN identity_application_credentials c ON c.id = r.application_credential_id
             WHERE c.user_id = $1 ORDER BY r.role_id",
            &params![user],
        )
        .await?
    {
        roles
            .entry(row.text("application_credential_id")?)
            .or_default()
            .push(row.parse("role_id")?);
    }
    let mut rules: BTreeMap<String, Vec<OwnRule>> = BTreeMap::new();
    for row in tx
        .query(
            "SELECT c.application_credential_id, r.* FROM identity_access_rules r
             JOIN identity_application_credential_rules c ON c.access_rule_id = r.id
             WHERE r.user_id = $1 ORDER BY r.id",
            &params![user],
        )
        .await?
    {
        rules.entry(row.text("application_credential_id")?).or_default().push(rule_of(&row)?);
    }
    for credential in &mut found {
        credential.roles = roles.remove(&credential.id).unwrap_or_default();
        credential.access_rules = rules.remove(&credential.id).unwrap_or_default();
    }
    Ok(found)
}

/// False when the user has one of the name already.
pub(crate) async fn insert(
    tx: &mut Tx,
    credential: &ApplicationCredential,
) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_application_credentials
                 (id, user_id, project_id, name, description, secret_hash, unrestricted,
                  expires_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            &params![
                credential.id,
                credential.user_id,
                credential.project_id,
                credential.name,
                credential.description,
                credential.secret_hash,
                credential.unrestricted,
                credential.expires_at,
                credential.created_at
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    for role in &credential.roles {
        tx.execute(
            "INSERT INTO identity_application_credential_roles
                 (application_credential_id, role_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &params![credential.id, role],
        )
        .await?;
    }
    for own in &credential.access_rules {
        tx.execute(
            "INSERT INTO identity_application_credential_rules
                 (application_credential_id, access_rule_id) VALUES ($1, $2)
             ON CONFLICT DO NOTHING",
            &params![credential.id, own.id],
        )
        .await?;
    }
    Ok(true)
}

/// Deletes a credential; its access rules stay.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_application_credential_roles WHERE application_credential_id = $1",
        &params![id],
    )
    .await?;
    tx.execute(
        "DELETE FROM identity_application_credential_rules WHERE application_credential_id = $1",
        &params![id],
    )
    .await?;
    tx.execute("DELETE FROM identity_application_credentials WHERE id = $1", &params![id]).await?;
    Ok(())
}

fn ids(rows: &[Row]) -> Result<Vec<String>, DatabaseError> {
    rows.iter().map(|row| row.text("id")).collect()
}

pub(crate) async fn of_user(tx: &mut Tx, user: &UserId) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query("SELECT id FROM identity_application_credentials WHERE user_id = $1", &params![user])
        .await?;
    ids(&rows)
}

pub(crate) async fn of_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM identity_application_credentials WHERE project_id = $1",
            &params![project],
        )
        .await?;
    ids(&rows)
}

/// Those that have a role.
pub(crate) async fn with_role(tx: &mut Tx, role: &RoleId) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT application_credential_id AS id FROM identity_application_credential_roles
             WHERE role_id = $1",
            &params![role],
        )
        .await?;
    ids(&rows)
}

pub(crate) async fn access_rule(
    tx: &mut Tx,
    user: &UserId,
    id: &str,
) -> Result<Option<OwnRule>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_access_rules WHERE id = $1 AND user_id = $2",
            &params![id, user],
        )
        .await?;
    row.as_ref().map(rule_of).transpose()
}

/// The rule of a user that says the same; made when there is none.
pub(crate) async fn access_rule_like(
    tx: &mut Tx,
    user: &UserId,
    wanted: OwnRule,
) -> Result<OwnRule, DatabaseError> {
    let AccessRule { service, method, path } = &wanted.rule;
    let found = tx
        .query_opt(
            "SELECT * FROM identity_access_rules
             WHERE user_id = $1 AND service = $2 AND method = $3 AND path = $4",
            &params![user, service, method, path],
        )
        .await?;
    if let Some(row) = found {
        return rule_of(&row);
    }
    tx.execute(
        "INSERT INTO identity_access_rules (id, user_id, service, method, path)
         VALUES ($1, $2, $3, $4, $5)",
        &params![wanted.id, user, service, method, path],
    )
    .await?;
    Ok(wanted)
}

pub(crate) async fn access_rules(
    tx: &mut Tx,
    user: &UserId,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<OwnRule>, DatabaseError> {
    let mut condition = Where::default();
    condition.equal("user_id", user);
    condition.text("service", "service", filters);
    condition.text("method", "method", filters);
    condition.text("path", "path", filters);
    let (clause, params) = condition.page("id", page);
    let rows =
        tx.query_dynamic(format!("SELECT * FROM identity_access_rules{clause}"), &params).await?;
    rows.iter().map(rule_of).collect()
}

pub(crate) async fn access_rule_is_used(tx: &mut Tx, id: &str) -> Result<bool, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT 1 AS used FROM identity_application_credential_rules
             WHERE access_rule_id = $1 LIMIT 1",
            &params![id],
        )
        .await?;
    Ok(row.is_some())
}

pub(crate) async fn delete_access_rule(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_access_rules WHERE id = $1", &params![id]).await?;
    Ok(())
}

pub(crate) async fn delete_access_rules_of(
    tx: &mut Tx,
    user: &UserId,
) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_access_rules WHERE user_id = $1", &params![user]).await?;
    Ok(())
}
