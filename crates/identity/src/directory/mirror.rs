//! What was seen in a directory, written into the ordinary tables: users, groups and memberships
//! under their public ids.

use cloud_types::{DomainId, Fault, UserId};
use database::Tx;

use super::entry::{DirectoryGroup, Kind, Person, public_id};
use super::store::{self, Entry};
use crate::group::model::Group;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::user::model::User;
use crate::{domain, group, user};

pub(super) fn user_id(domain: &DomainId, person: &Person) -> Result<UserId, Fault> {
    crate::wire::id("user", &public_id(domain, Kind::User, &person.local_id))
}

pub(super) fn group_id(domain: &DomainId, group: &DirectoryGroup) -> String {
    public_id(domain, Kind::Group, &group.local_id)
}

/// Writes what a person is now. Somebody who was disabled loses their tokens.
pub(super) async fn mirror_user(
    tx: &mut Tx,
    domain: &DomainId,
    id: &UserId,
    person: &Person,
) -> Result<Vec<Revocation>, Fault> {
    let known = user::store::get(tx, id).await?;
    let Some(before) = known else {
        if domain::store::get(tx, domain).await?.is_none() {
            return Err(crate::wire::not_found("domain", domain));
        }
        let entry = store::entry(tx, Kind::User, id.as_str()).await?;
        let made = User {
            name: person.name.clone(),
            description: person.description.clone(),
            enabled: person.enabled,
            extra: person.extra.clone(),
            serial: entry.as_ref().map_or(0, |entry| entry.serial),
            ..User::blank(id.clone(), domain.clone(), tx.now())
        };
        store::remember(
            tx,
            Kind::User,
            &Entry {
                public_id: id.to_string(),
                domain_id: domain.clone(),
                local_id: person.local_id.clone(),
                serial: 0,
            },
        )
        .await?;
        store::free_user_name(tx, domain, &person.name, id).await?;
        if !user::store::insert(tx, &made).await? {
            // A user who was made here before has the name: theirs it stays.
            let made = User { name: id.to_string(), ..made };
            user::store::insert(tx, &made).await?;
        }
        return Ok(Vec::new());
    };
    let mut now = User {
        name: person.name.clone(),
        description: person.description.clone(),
        enabled: person.enabled,
        extra: person.extra.clone(),
        ..before.clone()
    };
    let mut revocations = Vec::new();
    if before.enabled && !now.enabled {
        now.serial += 1;
        let kind = RevocationKind::User;
        revocations.push(revoke(tx, kind, id.as_str(), "", now.serial).await?);
        user::service::journal(tx, "update", id, Some(&before), Some(&now));
    }
    if now.name != before.name {
        store::free_user_name(tx, domain, &now.name, id).await?;
        if user::store::by_name(tx, domain, &now.name).await?.is_some() {
            now.name.clone_from(&before.name);
        }
    }
    let same = now.name == before.name
        && now.description == before.description
        && now.enabled == before.enabled
        && now.extra == before.extra;
    if !same {
        user::store::update(tx, &now).await?;
    }
    Ok(revocations)
}

pub(super) async fn mirror_group(
    tx: &mut Tx,
    domain: &DomainId,
    found: &DirectoryGroup,
) -> Result<String, Fault> {
    let id = group_id(domain, found);
    match group::store::get(tx, &id).await? {
        None => {
            store::remember(
                tx,
                Kind::Group,
                &Entry {
                    public_id: id.clone(),
                    domain_id: domain.clone(),
                    local_id: found.local_id.clone(),
                    serial: 0,
                },
            )
            .await?;
            store::free_group_name(tx, domain, &found.name, &id).await?;
            let mut made = Group {
                id: id.clone(),
                domain_id: domain.clone(),
                name: found.name.clone(),
                description: found.description.clone(),
                extra: serde_json::Map::new(),
                serial: 0,
            };
            if !group::store::insert(tx, &made).await? {
                made.name.clone_from(&id);
                group::store::insert(tx, &made).await?;
            }
        }
        Some(known) if known.name != found.name || known.description != found.description => {
            store::free_group_name(tx, domain, &found.name, &id).await?;
            let now =
                Group { name: found.name.clone(), description: found.description.clone(), ..known };
            group::store::update(tx, &now).await?;
        }
        Some(_) => {}
    }
    Ok(id)
}

/// Makes a user's memberships in the directory's groups what they are there. A lost one ends their
/// tokens.
pub(super) async fn mirror_memberships(
    tx: &mut Tx,
    domain: &DomainId,
    user: &UserId,
    groups: &[DirectoryGroup],
) -> Result<Vec<Revocation>, Fault> {
    let mut wanted = Vec::with_capacity(groups.len());
    for found in groups {
        wanted.push(mirror_group(tx, domain, found).await?);
    }
    let had = store::mirrored_groups_of(tx, domain, user).await?;
    let mut lost = false;
    for id in &had {
        if !wanted.contains(id) {
            group::store::remove_member(tx, id, user).await?;
            lost = true;
        }
    }
    for id in &wanted {
        if !had.contains(id) {
            group::store::add_member(tx, id, user).await?;
        }
    }
    if lost {
        return group::service::end_tokens(tx, std::slice::from_ref(user)).await;
    }
    Ok(Vec::new())
}

/// Makes a group's members what they are in the directory.
pub(super) async fn mirror_members(
    tx: &mut Tx,
    domain: &DomainId,
    id: &str,
    people: &[Person],
) -> Result<Vec<Revocation>, Fault> {
    let mut revocations = Vec::new();
    let mut wanted = Vec::with_capacity(people.len());
    for person in people {
        let user = user_id(domain, person)?;
        revocations.extend(mirror_user(tx, domain, &user, person).await?);
        wanted.push(user);
    }
    let had = group::store::members(tx, id).await?;
    let mut lost = Vec::new();
    for user in &had {
        if !wanted.contains(user) {
            group::store::remove_member(tx, id, user).await?;
            lost.push(user.clone());
        }
    }
    for user in &wanted {
        if !had.contains(user) {
            group::store::add_member(tx, id, user).await?;
        }
    }
    revocations.extend(group::service::end_tokens(tx, &lost).await?);
    Ok(revocations)
}

/// Somebody is not in the directory any more: their tokens end and their row goes. Their roles stay,
/// should they come back.
pub(super) async fn drop_user(tx: &mut Tx, id: &UserId) -> Result<Vec<Revocation>, Fault> {
    let Some(before) = user::store::get(tx, id).await? else {
        return Ok(Vec::new());
    };
    let serial = before.serial + 1;
    user::service::journal(tx, "delete", id, Some(&before), None);
    store::forget_row(tx, id, serial).await?;
    Ok(vec![revoke(tx, RevocationKind::User, id.as_str(), "", serial).await?])
}

pub(super) async fn drop_group(tx: &mut Tx, id: &str) -> Result<Vec<Revocation>, Fault> {
    let revocations = group::service::end_tokens_of_group(tx, id, "").await?;
    store::forget_group_row(tx, id).await?;
    Ok(revocations)
}
