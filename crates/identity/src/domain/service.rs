//! What can be done with domains.

use cloud_types::{DomainId, Fault};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};

use super::model::Domain;
use super::store;
use crate::fields::merge_extra;
use crate::token::RevocationKind;
use crate::token::service::{GONE, revoke};
use crate::token::store::{Granted, roles_in_scope};
use crate::{
    Identity, directory, federation, group, identity_provider, limit, options, project, role,
    target, user, wire,
};

/// A new domain, or what changes of one.
#[derive(Clone, Default)]
pub(crate) struct DomainChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub options: Option<Map<String, Value>>,
    pub extra: Map<String, Value>,
}

fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &DomainId,
    before: Option<&Domain>,
    after: Option<&Domain>,
) {
    tx.journal(JournalEntry {
        kind: "domain",
        id: id.to_string(),
        project: None,
        action,
        before: before.map(Domain::public),
        after: after.map(Domain::public),
    });
}

fn taken(domain: &Domain) -> Fault {
    wire::duplicate("domain", &domain.name, "")
}

impl Identity {
    pub(crate) async fn list_domains(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<Domain>, Fault> {
        ctx.authorise("identity:list_domains", &target::list(ctx))?;
        // The token of a domain sees that domain.
        let own = ctx.token()?.domain.clone();
        let enabled = filters.flag("enabled")?;
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (own, filters, page) = (own.clone(), filters.clone(), page.clone());
            Box::pin(
                async move { Ok(store::list(tx, own.as_ref(), enabled, &filters, &page).await?) },
            )
        })
        .await
    }

    pub(crate) async fn domain(&self, ctx: &Ctx, id: &DomainId) -> Result<Domain, Fault> {
        ctx.authorise("identity:get_domain", &target::domain(id))?;
        let id = id.clone();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move {
                store::get(tx, &id).await?.ok_or_else(|| wire::not_found("domain", &id))
            })
        })
        .await
    }

    /// The domains for which the caller can get a token.
    pub(crate) async fn own_domains(&self, ctx: &Ctx) -> Result<Vec<Value>, Fault> {
        let (user, groups) = (ctx.user()?, crate::federation::groups_of(ctx));
        let domains = self
            .look(move |tx| {
                let (user, groups) = (user.clone(), groups.clone());
                Box::pin(async move {
                    let mut domains = store::with_roles_of(tx, &user).await?;
                    for id in federation::store::domains_of_groups(tx, &groups).await? {
                        if !domains.iter().any(|known| known.id == id) {
                            let found = store::get(tx, &id).await?;
                            domains.extend(found.filter(|domain| domain.enabled));
                        }
                    }
                    Ok(domains)
                })
            })
            .await?;
        Ok(domains.iter().map(|domain| domain.view(ctx)).collect())
    }

    /// Whether the caller can get a token for the system.
    pub(crate) async fn has_system_roles(&self, ctx: &Ctx) -> Result<bool, Fault> {
        let (user, groups) = (ctx.user()?, crate::federation::groups_of(ctx));
        self.look(move |tx| {
            let (user, groups) = (user.clone(), groups.clone());
            Box::pin(async move {
                let own = roles_in_scope(tx, &user, &Granted::System).await?;
                let by_groups =
                    federation::store::roles_of_groups(tx, &groups, &Granted::System).await?;
                Ok(!own.is_empty() || !by_groups.is_empty())
            })
        })
        .await
    }

    pub(crate) async fn create_domain(
        &self,
        ctx: &Ctx,
        change: DomainChange,
        id: Option<DomainId>,
    ) -> Result<Domain, Fault> {
        ctx.authorise("identity:create_domain", &Target::none())?;
        self.change(ctx, move |tx| {
            let (change, id) = (change.clone(), id.clone());
            Box::pin(async move {
                let domain = Domain {
                    id: id.unwrap_or_else(DomainId::random),
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
                if !store::insert(tx, &domain).await? {
                    return Err(taken(&domain));
                }
                journal(tx, "create", &domain.id, None, Some(&domain));
                Ok((domain, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_domain(
        &self,
        ctx: &Ctx,
        id: &DomainId,
        change: DomainChange,
    ) -> Result<Domain, Fault> {
        let (id, asker) = (id.clone(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, change, asker) = (id.clone(), change.clone(), asker.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                asker.authorise("identity:update_domain", &target::domain(&id))?;
                let mut domain = before.clone();
                options::update("domain", id.as_str(), &mut domain.options, change.options)?;
                if let Some(tags) = change.tags {
                    domain.tags = tags;
                }
                if let Some(name) = change.name {
                    domain.name = name;
                }
                if let Some(description) = change.description {
                    domain.description = description;
                }
                if let Some(enabled) = change.enabled {
                    domain.enabled = enabled;
                }
                merge_extra(&mut domain.extra, change.extra);
                if domain.name != before.name && store::by_name(tx, &domain.name).await?.is_some() {
                    return Err(taken(&domain));
                }
                let mut revocations = Vec::new();
                if before.enabled && !domain.enabled {
                    domain.serial += 1;
                    let (kind, serial) = (RevocationKind::Domain, domain.serial);
                    revocations.push(revoke(tx, kind, id.as_str(), "", serial).await?);
                }
                store::update(tx, &domain).await?;
                journal(tx, "update", &id, Some(&before), Some(&domain));
                Ok((domain, revocations))
            })
        })
        .await
    }

    /// Deletes a disabled domain that has no projects left; its users and groups go with it.
    /// Projects own servers and networks, so they are never deleted by the way.
    pub(crate) async fn delete_domain(&self, ctx: &Ctx, id: &DomainId) -> Result<(), Fault> {
        ctx.authorise("identity:delete_domain", &target::domain(id))?;
        let id = id.clone();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let domain = locked(tx, &id).await?;
                options::check_delete("domain", id.as_str(), &domain.options)?;
                if domain.enabled {
                    return Err(Fault::forbidden(
                        "Cannot delete a domain that is enabled, please disable it first.",
                    ));
                }
                if project::store::any_in_domain(tx, &id).await? {
                    return Err(Fault::conflict(
                        "The domain still has projects. Delete them first, with what they own.",
                    ));
                }
                let kind = RevocationKind::Domain;
                let mut revocations = vec![revoke(tx, kind, id.as_str(), "", GONE).await?];
                for member in user::store::any_in_domain(tx, &id).await? {
                    if let Some(found) = user::store::get(tx, &member).await? {
                        revocations.extend(user::service::remove(tx, &found).await?);
                    }
                }
                for group in group::store::in_domain(tx, &id).await? {
                    revocations.push(revoke(tx, RevocationKind::Group, &group, "", GONE).await?);
                    group::store::delete(tx, &group).await?;
                }
                for role in role::store::of_domain(tx, &id).await? {
                    revocations.extend(role::service::remove(tx, &role).await?);
                }
                limit::store::delete_of(tx, id.as_str()).await?;
                crate::domain_config::store::delete(tx, id.as_str(), None, None).await?;
                for provider in identity_provider::store::in_domain(tx, &id).await? {
                    revocations.extend(identity_provider::service::remove(tx, &provider).await?);
                }
                directory::store::forget_domain(tx, &id).await?;
                store::delete(tx, &id).await?;
                journal(tx, "delete", &id, Some(&domain), None);
                Ok(((), revocations))
            })
        })
        .await
    }
}

async fn locked(tx: &mut Tx, id: &DomainId) -> Result<Domain, Fault> {
    tx.lock(&[ObjectLock::new("domain", id)]).await?;
    store::get(tx, id).await?.ok_or_else(|| wire::not_found("domain", id))
}
