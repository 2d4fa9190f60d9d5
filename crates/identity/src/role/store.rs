//! The SQL of `identity_roles` and `identity_implied_roles`.

use cloud_types::{DomainId, RoleId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::Role;
use crate::filter::Where;

fn role_of(row: &Row) -> Result<Role, DatabaseError> {
    Ok(Role {
        id: row.parse("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        domain_id: row.text("domain_id")?.parse().ok(),
        options: row.json("options")?,
        created_at: row.timestamp("created_at")?,
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &RoleId) -> Result<Option<Role>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_roles WHERE id = $1", &params![id]).await?;
    row.as_ref().map(role_of).transpose()
}

/// How the database names the domain of a role; the cloud's roles are in none.
fn place(domain: Option<&DomainId>) -> &str {
    domain.map_or("", DomainId::as_str)
}

/// Of a domain's roles, or (`None`) of the cloud's.
pub(crate) async fn by_name(
    tx: &mut Tx,
    domain: Option<&DomainId>,
    name: &str,
) -> Result<Option<Role>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_roles WHERE domain_id = $1 AND name = $2",
            &params![place(domain), name],
        )
        .await?;
    row.as_ref().map(role_of).transpose()
}

pub(crate) async fn list(
    tx: &mut Tx,
    domain: Option<&DomainId>,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Role>, DatabaseError> {
    let mut condition = Where::default();
    condition.equal("domain_id", place(domain));
    condition.text("name", "name", filters);
    let (clause, params) = condition.page("id", page);
    let rows = tx.query_dynamic(format!("SELECT * FROM identity_roles{clause}"), &params).await?;
    rows.iter().map(role_of).collect()
}

/// False when the name is taken.
pub(crate) async fn insert(tx: &mut Tx, role: &Role) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_roles (id, domain_id, name, description, options, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &params![
                role.id,
                place(role.domain_id.as_ref()),
                role.name,
                role.description,
                serde_json::Value::Object(role.options.clone()).to_string(),
                role.created_at
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update(tx: &mut Tx, role: &Role) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_roles SET name = $2, description = $3, options = $4 WHERE id = $1",
            &params![
                role.id,
                role.name,
                role.description,
                serde_json::Value::Object(role.options.clone()).to_string()
            ],
        )
        .await?;
    tx.expect_one(changed, "role", &role.id)
}

/// Users who hold the role somewhere, directly or by a group.
pub(crate) async fn holders(tx: &mut Tx, role: &RoleId) -> Result<Vec<UserId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT actor_id AS user_id FROM identity_assignments
             WHERE actor_kind = 'user' AND role_id = $1
             UNION
             SELECT m.user_id FROM identity_group_members m
             JOIN identity_assignments a ON a.actor_kind = 'group' AND a.actor_id = m.group_id
             WHERE a.role_id = $1",
            &params![role],
        )
        .await?;
    rows.iter().map(|row| row.parse("user_id")).collect()
}

pub(crate) async fn holding_groups(
    tx: &mut Tx,
    role: &RoleId,
) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT DISTINCT actor_id FROM identity_assignments
             WHERE actor_kind = 'group' AND role_id = $1",
            &params![role],
        )
        .await?;
    rows.iter().map(|row| row.text("actor_id")).collect()
}

pub(crate) async fn delete(tx: &mut Tx, id: &RoleId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_assignments WHERE role_id = $1", &params![id]).await?;
    tx.execute(
        "DELETE FROM identity_implied_roles WHERE prior_role_id = $1 OR implied_role_id = $1",
        &params![id],
    )
    .await?;
    tx.execute("DELETE FROM identity_roles WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// All implications: the prior role, and the one that it implies.
pub(crate) async fn implications(tx: &mut Tx) -> Result<Vec<(RoleId, RoleId)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT prior_role_id, implied_role_id FROM identity_implied_roles
             ORDER BY prior_role_id, implied_role_id",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.parse("prior_role_id")?, row.parse("implied_role_id")?)))
        .collect()
}

pub(crate) async fn imply(
    tx: &mut Tx,
    prior: &RoleId,
    implied: &RoleId,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_implied_roles (prior_role_id, implied_role_id)
         VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &params![prior, implied],
    )
    .await?;
    Ok(())
}

/// False when there was no such implication.
pub(crate) async fn end_implication(
    tx: &mut Tx,
    prior: &RoleId,
    implied: &RoleId,
) -> Result<bool, DatabaseError> {
    let ended = tx
        .execute(
            "DELETE FROM identity_implied_roles
             WHERE prior_role_id = $1 AND implied_role_id = $2",
            &params![prior, implied],
        )
        .await?;
    Ok(ended == 1)
}

/// The roles of a domain.
pub(crate) async fn of_domain(tx: &mut Tx, domain: &DomainId) -> Result<Vec<Role>, DatabaseError> {
    let rows = tx
        .query("SELECT * FROM identity_roles WHERE domain_id = $1 ORDER BY id", &params![domain])
        .await?;
    rows.iter().map(role_of).collect()
}
