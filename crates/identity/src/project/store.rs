//! The SQL of `identity_projects`.

use cloud_types::{DomainId, ProjectId, UserId};
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::Project;
use crate::filter::Where;

fn project_of(row: &Row) -> Result<Project, DatabaseError> {
    Ok(Project {
        id: row.parse("id")?,
        domain_id: row.parse("domain_id")?,
        parent_id: row.opt_text("parent_id")?.and_then(|id| id.parse().ok()),
        is_domain: false,
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

pub(crate) async fn get(tx: &mut Tx, id: &ProjectId) -> Result<Option<Project>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_projects WHERE id = $1", &params![id]).await?;
    row.as_ref().map(project_of).transpose()
}

pub(crate) async fn by_name(
    tx: &mut Tx,
    domain: &DomainId,
    name: &str,
) -> Result<Option<Project>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_projects WHERE domain_id = $1 AND name = $2",
            &params![domain, name],
        )
        .await?;
    row.as_ref().map(project_of).transpose()
}

/// The project, or the domain that is seen as one.
pub(crate) async fn get_any(tx: &mut Tx, id: &ProjectId) -> Result<Option<Project>, DatabaseError> {
    if let Some(found) = get(tx, id).await? {
        return Ok(Some(found));
    }
    let Ok(domain) = id.as_str().parse() else {
        return Ok(None);
    };
    Ok(crate::domain::store::get(tx, &domain).await?.as_ref().map(Project::of_domain))
}

/// The projects above one, the nearest first; the domain is not among them.
pub(crate) async fn ancestors(tx: &mut Tx, id: &ProjectId) -> Result<Vec<Project>, DatabaseError> {
    let rows = tx
        .query(
            "WITH RECURSIVE line (id, parent_id, depth) AS (
                 SELECT id, parent_id, 0 FROM identity_projects WHERE id = $1
                 UNION
                 SELECT p.id, p.parent_id, line.depth + 1
                 FROM identity_projects p JOIN line ON p.id = line.parent_id
                 WHERE line.depth < 1000
             )
             SELECT p.* FROM line JOIN identity_projects p ON p.id = line.id
             WHERE line.depth > 0 ORDER BY line.depth",
            &params![id],
        )
        .await?;
    rows.iter().map(project_of).collect()
}

/// The projects below one (or below a domain), parents before their children.
pub(crate) async fn subtree(tx: &mut Tx, top: &Project) -> Result<Vec<Project>, DatabaseError> {
    let sql = if top.is_domain {
        "WITH RECURSIVE tree (id, depth) AS (
             SELECT id, 1 FROM identity_projects WHERE domain_id = $1 AND parent_id IS NULL
             UNION
             SELECT p.id, tree.depth + 1
             FROM identity_projects p JOIN tree ON p.parent_id = tree.id WHERE tree.depth < 1000
         )
         SELECT p.* FROM tree JOIN identity_projects p ON p.id = tree.id
         ORDER BY tree.depth, p.id"
    } else {
        "WITH RECURSIVE tree (id, depth) AS (
             SELECT id, 1 FROM identity_projects WHERE parent_id = $1
             UNION
             SELECT p.id, tree.depth + 1
             FROM identity_projects p JOIN tree ON p.parent_id = tree.id WHERE tree.depth < 1000
         )
         SELECT p.* FROM tree JOIN identity_projects p ON p.id = tree.id
         ORDER BY tree.depth, p.id"
    };
    let rows = tx.query(sql, &params![top.id]).await?;
    rows.iter().map(project_of).collect()
}

/// Those in all of `domains` (one, or two that a list is limited to), and as the filters say.
pub(crate) async fn list(
    tx: &mut Tx,
    domains: &[DomainId],
    enabled: Option<bool>,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<Project>, DatabaseError> {
    let mut condition = Where::default();
    for domain in domains {
        condition.equal("domain_id", domain);
    }
    if let Some(enabled) = enabled {
        condition.equal("enabled", enabled);
    }
    if let Some(parent) = filters.get("parent_id") {
        // Upstream shows the domain as the parent of a project directly below it.
        condition.with("COALESCE(parent_id, domain_id) = {}", parent);
    }
    condition.text("name", "name", filters);
    condition.tags("tags", filters);
    let (clause, params) = condition.page("id", page);
    let rows =
        tx.query_dynamic(format!("SELECT * FROM identity_projects{clause}"), &params).await?;
    rows.iter().map(project_of).collect()
}

/// The projects on which the user has a role: directly, by a group, or handed down by a domain or
/// a project above.
pub(crate) async fn with_roles_of(
    tx: &mut Tx,
    user: &UserId,
) -> Result<Vec<Project>, DatabaseError> {
    let rows = tx
        .query(
            "WITH RECURSIVE granted (target_kind, target_id, inherited) AS (
                 SELECT target_kind, target_id, inherited FROM identity_assignments
                 WHERE (actor_kind = 'user' AND actor_id = $1)
                    OR (actor_kind = 'group' AND actor_id IN
                        (SELECT group_id FROM identity_group_members WHERE user_id = $1))
             ), below (id) AS (
                 SELECT id FROM identity_projects WHERE parent_id IN
                     (SELECT target_id FROM granted
                      WHERE target_kind = 'project' AND inherited = 1)
                 UNION
                 SELECT p.id FROM identity_projects p JOIN below b ON p.parent_id = b.id
             )
             SELECT * FROM identity_projects WHERE
                 id IN (SELECT target_id FROM granted
                        WHERE target_kind = 'project' AND inherited = 0)
                 OR domain_id IN (SELECT target_id FROM granted
                                  WHERE target_kind = 'domain' AND inherited = 1)
                 OR id IN (SELECT id FROM below)
             ORDER BY id",
            &params![user],
        )
        .await?;
    rows.iter().map(project_of).collect()
}

pub(crate) async fn any_in_domain(tx: &mut Tx, domain: &DomainId) -> Result<bool, DatabaseError> {
    let rows = tx
        .query("SELECT id FROM identity_projects WHERE domain_id = $1 LIMIT 1", &params![domain])
        .await?;
    Ok(!rows.is_empty())
}

pub(crate) async fn has_children(tx: &mut Tx, id: &ProjectId) -> Result<bool, DatabaseError> {
    let rows = tx
        .query("SELECT id FROM identity_projects WHERE parent_id = $1 LIMIT 1", &params![id])
        .await?;
    Ok(!rows.is_empty())
}

/// False when the name is taken in the domain.
pub(crate) async fn insert(tx: &mut Tx, project: &Project) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_projects
                 (id, domain_id, parent_id, name, description, enabled, tags, options, extra,
                  serial, generation, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT DO NOTHING",
            &params![
                project.id,
                project.domain_id,
                project.parent_id,
                project.name,
                project.description,
                project.enabled,
                serde_json::json!(project.tags).to_string(),
                serde_json::Value::Object(project.options.clone()).to_string(),
                serde_json::Value::Object(project.extra.clone()).to_string(),
                i64::try_from(project.serial).unwrap_or(i64::MAX),
                project.generation,
                project.created_at
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update(tx: &mut Tx, project: &Project) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_projects
             SET name = $3, description = $4, enabled = $5, tags = $6, options = $7, extra = $8,
                 serial = $9, generation = generation + 1
             WHERE id = $1 AND generation = $2",
            &params![
                project.id,
                project.generation,
                project.name,
                project.description,
                project.enabled,
                serde_json::json!(project.tags).to_string(),
                serde_json::Value::Object(project.options.clone()).to_string(),
                serde_json::Value::Object(project.extra.clone()).to_string(),
                i64::try_from(project.serial).unwrap_or(i64::MAX)
            ],
        )
        .await?;
    tx.expect_one(changed, "project", &project.id)
}

pub(crate) async fn delete(tx: &mut Tx, id: &ProjectId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_projects WHERE id = $1", &params![id]).await?;
    tx.execute(
        "DELETE FROM identity_assignments WHERE target_kind = 'project' AND target_id = $1",
        &params![id],
    )
    .await?;
    Ok(())
}
