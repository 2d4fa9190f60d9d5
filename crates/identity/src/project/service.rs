//! What can be done with projects.

use cloud_types::{DomainId, Fault, ProjectId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};

use super::model::Project;
use super::store;
use crate::fields::merge_extra;
use crate::token::RevocationKind;
use crate::token::service::{GONE, revoke};
use crate::{Identity, domain, user, wire};

/// A new project, or what changes of one.
#[derive(Clone)]
pub(crate) struct ProjectChange {
    pub name: Option<String>,
    pub domain_id: Option<DomainId>,
    pub parent_id: Option<String>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub options: Option<Map<String, Value>>,
    pub extra: Map<String, Value>,
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

fn target(project: &Project) -> Target {
    Target {
        project: Some(project.id.clone()),
        domain: Some(project.domain_id.clone()),
        ..Target::default()
    }
}

fn taken(project: &Project) -> Fault {
    wire::duplicate("project", &project.name, &format!(" at domain ID {}", project.domain_id))
}

impl Identity {
    pub(crate) async fn list_projects(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<Project>, Fault> {
        let domain = self.list_domain(ctx, "identity:list_projects", &filters)?;
        let enabled = filters.flag("enabled")?;
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (domain, filters, page) = (domain.clone(), filters.clone(), page.clone());
            Box::pin(async move {
                Ok(store::list(tx, domain.as_ref(), enabled, &filters, &page).await?)
            })
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
        let user = user.clone();
        let projects = self
            .look(move |tx| {
                let user = user.clone();
                Box::pin(async move { Ok(store::with_roles_of(tx, &user).await?) })
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
                Box::pin(async move { Ok(store::get(tx, &id).await?) })
            })
            .await?;
        match found {
            Some(project) => {
                ctx.authorise(rule, &target(&project))?;
                Ok(project)
            }
            None => {
                ctx.authorise(rule, &Target::project(id))?;
                Err(wire::not_found("project", id))
            }
        }
    }

    pub(crate) async fn create_project(
        &self,
        ctx: &Ctx,
        change: ProjectChange,
    ) -> Result<Project, Fault> {
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
        let domain = match (&above, &parent) {
            (Some(above), _) => above.domain_id.clone(),
            // Upstream names the domain as the parent of a project directly below it.
            (None, Some(text)) if named.is_none() => wire::id("project", text)?,
            _ => self.domain_for(ctx, named.as_ref())?,
        };
        if named.is_some_and(|named| named != domain) {
            return Err(Fault::bad_request(
                "The parent project is in another domain than the one that was named.",
            ));
        }
        if let (None, Some(text)) = (&above, &parent)
            && *text != domain.as_str()
        {
            return Err(wire::not_found("project", text));
        }
        ctx.authorise("identity:create_project", &Target::domain(&domain))?;
        self.change(ctx, move |tx| {
            let (change, domain) = (change.clone(), domain.clone());
            let above = above.as_ref().map(|above| above.id.clone());
            Box::pin(async move {
                if domain::store::get(tx, &domain).await?.is_none() {
                    return Err(wire::not_found("domain", &domain));
                }
                if let Some(above) = &above {
                    tx.lock(&[ObjectLock::new("project", above)]).await?;
                    if store::get(tx, above).await?.is_none() {
                        return Err(wire::not_found("project", above));
                    }
                }
                let project = Project {
                    id: ProjectId::random(),
                    domain_id: domain,
                    parent_id: above,
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

    pub(crate) async fn update_project(
        &self,
        ctx: &Ctx,
        id: &ProjectId,
        change: ProjectChange,
    ) -> Result<Project, Fault> {
        let found = self.project(ctx, "identity:update_project", id).await?;
        if change.domain_id.as_ref().is_some_and(|domain| *domain != found.domain_id) {
            return Err(Fault::bad_request("Cannot change Domain ID"));
        }
        let parent = found.parent_id.as_ref().map_or(found.domain_id.as_str(), ProjectId::as_str);
        if change.parent_id.as_ref().is_some_and(|wanted| wanted != parent) {
            return Err(Fault::forbidden("The parent of a project cannot be changed."));
        }
        let id = id.clone();
        self.change(ctx, move |tx| {
            let (id, change) = (id.clone(), change.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                let mut project = before.clone();
                if let Some(name) = change.name {
                    project.name = name;
                }
                if let Some(description) = change.description {
                    project.description = description;
                }
                if let Some(enabled) = change.enabled {
                    project.enabled = enabled;
                }
                if let Some(tags) = change.tags {
                    project.tags = tags;
                }
                merge_extra(&mut project.options, change.options.unwrap_or_default());
                merge_extra(&mut project.extra, change.extra);
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
        self.project(ctx, "identity:delete_project", id).await?;
        let id = id.clone();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let project = locked(tx, &id).await?;
                if store::has_children(tx, &id).await? {
                    return Err(Fault::forbidden(format!(
                        "Cannot delete the project {id} since it is not a leaf in the hierarchy."
                    )));
                }
                store::delete(tx, &id).await?;
                user::store::forget_default_project(tx, &id).await?;
                journal(tx, "delete", &id, Some(&project), None);
                let kind = RevocationKind::Project;
                Ok(((), vec![revoke(tx, kind, id.as_str(), "", GONE).await?]))
            })
        })
        .await
    }
}

async fn locked(tx: &mut Tx, id: &ProjectId) -> Result<Project, Fault> {
    tx.lock(&[ObjectLock::new("project", id)]).await?;
    store::get(tx, id).await?.ok_or_else(|| wire::not_found("project", id))
}
