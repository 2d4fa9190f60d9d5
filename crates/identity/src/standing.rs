//! Where somebody stands: the token that a user would get, without a login. For operators who ask
//! why a rule says what it says.

use cloud_types::{DomainId, Fault, ProjectId, Timestamp, UserId};
use database::{Database, DatabaseError, Tx};
use service_kit::{Token, TokenProject};

use crate::token::store::{Granted, role_directory, roles_in_scope};
use crate::{domain, project, user};

/// What the token would be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The user's default project, or nothing.
    Default,
    /// A project by id, or by name in the user's domain.
    Project(String),
    /// A domain by id or name.
    Domain(String),
    /// The system.
    System,
}

async fn find_domain(
    tx: &mut Tx,
    text: &str,
) -> Result<Option<domain::model::Domain>, DatabaseError> {
    if let Ok(id) = text.parse::<DomainId>()
        && let Some(found) = domain::store::get(tx, &id).await?
    {
        return Ok(Some(found));
    }
    domain::store::by_name(tx, text).await
}

async fn find_user(tx: &mut Tx, text: &str, domain: &str) -> Result<user::model::User, Fault> {
    if let Ok(id) = text.parse::<UserId>()
        && let Some(found) = user::store::get(tx, &id).await?
    {
        return Ok(found);
    }
    let place = find_domain(tx, domain).await?;
    let place = place.ok_or_else(|| Fault::not_found(format!("There is no domain {domain}.")))?;
    user::store::by_name(tx, &place.id, text)
        .await?
        .ok_or_else(|| Fault::not_found(format!("There is no user {text} in the domain {domain}.")))
}

async fn find_project(
    tx: &mut Tx,
    text: &str,
    domain: &DomainId,
) -> Result<project::model::Project, Fault> {
    if let Ok(id) = text.parse::<ProjectId>()
        && let Some(found) = project::store::get(tx, &id).await?
    {
        return Ok(found);
    }
    project::store::by_name(tx, domain, text)
        .await?
        .ok_or_else(|| Fault::not_found(format!("There is no project {text}.")))
}

/// The token that the user (by id, or by name in `domain`) would get now; with no roles where a
/// login would be refused for lack of them.
///
/// # Errors
/// 404 for a user, project or domain that does not exist.
pub async fn token_of(
    db: &Database,
    user: &str,
    domain: &str,
    scope: &Scope,
) -> Result<Token, Fault> {
    let (user, domain, scope) = (user.to_owned(), domain.to_owned(), scope.clone());
    db.read(move |tx| {
        let (user, domain, scope) = (user.clone(), domain.clone(), scope.clone());
        Box::pin(async move {
            let user = find_user(tx, &user, &domain).await?;
            let directory = role_directory(tx).await?;
            let mut token = Token {
                user_id: user.id.clone(),
                user_name: Some(user.name.clone()),
                user_domain_id: user.domain_id.clone(),
                project: None,
                domain: None,
                system: false,
                roles: Vec::new(),
                methods: vec!["password".to_owned()],
                issued_at: tx.now(),
                expires_at: Timestamp(i64::MAX),
                audit_ids: Vec::new(),
                delegation: service_kit::Delegation::default(),
            };
            let project = match &scope {
                Scope::Default => match &user.default_project_id {
                    Some(id) => project::store::get(tx, id).await?,
                    None => None,
                },
                Scope::Project(text) => Some(find_project(tx, text, &user.domain_id).await?),
                Scope::Domain(_) | Scope::System => None,
            };
            let mut held = Vec::new();
            if let Some(project) = project {
                let granted = Granted::Project(&project.id, &project.domain_id);
                held = roles_in_scope(tx, &user.id, &granted).await?;
                token.project = Some(TokenProject {
                    id: project.id,
                    domain_id: project.domain_id,
                    name: Some(project.name),
                });
            } else if let Scope::Domain(text) = &scope {
                let found = find_domain(tx, text).await?;
                let found =
                    found.ok_or_else(|| Fault::not_found(format!("There is no domain {text}.")))?;
                held = roles_in_scope(tx, &user.id, &Granted::Domain(&found.id)).await?;
                token.domain = Some(found.id);
            } else if scope == Scope::System {
                held = roles_in_scope(tx, &user.id, &Granted::System).await?;
                token.system = true;
            }
            token.roles = directory.expand(&held);
            Ok(token)
        })
    })
    .await
}
