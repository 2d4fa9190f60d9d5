//! What can be done with roles.

use std::collections::BTreeSet;

use cloud_types::{DomainId, Fault, RoleId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};

use super::model::Role;
use super::store;
use crate::fields::Patch;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, application_credential, domain, options, target, token, wire};

/// A new role, or what changes of one.
#[derive(Clone)]
pub(crate) struct RoleChange {
    pub name: Option<String>,
    pub description: Patch<String>,
    pub options: Option<Map<String, Value>>,
}

/// Which of two rules is asked: a domain's roles have rules of their own.
fn rule<'r>(domain: Option<&DomainId>, of_cloud: &'r str, of_domain: &'r str) -> &'r str {
    if domain.is_some() { of_domain } else { of_cloud }
}

/// Roles that must be given by name, and never come along with another.
const PERSONAS_ABOVE: [&str; 1] = ["admin"];

/// Told after every change to roles and implications.
const CHANNEL: &str = "identity_roles";

fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &RoleId,
    before: Option<&Role>,
    after: Option<&Role>,
) {
    tx.journal(JournalEntry {
        kind: "role",
        id: id.to_string(),
        project: None,
        action,
        before: before.map(Role::public),
        after: after.map(Role::public),
    });
    tx.notify(CHANNEL, id.to_string());
}

/// All implications change under one lock, so that two requests cannot close a circle together.
fn implications_lock() -> ObjectLock {
    ObjectLock::new("identity_implied_roles", "all")
}

impl Identity {
    pub(crate) async fn list_roles(&self, ctx: &Ctx, filters: Filters) -> Result<Vec<Role>, Fault> {
        let page = wire::page_request(&filters)?;
        let domain: Option<DomainId> =
            match filters.get("domain_id").filter(|text| !text.is_empty()) {
                None => None,
                Some(text) => Some(wire::id("domain", text)?),
            };
        let rule = rule(domain.as_ref(), "identity:list_roles", "identity:list_domain_roles");
        ctx.authorise(rule, &Target::none())?;
        self.look(move |tx| {
            let (domain, filters, page) = (domain.clone(), filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, domain.as_ref(), &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn role(&self, ctx: &Ctx, id: &RoleId) -> Result<Role, Fault> {
        self.allowed(ctx, id, "identity:get_role", "identity:get_domain_role").await
    }

    /// A role to which the caller may do `of_cloud`, or `of_domain` where it is one of a domain.
    async fn allowed(
        &self,
        ctx: &Ctx,
        id: &RoleId,
        of_cloud: &'static str,
        of_domain: &'static str,
    ) -> Result<Role, Fault> {
        let wanted = id.clone();
        let found = self
            .look(move |tx| {
                let id = wanted.clone();
                Box::pin(async move { Ok(store::get(tx, &id).await?) })
            })
            .await?;
        match found {
            Some(role) => {
                let rule = rule(role.domain_id.as_ref(), of_cloud, of_domain);
                ctx.authorise(rule, &target::with_role(Target::none(), &role))?;
                Ok(role)
            }
            // As upstream, whoever asks.
            None => Err(wire::not_found("role", id)),
        }
    }

    pub(crate) async fn create_role(
        &self,
        ctx: &Ctx,
        change: RoleChange,
        domain: Option<DomainId>,
    ) -> Result<Role, Fault> {
        let rule = rule(domain.as_ref(), "identity:create_role", "identity:create_domain_role");
        ctx.authorise(rule, &Target::none())?;
        let role = self
            .change(ctx, move |tx| {
                let (change, domain_id) = (change.clone(), domain.clone());
                Box::pin(async move {
                    if let Some(domain) = &domain_id
                        && domain::store::get(tx, domain).await?.is_none()
                    {
                        return Err(wire::not_found("domain", domain));
                    }
                    let mut description = None;
                    change.description.apply(&mut description);
                    let role = Role {
                        id: RoleId::random(),
                        name: change.name.unwrap_or_default(),
                        description,
                        domain_id,
                        options: change.options.unwrap_or_default(),
                        created_at: tx.now(),
                    };
                    if !store::insert(tx, &role).await? {
                        return Err(wire::duplicate("role", &role.name, ""));
                    }
                    journal(tx, "create", &role.id, None, Some(&role));
                    Ok((role, Vec::new()))
                })
            })
            .await?;
        self.tokens.reload().await?;
        Ok(role)
    }

    pub(crate) async fn update_role(
        &self,
        ctx: &Ctx,
        id: &RoleId,
        change: RoleChange,
    ) -> Result<Role, Fault> {
        self.allowed(ctx, id, "identity:update_role", "identity:update_domain_role").await?;
        let id = id.clone();
        let role = self
            .change(ctx, move |tx| {
                let (id, change) = (id.clone(), change.clone());
                Box::pin(async move {
                    tx.lock(&[ObjectLock::new("role", &id)]).await?;
                    let before = existing(tx, &id).await?;
                    let mut role = before.clone();
                    options::update("role", id.as_str(), &mut role.options, change.options)?;
                    if let Some(name) = change.name {
                        role.name = name;
                    }
                    change.description.apply(&mut role.description);
                    let domain = role.domain_id.as_ref();
                    if role.name != before.name
                        && store::by_name(tx, domain, &role.name).await?.is_some()
                    {
                        return Err(wire::duplicate("role", &role.name, ""));
                    }
                    store::update(tx, &role).await?;
                    journal(tx, "update", &id, Some(&before), Some(&role));
                    Ok((role, Vec::new()))
                })
            })
            .await?;
        self.tokens.reload().await?;
        Ok(role)
    }

    /// Deletes a role with all its assignments. Tokens that carry it lose it as soon as a process
    /// has heard: they hold its id, which then means nothing.
    pub(crate) async fn delete_role(&self, ctx: &Ctx, id: &RoleId) -> Result<(), Fault> {
        self.allowed(ctx, id, "identity:delete_role", "identity:delete_domain_role").await?;
        let id = id.clone();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("role", &id)]).await?;
                let role = existing(tx, &id).await?;
                options::check_delete("role", id.as_str(), &role.options)?;
                let revocations = remove(tx, &role).await?;
                Ok(((), revocations))
            })
        })
        .await?;
        Ok(self.tokens.reload().await?)
    }

    /// The roles that `prior` implies directly, or for `None` all pairs.
    pub(crate) async fn implications(
        &self,
        ctx: &Ctx,
        rule: &str,
        prior: Option<RoleId>,
    ) -> Result<Vec<(Role, Vec<Role>)>, Fault> {
        ctx.authorise(rule, &Target::none())?;
        self.look(move |tx| {
            let prior = prior.clone();
            Box::pin(async move {
                if let Some(prior) = &prior {
                    existing(tx, prior).await?;
                }
                let mut found: Vec<(Role, Vec<Role>)> = Vec::new();
                for (from, to) in store::implications(tx).await? {
                    if prior.as_ref().is_some_and(|prior| *prior != from) {
                        continue;
                    }
                    let (from, to) = (existing(tx, &from).await?, existing(tx, &to).await?);
                    match found.last_mut() {
                        Some((last, implied)) if last.id == from.id => implied.push(to),
                        _ => found.push((from, vec![to])),
                    }
                }
                if let (true, Some(prior)) = (found.is_empty(), &prior) {
                    found.push((existing(tx, prior).await?, Vec::new()));
                }
                Ok(found)
            })
        })
        .await
    }

    pub(crate) async fn imply(
        &self,
        ctx: &Ctx,
        prior: &RoleId,
        implied: &RoleId,
    ) -> Result<(Role, Role), Fault> {
        ctx.authorise("identity:create_implied_role", &Target::none())?;
        let (prior, implied) = (prior.clone(), implied.clone());
        let pair = self
            .change(ctx, move |tx| {
                let (prior, implied) = (prior.clone(), implied.clone());
                Box::pin(async move {
                    tx.lock(&[implications_lock()]).await?;
                    let pair = (existing(tx, &prior).await?, existing(tx, &implied).await?);
                    if pair.0.domain_id.is_none()
                        && let Some(domain) = &pair.1.domain_id
                    {
                        return Err(Fault::forbidden(format!(
                            "The role {implied} belongs to the domain {domain}; a role of the \
                             cloud cannot imply it."
                        )));
                    }
                    if PERSONAS_ABOVE.contains(&pair.1.name.as_str()) && pair.1.domain_id.is_none()
                    {
                        return Err(Fault::forbidden(format!(
                            "Role: {} cannot be an implied role.",
                            pair.1.name
                        )));
                    }
                    let known = store::implications(tx).await?;
                    if reaches(&known, &implied, &prior) {
                        return Err(Fault::forbidden(format!(
                            "The role {implied} implies {prior} already; both ways would be a \
                             circle."
                        )));
                    }
                    store::imply(tx, &prior, &implied).await?;
                    journal(tx, "update", &prior, None, Some(&pair.0));
                    Ok((pair, Vec::new()))
                })
            })
            .await?;
        self.tokens.reload().await?;
        Ok(pair)
    }

    pub(crate) async fn end_implication(
        &self,
        ctx: &Ctx,
        prior: &RoleId,
        implied: &RoleId,
    ) -> Result<(), Fault> {
        ctx.authorise("identity:delete_implied_role", &Target::none())?;
        let (prior, implied) = (prior.clone(), implied.clone());
        self.change(ctx, move |tx| {
            let (prior, implied) = (prior.clone(), implied.clone());
            Box::pin(async move {
                tx.lock(&[implications_lock()]).await?;
                let role = existing(tx, &prior).await?;
                if !store::end_implication(tx, &prior, &implied).await? {
                    return Err(Fault::not_found(format!("{prior} does not imply {implied}")));
                }
                journal(tx, "update", &prior, Some(&role), Some(&role));
                Ok(((), end_tokens_naming(tx, &implied).await?))
            })
        })
        .await?;
        Ok(self.tokens.reload().await?)
    }
}

/// Ends the tokens by trusts, application credentials and OAuth that name a role, or one that it
/// implies: whoever they were cut out of may have had it by an implication that has just ended.
/// (Other tokens name only roles that were assigned; what these imply is looked up every time.)
async fn end_tokens_naming(tx: &mut Tx, role: &RoleId) -> Result<Vec<Revocation>, Fault> {
    let serial = token::store::raise_implications_serial(tx).await?;
    let known = store::implications(tx).await?;
    let mut named = BTreeSet::from([role]);
    for (_, implied) in &known {
        if reaches(&known, role, implied) {
            named.insert(implied);
        }
    }
    let mut ended = Vec::new();
    for role in named {
        ended.push(revoke(tx, RevocationKind::ImpliedRole, role.as_str(), "", serial).await?);
    }
    Ok(ended)
}

/// Deletes a role with all its assignments and implications, and ends the tokens that rest on them.
pub(crate) async fn remove(tx: &mut Tx, role: &Role) -> Result<Vec<Revocation>, Fault> {
    let mut revocations = crate::assignment::service::end_all_of_role(tx, &role.id).await?;
    revocations.extend(application_credential::service::forget_role(tx, &role.id).await?);
    store::delete(tx, &role.id).await?;
    journal(tx, "delete", &role.id, Some(role), None);
    Ok(revocations)
}

/// Whether `from` implies `to`, directly or by others, or is it.
fn reaches(pairs: &[(RoleId, RoleId)], from: &RoleId, to: &RoleId) -> bool {
    let mut seen = BTreeSet::new();
    let mut queue = vec![from];
    while let Some(at) = queue.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            queue.extend(pairs.iter().filter(|(prior, _)| prior == at).map(|(_, next)| next));
        }
    }
    false
}

pub(crate) async fn existing(tx: &mut Tx, id: &RoleId) -> Result<Role, Fault> {
    store::get(tx, id).await?.ok_or_else(|| wire::not_found("role", id))
}
