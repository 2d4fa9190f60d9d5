//! The SQL of `identity_assignments`.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::UserId;
use database::{DatabaseError, Row, ToValue, Tx, Value, params};
use service_kit::PageRequest;

use super::model::{ActorKind, Assignment, TargetKind, Wanted};
use crate::filter::Where;

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

/// The assignments that are wanted; of those in effect, the ones that they may follow from.
pub(crate) async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Assignment>, DatabaseError> {
    let mut condition = Where::default();
    if wanted.effective {
        may_lead_to(&mut condition, wanted);
    } else {
        exactly(&mut condition, wanted);
    }
    let (clause, params) = condition.clause();
    let sql = format!(
        "SELECT * FROM identity_assignments{clause}
         ORDER BY actor_kind, actor_id, target_kind, target_id, role_id"
    );
    collect(&tx.query_dynamic(sql, &params).await?)
}

fn exactly(condition: &mut Where, wanted: &Wanted) {
    for (column, value) in [
        ("actor_kind = 'user' AND actor_id = {}", &wanted.user),
        ("actor_kind = 'group' AND actor_id = {}", &wanted.group),
        ("role_id = {}", &wanted.role),
        ("target_kind = 'project' AND target_id = {}", &wanted.project),
        ("target_kind = 'domain' AND target_id = {}", &wanted.domain),
        (
            "((target_kind = 'domain' AND target_id = {}) OR (target_kind = 'project' AND \
             target_id IN (SELECT id FROM identity_projects WHERE domain_id = {})))",
            &wanted.within,
        ),
    ] {
        if let Some(value) = value {
            condition.with(column, value);
        }
    }
    if let Some(tree) = &wanted.tree {
        condition.within("target_kind = 'project' AND target_id IN ({})", tree);
    }
    if wanted.system {
        condition.always("target_kind = 'system'");
    }
    if wanted.only_inherited {
        condition.always("inherited = 1");
    }
}

/// A role may follow from another, hence no condition on it; what is handed down ends at projects.
fn may_lead_to(condition: &mut Where, wanted: &Wanted) {
    for (column, value) in [
        (
            "((actor_kind = 'user' AND actor_id = {}) OR (actor_kind = 'group' AND actor_id IN \
             (SELECT group_id FROM identity_group_members WHERE user_id = {})))",
            &wanted.user,
        ),
        ("(inherited = 1 OR (target_kind = 'project' AND target_id = {}))", &wanted.project),
        ("inherited = 0 AND target_kind = 'domain' AND target_id = {}", &wanted.domain),
    ] {
        if let Some(value) = value {
            condition.with(column, value);
        }
    }
    if let Some(tree) = &wanted.tree {
        let condition_of = "(inherited = 1 OR (target_kind = 'project' AND target_id IN ({})))";
        condition.within(condition_of, tree);
    }
    if wanted.system {
        condition.always("inherited = 0 AND target_kind = 'system'");
    }
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

/// A user's own roles on projects, those that are handed down aside.
pub(crate) async fn projects_of_user(
    tx: &mut Tx,
    user: &UserId,
) -> Result<Vec<Assignment>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_assignments
             WHERE actor_kind = 'user' AND actor_id = $1 AND target_kind = 'project'
               AND inherited = 0 ORDER BY target_id, role_id",
            &params![user],
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

/// The members of every group; of one user, the groups that it is in.
pub(crate) async fn memberships(
    tx: &mut Tx,
    user: Option<&str>,
) -> Result<BTreeMap<String, Vec<String>>, DatabaseError> {
    let mut condition = Where::default();
    if let Some(user) = user {
        condition.equal("user_id", user);
    }
    let (clause, params) = condition.clause();
    let sql = format!(
        "SELECT group_id, user_id FROM identity_group_members{clause} ORDER BY group_id, user_id"
    );
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in tx.query_dynamic(sql, &params).await? {
        members.entry(row.text("group_id")?).or_default().push(row.text("user_id")?);
    }
    Ok(members)
}

/// Names by kind and id, with the domain of those that are in one.
pub(crate) type Names = BTreeMap<(String, String), (String, Option<String>)>;

/// The names of what these assignments are about, and of the domains that it is in.
pub(crate) async fn names(tx: &mut Tx, rows: &[Assignment]) -> Result<Names, DatabaseError> {
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        wanted.entry(row.actor_kind.as_str()).or_default().insert(row.actor_id.clone());
        wanted.entry(row.target_kind.as_str()).or_default().insert(row.target_id.clone());
        wanted.entry("role").or_default().insert(row.role_id.to_string());
    }
    let mut names = Names::new();
    // Domains last: the others say which.
    for (kind, table, domain) in [
        ("user", "identity_users", "domain_id"),
        ("group", "identity_groups", "domain_id"),
        ("project", "identity_projects", "domain_id"),
        ("role", "identity_roles", "NULLIF(domain_id, '')"),
        ("domain", "identity_domains", "NULL"),
    ] {
        let ids: Vec<String> = wanted.remove(kind).unwrap_or_default().into_iter().collect();
        for chunk in ids.chunks(500) {
            let places: Vec<String> = (1..=chunk.len()).map(|n| format!("${n}")).collect();
            let sql = format!(
                "SELECT id, name, {domain} AS domain_id FROM {table} WHERE id IN ({})",
                places.join(", ")
            );
            let params: Vec<Value> = chunk.iter().map(ToValue::to_value).collect();
            for row in tx.query_dynamic(sql, &params).await? {
                let domain = row.opt_text("domain_id")?;
                wanted.entry("domain").or_default().extend(domain.clone());
                names.insert((kind.to_owned(), row.text("id")?), (row.text("name")?, domain));
            }
        }
    }
    Ok(names)
}

/// All projects, for expanding.
pub(crate) async fn projects(
    tx: &mut Tx,
) -> Result<Vec<crate::project::model::Project>, DatabaseError> {
    let mut projects = Vec::new();
    let mut page = PageRequest::default();
    loop {
        let filters = service_kit::Filters::default();
        let mut rows = crate::project::store::list(tx, &[], None, &filters, &page).await?;
        let more = page.cut(&mut rows);
        page.marker = rows.last().map(|project| project.id.to_string());
        projects.append(&mut rows);
        if !more {
            return Ok(projects);
        }
    }
}
