//! Projects seen as a tree: above and below one, how deep, and what is done to a whole tree.

use cloud_types::{Fault, ProjectId};
use database::{ObjectLock, Tx};
use serde_json::{Map, Value, json};
use service_kit::{Ctx, Filters};

use super::model::Project;
use super::service::{journal, remove, target};
use super::store;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, domain, wire};

/// What `GET /v3/projects/{id}` shows of the tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Around {
    parents: Option<Form>,
    subtree: Option<Form>,
    limits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    List,
    Ids,
}

impl Around {
    /// Reads `parents_as_list`, `parents_as_ids`, `subtree_as_list`, `subtree_as_ids` and
    /// `include_limits`.
    pub fn read(filters: &Filters) -> Result<Around, Fault> {
        let form = |what: &str| -> Result<Option<Form>, Fault> {
            let list = filters.flag(&format!("{what}_as_list"))?.unwrap_or(false);
            let ids = filters.flag(&format!("{what}_as_ids"))?.unwrap_or(false);
            match (list, ids) {
                (true, true) => Err(Fault::bad_request(format!(
                    "Cannot use {what}_as_list and {what}_as_ids query params at the same time."
                ))),
                (true, false) => Ok(Some(Form::List)),
                (false, true) => Ok(Some(Form::Ids)),
                (false, false) => Ok(None),
            }
        };
        Ok(Around {
            parents: form("parents")?,
            subtree: form("subtree")?,
            limits: filters.flag("include_limits")?.unwrap_or(false),
        })
    }

    /// Whether anything of the tree is asked for.
    pub fn is_empty(self) -> bool {
        self.parents.is_none() && self.subtree.is_none()
    }
}

/// `{"parent": {"grandparent": null}}`, from the nearest.
fn chain(ids: &[String]) -> Value {
    ids.iter().rev().fold(Value::Null, |above, id| {
        let mut one = Map::new();
        one.insert(id.clone(), above);
        Value::Object(one)
    })
}

/// `{"child": {"grandchild": null}}`; null where nothing is below.
fn nested(parent: &str, all: &[Project]) -> Value {
    let below: Map<String, Value> = all
        .iter()
        .filter(|project| project.parent() == Some(parent))
        .map(|project| (project.id.to_string(), nested(project.id.as_str(), all)))
        .collect();
    if below.is_empty() { Value::Null } else { Value::Object(below) }
}

/// Refuses a new project below `parent` where the branch is too deep or in part disabled.
pub(crate) async fn check_branch(
    tx: &mut Tx,
    parent: &Project,
    deepest: usize,
) -> Result<(), Fault> {
    let above = store::ancestors(tx, &parent.id).await?;
    for project in above.iter().chain([parent]) {
        if !project.enabled {
            return Err(Fault::bad_request(format!(
                "cannot create a project in a branch containing a disabled project: {}",
                project.id
            )));
        }
    }
    // The levels there would be: those above the parent, the parent, and the new one.
    let levels = above.len() + 1 + usize::from(!parent.is_domain);
    if levels > deepest {
        return Err(Fault::forbidden(format!(
            "Max hierarchy depth reached for {} branch.",
            parent.id
        )));
    }
    Ok(())
}

/// Refuses to enable a project below a disabled one, and to disable one above an enabled one.
pub(crate) async fn check_switch(tx: &mut Tx, project: &Project, on: bool) -> Result<(), Fault> {
    if on {
        if store::ancestors(tx, &project.id).await?.iter().any(|above| !above.enabled) {
            return Err(Fault::forbidden(format!(
                "Cannot enable project {} since it has disabled parents",
                project.id
            )));
        }
    } else if store::subtree(tx, project).await?.iter().any(|below| below.enabled) {
        return Err(Fault::forbidden(format!(
            "Cannot disable project {} since its subtree contains enabled projects.",
            project.id
        )));
    }
    Ok(())
}

/// The project with all below it, locked in id order, parents before children.
async fn locked_tree(tx: &mut Tx, id: &ProjectId) -> Result<Vec<Project>, Fault> {
    let gone = || wire::not_found("project", id);
    let top = store::get(tx, id).await?.ok_or_else(gone)?;
    let seen = store::subtree(tx, &top).await?;
    let mut locks: Vec<ObjectLock> =
        seen.iter().chain([&top]).map(|project| ObjectLock::new("project", &project.id)).collect();
    locks.sort();
    tx.lock(&locks).await?;
    let top = store::get(tx, id).await?.ok_or_else(gone)?;
    let below = store::subtree(tx, &top).await?;
    if below.len() != seen.len() || below.iter().zip(&seen).any(|(a, b)| a.id != b.id) {
        return Err(Fault::conflict(
            "Projects were made or deleted in this tree meanwhile. Nothing was changed; try again.",
        ));
    }
    let mut tree = vec![top];
    tree.extend(below);
    Ok(tree)
}

impl Identity {
    /// Adds what was asked of the tree to a project's view.
    pub(crate) async fn add_tree(
        &self,
        ctx: &Ctx,
        project: &Project,
        around: Around,
        view: &mut Value,
    ) -> Result<(), Fault> {
        if around.is_empty() {
            return Ok(());
        }
        let (project, user) = (project.clone(), ctx.user()?);
        let id = project.id.clone();
        let (above, below, own, limits) = self
            .look(move |tx| {
                let (project, user) = (project.clone(), user.clone());
                Box::pin(async move {
                    let mut above = match around.parents {
                        Some(_) => store::ancestors(tx, &project.id).await?,
                        None => Vec::new(),
                    };
                    if around.parents.is_some()
                        && !project.is_domain
                        && let Some(domain) = domain::store::get(tx, &project.domain_id).await?
                    {
                        above.push(Project::of_domain(&domain));
                    }
                    let below = match around.subtree {
                        Some(_) => store::subtree(tx, &project).await?,
                        None => Vec::new(),
                    };
                    // Lists show the projects that are the caller's.
                    let lists = [around.parents, around.subtree].contains(&Some(Form::List));
                    let own = match lists {
                        true => store::with_roles_of(tx, &user).await?,
                        false => Vec::new(),
                    };
                    let limits = match around.limits && lists {
                        true => crate::limit::store::all_of_projects(tx).await?,
                        false => Vec::new(),
                    };
                    Ok::<_, Fault>((above, below, own, limits))
                })
            })
            .await?;
        let shown = |projects: &[Project]| -> Value {
            projects
                .iter()
                .filter(|project| own.iter().any(|own| own.id == project.id))
                .map(|project| {
                    let mut view = project.view(ctx);
                    if around.limits {
                        view["limits"] = limits
                            .iter()
                            .filter(|limit| {
                                limit.project_id.as_deref() == Some(project.id.as_str())
                            })
                            .map(|limit| limit.view(ctx))
                            .collect();
                    }
                    json!({"project": view})
                })
                .collect()
        };
        match around.parents {
            Some(Form::List) => view["parents"] = shown(&above),
            Some(Form::Ids) => {
                let ids: Vec<String> = above.iter().map(|project| project.id.to_string()).collect();
                view["parents"] = chain(&ids);
            }
            None => {}
        }
        match around.subtree {
            Some(Form::List) => view["subtree"] = shown(&below),
            Some(Form::Ids) => view["subtree"] = nested(id.as_str(), &below),
            None => {}
        }
        Ok(())
    }

    /// Enables or disables a project with all below it. Answers the project.
    pub(crate) async fn switch_tree(
        &self,
        ctx: &Ctx,
        id: &ProjectId,
        on: bool,
    ) -> Result<Project, Fault> {
        self.no_domain(ctx, "identity:update_project", id).await?;
        let (id, asker) = (id.clone(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, asker) = (id.clone(), asker.clone());
            Box::pin(async move {
                let tree = locked_tree(tx, &id).await?;
                asker.authorise("identity:update_project", &target(&tree[0]))?;
                if on {
                    check_switch(tx, &tree[0], true).await?;
                }
                let mut revocations: Vec<Revocation> = Vec::new();
                let mut top = tree[0].clone();
                for before in tree.iter().filter(|project| project.enabled != on) {
                    let mut project = before.clone();
                    crate::options::update(
                        "project",
                        project.id.as_str(),
                        &mut project.options,
                        None,
                    )?;
                    project.enabled = on;
                    if !on {
                        project.serial += 1;
                        let (kind, serial) = (RevocationKind::Project, project.serial);
                        revocations.push(revoke(tx, kind, project.id.as_str(), "", serial).await?);
                    }
                    store::update(tx, &project).await?;
                    journal(tx, "update", &project.id, Some(before), Some(&project));
                    if project.id == top.id {
                        top = project;
                    }
                }
                Ok((top, revocations))
            })
        })
        .await
    }

    /// Deletes a project with all below it; the whole tree must be disabled.
    pub(crate) async fn delete_tree(&self, ctx: &Ctx, id: &ProjectId) -> Result<(), Fault> {
        self.no_domain(ctx, "identity:delete_project", id).await?;
        let (id, asker) = (id.clone(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, asker) = (id.clone(), asker.clone());
            Box::pin(async move {
                let tree = locked_tree(tx, &id).await?;
                asker.authorise("identity:delete_project", &target(&tree[0]))?;
                if tree.iter().any(|project| project.enabled) {
                    return Err(Fault::forbidden(format!(
                        "Cannot delete project {id} since its subtree contains enabled projects."
                    )));
                }
                let mut revocations = Vec::new();
                for project in tree.iter().rev() {
                    revocations.extend(remove(tx, project).await?);
                }
                Ok(((), revocations))
            })
        })
        .await
    }

    /// Whole trees are switched and deleted below projects, not below domains.
    async fn no_domain(&self, ctx: &Ctx, rule: &str, id: &ProjectId) -> Result<(), Fault> {
        if self.project(ctx, rule, id).await?.is_domain {
            return Err(Fault::bad_request(
                "This project acts as a domain. Disable the domain, which disables all in it, and \
                 delete its projects one tree at a time.",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_nested_upwards_and_downwards() {
        assert_eq!(chain(&[]), Value::Null);
        assert_eq!(chain(&["b".into(), "a".into()]), json!({"b": {"a": null}}));
    }

    #[test]
    fn one_form_at_a_time() {
        let read = |query: &str| Around::read(&Filters::parse(query).unwrap());
        assert!(read("").unwrap().is_empty());
        assert!(read("parents_as_list&subtree_as_ids").is_ok());
        assert!(read("parents_as_list&parents_as_ids").is_err());
        assert!(read("subtree_as_list=1&subtree_as_ids=true").is_err());
    }
}
