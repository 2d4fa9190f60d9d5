//! What can be done with trusts.

use cloud_types::{Fault, ProjectId, RoleId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use service_kit::{Ctx, Filters, Target, Token};
use uuid::Uuid;

use super::model::{Redelegation, Trust, check_handed_on, redelegation_count};
use super::store;
use crate::role::model::Role;
use crate::token::service::{GONE, RoleName, effective_roles, find_roles, revoke};
use crate::token::store::Granted;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, project, role, user, wire};

/// A new trust.
#[derive(Clone)]
pub(crate) struct NewTrust {
    pub trustor: UserId,
    pub trustee: UserId,
    pub project_id: Option<ProjectId>,
    pub impersonation: bool,
    pub expires_at: Option<cloud_types::Timestamp>,
    pub remaining_uses: Option<i64>,
    pub redelegation: Redelegation,
    pub roles: Vec<RoleName>,
}

/// A trust with the roles that it names, as far as they still exist.
#[derive(Clone)]
pub(crate) struct Shown {
    pub trust: Trust,
    pub roles: Vec<Role>,
}

fn journal(tx: &mut Tx, action: &'static str, trust: &Trust) {
    let shown = Some(trust.public());
    let (before, after) = if action == "create" { (None, shown) } else { (shown, None) };
    tx.journal(JournalEntry {
        kind: "trust",
        id: trust.id.clone(),
        project: trust.project_id.clone(),
        action,
        before,
        after,
    });
}

/// Whoever got hold of a program's credential must neither see nor change whom its user trusts.
fn check_no_application_credential(token: &Token) -> Result<(), Fault> {
    if token.delegation.application_credential.is_some() {
        return Err(Fault::forbidden(
            "Using method 'application_credential' is not allowed for managing trusts.",
        ));
    }
    Ok(())
}

fn not_found(id: &str) -> Fault {
    wire::not_found("trust", id)
}

impl Identity {
    pub(crate) async fn trusts(&self, ctx: &Ctx, filters: Filters) -> Result<Vec<Trust>, Fault> {
        let named = |key: &str| filters.get(key).filter(|text| !text.is_empty());
        let (rule, target) = match (named("trustor_user_id"), named("trustee_user_id")) {
            (Some(id), _) => (
                "identity:list_trusts_for_trustor",
                Target::none().with("trust.trustor_user_id", id),
            ),
            (None, Some(id)) => (
                "identity:list_trusts_for_trustee",
                Target::none().with("trust.trustee_user_id", id),
            ),
            (None, None) => ("identity:list_trusts", Target::none()),
        };
        ctx.authorise(rule, &target)?;
        check_no_application_credential(ctx.token()?)?;
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (filters, page) = (filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, &filters, &page).await?) })
        })
        .await
    }

    /// A usable trust that the caller may do `rule` to. That there is none is told to everybody,
    /// as upstream does.
    pub(crate) async fn trust(
        &self,
        ctx: &Ctx,
        rule: &'static str,
        id: &str,
    ) -> Result<Shown, Fault> {
        let (id, asker) = (id.to_owned(), ctx.clone());
        self.look(move |tx| {
            let (id, asker) = (id.clone(), asker.clone());
            Box::pin(async move {
                let trust = allowed(tx, &asker, rule, &id).await?;
                let roles = named_roles(tx, &trust).await?;
                Ok(Shown { trust, roles })
            })
        })
        .await
    }

    pub(crate) async fn create_trust(&self, ctx: &Ctx, new: NewTrust) -> Result<Shown, Fault> {
        let target = Target::none()
            .with("trust.trustor_user_id", new.trustor.as_str())
            .with("trust.trustee_user_id", new.trustee.as_str());
        ctx.authorise("identity:create_trust", &target)?;
        let token = ctx.token()?.clone();
        check_no_application_credential(&token)?;
        if new.project_id.is_some() && new.roles.is_empty() {
            return Err(Fault::forbidden("At least one role should be specified"));
        }
        if token.user_id != new.trustor {
            return Err(Fault::forbidden("The authenticated user should match the trustor"));
        }
        if token.delegation.oauth.is_some() {
            return Err(Fault::forbidden("Redelegation allowed for delegated by trust only"));
        }
        if new.expires_at.is_some_and(|end| end <= self.kit.clock.now()) {
            return Err(Fault::bad_request(
                "Invalid input for field 'expires_at': it must not be before now.",
            ));
        }
        self.change(ctx, move |tx| {
            let (new, token) = (new.clone(), token.clone());
            Box::pin(async move {
                let trust = make(tx, &token, new).await?;
                store::insert(tx, &trust).await?;
                journal(tx, "create", &trust);
                let roles = named_roles(tx, &trust).await?;
                Ok((Shown { trust, roles }, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_trust(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        let (id, asker) = (id.to_owned(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, asker) = (id.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("trust", &id)]).await?;
                let trust = allowed(tx, &asker, "identity:delete_trust", &id).await?;
                Ok(((), remove(tx, &trust.id).await?))
            })
        })
        .await
    }
}

async fn allowed(tx: &mut Tx, ctx: &Ctx, rule: &str, id: &str) -> Result<Trust, Fault> {
    let found = store::get(tx, id).await?.filter(|trust| trust.is_usable(tx.now()));
    let trust = found.ok_or_else(|| not_found(id))?;
    ctx.authorise(rule, &trust.target())?;
    check_no_application_credential(ctx.token()?)?;
    Ok(trust)
}

async fn named_roles(tx: &mut Tx, trust: &Trust) -> Result<Vec<Role>, Fault> {
    let mut roles = Vec::with_capacity(trust.roles.len());
    for id in &trust.roles {
        roles.extend(role::store::get(tx, id).await?);
    }
    Ok(roles)
}

/// The new trust, after everything about it was checked.
async fn make(tx: &mut Tx, token: &Token, new: NewTrust) -> Result<Trust, Fault> {
    let parent = token.delegation.trust.as_ref().map(|trust| trust.id.clone());
    let mut locks =
        vec![ObjectLock::new("user", &new.trustor), ObjectLock::new("user", &new.trustee)];
    locks.extend(parent.as_ref().map(|id| ObjectLock::new("trust", id)));
    tx.lock(&locks).await?;
    for id in [&new.trustor, &new.trustee] {
        if user::store::get(tx, id).await?.is_none() {
            return Err(wire::not_found("user", id));
        }
    }
    let chain = match &parent {
        None => Vec::new(),
        Some(id) => pedigree(tx, id).await?.ok_or_else(|| not_found(id))?,
    };
    let roles = find_roles(tx, &new.roles).await?;
    // Whoever was first in the chain is the one whose roles these are.
    let giver = chain.last().map_or(&new.trustor, |first| &first.trustor);
    let held = held_by(tx, giver, new.project_id.as_ref()).await?;
    if let Some(missing) = roles.iter().find(|id| !held.contains(id)) {
        return Err(wire::not_found("role", missing));
    }
    let mut trust = Trust {
        id: Uuid::new_v4().simple().to_string(),
        redelegation_count: redelegation_count(
            new.redelegation,
            new.remaining_uses,
            chain.first(),
        )?,
        trustor: new.trustor,
        trustee: new.trustee,
        project_id: new.project_id,
        impersonation: new.impersonation,
        expires_at: new.expires_at,
        remaining_uses: new.remaining_uses,
        redelegated_trust_id: parent,
        roles,
        created_at: tx.now(),
    };
    if let Some(before) = chain.first() {
        trust.expires_at = trust.expires_at.or(before.expires_at);
    }
    for before in &chain {
        check_handed_on(before, &trust)?;
    }
    Ok(trust)
}

/// What somebody has on a project in effect; on none, nothing.
pub(crate) async fn held_by(
    tx: &mut Tx,
    user: &UserId,
    project: Option<&ProjectId>,
) -> Result<Vec<RoleId>, Fault> {
    let Some(id) = project else {
        return Ok(Vec::new());
    };
    let found = project::store::get(tx, id).await?;
    let project = found.ok_or_else(|| wire::not_found("project", id))?;
    effective_roles(tx, user, &Granted::Project(&project.id, &project.domain_id)).await
}

/// The trust and those before it, the first one last; `None` unless all are usable.
pub(crate) async fn pedigree(tx: &mut Tx, id: &str) -> Result<Option<Vec<Trust>>, Fault> {
    let mut chain: Vec<Trust> = Vec::new();
    let mut next = Some(id.to_owned());
    while let Some(id) = next {
        let now = tx.now();
        let Some(trust) = store::get(tx, &id).await?.filter(|trust| trust.is_usable(now)) else {
            return Ok(None);
        };
        if chain.iter().any(|known| known.id == trust.id) {
            return Ok(None);
        }
        next = trust.redelegated_trust_id.clone();
        chain.push(trust);
    }
    Ok(Some(chain))
}

/// Deletes a trust with all that were handed on by it, and ends their tokens.
pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::new();
    let mut queue = vec![id.to_owned()];
    while let Some(id) = queue.pop() {
        let Some(trust) = store::get(tx, &id).await? else {
            continue;
        };
        queue.extend(store::handed_on_by(tx, &id).await?);
        store::delete(tx, &id).await?;
        journal(tx, "delete", &trust);
        ended.push(revoke(tx, RevocationKind::Trust, &id, "", GONE).await?);
    }
    Ok(ended)
}

/// Deletes the trusts of a user, who is being deleted.
pub(crate) async fn forget_user(tx: &mut Tx, user: &UserId) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::new();
    for id in store::of_user(tx, user).await? {
        ended.extend(remove(tx, &id).await?);
    }
    Ok(ended)
}

/// Deletes the trusts for a project, which is being deleted.
pub(crate) async fn forget_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::new();
    for id in store::of_project(tx, project).await? {
        ended.extend(remove(tx, &id).await?);
    }
    Ok(ended)
}
