//! What can be done with roles.

use std::collections::BTreeSet;

use cloud_types::{Fault, RoleId};
use database::{JournalEntry, ObjectLock, Tx};
use service_kit::{Ctx, Filters, Target};

use super::model::Role;
use super::store;
use crate::fields::Patch;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, token, wire};

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
    /// Who asks about roles need not be told which role is which: the rules have no target.
    pub(crate) async fn list_roles(&self, ctx: &Ctx, filters: Filters) -> Result<Vec<Role>, Fault> {
        ctx.authorise("identity:list_roles", &Target::none())?;
        let page = wire::page_request(&filters)?;
        // There are no roles of a domain; a client that asks for them gets none.
        if filters.get("domain_id").is_some_and(|text| !text.is_empty()) {
            return Ok(Vec::new());
        }
        self.look(move |tx| {
            let (filters, page) = (filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn role(&self, ctx: &Ctx, id: &RoleId) -> Result<Role, Fault> {
        ctx.authorise("identity:get_role", &Target::none())?;
        let id = id.clone();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { existing(tx, &id).await })
        })
        .await
    }

    pub(crate) async fn create_role(
        &self,
        ctx: &Ctx,
        name: String,
        description: Patch<String>,
    ) -> Result<Role, Fault> {
        ctx.authorise("identity:create_role", &Target::none())?;
        let role = self
            .change(ctx, move |tx| {
                let (name, text) = (name.clone(), description.clone());
                Box::pin(async move {
                    let mut description = None;
                    text.apply(&mut description);
                    let role =
                        Role { id: RoleId::random(), name, description, created_at: tx.now() };
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
        name: Option<String>,
        description: Patch<String>,
    ) -> Result<Role, Fault> {
        ctx.authorise("identity:update_role", &Target::none())?;
        let id = id.clone();
        let role = self
            .change(ctx, move |tx| {
                let (id, name, description) = (id.clone(), name.clone(), description.clone());
                Box::pin(async move {
                    tx.lock(&[ObjectLock::new("role", &id)]).await?;
                    let before = existing(tx, &id).await?;
                    let mut role = before.clone();
                    if let Some(name) = name {
                        role.name = name;
                    }
                    description.apply(&mut role.description);
                    if role.name != before.name && store::by_name(tx, &role.name).await?.is_some() {
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
        ctx.authorise("identity:delete_role", &Target::none())?;
        let id = id.clone();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let role = existing(tx, &id).await?;
                let revocations = crate::assignment::service::end_all_of_role(tx, &id).await?;
                store::delete(tx, &id).await?;
                journal(tx, "delete", &id, Some(&role), None);
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
        prior: Option<RoleId>,
    ) -> Result<Vec<(Role, Vec<Role>)>, Fault> {
        ctx.authorise("identity:list_implied_roles", &Target::none())?;
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
