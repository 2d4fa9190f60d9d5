//! What can be done with limits.

use cloud_types::{DomainId, Fault, ProjectId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::Value;
use service_kit::{Ctx, Filters, Target};

use super::model::{EnforcementModel, Limit, RegisteredLimit, Resource, within};
use super::store::{self, Seen};
use crate::fields::Patch;
use crate::target::UNSET;
use crate::{Identity, catalog, domain, project, wire};

/// What changes of a registered limit.
#[derive(Clone)]
pub(crate) struct RegisteredChange {
    pub service_id: Option<String>,
    pub region_id: Patch<String>,
    pub resource_name: Option<String>,
    pub default_limit: Option<i64>,
    pub description: Patch<String>,
}

/// What changes of a limit.
#[derive(Clone)]
pub(crate) struct LimitChange {
    pub resource_limit: Option<i64>,
    pub description: Patch<String>,
}

/// All limits change under one lock: each is judged by others.
fn lock() -> ObjectLock {
    ObjectLock::new("identity_limits", "all")
}

fn journal(
    tx: &mut Tx,
    kind: &'static str,
    action: &'static str,
    id: &str,
    before: Option<Value>,
    after: Option<Value>,
) {
    tx.journal(JournalEntry { kind, id: id.to_owned(), project: None, action, before, after });
}

fn unknown(attribute: &str, id: &str) -> Fault {
    Fault::bad_request(format!("Invalid input for field '{attribute}': there is no {id}."))
}

async fn check_resource(tx: &mut Tx, resource: &Resource) -> Result<(), Fault> {
    if catalog::store::service(tx, &resource.service_id).await?.is_none() {
        return Err(unknown("service_id", &resource.service_id));
    }
    if let Some(region) = &resource.region_id
        && catalog::store::region(tx, region).await?.is_none()
    {
        return Err(unknown("region_id", region));
    }
    Ok(())
}

fn taken(kind: &str, resource: &Resource) -> Fault {
    Fault::conflict(format!(
        "Conflict occurred attempting to store {kind} - Duplicate entry for the resource {} of \
         the service {}.",
        resource.name, resource.service_id
    ))
}

fn no_registered(id: &str) -> Fault {
    Fault::not_found(format!("Could not find registered limit for {id}."))
}

fn no_limit(id: &str) -> Fault {
    Fault::not_found(format!("Could not find limit for {id}."))
}

async fn check_free(tx: &mut Tx, limit: &RegisteredLimit) -> Result<(), Fault> {
    if store::is_referred_to(tx, &limit.resource).await? {
        return Err(Fault::forbidden(format!(
            "Unable to update or delete registered limit {} because there are project limits \
             associated with it.",
            limit.id
        )));
    }
    Ok(())
}

/// Whom a limit is for, as it stands in the database: a project that acts as a domain is that
/// domain.
async fn check_owner(tx: &mut Tx, limit: &mut Limit) -> Result<(), Fault> {
    if let Some(id) = limit.project_id.clone() {
        let parsed: Option<ProjectId> = id.parse().ok();
        let found = match &parsed {
            Some(id) => project::store::get_any(tx, id).await?,
            None => None,
        };
        let found = found.ok_or_else(|| unknown("project_id", &id))?;
        if found.is_domain {
            limit.domain_id = limit.project_id.take();
        }
    } else if let Some(id) = &limit.domain_id {
        let parsed: Option<DomainId> = id.parse().ok();
        let found = match &parsed {
            Some(id) => domain::store::get(tx, id).await?,
            None => None,
        };
        if found.is_none() {
            return Err(unknown("domain_id", id));
        }
    }
    Ok(())
}

/// Refuses what the model does not allow, given what is stored.
async fn check_model(tx: &mut Tx, model: EnforcementModel, limit: &Limit) -> Result<(), Fault> {
    if model == EnforcementModel::Flat {
        return Ok(());
    }
    let fits = match (&limit.project_id, &limit.domain_id) {
        (Some(project), _) => {
            let Ok(id) = project.parse::<ProjectId>() else {
                return Err(unknown("project_id", project));
            };
            let found = project::store::get(tx, &id).await?;
            let found = found.ok_or_else(|| unknown("project_id", project))?;
            let domain = found.domain_id.as_str();
            let outer = match store::of_domain(tx, domain, &limit.resource).await? {
                Some(outer) => Some(outer.resource_limit),
                None => store::registered_for(tx, &limit.resource)
                    .await?
                    .map(|registered| registered.default_limit),
            };
            outer.is_none_or(|outer| within(limit.resource_limit, outer))
        }
        (None, Some(domain)) => store::of_projects_in(tx, domain, &limit.resource)
            .await?
            .iter()
            .all(|inner| within(inner.resource_limit, limit.resource_limit)),
        (None, None) => true,
    };
    if fits {
        return Ok(());
    }
    let (level, id) = match &limit.project_id {
        Some(project) => ("project_id", project.as_str()),
        None => ("domain_id", limit.domain_id.as_deref().unwrap_or_default()),
    };
    Err(Fault::forbidden(format!(
        "Invalid resource limit: The resource limit ({level}: {id}, resource_name: {}, \
         resource_limit: {}, service_id: {}, region_id: {}) doesn't satisfy current hierarchy \
         model..",
        limit.resource.name,
        limit.resource_limit,
        limit.resource.service_id,
        limit.resource.region_id.as_deref().unwrap_or("None")
    )))
}

impl Identity {
    pub(crate) async fn list_registered_limits(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<RegisteredLimit>, Fault> {
        ctx.authorise("identity:list_registered_limits", &Target::none())?;
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (filters, page) = (filters.clone(), page.clone());
            Box::pin(async move { Ok(store::registered_limits(tx, &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn registered_limit(
        &self,
        ctx: &Ctx,
        id: &str,
    ) -> Result<RegisteredLimit, Fault> {
        ctx.authorise("identity:get_registered_limit", &Target::none())?;
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move {
                store::registered_limit(tx, &id).await?.ok_or_else(|| no_registered(&id))
            })
        })
        .await
    }

    pub(crate) async fn create_registered_limits(
        &self,
        ctx: &Ctx,
        limits: Vec<RegisteredLimit>,
    ) -> Result<Vec<RegisteredLimit>, Fault> {
        ctx.authorise("identity:create_registered_limits", &Target::none())?;
        self.change(ctx, move |tx| {
            let limits = limits.clone();
            Box::pin(async move {
                tx.lock(&[lock()]).await?;
                for limit in &limits {
                    check_resource(tx, &limit.resource).await?;
                    if !store::add_registered(tx, limit).await? {
                        return Err(taken("registered_limit", &limit.resource));
                    }
                    let after = Some(limit.public());
                    journal(tx, "registered_limit", "create", &limit.id, None, after);
                }
                Ok((limits, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_registered_limit(
        &self,
        ctx: &Ctx,
        id: &str,
        change: RegisteredChange,
    ) -> Result<RegisteredLimit, Fault> {
        ctx.authorise("identity:update_registered_limit", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let (id, change) = (id.clone(), change.clone());
            Box::pin(async move {
                tx.lock(&[lock()]).await?;
                let found = store::registered_limit(tx, &id).await?;
                let before = found.ok_or_else(|| no_registered(&id))?;
                let mut limit = before.clone();
                if let Some(service) = change.service_id {
                    limit.resource.service_id = service;
                }
                change.region_id.apply(&mut limit.resource.region_id);
                if let Some(name) = change.resource_name {
                    limit.resource.name = name;
                }
                if let Some(default) = change.default_limit {
                    limit.default_limit = default;
                }
                change.description.apply(&mut limit.description);
                check_resource(tx, &limit.resource).await?;
                check_free(tx, &before).await?;
                let other = store::registered_for(tx, &limit.resource).await?;
                if other.is_some_and(|other| other.id != id) {
                    return Err(taken("registered_limit", &limit.resource));
                }
                store::update_registered(tx, &limit).await?;
                let (was, is) = (Some(before.public()), Some(limit.public()));
                journal(tx, "registered_limit", "update", &id, was, is);
                Ok((limit, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_registered_limit(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise("identity:delete_registered_limit", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                tx.lock(&[lock()]).await?;
                let found = store::registered_limit(tx, &id).await?;
                let limit = found.ok_or_else(|| no_registered(&id))?;
                check_free(tx, &limit).await?;
                store::delete_registered(tx, &id).await?;
                journal(tx, "registered_limit", "delete", &id, Some(limit.public()), None);
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    /// Everybody sees the limits of what their token is for.
    pub(crate) async fn list_limits(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<Limit>, Fault> {
        ctx.authorise("identity:list_limits", &Target::none())?;
        let token = ctx.token()?;
        let seen = if token.system || token.has_role("admin") || token.has_role("service") {
            Seen::All
        } else if let Some(domain) = &token.domain {
            Seen::Domain(domain.clone())
        } else if let Some(project) = &token.project {
            Seen::Project(project.id.to_string())
        } else {
            Seen::Nothing
        };
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (seen, filters, page) = (seen.clone(), filters.clone(), page.clone());
            Box::pin(async move { Ok(store::limits(tx, &seen, &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn limit(&self, ctx: &Ctx, id: &str) -> Result<Limit, Fault> {
        let wanted = id.to_owned();
        let (found, project) = self
            .look(move |tx| {
                let id = wanted.clone();
                Box::pin(async move {
                    let found = store::limit(tx, &id).await?;
                    let project = match found.as_ref().and_then(|limit| limit.project_id.as_ref()) {
                        Some(id) => match id.parse::<ProjectId>() {
                            Ok(id) => project::store::get(tx, &id).await?,
                            Err(_) => None,
                        },
                        None => None,
                    };
                    Ok::<_, Fault>((found, project))
                })
            })
            .await?;
        let mut target = Target::none();
        if let Some(limit) = &found {
            let project_id = limit.project_id.as_deref().unwrap_or(UNSET);
            target = target.with("limit.project_id", project_id);
            if let Some(domain) = &limit.domain_id {
                target = target.with("limit.domain.id", domain.as_str());
            }
        }
        if let Some(project) = &project {
            target = target.with("limit.project.domain_id", project.domain_id.as_str());
        }
        ctx.authorise("identity:get_limit", &target)?;
        found.ok_or_else(|| no_limit(id))
    }

    pub(crate) async fn create_limits(
        &self,
        ctx: &Ctx,
        limits: Vec<Limit>,
    ) -> Result<Vec<Limit>, Fault> {
        ctx.authorise("identity:create_limits", &Target::none())?;
        let model = self.config.limit_model;
        self.change(ctx, move |tx| {
            let mut limits = limits.clone();
            Box::pin(async move {
                tx.lock(&[lock()]).await?;
                for limit in &mut limits {
                    check_resource(tx, &limit.resource).await?;
                    check_owner(tx, limit).await?;
                    if store::registered_for(tx, &limit.resource).await?.is_none() {
                        return Err(Fault::bad_request(
                            "Unable to create a limit that has no corresponding registered limit.",
                        ));
                    }
                    if !store::add(tx, limit).await? {
                        return Err(taken("limit", &limit.resource));
                    }
                }
                // All are stored now, so that a domain's and its projects' may come together.
                for limit in &limits {
                    check_model(tx, model, limit).await?;
                    journal(tx, "limit", "create", &limit.id, None, Some(limit.public()));
                }
                Ok((limits, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_limit(
        &self,
        ctx: &Ctx,
        id: &str,
        change: LimitChange,
    ) -> Result<Limit, Fault> {
        ctx.authorise("identity:update_limit", &Target::none())?;
        let (id, model) = (id.to_owned(), self.config.limit_model);
        self.change(ctx, move |tx| {
            let (id, change) = (id.clone(), change.clone());
            Box::pin(async move {
                tx.lock(&[lock()]).await?;
                let before = store::limit(tx, &id).await?.ok_or_else(|| no_limit(&id))?;
                let mut limit = before.clone();
                if let Some(number) = change.resource_limit {
                    limit.resource_limit = number;
                }
                change.description.apply(&mut limit.description);
                check_model(tx, model, &limit).await?;
                store::update(tx, &limit).await?;
                let (was, is) = (Some(before.public()), Some(limit.public()));
                journal(tx, "limit", "update", &id, was, is);
                Ok((limit, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_limit(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise("identity:delete_limit", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                tx.lock(&[lock()]).await?;
                let limit = store::limit(tx, &id).await?.ok_or_else(|| no_limit(&id))?;
                store::delete(tx, &id).await?;
                journal(tx, "limit", "delete", &id, Some(limit.public()), None);
                Ok(((), Vec::new()))
            })
        })
        .await
    }
}
