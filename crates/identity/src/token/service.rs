//! Issuing, describing and revoking tokens.

use std::sync::Arc;
use std::time::Duration;

use cloud_types::{DomainId, Fault, ProjectId, RoleId, Timestamp, UserId};
use database::{DatabaseError, Tx};
use serde_json::Value;
use service_kit::{Ctx, Target};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::format::{AuditId, Claims, Scope, Stamp};
use super::model::{DomainReference, Login, Proof, Reference, ScopeView, TokenView, WantedScope};
use super::revocation::{Revocation, RevocationKind, Revocations};
use super::store::{self, Granted};
use crate::domain::model::Domain;
use crate::user::model::User;
use crate::{Identity, catalog, domain, project, user};

/// Revocations are kept at least this long: longer than any token that an earlier configuration
/// may have issued.
const REVOCATION_KEPT: Duration = Duration::from_secs(25 * 3600);

/// Bits of the methods, as in the format.
const METHOD_PASSWORD: u8 = 1;
const METHOD_TOKEN: u8 = 2;

/// A signed token and its body.
pub(crate) struct Issued {
    pub text: String,
    pub body: Value,
}

fn refused() -> Fault {
    Fault::unauthorized("The request you have made requires authentication.")
}

/// Who was proven, and what of the proof goes into the new token.
struct Proven {
    user: UserId,
    /// The hash that the password matched: if it is another one by the time the token is made,
    /// the proof is void.
    hash: Option<String>,
    /// The token that was presented.
    from: Option<Arc<Claims>>,
}

impl Identity {
    /// A login, or another scope for a token.
    pub(crate) async fn issue(&self, login: Login, with_catalog: bool) -> Result<Issued, Fault> {
        let proven = match login.proof {
            Proof::Password(who, secret) => self.prove_password(who, secret).await?,
            Proof::Token(text) => {
                let (claims, _) = self.tokens.check(&text, self.kit.clock.now())?;
                Proven { user: claims.user.id.clone(), hash: None, from: Some(claims) }
            }
        };
        let from = proven.from.clone();
        let wanted = login.scope;
        let proven = Arc::new(proven);
        let (view, parts) = self
            .look(move |tx| {
                let (proven, wanted) = (proven.clone(), wanted.clone());
                Box::pin(async move { assemble(tx, &proven, &wanted, with_catalog).await })
            })
            .await?;
        let view = self.with_role_names(view, &parts.roles).await?;
        // Microseconds and chains: a token never outlives the one that it was got from.
        let lifetime = parts.now.after(self.config.token_lifetime);
        let claims = Claims {
            methods: from.as_ref().map_or(METHOD_PASSWORD, |from| from.methods | METHOD_TOKEN),
            issued_at: parts.now,
            expires_at: from.as_ref().map_or(lifetime, |from| from.expires_at),
            user: Stamp::new(view.user.id.clone(), view.user.serial),
            user_domain: Stamp::new(view.user_domain.id.clone(), view.user_domain.serial),
            scope: parts.scope,
            roles: parts.roles,
            audit_id: AuditId::random(),
            chain_id: from.as_ref().map(|from| from.chain()),
        };
        Ok(Issued { text: self.tokens.sign(&claims), body: view.body(&claims) })
    }

    async fn prove_password(
        &self,
        who: Reference,
        secret: Zeroizing<String>,
    ) -> Result<Proven, Fault> {
        let found = self
            .look(move |tx| {
                let who = who.clone();
                Box::pin(async move { find_user(tx, &who).await.map_err(Fault::from) })
            })
            .await?;
        let hash = found.as_ref().and_then(|user| user.password_hash.clone());
        let matches = self.passwords.verify(secret, hash.clone()).await?;
        match found {
            Some(user) if matches => Ok(Proven { user: user.id, hash, from: None }),
            _ => Err(refused()),
        }
    }

    /// Fills in role names, reading the roles again when one is newer than this process's copy.
    async fn with_role_names(
        &self,
        mut view: TokenView,
        roles: &[RoleId],
    ) -> Result<TokenView, Fault> {
        let mut directory = self.tokens.roles();
        if roles.iter().any(|role| !directory.names.contains_key(role)) {
            self.tokens.reload().await?;
            directory = self.tokens.roles();
        }
        view.roles = directory.expand(roles);
        Ok(view)
    }

    /// The body of somebody's token, for who may see it; 404 when it is not good.
    pub(crate) async fn describe(
        &self,
        ctx: &Ctx,
        subject: &str,
        with_catalog: bool,
    ) -> Result<Value, Fault> {
        let claims = self.subject(ctx, subject, "identity:validate_token")?;
        let (user, scope) = (claims.user.id.clone(), claims.scope.clone());
        let view = self
            .look(move |tx| {
                let (user, scope) = (user.clone(), scope.clone());
                Box::pin(async move {
                    let (user, user_domain) = user_and_domain(tx, &user).await?;
                    let scope = view_of(tx, &scope).await?;
                    let mut view =
                        TokenView { user, user_domain, scope, roles: Vec::new(), catalog: None };
                    add_catalog(tx, &mut view, with_catalog).await?;
                    Ok::<_, Fault>(view)
                })
            })
            .await?;
        let view = self.with_role_names(view, &claims.roles).await?;
        Ok(view.body(&claims))
    }

    /// Ends a token.
    pub(crate) async fn revoke(&self, ctx: &Ctx, subject: &str) -> Result<(), Fault> {
        let claims = self.subject(ctx, subject, "identity:revoke_token")?;
        let audit = claims.audit_id.to_string();
        self.change(ctx, move |tx| {
            let audit = audit.clone();
            Box::pin(async move {
                let kind = RevocationKind::Token;
                Ok(((), vec![revoke(tx, kind, &audit, "", 0).await?]))
            })
        })
        .await
    }

    fn subject(&self, ctx: &Ctx, text: &str, rule: &str) -> Result<Arc<Claims>, Fault> {
        let (claims, _) =
            self.tokens.check(text, self.kit.clock.now()).map_err(|fault| {
                match fault.status() {
                    401 => Fault::not_found("Could not find token."),
                    _ => fault,
                }
            })?;
        ctx.authorise(rule, &Target::user(&claims.user.id))?;
        Ok(claims)
    }
}

/// Writes a revocation in the transaction that makes it necessary. The caller hands it to
/// `Identity::change`, so that it holds in this process at once.
pub(crate) async fn revoke(
    tx: &mut Tx,
    kind: RevocationKind,
    subject: &str,
    scope: &str,
    first_good_serial: u64,
) -> Result<Revocation, DatabaseError> {
    let revocation = Revocation {
        id: Uuid::new_v4().simple().to_string(),
        kind,
        subject: subject.to_owned(),
        scope: scope.to_owned(),
        serial: first_good_serial,
        expires_at: tx.now().after(REVOCATION_KEPT),
    };
    store::add_revocation(tx, &revocation).await?;
    Ok(revocation)
}

struct Parts {
    now: Timestamp,
    scope: Scope,
    roles: Vec<RoleId>,
}

/// Everything that a token is made of, from one snapshot: serials and the rights that they guard
/// belong together.
async fn assemble(
    tx: &mut Tx,
    proven: &Proven,
    wanted: &WantedScope,
    with_catalog: bool,
) -> Result<(TokenView, Parts), Fault> {
    let (user, user_domain) = user_and_domain(tx, &proven.user).await.map_err(as_refusal)?;
    if !user.enabled || !user_domain.enabled {
        return Err(refused());
    }
    match &proven.from {
        None if proven.hash != user.password_hash => return Err(refused()),
        Some(from) => still_good(tx, from).await?,
        None => {}
    }
    let (scope, view, roles) = match wanted {
        WantedScope::Unscoped => (Scope::Unscoped, ScopeView::Unscoped, Vec::new()),
        WantedScope::Default => default_scope(tx, &user).await?,
        WantedScope::Project(who) => {
            let id = find_project(tx, who).await?.ok_or_else(refused)?;
            project_scope(tx, &user, &id).await?
        }
        WantedScope::Domain(who) => domain_scope(tx, &user, who).await?,
        WantedScope::System => {
            let roles = store::roles_in_scope(tx, &user.id, &Granted::System).await?;
            (Scope::System, ScopeView::System, roles)
        }
    };
    if scope != Scope::Unscoped && roles.is_empty() {
        return Err(refused());
    }
    let mut view = TokenView { user, user_domain, scope: view, roles: Vec::new(), catalog: None };
    add_catalog(tx, &mut view, with_catalog).await?;
    Ok((view, Parts { now: tx.now(), scope, roles }))
}

fn as_refusal(fault: Fault) -> Fault {
    if fault.status() == 404 { refused() } else { fault }
}

/// The presented token was good a moment ago; that it was not revoked since must be seen in the
/// snapshot that the new one is made from, or a login could slip through a revocation.
async fn still_good(tx: &mut Tx, from: &Claims) -> Result<(), Fault> {
    let mut revocations = Revocations::default();
    for revocation in store::live_revocations(tx).await? {
        revocations.add(&revocation);
    }
    if revocations.covers(from) {
        return Err(refused());
    }
    Ok(())
}

type Scoped = (Scope, ScopeView, Vec<RoleId>);

async fn project_scope(tx: &mut Tx, user: &User, id: &ProjectId) -> Result<Scoped, Fault> {
    let found = project::store::get(tx, id).await?;
    let project = found.filter(|project| project.enabled).ok_or_else(refused)?;
    let found = domain::store::get(tx, &project.domain_id).await?;
    let domain = found.filter(|domain| domain.enabled).ok_or_else(refused)?;
    let granted = Granted::Project(&project.id, &domain.id);
    let roles = store::roles_in_scope(tx, &user.id, &granted).await?;
    let scope = Scope::Project(
        Stamp::new(project.id.clone(), project.serial),
        Stamp::new(domain.id.clone(), domain.serial),
    );
    Ok((scope, ScopeView::Project(Box::new(project), Box::new(domain)), roles))
}

async fn domain_scope(tx: &mut Tx, user: &User, who: &DomainReference) -> Result<Scoped, Fault> {
    let found = find_domain(tx, who).await?;
    let domain = found.filter(|domain| domain.enabled).ok_or_else(refused)?;
    let roles = store::roles_in_scope(tx, &user.id, &Granted::Domain(&domain.id)).await?;
    let scope = Scope::Domain(Stamp::new(domain.id.clone(), domain.serial));
    Ok((scope, ScopeView::Domain(Box::new(domain)), roles))
}

/// The default project, unless it is unset, gone, disabled or not the user's: then no scope.
async fn default_scope(tx: &mut Tx, user: &User) -> Result<Scoped, Fault> {
    if let Some(id) = &user.default_project_id {
        match project_scope(tx, user, id).await {
            Ok(scoped) if !scoped.2.is_empty() => return Ok(scoped),
            Ok(_) => {}
            Err(fault) if fault.status() == 401 => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok((Scope::Unscoped, ScopeView::Unscoped, Vec::new()))
}

async fn user_and_domain(tx: &mut Tx, id: &UserId) -> Result<(User, Domain), Fault> {
    let gone = || Fault::not_found("Could not find token.");
    let user = user::store::get(tx, id).await?.ok_or_else(gone)?;
    let domain = domain::store::get(tx, &user.domain_id).await?.ok_or_else(gone)?;
    Ok((user, domain))
}

async fn view_of(tx: &mut Tx, scope: &Scope) -> Result<ScopeView, Fault> {
    let gone = || Fault::not_found("Could not find token.");
    Ok(match scope {
        Scope::Unscoped => ScopeView::Unscoped,
        Scope::System => ScopeView::System,
        Scope::Project(project, domain) => ScopeView::Project(
            Box::new(project::store::get(tx, &project.id).await?.ok_or_else(gone)?),
            Box::new(domain::store::get(tx, &domain.id).await?.ok_or_else(gone)?),
        ),
        Scope::Domain(domain) => {
            ScopeView::Domain(Box::new(domain::store::get(tx, &domain.id).await?.ok_or_else(gone)?))
        }
    })
}

async fn add_catalog(tx: &mut Tx, view: &mut TokenView, wanted: bool) -> Result<(), Fault> {
    if wanted && !matches!(view.scope, ScopeView::Unscoped) {
        let project = view.project_id().cloned();
        view.catalog = Some(catalog::service::for_token(tx, project.as_ref()).await?);
    }
    Ok(())
}

/// Identifiers that cannot exist find nothing, like those that do not.
async fn find_user(tx: &mut Tx, who: &Reference) -> Result<Option<User>, DatabaseError> {
    match who {
        Reference::Id(id) => match id.parse::<UserId>() {
            Ok(id) => user::store::get(tx, &id).await,
            Err(_) => Ok(None),
        },
        Reference::Name(name, domain) => match find_domain(tx, domain).await? {
            Some(domain) => user::store::by_name(tx, &domain.id, name).await,
            None => Ok(None),
        },
    }
}

async fn find_project(tx: &mut Tx, who: &Reference) -> Result<Option<ProjectId>, DatabaseError> {
    match who {
        Reference::Id(id) => Ok(id.parse().ok()),
        Reference::Name(name, domain) => match find_domain(tx, domain).await? {
            Some(domain) => {
                let found = project::store::by_name(tx, &domain.id, name).await?;
                Ok(found.map(|project| project.id))
            }
            None => Ok(None),
        },
    }
}

async fn find_domain(tx: &mut Tx, who: &DomainReference) -> Result<Option<Domain>, DatabaseError> {
    match who {
        DomainReference::Id(id) => match id.parse::<DomainId>() {
            Ok(id) => domain::store::get(tx, &id).await,
            Err(_) => Ok(None),
        },
        DomainReference::Name(name) => domain::store::by_name(tx, name).await,
    }
}
