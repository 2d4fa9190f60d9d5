//! Scopes that are not one's own roles: what a trust lends, what an application credential is for,
//! what somebody let a consumer do.

use cloud_types::{Fault, UserId};
use database::Tx;

use super::refused;
use super::roles::effective_roles;
use super::scope::{Drawn, find_project, living, project_scope};
use crate::token::basis::{ApplicationCredentialBasis, TrustBasis};
use crate::token::format::{Scope, Stamp};
use crate::token::model::{ScopeView, WantedScope};
use crate::token::store::{self, Granted};
use crate::trust::model::check_handed_on;
use crate::{application_credential, oauth1, trust};

/// What a trust lends to the person who was proven.
pub(super) async fn by_trust(tx: &mut Tx, mut drawn: Drawn, id: &str) -> Result<Drawn, Fault> {
    let implications = store::implications_serial(tx).await?;
    let chain = trust::service::pedigree(tx, id).await?.ok_or_else(refused)?;
    let (trust, first) = match (chain.first(), chain.last()) {
        (Some(trust), Some(first)) => (trust.clone(), first.clone()),
        _ => return Err(refused()),
    };
    if trust.trustee != drawn.user.id {
        return Err(Fault::forbidden("User is not a trustee."));
    }
    for pair in chain.windows(2) {
        check_handed_on(&pair[1], &pair[0])?;
    }
    let (bearer, other) = if trust.impersonation {
        (&trust.trustor, &trust.trustee)
    } else {
        (&trust.trustee, &trust.trustor)
    };
    let mut people: Vec<&UserId> = vec![other];
    people.extend(chain.iter().flat_map(|trust| [&trust.trustor, &trust.trustee]));
    let mut others = Vec::new();
    for (index, person) in people.iter().enumerate() {
        if *person == bearer || people[..index].contains(person) {
            continue;
        }
        let (user, domain) = living(tx, person).await.map_err(|fault| match fault.status() {
            401 => Fault::forbidden("One of the trust agents is disabled or deleted"),
            _ => fault,
        })?;
        others.push((Stamp::new(user.id, user.serial), Stamp::new(domain.id, domain.serial)));
    }
    if *bearer != drawn.user.id {
        (drawn.user, drawn.user_domain) = living(tx, bearer).await?;
    }
    drawn.scoped = match &trust.project_id {
        None => (Scope::Unscoped, ScopeView::Unscoped, Vec::new()),
        Some(project) => {
            let (scope, view, _) = project_scope(tx, &drawn.user, &[], project).await?;
            // The roles were the first one's, and are lent only while they still are.
            let held = trust::service::held_by(tx, &first.trustor, Some(project)).await?;
            let directory = store::role_directory(tx).await?;
            let lent = directory.expand(&trust.roles);
            if lent.is_empty() || lent.iter().any(|role| !held.contains(&role.id)) {
                return Err(Fault::forbidden("Trustee has no delegated roles."));
            }
            (scope, view, trust.roles.clone())
        }
    };
    if trust.remaining_uses.is_some() && !trust::store::use_once(tx, &trust.id).await? {
        return Err(refused());
    }
    drawn.end_by(trust.expires_at);
    drawn.basis.implications = Some(implications);
    drawn.basis.trust = Some(TrustBasis {
        trust: Stamp::new(trust.id, 0),
        impersonation: trust.impersonation,
        others,
    });
    Ok(drawn)
}

/// The project that an application credential is for, with those of its roles that its user still
/// has.
pub(super) async fn by_credential(
    tx: &mut Tx,
    mut drawn: Drawn,
    wanted: &WantedScope,
) -> Result<Drawn, Fault> {
    let implications = store::implications_serial(tx).await?;
    let basis = drawn.basis.application_credential.take().ok_or_else(refused)?;
    let now = tx.now();
    let credential = application_credential::store::get(tx, &basis.credential.id)
        .await?
        .filter(|it| it.user_id == drawn.user.id && it.expires_at.is_none_or(|end| now < end))
        .ok_or_else(refused)?;
    if let WantedScope::Project(who) = wanted
        && find_project(tx, who).await?.as_ref() != Some(&credential.project_id)
    {
        return Err(refused());
    }
    let (scope, view, _) = project_scope(tx, &drawn.user, &[], &credential.project_id).await?;
    let roles = match &scope {
        Scope::Project(project, domain) => {
            let granted = Granted::Project(&project.id, &domain.id);
            let held = effective_roles(tx, &drawn.user.id, &granted).await?;
            credential.roles.iter().filter(|role| held.contains(role)).cloned().collect()
        }
        _ => Vec::new(),
    };
    drawn.scoped = (scope, view, roles);
    drawn.end_by(credential.expires_at);
    drawn.basis.implications = Some(implications);
    drawn.basis.application_credential = Some(ApplicationCredentialBasis {
        credential: Stamp::new(credential.id.clone(), 0),
        restricted: !credential.unrestricted,
        access_rules: credential.rules_of_token(),
    });
    drawn.application_credential = Some(credential);
    Ok(drawn)
}

/// The project in which somebody let a consumer act for them, with those of the roles that they
/// still have.
pub(super) async fn by_access_token(
    tx: &mut Tx,
    mut drawn: Drawn,
    wanted: &WantedScope,
) -> Result<Drawn, Fault> {
    let implications = store::implications_serial(tx).await?;
    let basis = drawn.basis.oauth.clone().ok_or_else(refused)?;
    let now = tx.now();
    let token = oauth1::store::access(tx, &basis.access_token.id)
        .await?
        .filter(|token| {
            token.user_id == drawn.user.id
                && token.consumer_id == basis.consumer.id
                && now < token.expires_at
        })
        .ok_or_else(refused)?;
    let fits = match wanted {
        WantedScope::Default => true,
        WantedScope::Project(who) => {
            find_project(tx, who).await?.as_ref() == Some(&token.project_id)
        }
        _ => false,
    };
    if !fits {
        return Err(refused());
    }
    let (scope, view, _) = project_scope(tx, &drawn.user, &[], &token.project_id).await?;
    let roles = match &scope {
        Scope::Project(project, domain) => {
            let granted = Granted::Project(&project.id, &domain.id);
            let held = effective_roles(tx, &drawn.user.id, &granted).await?;
            token.roles.into_iter().filter(|role| held.contains(role)).collect()
        }
        _ => Vec::new(),
    };
    drawn.scoped = (scope, view, roles);
    drawn.end_by(Some(token.expires_at));
    drawn.basis.implications = Some(implications);
    Ok(drawn)
}
