//! Everything that a token is made of, read in one snapshot.

use cloud_types::{DomainId, Fault, ProjectId, RoleId, Timestamp, UserId};
use database::{DatabaseError, Tx};

use super::delegated;
use super::prove::Proven;
use super::refused;
use crate::application_credential::model::ApplicationCredential;
use crate::domain::model::Domain;
use crate::token::basis::Basis;
use crate::token::format::{Claims, Scope, Stamp};
use crate::token::model::{DomainReference, Reference, ScopeView, TokenView, WantedScope};
use crate::token::revocation::Revocations;
use crate::token::store::{self, Granted};
use crate::user::model::User;
use crate::{catalog, credential, domain, federation, project, service_provider, user};

/// What a token is made of besides the proof.
pub(super) struct Parts {
    pub now: Timestamp,
    pub scope: Scope,
    pub roles: Vec<RoleId>,
    pub basis: Basis,
    pub ends_by: Option<Timestamp>,
}

/// Everything that a token is made of. Serials are read before the rights that they guard: what is
/// taken away in between leaves a token with a serial that is not good any more.
pub(super) async fn assemble(
    tx: &mut Tx,
    proven: &Proven,
    wanted: &WantedScope,
    with_catalog: bool,
) -> Result<(TokenView, Parts), Fault> {
    let (user, user_domain) = living(tx, &proven.user).await?;
    check_proof(tx, proven, &user, wanted).await?;
    let own = Drawn {
        user,
        user_domain,
        scoped: (Scope::Unscoped, ScopeView::Unscoped, Vec::new()),
        basis: proven.basis.clone(),
        ends_by: proven.ends_by,
        application_credential: None,
    };
    let drawn = if let WantedScope::Trust(id) = wanted {
        delegated::by_trust(tx, own, id).await?
    } else if proven.basis.application_credential.is_some() {
        delegated::by_credential(tx, own, wanted).await?
    } else if proven.basis.oauth.is_some() {
        delegated::by_access_token(tx, own, wanted).await?
    } else {
        by_own_roles(tx, own, &proven.groups(), wanted).await?
    };
    let (scope, view, roles) = drawn.scoped;
    if scope != Scope::Unscoped && roles.is_empty() {
        return Err(refused());
    }
    use_codes(tx, &proven.totp).await?;
    let mut view = TokenView {
        user: drawn.user,
        user_domain: drawn.user_domain,
        scope: view,
        roles: Vec::new(),
        catalog: None,
        service_providers: Vec::new(),
        application_credential: drawn.application_credential,
    };
    add_catalog(tx, &mut view, with_catalog).await?;
    let (basis, ends_by) = (drawn.basis, drawn.ends_by);
    Ok((view, Parts { now: tx.now(), scope, roles, basis, ends_by }))
}

/// Marks codes as used: each counts once.
pub(super) async fn use_codes(tx: &mut Tx, codes: &[(String, i64)]) -> Result<(), Fault> {
    for (credential, step) in codes {
        if !credential::store::use_totp_step(tx, credential, *step).await? {
            return Err(refused());
        }
    }
    Ok(())
}

/// A token in the making: whose, for what, resting on what.
pub(super) struct Drawn {
    pub user: User,
    pub user_domain: Domain,
    pub scoped: Scoped,
    pub basis: Basis,
    pub ends_by: Option<Timestamp>,
    pub application_credential: Option<ApplicationCredential>,
}

impl Drawn {
    /// The token ends no later than this.
    pub fn end_by(&mut self, end: Option<Timestamp>) {
        self.ends_by = [self.ends_by, end].into_iter().flatten().min();
    }
}

async fn by_own_roles(
    tx: &mut Tx,
    mut drawn: Drawn,
    groups: &[String],
    wanted: &WantedScope,
) -> Result<Drawn, Fault> {
    let user = &drawn.user;
    drawn.scoped = match wanted {
        WantedScope::Unscoped | WantedScope::Trust(_) => drawn.scoped,
        WantedScope::Default => default_scope(tx, user, groups).await?,
        WantedScope::Project(who) => {
            let id = find_project(tx, who).await?.ok_or_else(refused)?;
            project_scope(tx, user, groups, &id).await?
        }
        WantedScope::Domain(who) => domain_scope(tx, user, groups, who).await?,
        WantedScope::System => {
            let roles = roles_of(tx, user, groups, &Granted::System).await?;
            (Scope::System, ScopeView::System, roles)
        }
    };
    Ok(drawn)
}

/// Somebody who may act: there, enabled, in an enabled domain.
pub(super) async fn living(tx: &mut Tx, id: &UserId) -> Result<(User, Domain), Fault> {
    let (user, domain) = user_and_domain(tx, id).await.map_err(as_refusal)?;
    if user.enabled && domain.enabled { Ok((user, domain)) } else { Err(refused()) }
}

/// Whether the proof still holds, and allows what is asked for.
async fn check_proof(
    tx: &mut Tx,
    proven: &Proven,
    user: &User,
    wanted: &WantedScope,
) -> Result<(), Fault> {
    if proven.hash.as_ref().is_some_and(|hash| Some(hash) != user.password_hash.as_ref()) {
        return Err(refused());
    }
    if let Some(from) = &proven.from {
        may_lead_to(from, wanted)?;
        still_good(tx, from).await?;
    }
    if let Some(key) = &proven.basis.ec2_key
        && credential::store::serial(tx, &key.id).await? != Some(key.serial)
    {
        return Err(refused());
    }
    Ok(())
}

/// Rights that somebody was lent, or that are a part of somebody's, are not exchanged for others.
fn may_lead_to(from: &Claims, wanted: &WantedScope) -> Result<(), Fault> {
    let no = |message: &str| {
        Err(Fault::forbidden(format!(
            "You are not authorized to perform the requested action: {message}"
        )))
    };
    if from.basis.oauth.is_some() {
        return no("Using OAuth-scoped token to create another token. Create a new OAuth-scoped \
                   token instead.");
    }
    if from.basis.trust.is_some() {
        return no("Using trust-scoped token to create another token. Create a new trust-scoped \
                   token instead.");
    }
    if from.scope == Scope::System
        && matches!(wanted, WantedScope::Project(_) | WantedScope::Domain(_))
    {
        return no(
            "Using a system-scoped token to create a project-scoped or domain-scoped token \
                   is not allowed.",
        );
    }
    if from.basis.application_credential.is_some() && *wanted != WantedScope::Default {
        return no("Using an application credential token to create a scoped token is not \
                   allowed.");
    }
    Ok(())
}

fn as_refusal(fault: Fault) -> Fault {
    if fault.status() == 404 { refused() } else { fault }
}

/// The presented token was good a moment ago; that it was not revoked since must be seen where the
/// new one is made, or a login could slip through a revocation.
async fn still_good(tx: &mut Tx, from: &Claims) -> Result<(), Fault> {
    let mut revocations = Revocations::default();
    for revocation in store::revocations_of(tx, &from.subjects()).await? {
        revocations.add(&revocation);
    }
    if revocations.covers(from) {
        return Err(refused());
    }
    Ok(())
}

pub(super) type Scoped = (Scope, ScopeView, Vec<RoleId>);

/// The roles of somebody, with those of the groups that their identity provider put them into.
async fn roles_of(
    tx: &mut Tx,
    user: &User,
    groups: &[String],
    granted: &Granted<'_>,
) -> Result<Vec<RoleId>, DatabaseError> {
    let mut roles = store::roles_in_scope(tx, &user.id, granted).await?;
    roles.extend(federation::store::roles_of_groups(tx, groups, granted).await?);
    roles.sort();
    roles.dedup();
    Ok(roles)
}

pub(super) async fn project_scope(
    tx: &mut Tx,
    user: &User,
    groups: &[String],
    id: &ProjectId,
) -> Result<Scoped, Fault> {
    let found = project::store::get(tx, id).await?;
    let project = found.filter(|project| project.enabled).ok_or_else(refused)?;
    let found = domain::store::get(tx, &project.domain_id).await?;
    let domain = found.filter(|domain| domain.enabled).ok_or_else(refused)?;
    let granted = Granted::Project(&project.id, &domain.id);
    let roles = roles_of(tx, user, groups, &granted).await?;
    let scope = Scope::Project(
        Stamp::new(project.id.clone(), project.serial),
        Stamp::new(domain.id.clone(), domain.serial),
    );
    Ok((scope, ScopeView::Project(Box::new(project), Box::new(domain)), roles))
}

async fn domain_scope(
    tx: &mut Tx,
    user: &User,
    groups: &[String],
    who: &DomainReference,
) -> Result<Scoped, Fault> {
    let found = find_domain(tx, who).await?;
    let domain = found.filter(|domain| domain.enabled).ok_or_else(refused)?;
    let roles = roles_of(tx, user, groups, &Granted::Domain(&domain.id)).await?;
    let scope = Scope::Domain(Stamp::new(domain.id.clone(), domain.serial));
    Ok((scope, ScopeView::Domain(Box::new(domain)), roles))
}

/// The default project, unless it is unset, gone, disabled or not the user's: then no scope.
async fn default_scope(tx: &mut Tx, user: &User, groups: &[String]) -> Result<Scoped, Fault> {
    if let Some(id) = &user.default_project_id {
        match project_scope(tx, user, groups, id).await {
            Ok(scoped) if !scoped.2.is_empty() => return Ok(scoped),
            Ok(_) => {}
            Err(fault) if fault.status() == 401 => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok((Scope::Unscoped, ScopeView::Unscoped, Vec::new()))
}

pub(super) async fn user_and_domain(tx: &mut Tx, id: &UserId) -> Result<(User, Domain), Fault> {
    let gone = || Fault::not_found("Could not find token.");
    let user = user::store::get(tx, id).await?.ok_or_else(gone)?;
    let domain = domain::store::get(tx, &user.domain_id).await?.ok_or_else(gone)?;
    Ok((user, domain))
}

pub(super) async fn view_of(tx: &mut Tx, scope: &Scope) -> Result<ScopeView, Fault> {
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

pub(super) async fn add_catalog(
    tx: &mut Tx,
    view: &mut TokenView,
    wanted: bool,
) -> Result<(), Fault> {
    if !wanted {
        return Ok(());
    }
    view.service_providers = service_provider::store::enabled(tx).await?;
    if !matches!(view.scope, ScopeView::Unscoped) {
        let project = view.project_id().cloned();
        view.catalog = Some(catalog::service::for_token(tx, project.as_ref()).await?);
    }
    Ok(())
}

/// Identifiers that cannot exist find nothing, like those that do not.
pub(crate) async fn find_user(tx: &mut Tx, who: &Reference) -> Result<Option<User>, DatabaseError> {
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

pub(super) async fn find_project(
    tx: &mut Tx,
    who: &Reference,
) -> Result<Option<ProjectId>, DatabaseError> {
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

pub(crate) async fn find_domain(
    tx: &mut Tx,
    who: &DomainReference,
) -> Result<Option<Domain>, DatabaseError> {
    match who {
        DomainReference::Id(id) => match id.parse::<DomainId>() {
            Ok(id) => domain::store::get(tx, &id).await,
            Err(_) => Ok(None),
        },
        DomainReference::Name(name) => domain::store::by_name(tx, name).await,
    }
}
