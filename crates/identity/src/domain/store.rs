//! The SQL of `identity_domains`.

use cloud_types::{DomainId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::Domain;
use crate::filter::Where;

fn domain_of(row: &Row) -> Result<Domain, DatabaseError> {
    Ok(Domain {
        id: row.parse("id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        enabled: row.bool("enabled")?,
        tags: row.json("tags")?,
        options: row.json("options")?,
        extra: row.json("extra")?,
        serial: u64::try_from(row.int("serial")?).unwrap_or(0),
        generation: row.int("generation")?,
        created_at: row.timestamp("created_at")?,
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &DomainId) -> Result<Option<Domain>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_domains WHERE id = $1", &params![id]).await?;
    row.as_ref().map(domain_of).transpose()
}

pub(crate) async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<Domain>, DatabaseError> {
    let row =
        tx.query_opt("SELECT * FROM identity_domains WHERE name = $1", &params![name]).await?;
    row.as_ref().map(domain_of).transpose()
}

/// `own` limits the list to one domain.
pub(crate) async fn list(
    tx: &mut Tx,
    own: Option<&DomainId>,
    enabled: Option<bool>,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Domain>, DatabaseError> {
    let mut condition = Where::default();
    if let Some(own) = own {
        condition.equal("id", own);
    }
    if let Some(enabled) = enabled {
        condition.equal("enabled", enabled);
    }
    condition.text("name", "name", filters);
    let (clause, params) = condition.page("id", page);
    let rows = tx.query_dynamic(format!("SELECT * FROM identity_domains{clause}"), &params).await?;
    rows.iter().map(domain_of).collect()
}

/// The domains on which the user has a role, directly or by a group.
pub(crate) async fn with_roles_of(
    tx: &mut Tx,
    user: &UserId,
) -> Result<Vec<Domain>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_domains WHERE enabled = 1 AND id IN (
                 SELECT target_id FROM identity_assignments
                 WHERE target_kind = 'domain' AND inherited = 0
                   AND ((actor_kind = 'user' AND actor_id = $1)
                     OR (actor_kind = 'group' AND actor_id IN
                         (SELECT group_id FROM identity_group_members WHERE user_id = $1)))
             ) ORDER BY id",
            &params![user],
        )
        .await?;
    rows.iter().map(domain_of).collect()
}

/// False when the name or id is taken.
pub(crate) async fn insert(tx: &mut Tx, domain: &Domain) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_domains
                 (id, name, description, enabled, tags, options, extra, serial, generation,
                  created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
            &params![
                domain.id,
                domain.name,
                domain.description,
                domain.enabled,
                serde_json::json!(domain.tags).to_string(),
                serde_json::Value::Object(domain.options.clone()).to_string(),
                serde_json::Value::Object(domain.extra.clone()).to_string(),
                i64::try_from(domain.serial).unwrap_or(i64::MAX),
                domain.generation,
                domain.created_at
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update(tx: &mut Tx, domain: &Domain) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_domains
             SET name = $3, description = $4, enabled = $5, tags = $6, options = $7, extra = $8,
                 serial = $9, generation = generation + 1
             WHERE id = $1 AND generation = $2",
            &params![
                domain.id,
                domain.generation,
                domain.name,
                domain.description,
                domain.enabled,
                serde_json::json!(domain.tags).to_string(),
                serde_json::Value::Object(domain.options.clone()).to_string(),
                serde_json::Value::Object(domain.extra.clone()).to_string(),
                i64::try_from(domain.serial).unwrap_or(i64::MAX)
            ],
        )
        .await?;
    tx.expect_one(changed, "domain", &domain.id)
}

pub(crate) async fn delete(tx: &mut Tx, id: &DomainId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_domains WHERE id = $1", &params![id]).await?;
    tx.execute(
        "DELETE FROM identity_assignments WHERE target_kind = 'domain' AND target_id = $1",
        &params![id],
    )
    .await?;
    Ok(())
}
