//! What can be done with users.

use cloud_types::{DomainId, Fault, ProjectId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};
use zeroize::Zeroizing;

use super::model::{Standing, User};
use super::store;
use crate::directory::service::KindOf;
use crate::fields::{Patch, merge_extra};
use crate::filter::ExpiryFilter;
use crate::token::service::{GONE, revoke};
use crate::token::{Revocation, RevocationKind};
use crate::{
    Identity, application_credential, compliance, credential, domain, target, trust, wire,
};

/// A new user, or what changes of one.
#[derive(Clone)]
pub(crate) struct UserChange {
    pub name: Option<String>,
    pub domain_id: Option<DomainId>,
    pub description: Patch<String>,
    pub enabled: Option<bool>,
    pub default_project_id: Patch<ProjectId>,
    pub options: Option<Map<String, Value>>,
    pub extra: Map<String, Value>,
}

/// A password on its way in, and whether there is one.
pub(crate) type NewPassword = Patch<Zeroizing<String>>;

pub(crate) fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &UserId,
    before: Option<&User>,
    after: Option<&User>,
) {
    tx.journal(JournalEntry {
        kind: "user",
        id: id.to_string(),
        project: None,
        action,
        before: before.map(User::public),
        after: after.map(User::public),
    });
}

/// Where a rule about the user looks.
pub(crate) fn target(user: &User) -> Target {
    target::user(user)
}

impl Identity {
    /// The domain that a new object goes into: the one named, else that of the token's scope.
    pub(crate) fn domain_for(
        &self,
        ctx: &Ctx,
        named: Option<&DomainId>,
    ) -> Result<DomainId, Fault> {
        if let Some(domain) = named {
            return Ok(domain.clone());
        }
        let token = ctx.token()?;
        let scope = token
            .domain
            .clone()
            .or_else(|| token.project.as_ref().map(|project| project.domain_id.clone()));
        Ok(scope.unwrap_or_else(crate::bootstrap::default_domain))
    }

    /// The domains that a list is limited to: the one asked for, and for a token of a domain also
    /// that one. Who asks for another than their own finds nothing.
    pub(crate) fn list_domains_of(
        &self,
        ctx: &Ctx,
        rule: &str,
        filters: &Filters,
    ) -> Result<Vec<DomainId>, Fault> {
        ctx.authorise(rule, &target::list(ctx))?;
        let mut domains: Vec<DomainId> = ctx.token()?.domain.iter().cloned().collect();
        if let Some(asked) = filters.get("domain_id").filter(|text| !text.is_empty()) {
            domains.push(wire::id("domain", asked)?);
        }
        Ok(domains)
    }

    pub(crate) async fn list_users(&self, ctx: &Ctx, filters: Filters) -> Result<Vec<User>, Fault> {
        let domains = self.list_domains_of(ctx, "identity:list_users", &filters)?;
        let enabled = filters.flag("enabled")?;
        let expiry = ExpiryFilter::read(&filters)?;
        let page = wire::page_request(&filters)?;
        for domain in &domains {
            self.refresh_users(domain, &filters).await?;
        }
        let users = self
            .look(move |tx| {
                let (domains, filters, page) = (domains.clone(), filters.clone(), page.clone());
                Box::pin(async move {
                    let expiry = expiry.as_ref();
                    Ok(store::list(tx, &domains, enabled, expiry, &filters, &page).await?)
                })
            })
            .await?;
        Ok(users.into_iter().map(|user| self.seen_now(user)).collect())
    }

    /// A user whom the caller may do `rule` to. Who may not is told the same as when there is none
    /// only where upstream does; for users it says 403.
    pub(crate) async fn user(&self, ctx: &Ctx, rule: &str, id: &UserId) -> Result<User, Fault> {
        self.refresh_user(id).await?;
        let wanted = id.clone();
        let found = self
            .look(move |tx| {
                let id = wanted.clone();
                Box::pin(async move { Ok(store::get(tx, &id).await?) })
            })
            .await?;
        match found {
            Some(user) => {
                ctx.authorise(rule, &target(&user))?;
                Ok(self.seen_now(user))
            }
            None => {
                // Whoever may not look must not learn by 404 that an id is free.
                ctx.authorise(rule, &target::user_named(id))?;
                Err(wire::not_found("user", id))
            }
        }
    }

    pub(crate) async fn create_user(
        &self,
        ctx: &Ctx,
        change: UserChange,
        password: NewPassword,
    ) -> Result<User, Fault> {
        let domain = self.domain_for(ctx, change.domain_id.as_ref())?;
        // As upstream: who runs one domain names it.
        let wanted = change.domain_id.as_ref().map_or_else(Target::none, target::new_user);
        ctx.authorise("identity:create_user", &wanted)?;
        self.refuse_in_directory(&domain).await?;
        let hash = self.hash_of(password).await?;
        let rules = self.rules.clone();
        self.change(ctx, move |tx| {
            let (change, domain, hash) = (change.clone(), domain.clone(), hash.clone());
            let rules = rules.clone();
            Box::pin(async move {
                if domain::store::get(tx, &domain).await?.is_none() {
                    return Err(wire::not_found("domain", &domain));
                }
                let now = tx.now();
                let mut default_project_id = None;
                let mut description = None;
                change.default_project_id.apply(&mut default_project_id);
                change.description.apply(&mut description);
                let mut options = Map::new();
                merge_extra(&mut options, change.options.unwrap_or_default());
                let password_expires_at =
                    hash.as_ref().and_then(|_| rules.expiry_when_given(&options, now));
                let user = User {
                    id: UserId::random(),
                    domain_id: domain,
                    name: change.name.unwrap_or_default(),
                    description,
                    enabled: change.enabled.unwrap_or(true),
                    default_project_id,
                    password_changed_at: hash.as_ref().map(|_| now),
                    password_hash: hash,
                    standing: Standing { password_expires_at, ..Standing::default() },
                    options,
                    extra: change.extra,
                    serial: 0,
                    generation: 1,
                    created_at: now,
                };
                if !store::insert(tx, &user).await? {
                    return Err(taken(&user));
                }
                journal(tx, "create", &user.id, None, Some(&user));
                Ok((user, Vec::new()))
            })
        })
        .await
    }

    async fn hash_of(&self, password: NewPassword) -> Result<Option<String>, Fault> {
        match password {
            Patch::Set(secret) => Ok(Some(self.new_hash(secret).await?)),
            Patch::Null | Patch::Absent => Ok(None),
        }
    }

    pub(crate) async fn update_user(
        &self,
        ctx: &Ctx,
        id: &UserId,
        change: UserChange,
        password: NewPassword,
    ) -> Result<User, Fault> {
        let before = self.user(ctx, "identity:update_user", id).await?;
        self.refuse_mirrored(KindOf::USER, id.as_str()).await?;
        if change.domain_id.as_ref().is_some_and(|domain| *domain != before.domain_id) {
            return Err(Fault::bad_request("Cannot change Domain ID"));
        }
        let new_password = password != Patch::Absent;
        let hash = self.hash_of(password).await?;
        let (id, rules) = (id.clone(), self.rules.clone());
        self.change(ctx, move |tx| {
            let (id, change, hash) = (id.clone(), change.clone(), hash.clone());
            let rules = rules.clone();
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                let mut user = before.clone();
                if let Some(name) = change.name {
                    user.name = name;
                }
                if let Some(enabled) = change.enabled {
                    user.enabled = enabled;
                    if enabled {
                        // It unlocks, and begins a new period of inactivity.
                        let today = compliance::model::day_of(tx.now());
                        compliance::store::note_activity(tx, &id, today).await?;
                        compliance::store::forget_failures(tx, &id).await?;
                        user.standing.last_active_day = Some(today);
                    }
                }
                change.description.apply(&mut user.description);
                change.default_project_id.apply(&mut user.default_project_id);
                merge_extra(&mut user.options, change.options.unwrap_or_default());
                merge_extra(&mut user.extra, change.extra);
                if new_password {
                    let now = tx.now();
                    compliance::service::remember(tx, &before, &rules).await?;
                    user.password_changed_at = hash.as_ref().map(|_| now);
                    user.standing.password_expires_at =
                        hash.as_ref().and_then(|_| rules.expiry_when_given(&user.options, now));
                    user.standing.chosen = false;
                    user.password_hash = hash;
                }
                let disabled = before.enabled && !user.enabled;
                let (user, mut ended) = save(tx, before, user, new_password || disabled).await?;
                if disabled {
                    // As upstream does: a program's login must not come back with its user's.
                    ended.extend(application_credential::service::forget_user(tx, &id).await?);
                }
                Ok((user, ended))
            })
        })
        .await
    }

    pub(crate) async fn delete_user(&self, ctx: &Ctx, id: &UserId) -> Result<(), Fault> {
        self.user(ctx, "identity:delete_user", id).await?;
        self.refuse_mirrored(KindOf::USER, id.as_str()).await?;
        let id = id.clone();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                let user = locked(tx, &id).await?;
                Ok(((), remove(tx, &user).await?))
            })
        })
        .await
    }
}

/// Deletes the user with everything that names them, and ends their tokens.
pub(crate) async fn remove(tx: &mut Tx, user: &User) -> Result<Vec<Revocation>, Fault> {
    let mut ended = credential::service::forget_user(tx, &user.id).await?;
    ended.extend(application_credential::service::forget_user(tx, &user.id).await?);
    ended.extend(trust::service::forget_user(tx, &user.id).await?);
    store::delete(tx, &user.id).await?;
    crate::oauth1::store::forget(tx, user.id.as_str()).await?;
    journal(tx, "delete", &user.id, Some(user), None);
    // No serial is good any more: the id is never given out again.
    ended.push(revoke(tx, RevocationKind::User, user.id.as_str(), "", GONE).await?);
    Ok(ended)
}

pub(crate) async fn locked(tx: &mut Tx, id: &UserId) -> Result<User, Fault> {
    tx.lock(&[ObjectLock::new("user", id)]).await?;
    store::get(tx, id).await?.ok_or_else(|| wire::not_found("user", id))
}

pub(crate) async fn save(
    tx: &mut Tx,
    before: User,
    mut user: User,
    ends_tokens: bool,
) -> Result<(User, Vec<Revocation>), Fault> {
    if user.name != before.name && store::by_name(tx, &user.domain_id, &user.name).await?.is_some()
    {
        return Err(taken(&user));
    }
    let mut revocations = Vec::new();
    if ends_tokens {
        user.serial += 1;
        let kind = RevocationKind::User;
        revocations.push(revoke(tx, kind, user.id.as_str(), "", user.serial).await?);
    }
    store::update(tx, &user).await?;
    journal(tx, "update", &user.id, Some(&before), Some(&user));
    user.generation += 1;
    Ok((user, revocations))
}

fn taken(user: &User) -> Fault {
    wire::duplicate("user", &user.name, &format!(" at domain ID {}", user.domain_id))
}
