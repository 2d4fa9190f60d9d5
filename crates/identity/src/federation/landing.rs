//! What a provider's word and a mapping come to here: a user, memberships, projects and roles, in the
//! transaction of the login.

use std::collections::BTreeSet;

use cloud_types::{DomainId, Fault, ProjectId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value, json};

use super::model::{Link, Shadow};
use super::{sessions, store};
use crate::assignment::model::{ActorKind, Assignment, TargetKind};
use crate::identity_provider::model::{IdentityProvider, Protocol};
use crate::mapping::engine::{DomainName, Mapped, MappedProject};
use crate::mapping::model::{SchemaVersion, UserKind};
use crate::project::model::Project;
use crate::token::basis::FederationBasis;
use crate::token::format::Stamp;
use crate::token::service::{refused, revoke};
use crate::token::{Revocation, RevocationKind};
use crate::user::model::User;
use crate::{assignment, domain, group, project, role, user};

const MINUTE: u64 = 60;

/// A refusal that the log explains; the caller learns the reason too, for it is about the mapping
/// or the provider, not about whether somebody exists.
pub(super) fn not_mapped(protocol: &Protocol, why: &str) -> Fault {
    tracing::info!(idp = protocol.idp_id, protocol = protocol.id, why, "a login was refused");
    Fault::unauthorized(format!("The identity provider's word opens no account here: {why}."))
}

/// What the transaction of a login leaves.
pub(super) struct Landed {
    pub user: UserId,
    pub basis: FederationBasis,
}

/// The domain that a mapping names. One out of the assertion may only be the provider's own: who
/// writes the assertion does not choose in whose name space they appear.
async fn domain_of(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    named: Option<&DomainName>,
) -> Result<DomainId, Fault> {
    let Some(named) = named else {
        return Ok(provider.domain_id.clone());
    };
    let found = match (&named.id, &named.name) {
        (Some(id), _) => match id.parse::<DomainId>() {
            Ok(id) => domain::store::get(tx, &id).await?,
            Err(_) => None,
        },
        (None, Some(name)) => domain::store::by_name(tx, name).await?,
        (None, None) => None,
    };
    let found =
        found.ok_or_else(|| not_mapped(protocol, "the domain that it names is not here"))?;
    if named.asserted && found.id != provider.domain_id {
        return Err(not_mapped(
            protocol,
            "the domain is taken from what the provider says, and is not the provider's own",
        ));
    }
    Ok(found.id)
}

/// Makes or finds the user, and writes what the mapping gives.
pub(super) async fn land(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    mapped: &Mapped,
    default_ttl: u32,
) -> Result<(Landed, Vec<Revocation>), Fault> {
    let mut basis = FederationBasis {
        identity_provider: Stamp::new(provider.id.clone(), provider.serial),
        protocol: protocol.id.clone(),
        groups: Vec::new(),
    };
    if mapped.user.kind == UserKind::Local {
        let user = local_user(tx, provider, protocol, mapped).await?;
        return Ok((Landed { user: user.id, basis }, Vec::new()));
    }
    let groups = groups_of(tx, provider, protocol, mapped).await?;
    let shadow = shadow_of(tx, provider, protocol, mapped).await?;
    let user = shadow_user(tx, protocol, &shadow).await?;
    let mut revocations = keep_memberships(tx, provider, &user, &groups, default_ttl).await?;
    revocations.extend(end_of_lost_groups(tx, provider, &user, &groups).await?);
    revocations.extend(land_projects(tx, provider, protocol, &user, mapped).await?);
    for id in groups {
        if let Some(found) = group::store::get(tx, &id).await? {
            basis.groups.push(Stamp::new(id, found.serial));
        }
    }
    Ok((Landed { user, basis }, revocations))
}

/// A user who is here already, whom the operator's mapping names.
async fn local_user(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    mapped: &Mapped,
) -> Result<User, Fault> {
    let wanted = &mapped.user;
    let found = match (&wanted.id, &wanted.name) {
        (Some(id), _) => match id.parse::<UserId>() {
            Ok(id) => user::store::get(tx, &id).await?,
            Err(_) => None,
        },
        (None, Some(name)) => {
            let domain = domain_of(tx, provider, protocol, wanted.domain.as_ref()).await?;
            user::store::by_name(tx, &domain, name).await?
        }
        (None, None) => return Err(not_mapped(protocol, "the mapping gives no user")),
    };
    let found = found.ok_or_else(refused)?;
    // An id out of the assertion could name anybody: it counts within a domain that the mapping
    // names, or else the provider's own.
    let domain = domain_of(tx, provider, protocol, wanted.domain.as_ref()).await?;
    if found.domain_id != domain || !found.enabled {
        return Err(refused());
    }
    Ok(found)
}

async fn shadow_of(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    mapped: &Mapped,
) -> Result<Shadow, Fault> {
    let wanted = &mapped.user;
    let either = |one: &Option<String>, other: &Option<String>| {
        one.clone().or_else(|| other.clone()).filter(|text| !text.is_empty())
    };
    let (Some(unique), Some(name)) =
        (either(&wanted.id, &wanted.name), either(&wanted.name, &wanted.id))
    else {
        return Err(not_mapped(protocol, "the mapping gives no user"));
    };
    let too_long = |text: &str| text.chars().count() > crate::fields::NAME_LONG;
    let unique_id = service_kit::percent_encode(&unique);
    if too_long(&unique_id) || too_long(&name) || name.contains('\0') {
        return Err(not_mapped(protocol, "the user's name or id is too long"));
    }
    Ok(Shadow {
        link: Link { idp_id: provider.id.clone(), protocol_id: protocol.id.clone(), unique_id },
        domain_id: domain_of(tx, provider, protocol, wanted.domain.as_ref()).await?,
        name,
        email: wanted.email.clone().filter(|email| !email.contains('\0')),
    })
}

fn put_email(extra: &mut Map<String, Value>, email: Option<&String>) {
    match email {
        Some(email) => extra.insert("email".to_owned(), json!(email)),
        None => extra.remove("email"),
    };
}

async fn shadow_user(tx: &mut Tx, protocol: &Protocol, shadow: &Shadow) -> Result<UserId, Fault> {
    if let Some(id) = store::user_of(tx, &shadow.link).await? {
        tx.lock(&[ObjectLock::new("user", &id)]).await?;
        if let Some(before) = user::store::get(tx, &id).await? {
            if !before.enabled {
                return Err(refused());
            }
            return renamed(tx, protocol, shadow, before).await;
        }
    }
    let mut extra = Map::new();
    put_email(&mut extra, shadow.email.as_ref());
    let made = User {
        domain_id: shadow.domain_id.clone(),
        name: shadow.name.clone(),
        extra,
        ..User::blank(UserId::random(), shadow.domain_id.clone(), tx.now())
    };
    if !user::store::insert(tx, &made).await? {
        return Err(name_taken(protocol, shadow));
    }
    store::add_link(tx, &shadow.link, &made.id).await?;
    user::service::journal(tx, "create", &made.id, None, Some(&made));
    Ok(made.id)
}

/// Nobody gets to be a user who is here by having the same name.
fn name_taken(protocol: &Protocol, shadow: &Shadow) -> Fault {
    not_mapped(
        protocol,
        &format!(
            "another user of the domain is called {:?} already; let the mapping give another name, \
             or rename that user",
            shadow.name.chars().take(64).collect::<String>()
        ),
    )
}

/// A known person, with the name and address that the provider has for them now.
async fn renamed(
    tx: &mut Tx,
    protocol: &Protocol,
    shadow: &Shadow,
    before: User,
) -> Result<UserId, Fault> {
    let mut now = before.clone();
    now.name.clone_from(&shadow.name);
    put_email(&mut now.extra, shadow.email.as_ref());
    if now.name == before.name && now.extra == before.extra {
        return Ok(before.id);
    }
    if now.name != before.name
        && user::store::by_name(tx, &now.domain_id, &now.name).await?.is_some()
    {
        return Err(name_taken(protocol, shadow));
    }
    user::store::update(tx, &now).await?;
    user::service::journal(tx, "update", &now.id, Some(&before), Some(&now));
    Ok(now.id)
}

/// The groups that exist of those that the mapping gives. One that is named by id must, and one out
/// of the assertion must be of the provider's own domain.
async fn groups_of(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    mapped: &Mapped,
) -> Result<BTreeSet<String>, Fault> {
    let mut groups = BTreeSet::new();
    for (id, asserted) in &mapped.group_ids {
        let shown: String = id.chars().take(64).collect();
        let Some(found) = group::store::get(tx, id).await? else {
            let why = format!("the group {shown} of mapping {} is not here", protocol.mapping_id);
            return Err(not_mapped(protocol, &why));
        };
        if *asserted && found.domain_id != provider.domain_id {
            let why = format!(
                "the group {shown} is taken from what the provider says, and is not of the \
                 provider's own domain"
            );
            return Err(not_mapped(protocol, &why));
        }
        groups.insert(id.clone());
    }
    for (name, named) in &mapped.group_names {
        let domain = domain_of(tx, provider, protocol, Some(named)).await?;
        if let Some(found) = group::store::by_name(tx, &domain, name).await? {
            groups.insert(found.id);
        }
    }
    if groups.len() > 255 {
        return Err(not_mapped(protocol, "it gives more than 255 groups; use a whitelist"));
    }
    Ok(groups)
}

/// Keeps memberships for a while after the login, where the provider's time to live says so, and
/// ends those that the provider no longer names.
async fn keep_memberships(
    tx: &mut Tx,
    provider: &IdentityProvider,
    user: &UserId,
    groups: &BTreeSet<String>,
    default_ttl: u32,
) -> Result<Vec<Revocation>, Fault> {
    let minutes = provider.authorization_ttl.unwrap_or(default_ttl);
    let mut lost = false;
    for kept in store::kept_groups(tx, user, &provider.id).await? {
        if !groups.contains(&kept) {
            store::drop_kept(tx, &kept, user).await?;
            lost = true;
        }
    }
    if minutes > 0 {
        let until = tx.now().after(std::time::Duration::from_secs(u64::from(minutes) * MINUTE));
        for group in groups {
            store::keep_membership(tx, group, user, &provider.id, until).await?;
        }
    }
    if lost {
        return group::service::end_tokens(tx, std::slice::from_ref(user)).await;
    }
    Ok(Vec::new())
}

/// Ends earlier logins of the person that gave a group which the provider names no more.
async fn end_of_lost_groups(
    tx: &mut Tx,
    provider: &IdentityProvider,
    user: &UserId,
    groups: &BTreeSet<String>,
) -> Result<Vec<Revocation>, Fault> {
    let mut revocations = Vec::new();
    for session in store::sessions_of_user(tx, user, &provider.id).await? {
        if session.groups.iter().any(|had| !groups.contains(had)) {
            let why = "the provider names fewer groups";
            revocations.extend(sessions::end_in(tx, &session, why).await?);
        }
    }
    Ok(revocations)
}

/// Projects that the mapping gives: made where they are missing, with roles for the person. From
/// schema version 3.0 on, roles on projects that are not given any more are taken away.
async fn land_projects(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    user: &UserId,
    mapped: &Mapped,
) -> Result<Vec<Revocation>, Fault> {
    let syncs = mapped.version >= SchemaVersion::V3;
    if mapped.projects.is_empty() && !syncs {
        return Ok(Vec::new());
    }
    let mut wanted = BTreeSet::new();
    for given in &mapped.projects {
        let project = landed_project(tx, provider, protocol, given).await?;
        for name in &given.roles {
            let Some(found) = role::store::by_name(tx, None, name).await? else {
                let why =
                    format!("the role {name:?} of mapping {} is not here", protocol.mapping_id);
                return Err(not_mapped(protocol, &why));
            };
            wanted.insert((project.to_string(), found.id));
        }
    }
    let held = assignment::store::projects_of_user(tx, user).await?;
    for (project, role_id) in &wanted {
        let new = own_role(user, project, role_id);
        if assignment::store::add(tx, &new).await? {
            assignment::service::journal(tx, "create", &new);
        }
    }
    let mut revocations = Vec::new();
    if syncs {
        for old in held {
            if wanted.contains(&(old.target_id.clone(), old.role_id.clone())) {
                continue;
            }
            assignment::store::remove(tx, &old).await?;
            assignment::service::journal(tx, "delete", &old);
            if let Some(serial) = user::store::raise_serial(tx, user).await? {
                let kind = RevocationKind::Grant;
                let scope = old.scope_key();
                revocations.push(revoke(tx, kind, user.as_str(), &scope, serial).await?);
            }
        }
    }
    Ok(revocations)
}

fn own_role(user: &UserId, project: &str, role: &cloud_types::RoleId) -> Assignment {
    Assignment {
        actor_kind: ActorKind::User,
        actor_id: user.to_string(),
        target_kind: TargetKind::Project,
        target_id: project.to_owned(),
        role_id: role.clone(),
        inherited: false,
    }
}

async fn landed_project(
    tx: &mut Tx,
    provider: &IdentityProvider,
    protocol: &Protocol,
    given: &MappedProject,
) -> Result<ProjectId, Fault> {
    let domain = domain_of(tx, provider, protocol, given.domain.as_ref()).await?;
    if let Some(found) = project::store::by_name(tx, &domain, &given.name).await? {
        return Ok(found.id);
    }
    let length = given.name.chars().count();
    if given.name.trim().is_empty() || length > crate::fields::NAME_SHORT {
        return Err(not_mapped(protocol, "a project's name is empty or too long"));
    }
    let made = Project::blank(ProjectId::random(), domain, given.name.clone(), tx.now());
    if !project::store::insert(tx, &made).await? {
        return Err(Fault::conflict("The project was made by another login meanwhile. Try again."));
    }
    tx.journal(JournalEntry {
        kind: "project",
        id: made.id.to_string(),
        project: Some(made.id.clone()),
        action: "create",
        before: None,
        after: Some(made.public()),
    });
    Ok(made.id)
}
