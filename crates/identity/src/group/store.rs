//! The SQL of `identity_groups` and `identity_group_members`.

use cloud_types::{DomainId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::Group;
use crate::filter::Where;

fn group_of(row: &Row) -> Result<Group, DatabaseError> {
    Ok(Group {
        id: row.text("id")?,
        domain_id: row.parse("domain_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        extra: row.json("extra")?,
        serial: u64::try_from(row.int("serial")?).unwrap_or(0),
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<Group>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_groups WHERE id = $1", &params![id]).await?;
    row.as_ref().map(group_of).transpose()
}

pub(crate) async fn by_name(
    tx: &mut Tx,
    domain: &DomainId,
    name: &str,
) -> Result<Option<Group>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_groups WHERE domain_id = $1 AND name = $2",
            &params![domain, name],
        )
        .await?;
    row.as_ref().map(group_of).transpose()
}

pub(crate) async fn list(
    tx: &mut Tx,
    domains: &[DomainId],
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Group>, DatabaseError> {
    let mut condition = Where::default();
    for domain in domains {
        condition.equal("domain_id", domain);
    }
    condition.text("name", "name", filters);
    let (clause, params) = condition.page("id", page);
    let rows = tx.query_dynamic(format!("SELECT * FROM identity_groups{clause}"), &params).await?;
    rows.iter().map(group_of).collect()
}

pub(crate) async fn of_user(tx: &mut Tx, user: &UserId) -> Result<Vec<Group>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT g.* FROM identity_groups g
             JOIN identity_group_members m ON m.group_id = g.id
             WHERE m.user_id = $1 ORDER BY g.id",
            &params![user],
        )
        .await?;
    rows.iter().map(group_of).collect()
}

/// False when the name is taken in the domain.
pub(crate) async fn insert(tx: &mut Tx, group: &Group) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let inserted = tx
        .execute(
            "INSERT INTO identity_groups (id, domain_id, name, description, extra, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &params![
                group.id,
                group.domain_id,
                group.name,
                group.description,
                serde_json::Value::Object(group.extra.clone()).to_string(),
                now
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// False when the new name is taken in the domain.
pub(crate) async fn update(tx: &mut Tx, group: &Group) -> Result<bool, DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_groups SET name = $2, description = $3, extra = $5
             WHERE id = $1 AND NOT EXISTS (
                 SELECT 1 FROM identity_groups o
                 WHERE o.domain_id = $4 AND o.name = $2 AND o.id <> $1)",
            &params![
                group.id,
                group.name,
                group.description,
                group.domain_id,
                serde_json::Value::Object(group.extra.clone()).to_string()
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Raises the serial; answers the new one, which is the first good one. `None`: no such group.
pub(crate) async fn raise_serial(tx: &mut Tx, id: &str) -> Result<Option<u64>, DatabaseError> {
    let row = tx
        .query_opt(
            "UPDATE identity_groups SET serial = serial + 1 WHERE id = $1 RETURNING serial",
            &params![id],
        )
        .await?;
    row.map(|row| Ok(u64::try_from(row.int("serial")?).unwrap_or(0))).transpose()
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_group_members WHERE group_id = $1", &params![id]).await?;
    tx.execute(
        "DELETE FROM identity_assignments WHERE actor_kind = 'group' AND actor_id = $1",
        &params![id],
    )
    .await?;
    tx.execute("DELETE FROM identity_groups WHERE id = $1", &params![id]).await?;
    Ok(())
}

pub(crate) async fn in_domain(
    tx: &mut Tx,
    domain: &DomainId,
) -> Result<Vec<String>, DatabaseError> {
    let rows =
        tx.query("SELECT id FROM identity_groups WHERE domain_id = $1", &params![domain]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

pub(crate) async fn add_member(
    tx: &mut Tx,
    group: &str,
    user: &UserId,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_group_members (group_id, user_id) VALUES ($1, $2)
         ON CONFLICT DO NOTHING",
        &params![group, user],
    )
    .await?;
    Ok(())
}

/// False when the user was no member.
pub(crate) async fn remove_member(
    tx: &mut Tx,
    group: &str,
    user: &UserId,
) -> Result<bool, DatabaseError> {
    let removed = tx
        .execute(
            "DELETE FROM identity_group_members WHERE group_id = $1 AND user_id = $2",
            &params![group, user],
        )
        .await?;
    Ok(removed == 1)
}

pub(crate) async fn members(tx: &mut Tx, group: &str) -> Result<Vec<UserId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT user_id FROM identity_group_members WHERE group_id = $1 ORDER BY user_id",
            &params![group],
        )
        .await?;
    rows.iter().map(|row| row.parse("user_id")).collect()
}
