//! The SQL of an import: what is there.

use database::{DatabaseError, Tx};

use super::model::{Known, Present, key};

/// Every object with its place and name, every membership, implication and assignment.
pub(super) async fn present(tx: &mut Tx) -> Result<Present, DatabaseError> {
    let mut present = Present::default();
    for (kind, sql) in [
        ("role", "SELECT id, '' AS place, name FROM identity_roles"),
        ("domain", "SELECT id, '' AS place, name FROM identity_domains"),
        ("project", "SELECT id, domain_id AS place, name FROM identity_projects"),
        ("user", "SELECT id, domain_id AS place, name FROM identity_users"),
        ("group", "SELECT id, domain_id AS place, name FROM identity_groups"),
    ] {
        let mut known = Known::new();
        for row in tx.query(sql, &[]).await? {
            known.insert(row.text("id")?, (row.text("place")?, row.text("name")?));
        }
        present.objects.insert(kind, known);
    }
    for (kind, sql) in [
        ("membership", "SELECT group_id AS one, user_id AS other FROM identity_group_members"),
        (
            "implied role",
            "SELECT prior_role_id AS one, implied_role_id AS other FROM identity_implied_roles",
        ),
    ] {
        let mut known = Known::new();
        for row in tx.query(sql, &[]).await? {
            let pair = format!("{} {}", row.text("one")?, row.text("other")?);
            known.insert(pair, Default::default());
        }
        present.objects.insert(kind, known);
    }
    let mut known = Known::new();
    let rows = tx
        .query(
            "SELECT actor_kind, actor_id, target_kind, target_id, role_id, inherited
             FROM identity_assignments",
            &[],
        )
        .await?;
    for row in rows {
        let line = key(
            &row.text("actor_kind")?,
            &row.text("actor_id")?,
            &row.text("target_kind")?,
            &row.text("target_id")?,
            &row.text("role_id")?,
            row.bool("inherited")?,
        );
        known.insert(line, Default::default());
    }
    present.objects.insert("assignment", known);
    Ok(present)
}
