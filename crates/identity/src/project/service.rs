//! What can be done with projects.

use cloud_types::{DomainId, Fault, ProjectId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};

use super::model::Project;
use super::{store, tree};
use crate::domain::service::DomainChange;
use crate::fields::merge_extra;
use crate::token::service::{GONE, revoke};
use crate::token::{Revocation, RevocationKind};
use crate::{
    Identity, application_credential, credential, domain, federation, limit, options, target,
    trust, user, wire,
};

/// A new project, or what changes of one.
#[derive(Clone)]
pub(crate) struct ProjectChange {
    pub name: Option<String>,
    pub domain_id: Option<DomainId>,
    pub parent_id: Option<String>,
    pub is_domain: Option<bool>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub options: Option<Map<String, Value>>,
    pub extra: Map<String, Value>,
}

impl ProjectChange {
    /// The same, done to a domain.
    fn of_domain(self) -> DomainChange {
        DomainChange {
            name: self.name,
            description: self.description,
            enabled: self.enabled,
            tags: self.tags,
            options: self.options,
            extra: self.extra,
        }
    }
}

pub(crate) fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &ProjectId,
    before: Option<&Project>,
    after: Option<&Project>,
) {
    tx.journal(JournalEntry {
        kind: "project",
        id: id.to_string(),
        project: Some(id.clone()),
        action,
        before: before.map(Project::public),
        after: after.map(Project::public),
    });
}

pub(crate) fn target(project: &Project) -> Target {
    target::project(project)
}

fn taken(project: &Project) -> Fault {
    wire::duplicate("project", &project.name, &format!(" at domain ID {}", project.domain_id))
}

/// Deletes a project with what names it, and ends the tokens scoped to it.
pub(crate) async fn remove(tx: &mut Tx, project: &Project) -> Result<Vec<Revocation>, Fault> {
    options::check_delete("project", project.id.as_str(), &project.options)?;
    let mut ended = credential::service::forget_project(tx, &project.id).await?;
    ended.extend(application_credential::service::forget_project(tx, &project.id).await?);
    ended.extend(trust::service::forget_project(tx, &project.id).await?);
    store::delete(tx, &project.id).await?;
    user::store::forget_default_project(tx, &project.id).await?;
    limit::store::delete_of(tx, project.id.as_str()).await?;
    crate::endpoint_filter::store::forget_project(tx, project.id.as_str()).await?;
    crate::oauth1::store::forget(tx, project.id.as_str()).await?;
    journal(tx, "delete", &project.id, Some(project), None);
    let kind = RevocationKind::Project;
    ended.push(revoke(tx, kind, project.id.as_str(), "", GONE).await?);
    Ok(ended)
}

impl Identity {
    pub(crate) async fn list_projects(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<Project>, Fault> {
        let domains = self.list_domains_of(ctx, "identity:list_projects", &filters)?;
        let enabled = filters.flag("enabled")?;
        let page = wire::page_request(&filters)?;
        if filters.flag("is_domain")? == Some(true) {
            // What acts as a domain is in none and below nothing.
            if !domains.is_empty() || filters.has("parent_id") {
                return Ok(Vec::new());
            }
            return self
                .look(move |tx| {
                    let (filters, page) = (filters.clone(), page.clone());
                    Box::pin(async move {
                        let found = domain::store::list(tx, None, enabled, &filters, &page).await?;
                        Ok(found.iter().map(Project::of_domain).collect())
                    })
                })
                .await;
        }
        self.look(move |tx| {
            let (domains, filters, page) = (domains.clone(), filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, &domains, enabled, &filters, &page).await?) })
        })
        .await
    }

    /// The projects of a user; for choosing a scope only those that can be one.
    pub(crate) async fn projects_of(
        &self,
        ctx: &Ctx,
        user: &UserId,
        only_enabled: bool,
    ) -> Result<Vec<Value>, Fault> {
        let groups = if ctx.user()? == *user { crate::federation::groups_of(ctx) } else { vec![] };
        let user = user.clone();
        let projects = self
            .look(move |tx| {
                let (user, groups) = (user.clone(), groups.clone());
                Box::pin(async move {
                    let mut projects = store::with_roles_of(tx, &user).await?;
                    for id in federation::store::projects_of_groups(tx, &groups).await? {
                        if !projects.iter().any(|known| known.id == id) {
                            projects.extend(store::get(tx, &id).await?);
                        }
                    }
                    Ok(projects)
                })
            })
            .await?;
        Ok(projects
            .iter()
            .filter(|project| project.enabled || !only_enabled)
            .map(|project| project.view(ctx))
            .collect())
    }

    pub(crate) async fn project(
        &self,
        ctx: &Ctx,
        rule: &str,
        id: &ProjectId,
    ) -> Result<Project, Fault> {
        let wanted = id.clone();
        let found = self
            .look(move |tx| {
                let id = wanted.clone();
                Box::pin(async move { Ok(store::get_any(tx, &id).await?) })
            })
            .await?;
        match found {
            Some(project) => {
                ctx.authorise(rule, &target(&project))?;
                Ok(project)
            }
            None => {
                ctx.authorise(rule, &Target::none())?;
                Err(wire::not_found("project", id))
            }
        }
    }

    pub(crate) async fn create_project(
        &self,
        ctx: &Ctx,
        change: ProjectChange,
    ) -> Result<Project, Fault> {
        if change.is_domain == Some(true) {
            return self.create_root(ctx, change).await;
        }
        let named = change.domain_id.clone();
        let parent = change.parent_id.clone();
        // A project below another is in that one's domain, whatever the token's scope is.
        let above = match &parent {
            None => None,
            Some(text) => {
                let id: ProjectId = wire::id("project", text)?;
                self.look(move |tx| {
                    let id = id.clone();
                    Box::pin(async move { Ok(store::get(tx, &id).await?) })
                })
                .await?
            }
        };
        let domain = match (&named, &above, &parent) {
            (Some(named), _, _) => named.clone(),
            (None, Some(above), _) => above.domain_id.clone(),
            // The domain is the parent of a project directly below it.
            (None, None, Some(text)) => wire::id("project", text)?,
            (None, None, None) => self.domain_for(ctx, None)?,
        };
        // As upstream: who runs one domain names it.
        let wanted = named.as_ref().map_or_else(Target::none, |named| {
            Target::none().with("project.domain_id", named.as_str())
        });
        ctx.authorise("identity:create_project", &wanted)?;
        match (&above, &parent) {
            // Who may not see the parent learns no more of it than of one that does not exist.
            (Some(above), Some(text))
                if above.domain_id != domain
                    && ctx.authorise("identity:get_project", &target(above)).is_err() =>
            {
                return Err(Fault::bad_request(format!("Could not find project: {text}.")));
            }
            (Some(above), _) if above.domain_id != domain => {
                return Err(Fault::bad_request(format!(
                    "Cannot create project, since it specifies its domain_id {domain}, but \
                     specifies a parent in a different domain ({}).",
                    above.domain_id
                )));
            }
            (None, Some(text)) if text != domain.as_str() => {
                return Err(Fault::bad_request(format!("Could not find project: {text}.")));
            }
            _ => {}
        }
        let config = &self.config;
        let deepest = config.limit_model.levels().map_or(config.max_project_tree_depth, |levels| {
            levels.min(config.max_project_tree_depth)
        });
        self.change(ctx, move |tx| {
            let (change, domain) = (change.clone(), domain.clone());
            let above = above.as_ref().map(|above| above.id.clone());
            Box::pin(async move {
                let root = domain::store::get(tx, &domain).await?.ok_or_else(|| {
                    Fault::bad_request(format!("Could not find domain: {domain}."))
                })?;
                let parent = match &above {
                    None => Project::of_domain(&root),
                    Some(above) => {
                        tx.lock(&[ObjectLock::new("project", above)]).await?;
                        store::get(tx, above)
                            .await?
                            .ok_or_else(|| wire::not_found("project", above))?
                    }
                };
                tree::check_branch(tx, &parent, deepest).await?;
                let project = Project {
                    id: ProjectId::random(),
                    domain_id: domain,
                    parent_id: above,
                    is_domain: false,
                    name: change.name.unwrap_or_default(),
                    description: change.description.unwrap_or_default(),
                    enabled: change.enabled.unwrap_or(true),
                    tags: change.tags.unwrap_or_default(),
                    options: change.options.unwrap_or_default(),
                    extra: change.extra,
                    serial: 0,
                    generation: 1,
                    created_at: tx.now(),
                };
                if !store::insert(tx, &project).await? {
                    return Err(taken(&project));
                }
                journal(tx, "create", &project.id, None, Some(&project));
                Ok((project, Vec::new()))
            })
        })
        .await
    }

    /// A project that acts as a domain is a domain.
    async fn create_root(&self, ctx: &Ctx, change: ProjectChange) -> Result<Project, Fault> {
        let wanted = Target::none().with("project.domain_id", target::UNSET);
        ctx.authorise("identity:create_project", &wanted)?;
        if change.parent_id.is_some() {
            return Err(Fault::bad_request("only root projects are allowed to act as domains."));
        }
        if change.domain_id.is_some() {
            return Err(Fault::bad_request(
                "The domain_id of a project that acts as a domain must be null.",
            ));
        }
        let domain = self.create_domain(ctx, change.of_domain(), None).await?;
        Ok(Project::of_domain(&domain))
    }

    pub(crate) async fn update_project(
        &self,
        ctx: &Ctx,
        id: &ProjectId,
        change: ProjectChange,
    ) -> Result<Project, Fault> {
        let found = self.project(ctx, "identity:update_project", id).await?;
        let own_domain = (!found.is_domain).then_some(&found.domain_id);
        if change.domain_id.is_some() && change.domain_id.as_ref() != own_domain {
            return Err(Fault::bad_request("Cannot change Domain ID"));
        }
        if change.parent_id.is_some() && change.parent_id.as_deref() != found.parent() {
            return Err(Fault::forbidden("Update of `parent_id` is not allowed."));
        }
        if change.is_domain.is_some_and(|is_domain| is_domain != found.is_domain) {
            return Err(Fault::bad_request("Update of `is_domain` is not allowed."));
        }
        if found.is_domain {
            let domain = self.update_domain(ctx, &found.domain_id, change.of_domain()).await?;
            return Ok(Project::of_domain(&domain));
        }
        self.alter_project(ctx, id, move |tx, before| {
            let (change, mut project) = (change.clone(), before.clone());
            Box::pin(async move {
                let id = project.id.to_string();
                options::update("project", &id, &mut project.options, change.options)?;
                if let Some(name) = change.name {
                    project.name = name;
                }
                if let Some(description) = change.description {
                    project.description = description;
                }
                if let Some(enabled) = change.enabled
                    && enabled != project.enabled
                {
                    tree::check_switch(tx, &project, enabled).await?;
                    project.enabled = enabled;
                }
                if let Some(tags) = change.tags {
                    project.tags = tags;
                }
                merge_extra(&mut project.extra, change.extra);
                Ok(project)
            })
        })
        .await
    }

    /// Sets the tags to what `edit` makes of them.
    pub(crate) async fn retag(
        &self,
        ctx: &Ctx,
        rule: &str,
        id: &ProjectId,
        edit: impl Fn(&[String]) -> Result<Vec<String>, Fault> + Send + Sync + 'static,
    ) -> Result<Project, Fault> {
        let found = self.project(ctx, rule, id).await?;
        if found.is_domain {
            let change = DomainChange { tags: Some(edit(&found.tags)?), ..DomainChange::default() };
            let domain = self.update_domain(ctx, &found.domain_id, change).await?;
            return Ok(Project::of_domain(&domain));
        }
        self.alter_project(ctx, id, move |_, before| {
            let (tags, mut project) = (edit(&before.tags), before.clone());
            Box::pin(async move {
                let id = project.id.to_string();
                options::update("project", &id, &mut project.options, None)?;
                project.tags = tags?;
                Ok(project)
            })
        })
        .await
    }

    /// Reads a project under its lock, and writes what `edit` makes of it.
    async fn alter_project<F>(&self, ctx: &Ctx, id: &ProjectId, edit: F) -> Result<Project, Fault>
    where
        F: for<'c> Fn(&'c mut Tx, &Project) -> database::BoxFuture<'c, Result<Project, Fault>>
            + Send
            + Sync
            + 'static,
    {
        let (id, edit) = (id.clone(), std::sync::Arc::new(edit));
        self.change(ctx, move |tx| {
            let (id, edit) = (id.clone(), edit.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                let mut project = edit(tx, &before).await?;
                if project.name != before.name
                    && store::by_name(tx, &project.domain_id, &project.name).await?.is_some()
                {
                    return Err(taken(&project));
                }
                let mut revocations = Vec::new();
                if before.enabled && !project.enabled {
                    project.serial += 1;
                    let (kind, serial) = (RevocationKind::Project, project.serial);
                    revocations.push(revoke(tx, kind, id.as_str(), "", serial).await?);
                }
                store::update(tx, &project).await?;
                journal(tx, "update", &id, Some(&before), Some(&project));
                Ok((project, revocations))
            })
        })
        .await
    }

    pub(crate) async fn delete_project(&self, ctx: &Ctx, id: &ProjectId) -> Result<(), Fault> {
        let found = self.project(ctx, "identity:delete_project", id).await?;
        if found.is_domain {
            return self.delete_domain(ctx, &found.domain_id).await;
        }
        let id = id.clone();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let project = locked(tx, &id).await?;
                if store::has_children(tx, &id).await? {
                    return Err(Fault::forbidden(format!(
                        "Cannot delete the project {id} since it is not a leaf in the hierarchy. \
                         Use the cascade option if you want to delete a whole subtree."
                    )));
                }
                let ended = remove(tx, &project).await?;
                Ok(((), ended))
            })
        })
        .await
    }
}

async fn locked(tx: &mut Tx, id: &ProjectId) -> Result<Project, Fault> {
    tx.lock(&[ObjectLock::new("project", id)]).await?;
    store::get(tx, id).await?.ok_or_else(|| wire::not_found("project", id))
}
