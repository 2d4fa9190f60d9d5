//! What can be done with groups.

use cloud_types::{DomainId, Fault, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};
use uuid::Uuid;

use super::model::Group;
use super::store;
use crate::directory::service::KindOf;
use crate::fields::merge_extra;
use crate::filter::ExpiryFilter;
use crate::token::service::{GONE, revoke};
use crate::token::{Revocation, RevocationKind};
use crate::user::model::User;
use crate::{Identity, domain, target, user, wire};

fn journal(
    tx: &mut Tx,
    action: &'static str,
    id: &str,
    before: Option<Value>,
    after: Option<Value>,
) {
    tx.journal(JournalEntry {
        kind: "group",
        id: id.to_owned(),
        project: None,
        action,
        before,
        after,
    });
}

/// Ends all tokens of these users: each may rest on what was taken away.
pub(crate) async fn end_tokens(tx: &mut Tx, users: &[UserId]) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::new();
    for user in users {
        if let Some(serial) = user::store::raise_serial(tx, user).await? {
            ended.push(revoke(tx, RevocationKind::User, user.as_str(), "", serial).await?);
        }
    }
    Ok(ended)
}

/// Ends the tokens of members, and of users whom a mapping put into the group, that rest on a role
/// of it: for one scope, or (empty) for all.
pub(crate) async fn end_tokens_of_group(
    tx: &mut Tx,
    group: &str,
    scope: &str,
) -> Result<Vec<Revocation>, Fault> {
    let members = store::members(tx, group).await?;
    let mut ended = end_tokens(tx, &members).await?;
    if let Some(serial) = store::raise_serial(tx, group).await? {
        ended.push(revoke(tx, RevocationKind::Group, group, scope, serial).await?);
    }
    Ok(ended)
}

async fn existing(tx: &mut Tx, id: &str) -> Result<Group, Fault> {
    store::get(tx, id).await?.ok_or_else(|| wire::not_found("group", id))
}

impl Identity {
    pub(crate) async fn list_groups(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<Group>, Fault> {
        let domains = self.list_domains_of(ctx, "identity:list_groups", &filters)?;
        let page = wire::page_request(&filters)?;
        for domain in &domains {
            self.refresh_groups(domain, &filters).await?;
        }
        self.look(move |tx| {
            let (domains, filters, page) = (domains.clone(), filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, &domains, &filters, &page).await?) })
        })
        .await
    }

    /// The groups of a user; the caller has been authorised.
    pub(crate) async fn groups_of(&self, ctx: &Ctx, user: &UserId) -> Result<Vec<Value>, Fault> {
        self.refresh_user(user).await?;
        let user = user.clone();
        let groups = self
            .look(move |tx| {
                let user = user.clone();
                Box::pin(async move { Ok(store::of_user(tx, &user).await?) })
            })
            .await?;
        // The token of a domain sees that domain's.
        let own = ctx.token()?.domain.clone();
        let seen = |group: &&Group| own.as_ref().is_none_or(|own| group.domain_id == *own);
        Ok(groups.iter().filter(seen).map(|group| group.view(ctx)).collect())
    }

    pub(crate) async fn group(&self, ctx: &Ctx, rule: &str, id: &str) -> Result<Group, Fault> {
        self.refresh_group(id, false).await?;
        let wanted = id.to_owned();
        let found = self
            .look(move |tx| {
                let id = wanted.clone();
                Box::pin(async move { Ok(store::get(tx, &id).await?) })
            })
            .await?;
        match found {
            Some(group) => {
                ctx.authorise(rule, &group.target())?;
                Ok(group)
            }
            None => {
                ctx.authorise(rule, &Target::none())?;
                Err(wire::not_found("group", id))
            }
        }
    }

    pub(crate) async fn create_group(
        &self,
        ctx: &Ctx,
        name: String,
        description: String,
        extra: Map<String, Value>,
        domain: Option<DomainId>,
    ) -> Result<Group, Fault> {
        // As upstream: who runs one domain names it.
        let wanted = domain.as_ref().map_or_else(Target::none, target::group);
        ctx.authorise("identity:create_group", &wanted)?;
        let domain = self.domain_for(ctx, domain.as_ref())?;
        self.refuse_in_directory(&domain).await?;
        let group = Group {
            id: Uuid::new_v4().simple().to_string(),
            domain_id: domain,
            name,
            description,
            extra,
            serial: 0,
        };
        self.change(ctx, move |tx| {
            let group = group.clone();
            Box::pin(async move {
                if domain::store::get(tx, &group.domain_id).await?.is_none() {
                    return Err(wire::not_found("domain", &group.domain_id));
                }
                if !store::insert(tx, &group).await? {
                    return Err(taken(&group));
                }
                journal(tx, "create", &group.id, None, Some(group.public()));
                Ok((group, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_group(
        &self,
        ctx: &Ctx,
        id: &str,
        name: Option<String>,
        description: Option<String>,
        extra: Map<String, Value>,
    ) -> Result<Group, Fault> {
        self.group(ctx, "identity:update_group", id).await?;
        self.refuse_mirrored(KindOf::GROUP, id).await?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let (id, name, description) = (id.clone(), name.clone(), description.clone());
            let extra = extra.clone();
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("group", &id)]).await?;
                let before = existing(tx, &id).await?;
                let mut group = before.clone();
                if let Some(name) = name {
                    group.name = name;
                }
                if let Some(description) = description {
                    group.description = description;
                }
                merge_extra(&mut group.extra, extra);
                if !store::update(tx, &group).await? {
                    return Err(taken(&group));
                }
                journal(tx, "update", &id, Some(before.public()), Some(group.public()));
                Ok((group, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_group(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        self.refuse_mirrored(KindOf::GROUP, id).await?;
        let (id, asker) = (id.to_owned(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, asker) = (id.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("group", &id)]).await?;
                // As upstream: of what does not exist whoever asks is told so.
                let group = existing(tx, &id).await?;
                asker.authorise("identity:delete_group", &group.target())?;
                let members = store::members(tx, &id).await?;
                let mut ended = end_tokens(tx, &members).await?;
                ended.push(revoke(tx, RevocationKind::Group, &id, "", GONE).await?);
                store::delete(tx, &id).await?;
                journal(tx, "delete", &id, Some(group.public()), None);
                Ok(((), ended))
            })
        })
        .await
    }

    pub(crate) async fn members(
        &self,
        ctx: &Ctx,
        id: &str,
        expiry: Option<ExpiryFilter>,
    ) -> Result<Vec<User>, Fault> {
        self.group(ctx, "identity:list_users_in_group", id).await?;
        self.refresh_group(id, true).await?;
        let id = id.to_owned();
        let users = self
            .look(move |tx| {
                let id = id.clone();
                Box::pin(async move { Ok(user::store::in_group(tx, &id).await?) })
            })
            .await?;
        // The token of a domain sees that domain's.
        let own = ctx.token()?.domain.clone();
        let fits = |user: &User| {
            expiry.is_none_or(|filter| filter.matches(user.standing.password_expires_at))
                && own.as_ref().is_none_or(|own| user.domain_id == *own)
        };
        Ok(users.into_iter().filter(fits).map(|user| self.seen_now(user)).collect())
    }

    /// The group and the user of a membership, with the caller authorised for both.
    async fn membership(
        &self,
        ctx: &Ctx,
        rule: &'static str,
        group: &str,
        member: &UserId,
    ) -> Result<(), Fault> {
        let (id, wanted) = (group.to_owned(), member.clone());
        let (found, member_found) = self
            .look(move |tx| {
                let (id, wanted) = (id.clone(), wanted.clone());
                Box::pin(async move {
                    let group = store::get(tx, &id).await?;
                    Ok((group, user::store::get(tx, &wanted).await?))
                })
            })
            .await?;
        let mut target = found.as_ref().map_or_else(Target::none, Group::target);
        if let Some(user) = &member_found {
            target = target.with("user.domain_id", user.domain_id.as_str());
        }
        ctx.authorise(rule, &target)?;
        match (found, member_found) {
            (None, _) => Err(wire::not_found("group", group)),
            (_, None) => Err(wire::not_found("user", member)),
            _ => Ok(()),
        }
    }

    pub(crate) async fn add_member(
        &self,
        ctx: &Ctx,
        group: &str,
        member: &UserId,
    ) -> Result<(), Fault> {
        self.membership(ctx, "identity:add_user_to_group", group, member).await?;
        self.refuse_mirrored(KindOf::GROUP, group).await?;
        let (group, member) = (group.to_owned(), member.clone());
        self.change(ctx, move |tx| {
            let (group, member) = (group.clone(), member.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("group", &group), ObjectLock::new("user", &member)])
                    .await?;
                existing(tx, &group).await?;
                store::add_member(tx, &group, &member).await?;
                let after = serde_json::json!({"member": member});
                journal(tx, "add_member", &group, None, Some(after));
                Ok(((), Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn remove_member(
        &self,
        ctx: &Ctx,
        group: &str,
        member: &UserId,
    ) -> Result<(), Fault> {
        self.membership(ctx, "identity:remove_user_from_group", group, member).await?;
        self.refuse_mirrored(KindOf::GROUP, group).await?;
        let (group, member) = (group.to_owned(), member.clone());
        self.change(ctx, move |tx| {
            let (group, member) = (group.clone(), member.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("group", &group), ObjectLock::new("user", &member)])
                    .await?;
                if !store::remove_member(tx, &group, &member).await? {
                    return Err(not_a_member(&group, &member));
                }
                let before = serde_json::json!({"member": member});
                journal(tx, "remove_member", &group, Some(before), None);
                let ended = end_tokens(tx, std::slice::from_ref(&member)).await?;
                Ok(((), ended))
            })
        })
        .await
    }

    pub(crate) async fn check_member(
        &self,
        ctx: &Ctx,
        group: &str,
        member: &UserId,
    ) -> Result<(), Fault> {
        self.membership(ctx, "identity:check_user_in_group", group, member).await?;
        self.refresh_user(member).await?;
        let (id, wanted) = (group.to_owned(), member.clone());
        let members = self
            .look(move |tx| {
                let id = id.clone();
                Box::pin(async move { Ok(store::members(tx, &id).await?) })
            })
            .await?;
        if members.contains(&wanted) { Ok(()) } else { Err(not_a_member(group, member)) }
    }
}

fn taken(group: &Group) -> Fault {
    wire::duplicate("group", &group.name, &format!(" at domain ID {}", group.domain_id))
}

fn not_a_member(group: &str, user: &UserId) -> Fault {
    Fault::not_found(format!("User {user} not found in group {group}."))
}
