//! The SQL of `identity_assignments`.

use std::collections::BTreeMap;

use database::{DatabaseError, Row, Tx, params};
use service_kit::PageRequest;

use super::model::{ActorKind, Assignment, TargetKind};

fn assignment_of(row: &Row) -> Result<Option<Assignment>, DatabaseError> {
    let actor = ActorKind::parse(&row.text("actor_kind")?);
    let target = TargetKind::parse(&row.text("target_kind")?);
    // Kinds that a later release wrote are that release's to understand.
    let (Some(actor_kind), Some(target_kind)) = (actor, target) else {
        return Ok(None);
    };
    Ok(Some(Assignment {
        actor_kind,
        actor_id: row.text("actor_id")?,
        target_kind,
        target_id: row.text("target_id")?,
        role_id: row.parse("role_id")?,
        inherited: row.bool("inherited")?,
    }))
}

fn collect(rows: &[Row]) -> Result<Vec<Assignment>, DatabaseError> {
    let mut assignments = Vec::with_capacity(rows.len());
    for row in rows {
        assignments.extend(assignment_of(row)?);
    }
    Ok(assignments)
}

pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<Assignment>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_assignments
             ORDER BY actor_kind, actor_id, target_kind, target_id, role_id",
            &[],
        )
        .await?;
    collect(&rows)
}

/// What one actor has on one target.
pub(crate) async fn between(
    tx: &mut Tx,
    like: &Assignment,
) -> Result<Vec<Assignment>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_assignments
             WHERE actor_kind = $1 AND actor_id = $2 AND target_kind = $3 AND target_id = $4
               AND inherited = $5 ORDER BY role_id",
            &params![
                like.actor_kind.as_str(),
                like.actor_id,
                like.target_kind.as_str(),
                like.target_id,
                like.inherited
            ],
        )
        .await?;
    collect(&rows)
}

/// False when it was there already.
pub(crate) async fn add(tx: &mut Tx, wanted: &Assignment) -> Result<bool, DatabaseError> {
    let added = tx
        .execute(
            "INSERT INTO identity_assignments
                 (actor_kind, actor_id, target_kind, target_id, role_id, inherited)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &params![
                wanted.actor_kind.as_str(),
                wanted.actor_id,
                wanted.target_kind.as_str(),
                wanted.target_id,
                wanted.role_id,
                wanted.inherited
            ],
        )
        .await?;
    Ok(added == 1)
}

/// False when it was not there.
pub(crate) async fn remove(tx: &mut Tx, unwanted: &Assignment) -> Result<bool, DatabaseError> {
    let removed = tx
        .execute(
            "DELETE FROM identity_assignments
             WHERE actor_kind = $1 AND actor_id = $2 AND target_kind = $3 AND target_id = $4
               AND role_id = $5 AND inherited = $6",
            &params![
                unwanted.actor_kind.as_str(),
                unwanted.actor_id,
                unwanted.target_kind.as_str(),
                unwanted.target_id,
                unwanted.role_id,
                unwanted.inherited
            ],
        )
        .await?;
    Ok(removed == 1)
}

/// The members of every group.
pub(crate) async fn memberships(
    tx: &mut Tx,
) -> Result<BTreeMap<String, Vec<String>>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT group_id, user_id FROM identity_group_members ORDER BY group_id, user_id",
            &[],
        )
        .await?;
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        members.entry(row.text("group_id")?).or_default().push(row.text("user_id")?);
    }
    Ok(members)
}

/// Names of users, groups, projects, domains and roles by kind and id, with the domain of those
/// that are in one.
pub(crate) async fn names(
    tx: &mut Tx,
) -> Result<BTreeMap<(String, String), (String, Option<String>)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT 'user' AS kind, id, name, domain_id FROM identity_users
             UNION ALL SELECT 'group', id, name, domain_id FROM identity_groups
             UNION ALL SELECT 'project', id, name, domain_id FROM identity_projects
             UNION ALL SELECT 'domain', id, name, NULL FROM identity_domains
             UNION ALL SELECT 'role', id, name, NULL FROM identity_roles",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let key = (row.text("kind")?, row.text("id")?);
            Ok((key, (row.text("name")?, row.opt_text("domain_id")?)))
        })
        .collect()
}

/// All projects, for expanding.
pub(crate) async fn projects(
    tx: &mut Tx,
) -> Result<Vec<crate::project::model::Project>, DatabaseError> {
    let mut projects = Vec::new();
    let mut page = PageRequest::default();
    loop {
        let filters = service_kit::Filters::default();
        let mut rows = crate::project::store::list(tx, None, None, &filters, &page).await?;
        let more = page.cut(&mut rows);
        page.marker = rows.last().map(|project| project.id.to_string());
        projects.append(&mut rows);
        if !more {
            return Ok(projects);
        }
    }
}
