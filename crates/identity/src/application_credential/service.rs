//! What can be done with application credentials and access rules.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{Fault, ProjectId, RoleId, Timestamp, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use service_kit::{AccessRule, Ctx, Filters, Target, Token};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::{ApplicationCredential, OwnRule, RULES_BYTES, fast_hash};
use super::store;
use crate::credential::model::check_unrestricted;
use crate::role::model::Role;
use crate::token::service::{GONE, RoleName, effective_roles, find_roles, revoke};
use crate::token::store::Granted;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, project, role, wire};

/// A new credential.
#[derive(Clone)]
pub(crate) struct NewCredential {
    pub name: String,
    pub description: Option<String>,
    /// Chosen by the user; else one is made.
    pub secret: Option<Zeroizing<String>>,
    pub expires_at: Option<Timestamp>,
    /// None: all that the token has.
    pub roles: Vec<RoleName>,
    pub unrestricted: bool,
    pub access_rules: Vec<WantedRule>,
}

/// An access rule of a new credential.
#[derive(Clone)]
pub(crate) enum WantedRule {
    /// One that the user has.
    Known(String),
    /// One that may be new, with the id that the user wants for it.
    Spelled(Option<String>, AccessRule),
}

/// A credential with the roles that it names, and its secret when it was made just now.
#[derive(Clone)]
pub(crate) struct Shown {
    pub credential: ApplicationCredential,
    pub roles: Vec<Role>,
    pub secret: Option<Zeroizing<String>>,
}

fn journal(tx: &mut Tx, action: &'static str, credential: &ApplicationCredential) {
    let shown = Some(credential.public());
    let (before, after) = if action == "create" { (None, shown) } else { (shown, None) };
    tx.journal(JournalEntry {
        kind: "application_credential",
        id: credential.id.clone(),
        project: Some(credential.project_id.clone()),
        action,
        before,
        after,
    });
}

/// Who acts by a trust or OAuth must not leave a credential behind that outlives it.
fn check_not_delegated(token: &Token) -> Result<(), Fault> {
    if token.delegation.is_delegated() {
        return Err(Fault::forbidden(
            "Cannot manage application credentials with a token issued via delegation.",
        ));
    }
    Ok(())
}

fn invalid(detail: impl std::fmt::Display) -> Fault {
    Fault::bad_request(format!("Invalid application credential: {detail}"))
}

fn not_found(id: &str) -> Fault {
    wire::not_found("Application Credential", id)
}

impl Identity {
    pub(crate) async fn application_credentials(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        filters: Filters,
    ) -> Result<Vec<Shown>, Fault> {
        ctx.authorise("identity:list_application_credentials", &Target::user(owner))?;
        check_not_delegated(ctx.token()?)?;
        let page = wire::page_request(&filters)?;
        let owner = owner.clone();
        self.look(move |tx| {
            let (owner, filters, page) = (owner.clone(), filters.clone(), page.clone());
            Box::pin(async move {
                let mut shown = Vec::new();
                let mut roles: Vec<Role> = Vec::new();
                for credential in store::list(tx, &owner, &filters, &page).await? {
                    for id in &credential.roles {
                        if !roles.iter().any(|role| role.id == *id) {
                            roles.extend(role::store::get(tx, id).await?);
                        }
                    }
                    shown.push(Shown { credential, roles: roles.clone(), secret: None });
                }
                Ok(shown)
            })
        })
        .await
    }

    /// A credential; `owner` is the user whom the path names.
    pub(crate) async fn application_credential(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        id: &str,
    ) -> Result<Shown, Fault> {
        let (owner, id, asker) = (owner.clone(), id.to_owned(), ctx.clone());
        self.look(move |tx| {
            let (owner, id, asker) = (owner.clone(), id.clone(), asker.clone());
            Box::pin(async move {
                let rule = "identity:get_application_credential";
                let credential = allowed(tx, &asker, rule, &owner, &id).await?;
                let roles = named_roles(tx, &credential).await?;
                Ok(Shown { credential, roles, secret: None })
            })
        })
        .await
    }

    pub(crate) async fn create_application_credential(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        new: NewCredential,
    ) -> Result<Shown, Fault> {
        ctx.authorise("identity:create_application_credential", &Target::user(owner))?;
        let token = ctx.token()?.clone();
        check_not_delegated(&token)?;
        check_unrestricted(&token)?;
        if token.user_id != *owner {
            return Err(Fault::forbidden(
                "Cannot create an application credential for another user.",
            ));
        }
        let project_id = ctx.project()?;
        if new.expires_at.is_some_and(|end| end <= self.kit.clock.now()) {
            return Err(Fault::bad_request(
                "Invalid input for field 'expires_at': it must not be before now.",
            ));
        }
        let id = Uuid::new_v4().simple().to_string();
        let (secret, secret_hash) = match &new.secret {
            Some(chosen) => (chosen.clone(), self.passwords.hash(chosen.clone()).await?),
            None => {
                let bits: Zeroizing<[u8; 64]> = Zeroizing::new(rand::random());
                let made = Zeroizing::new(URL_SAFE_NO_PAD.encode(bits.as_slice()));
                let hash = fast_hash(&id, &made);
                (made, hash)
            }
        };
        self.change(ctx, move |tx| {
            let (new, token, id) = (new.clone(), token.clone(), id.clone());
            let (project_id, secret) = (project_id.clone(), secret.clone());
            let secret_hash = secret_hash.clone();
            Box::pin(async move {
                let owner = token.user_id.clone();
                tx.lock(&[ObjectLock::new("user", &owner)]).await?;
                let roles = wanted_roles(tx, &token, &project_id, &new.roles).await?;
                let access_rules = wanted_rules(tx, &owner, new.access_rules).await?;
                let credential = ApplicationCredential {
                    id,
                    user_id: owner,
                    project_id,
                    name: new.name,
                    description: new.description,
                    secret_hash,
                    unrestricted: new.unrestricted,
                    expires_at: new.expires_at,
                    roles,
                    access_rules,
                    created_at: tx.now(),
                };
                if !store::insert(tx, &credential).await? {
                    return Err(wire::duplicate("application_credential", &credential.name, ""));
                }
                journal(tx, "create", &credential);
                let roles = named_roles(tx, &credential).await?;
                Ok((Shown { credential, roles, secret: Some(secret) }, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_application_credential(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        id: &str,
    ) -> Result<(), Fault> {
        let (owner, id, asker) = (owner.clone(), id.to_owned(), ctx.clone());
        self.change(ctx, move |tx| {
            let (owner, id, asker) = (owner.clone(), id.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("application_credential", &id)]).await?;
                let rule = "identity:delete_application_credential";
                let credential = allowed(tx, &asker, rule, &owner, &id).await?;
                check_unrestricted(asker.token()?)?;
                Ok(((), vec![remove(tx, &credential).await?]))
            })
        })
        .await
    }

    pub(crate) async fn access_rules(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        filters: Filters,
    ) -> Result<Vec<OwnRule>, Fault> {
        ctx.authorise("identity:list_access_rules", &of_owner(owner))?;
        check_not_delegated(ctx.token()?)?;
        let page = wire::page_request(&filters)?;
        let owner = owner.clone();
        self.look(move |tx| {
            let (owner, filters, page) = (owner.clone(), filters.clone(), page.clone());
            Box::pin(async move { Ok(store::access_rules(tx, &owner, &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn access_rule(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        id: &str,
    ) -> Result<OwnRule, Fault> {
        ctx.authorise("identity:get_access_rule", &of_owner(owner))?;
        check_not_delegated(ctx.token()?)?;
        let (owner, id) = (owner.clone(), id.to_owned());
        self.look(move |tx| {
            let (owner, id) = (owner.clone(), id.clone());
            Box::pin(async move {
                let found = store::access_rule(tx, &owner, &id).await?;
                found.ok_or_else(|| wire::not_found("Access Rule", &id))
            })
        })
        .await
    }

    pub(crate) async fn delete_access_rule(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        id: &str,
    ) -> Result<(), Fault> {
        ctx.authorise("identity:delete_access_rule", &of_owner(owner))?;
        check_not_delegated(ctx.token()?)?;
        let (owner, id) = (owner.clone(), id.to_owned());
        self.change(ctx, move |tx| {
            let (owner, id) = (owner.clone(), id.clone());
            Box::pin(async move {
                // New credentials lock their user, too: none can take the rule up meanwhile.
                tx.lock(&[ObjectLock::new("user", &owner)]).await?;
                let found = store::access_rule(tx, &owner, &id).await?;
                let rule = found.ok_or_else(|| wire::not_found("Access Rule", &id))?;
                if store::access_rule_is_used(tx, &id).await? {
                    return Err(Fault::forbidden("May not delete access rule in use"));
                }
                store::delete_access_rule(tx, &id).await?;
                tx.journal(JournalEntry {
                    kind: "access_rule",
                    id,
                    project: None,
                    action: "delete",
                    before: Some(rule.public()),
                    after: None,
                });
                Ok(((), Vec::new()))
            })
        })
        .await
    }
}

fn of_owner(owner: &UserId) -> Target {
    Target::user(owner).with("user.id", owner.as_str())
}

/// The credential, if the caller may do `rule` to it. It is its own user who matters, whomever the
/// path names; where there is none, the one of the path.
async fn allowed(
    tx: &mut Tx,
    ctx: &Ctx,
    rule: &str,
    owner: &UserId,
    id: &str,
) -> Result<ApplicationCredential, Fault> {
    let found = store::get(tx, id).await?;
    let user = found.as_ref().map_or(owner, |credential| &credential.user_id);
    ctx.authorise(rule, &Target::user(user))?;
    check_not_delegated(ctx.token()?)?;
    found.ok_or_else(|| not_found(id))
}

async fn named_roles(tx: &mut Tx, credential: &ApplicationCredential) -> Result<Vec<Role>, Fault> {
    let mut roles = Vec::with_capacity(credential.roles.len());
    for id in &credential.roles {
        roles.extend(role::store::get(tx, id).await?);
    }
    Ok(roles)
}

/// The roles of a new credential: those of the token, or others that the user has on the project now,
/// also since the token was made. By another credential nobody gets beyond that one's.
async fn wanted_roles(
    tx: &mut Tx,
    token: &Token,
    project_id: &ProjectId,
    named: &[RoleName],
) -> Result<Vec<RoleId>, Fault> {
    let mut wanted: Vec<RoleId> = if named.is_empty() {
        token.roles.iter().map(|role| role.id.clone()).collect()
    } else {
        let found = find_roles(tx, named).await?;
        let directory = crate::token::store::role_directory(tx).await?;
        directory.expand(&found).into_iter().map(|role| role.id).collect()
    };
    wanted.sort();
    wanted.dedup();
    let beyond = |id: &RoleId| !token.roles.iter().any(|role| role.id == *id);
    if token.delegation.application_credential.is_some() && wanted.iter().any(beyond) {
        return Err(invalid("Cannot create an application credential with unassigned role"));
    }
    let found = project::store::get(tx, project_id).await?;
    let project = found.ok_or_else(|| wire::not_found("project", project_id))?;
    let granted = Granted::Project(&project.id, &project.domain_id);
    let held = effective_roles(tx, &token.user_id, &granted).await?;
    if let Some(missing) = wanted.iter().find(|id| !held.contains(id)) {
        return Err(invalid(format!(
            "Could not find role assignment with role: {missing}, user or group: {}, project, \
             domain, or system: {project_id}.",
            token.user_id
        )));
    }
    Ok(wanted)
}

async fn wanted_rules(
    tx: &mut Tx,
    owner: &UserId,
    wanted: Vec<WantedRule>,
) -> Result<Vec<OwnRule>, Fault> {
    let mut rules: Vec<OwnRule> = Vec::new();
    for one in wanted {
        let rule = match one {
            WantedRule::Known(id) => store::access_rule(tx, owner, &id)
                .await?
                .ok_or_else(|| invalid(format!("Could not find Access Rule: {id}.")))?,
            WantedRule::Spelled(id, rule) => {
                let known = match &id {
                    Some(id) => store::access_rule(tx, owner, id).await?,
                    None => None,
                };
                let id = Uuid::new_v4().simple().to_string();
                match known {
                    Some(known) => known,
                    None => store::access_rule_like(tx, owner, OwnRule { id, rule }).await?,
                }
            }
        };
        if !rules.iter().any(|known| known.id == rule.id) {
            rules.push(rule);
        }
    }
    let length =
        |own: &OwnRule| own.rule.service.len() + own.rule.method.len() + own.rule.path.len();
    let bytes: usize = rules.iter().map(|own| length(own) + 4).sum();
    if bytes > RULES_BYTES || rules.len() > 255 {
        return Err(invalid(format!(
            "the access rules have {bytes} bytes together, and at most {RULES_BYTES} fit into a \
             token. Use wildcards (* and **), or several credentials."
        )));
    }
    Ok(rules)
}

/// Deletes a credential, and ends its tokens.
pub(crate) async fn remove(
    tx: &mut Tx,
    credential: &ApplicationCredential,
) -> Result<Revocation, Fault> {
    store::delete(tx, &credential.id).await?;
    journal(tx, "delete", credential);
    Ok(revoke(tx, RevocationKind::ApplicationCredential, &credential.id, "", GONE).await?)
}

async fn remove_all(tx: &mut Tx, ids: Vec<String>) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(credential) = store::get(tx, &id).await? {
            ended.push(remove(tx, &credential).await?);
        }
    }
    Ok(ended)
}

/// Deletes what a user has, who is being deleted or disabled.
pub(crate) async fn forget_user(tx: &mut Tx, user: &UserId) -> Result<Vec<Revocation>, Fault> {
    let ids = store::of_user(tx, user).await?;
    let ended = remove_all(tx, ids).await?;
    store::delete_access_rules_of(tx, user).await?;
    Ok(ended)
}

/// Deletes what is for a project, which is being deleted.
pub(crate) async fn forget_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Vec<Revocation>, Fault> {
    let ids = store::of_project(tx, project).await?;
    remove_all(tx, ids).await
}

/// Deletes those that have a role, which is being deleted.
pub(crate) async fn forget_role(tx: &mut Tx, role: &RoleId) -> Result<Vec<Revocation>, Fault> {
    let ids = store::with_role(tx, role).await?;
    remove_all(tx, ids).await
}
