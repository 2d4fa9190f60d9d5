//! Everything that a token is made of, read in one snapshot.

use cloud_types::{DomainId, Fault, ProjectId, RoleId, Timestamp, UserId};
use database::{DatabaseError, Tx};

use super::prove::Proven;
use super::refused;
use crate::domain::model::Domain;
use crate::token::format::{Claims, Scope, Stamp};
use crate::token::model::{DomainReference, Reference, ScopeView, TokenView, WantedScope};
use crate::token::revocation::Revocations;
use crate::token::store::{self, Granted};
use crate::user::model::User;
use crate::{catalog, domain, project, user};

/// What a token is made of besides the proof.
pub(super) struct Parts {
    pub now: Timestamp,
    pub scope: Scope,
    pub roles: Vec<RoleId>,
}

/// Everything that a token is made of, from one snapshot: serials and the rights that they guard
/// belong together.
pub(super) async fn assemble(
    tx: &mut Tx,
    proven: &Proven,
    wanted: &WantedScope,
    with_catalog: bool,
) -> Result<(TokenView, Parts), Fault> {
    let (user, user_domain) = user_and_domain(tx, &proven.user).await.map_err(as_refusal)?;
    if !user.enabled || !user_domain.enabled {
        return Err(refused());
    }
    if proven.hash.as_ref().is_some_and(|hash| Some(hash) != user.password_hash.as_ref()) {
        return Err(refused());
    }
    if let Some(from) = &proven.from {
        still_good(tx, from).await?;
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
    if wanted && !matches!(view.scope, ScopeView::Unscoped) {
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
