//! Granting, taking away, and listing.

use std::collections::BTreeMap;

use cloud_types::{DomainId, Fault, ProjectId, RoleId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Value, json};
use service_kit::{Ctx, Filters, Target};

use super::model::{ActorKind, Assignment, SYSTEM, TargetKind, Wanted, World, effective};
use super::store::{self, Names};
use crate::role::model::Role;
use crate::target::UNSET;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, domain, group, project, role, target, user, wire};

/// What a grant needs of the objects that it names.
struct Named {
    target: Target,
    role: Option<Role>,
    /// The domain of the target; `None` for the system.
    domain: Option<DomainId>,
}

/// Looks the actor, the target and the role up, and collects what the rules ask about them. An
/// object that is missing is 404 only after the caller was authorised.
async fn named(
    tx: &mut Tx,
    wanted: &Assignment,
    with_role: bool,
) -> Result<(Named, Option<Fault>), Fault> {
    let mut missing = None;
    let mut target = Target::none();
    let (attribute, actor_domain): (_, Option<DomainId>) = match wanted.actor_kind {
        ActorKind::User => match wanted.actor_id.parse::<UserId>() {
            Ok(id) => {
                ("user.domain_id", user::store::get(tx, &id).await?.map(|user| user.domain_id))
            }
            Err(_) => ("user.domain_id", None),
        },
        ActorKind::Group => {
            let group = group::store::get(tx, &wanted.actor_id).await?;
            ("group.domain_id", group.map(|group| group.domain_id))
        }
    };
    match actor_domain {
        Some(domain) => target = target.with(attribute, domain.as_str()),
        None => missing = Some(wire::not_found(wanted.actor_kind.as_str(), &wanted.actor_id)),
    }
    let mut on: Option<DomainId> = None;
    match wanted.target_kind {
        TargetKind::System => {}
        TargetKind::Domain => {
            if let Ok(id) = wanted.target_id.parse::<DomainId>()
                && domain::store::get(tx, &id).await?.is_some()
            {
                target = target.with("domain.id", id.as_str());
                on = Some(id);
            }
        }
        TargetKind::Project => {
            if let Ok(id) = wanted.target_id.parse::<ProjectId>()
                && let Some(project) = project::store::get_any(tx, &id).await?
            {
                let domain = if project.is_domain { UNSET } else { project.domain_id.as_str() };
                target = target.with("project.domain_id", domain);
                on = Some(project.domain_id);
            }
        }
    }
    if on.is_none() && wanted.target_kind != TargetKind::System {
        missing = Some(wire::not_found(wanted.target_kind.as_str(), &wanted.target_id));
    }
    let mut found = None;
    if with_role {
        match role::store::get(tx, &wanted.role_id).await? {
            Some(role) => {
                target = target::with_role(target, &role);
                found = Some(role);
            }
            None => missing = Some(wire::not_found("role", &wanted.role_id)),
        }
    }
    Ok((Named { target, role: found, domain: on }, missing))
}

/// What is done to assignments, for which each has its rule.
#[derive(Clone, Copy)]
enum Act {
    List,
    Check,
    Grant,
    Revoke,
}

fn rule(act: Act, wanted: &Assignment) -> &'static str {
    match (act, wanted.target_kind, wanted.actor_kind) {
        (Act::List, TargetKind::System, ActorKind::User) => "identity:list_system_grants_for_user",
        (Act::List, TargetKind::System, ActorKind::Group) => {
            "identity:list_system_grants_for_group"
        }
        (Act::Check, TargetKind::System, ActorKind::User) => "identity:check_system_grant_for_user",
        (Act::Check, TargetKind::System, ActorKind::Group) => {
            "identity:check_system_grant_for_group"
        }
        (Act::Grant, TargetKind::System, ActorKind::User) => {
            "identity:create_system_grant_for_user"
        }
        (Act::Grant, TargetKind::System, ActorKind::Group) => {
            "identity:create_system_grant_for_group"
        }
        (Act::Revoke, TargetKind::System, ActorKind::User) => {
            "identity:revoke_system_grant_for_user"
        }
        (Act::Revoke, TargetKind::System, ActorKind::Group) => {
            "identity:revoke_system_grant_for_group"
        }
        (Act::List, ..) => "identity:list_grants",
        (Act::Check, ..) => "identity:check_grant",
        (Act::Grant, ..) => "identity:create_grant",
        (Act::Revoke, ..) => "identity:revoke_grant",
    }
}

/// A domain's role is granted in that domain only.
fn check_role_domain(found: &Named, wanted: &Assignment) -> Result<(), Fault> {
    let Some(Role { id, domain_id: Some(domain), .. }) = &found.role else {
        return Ok(());
    };
    match wanted.target_kind {
        TargetKind::System => Err(Fault::bad_request(format!(
            "Role {id} is a domain-specific role. Unable to use a domain-specific role in a \
             system assignment."
        ))),
        kind if found.domain.as_ref() != Some(domain) => {
            let mut word = kind.as_str().to_owned();
            word[..1].make_ascii_uppercase();
            Err(Fault::forbidden(format!(
                "{word} {} must be in the same domain as the role {id} being assigned.",
                wanted.target_id
            )))
        }
        _ => Ok(()),
    }
}

pub(crate) fn journal(tx: &mut Tx, action: &'static str, assignment: &Assignment) {
    let project: Option<ProjectId> = match assignment.target_kind {
        TargetKind::Project => assignment.target_id.parse().ok(),
        _ => None,
    };
    let shown = Some(json!({
        "actor": format!("{}:{}", assignment.actor_kind.as_str(), assignment.actor_id),
        "target": assignment.scope_key(),
        "role": assignment.role_id,
        "inherited": assignment.inherited,
    }));
    let (before, after) = if action == "create" { (None, shown) } else { (shown, None) };
    tx.journal(JournalEntry {
        kind: "role_assignment",
        id: assignment.path(),
        project,
        action,
        before,
        after,
    });
}

/// Ends the tokens that may rest on an assignment: for a user's own one those for that scope, for
/// a group's or an inherited one all of the users concerned.
async fn end_tokens(tx: &mut Tx, gone: &Assignment) -> Result<Vec<Revocation>, Fault> {
    match gone.actor_kind {
        ActorKind::Group => {
            // What is handed down holds in other scopes than the one that it was granted on.
            let scope = if gone.inherited { String::new() } else { gone.scope_key() };
            group::service::end_tokens_of_group(tx, &gone.actor_id, &scope).await
        }
        ActorKind::User => {
            let Ok(id) = gone.actor_id.parse::<UserId>() else {
                return Ok(Vec::new());
            };
            if gone.inherited {
                return group::service::end_tokens(tx, std::slice::from_ref(&id)).await;
            }
            let Some(serial) = user::store::raise_serial(tx, &id).await? else {
                return Ok(Vec::new());
            };
            let kind = RevocationKind::Grant;
            Ok(vec![revoke(tx, kind, id.as_str(), &gone.scope_key(), serial).await?])
        }
    }
}

/// Before a role is deleted: ends the tokens of everybody who holds it.
pub(crate) async fn end_all_of_role(tx: &mut Tx, role: &RoleId) -> Result<Vec<Revocation>, Fault> {
    let holders = role::store::holders(tx, role).await?;
    let mut ended = group::service::end_tokens(tx, &holders).await?;
    for group in role::store::holding_groups(tx, role).await? {
        if let Some(serial) = group::store::raise_serial(tx, &group).await? {
            ended.push(revoke(tx, RevocationKind::Group, &group, "", serial).await?);
        }
    }
    Ok(ended)
}

/// The objects that must stay while an assignment to them is made.
fn locks(wanted: &Assignment) -> Vec<ObjectLock> {
    let mut locks = vec![
        ObjectLock::new(wanted.actor_kind.as_str(), &wanted.actor_id),
        ObjectLock::new("role", &wanted.role_id),
    ];
    if wanted.target_kind != TargetKind::System {
        locks.push(ObjectLock::new(wanted.target_kind.as_str(), &wanted.target_id));
    }
    locks
}

impl Identity {
    pub(crate) async fn grant(&self, ctx: &Ctx, wanted: Assignment) -> Result<(), Fault> {
        self.alter(ctx, wanted, true).await
    }

    pub(crate) async fn take_away(&self, ctx: &Ctx, unwanted: Assignment) -> Result<(), Fault> {
        self.alter(ctx, unwanted, false).await
    }

    async fn alter(&self, ctx: &Ctx, wanted: Assignment, grant: bool) -> Result<(), Fault> {
        let rule = rule(if grant { Act::Grant } else { Act::Revoke }, &wanted);
        let asker = ctx.clone();
        self.change(ctx, move |tx| {
            let (wanted, asker) = (wanted.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&locks(&wanted)).await?;
                let (found, missing) = named(tx, &wanted, true).await?;
                asker.authorise(rule, &found.target)?;
                if let Some(fault) = missing {
                    return Err(fault);
                }
                if grant {
                    check_role_domain(&found, &wanted)?;
                    if store::add(tx, &wanted).await? {
                        journal(tx, "create", &wanted);
                    }
                    return Ok(((), Vec::new()));
                }
                if !store::remove(tx, &wanted).await? {
                    return Err(no_assignment(found.role.as_ref(), &wanted));
                }
                journal(tx, "delete", &wanted);
                let ended = end_tokens(tx, &wanted).await?;
                Ok(((), ended))
            })
        })
        .await
    }

    /// 404 when the actor does not have the role there.
    pub(crate) async fn check_grant(&self, ctx: &Ctx, wanted: Assignment) -> Result<(), Fault> {
        let held = self.held(ctx, wanted.clone(), Act::Check).await?;
        if held.iter().any(|role| role.id == wanted.role_id) {
            return Ok(());
        }
        Err(no_assignment(None, &wanted))
    }

    /// The roles that an actor was given on a target; the role of `like` is not looked at.
    pub(crate) async fn grants(&self, ctx: &Ctx, like: Assignment) -> Result<Vec<Role>, Fault> {
        self.held(ctx, like, Act::List).await
    }

    async fn held(&self, ctx: &Ctx, like: Assignment, act: Act) -> Result<Vec<Role>, Fault> {
        let (rule, with_role) = (rule(act, &like), matches!(act, Act::Check));
        let asker = ctx.clone();
        self.look(move |tx| {
            let (like, asker) = (like.clone(), asker.clone());
            Box::pin(async move {
                let (found, missing) = named(tx, &like, with_role).await?;
                asker.authorise(rule, &found.target)?;
                if let Some(fault) = missing {
                    return Err(fault);
                }
                let mut roles = Vec::new();
                for held in store::between(tx, &like).await? {
                    roles.extend(role::store::get(tx, &held.role_id).await?);
                }
                Ok(roles)
            })
        })
        .await
    }

    /// `GET /v3/role_assignments`; with the names of what they are about, where they are wanted.
    pub(crate) async fn role_assignments(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<(Vec<Assignment>, Option<store::Names>), Fault> {
        let mut wanted = Wanted::read(&filters)?;
        let own_domain = ctx.token()?.domain.as_ref().map(ToString::to_string);
        if filters.flag("include_subtree")?.unwrap_or(false) {
            let tree = self.tree_of(ctx, wanted.project.take()).await?;
            wanted.tree = Some(tree);
        } else {
            ctx.authorise("identity:list_role_assignments", &target::list(ctx))?;
        }
        wanted.within.clone_from(&own_domain);
        let implied = self.implied();
        let with_names = wanted.with_names;
        let named = with_names || own_domain.is_some();
        let (mut rows, names) = self
            .look(move |tx| {
                let (wanted, implied) = (wanted.clone(), implied.clone());
                Box::pin(async move {
                    let mut rows = store::list(tx, &wanted).await?;
                    if wanted.effective {
                        let handed_down = rows.iter().any(|row| row.inherited);
                        let world = World {
                            members: store::memberships(tx, wanted.user.as_deref()).await?,
                            projects: match handed_down {
                                true => store::projects(tx).await?,
                                false => Vec::new(),
                            },
                            implied,
                        };
                        rows = effective(&rows, &world);
                        rows.retain(|row| wanted.matches(row));
                    }
                    let names = match named {
                        true => store::names(tx, &rows).await?,
                        false => store::Names::new(),
                    };
                    Ok::<_, Fault>((rows, names))
                })
            })
            .await?;
        let in_own_domain = |row: &Assignment| {
            let domain = match row.target_kind {
                TargetKind::System => None,
                TargetKind::Domain => Some(row.target_id.clone()),
                TargetKind::Project => names
                    .get(&("project".to_owned(), row.target_id.clone()))
                    .and_then(|(_, domain)| domain.clone()),
            };
            domain.is_some() && domain == own_domain
        };
        if own_domain.is_some() {
            rows.retain(in_own_domain);
        }
        Ok((rows, with_names.then_some(names)))
    }

    /// A project and all below it, for who may list the roles that people have there.
    async fn tree_of(&self, ctx: &Ctx, project: Option<String>) -> Result<Vec<String>, Fault> {
        let rule = "identity:list_role_assignments_for_tree";
        let Some(project) = project else {
            ctx.authorise(rule, &target::list(ctx))?;
            return Err(Fault::bad_request(
                "scope.project.id must be specified if include_subtree is also specified",
            ));
        };
        let id: ProjectId = wire::id("project", &project)?;
        let found = self
            .look(move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let Some(top) = project::store::get_any(tx, &id).await? else {
                        return Ok(None);
                    };
                    let below = project::store::subtree(tx, &top).await?;
                    Ok::<_, Fault>(Some((top, below)))
                })
            })
            .await?;
        let Some((top, below)) = found else {
            ctx.authorise(rule, &Target::none())?;
            return Err(wire::not_found("project", project));
        };
        ctx.authorise(rule, &Target::domain(&top.domain_id))?;
        Ok(below.iter().chain([&top]).map(|project| project.id.to_string()).collect())
    }

    fn implied(&self) -> BTreeMap<RoleId, Vec<RoleId>> {
        let directory = self.tokens.roles();
        directory
            .names
            .keys()
            .chain(&directory.of_domains)
            .map(|id| {
                let all = directory.expand(std::slice::from_ref(id));
                (id.clone(), all.into_iter().map(|role| role.id).collect())
            })
            .collect()
    }
}

fn no_assignment(role: Option<&Role>, wanted: &Assignment) -> Fault {
    let role = role.map_or_else(|| wanted.role_id.to_string(), |role| role.id.to_string());
    Fault::not_found(format!(
        "Could not find role assignment with role: {role}, user or group: {}, project, domain, \
         or system: {}.",
        wanted.actor_id, wanted.target_id
    ))
}

impl Wanted {
    fn read(filters: &Filters) -> Result<Wanted, Fault> {
        let text = |key: &str| filters.get(key).map(str::to_owned);
        let flag = |key: &str| Ok::<_, Fault>(filters.flag(key)?.unwrap_or(false));
        let wanted = Wanted {
            user: text("user.id"),
            group: text("group.id"),
            role: text("role.id"),
            project: text("scope.project.id"),
            tree: None,
            domain: text("scope.domain.id"),
            system: filters.has("scope.system"),
            only_inherited: filters.has("scope.OS-INHERIT:inherited_to"),
            effective: flag("effective")?,
            with_names: flag("include_names")?,
            within: None,
        };
        let scopes = [wanted.project.is_some(), wanted.domain.is_some(), wanted.system];
        if scopes.iter().filter(|set| **set).count() > 1 {
            return Err(Fault::bad_request(
                "Specify a domain, a project or the system, not more than one of them.",
            ));
        }
        if wanted.user.is_some() && wanted.group.is_some() {
            return Err(Fault::bad_request("Specify a user or a group, not both."));
        }
        if wanted.effective && wanted.only_inherited && wanted.domain.is_some() {
            return Err(Fault::bad_request(
                "Combining effective, domain and inherited filters will always result in an empty \
                 list.",
            ));
        }
        if wanted.effective && wanted.group.is_some() {
            return Err(Fault::bad_request(
                "Combining effective and group filter will always result in an empty list.",
            ));
        }
        Ok(wanted)
    }

    /// Whether an assignment in effect is wanted; what is granted is chosen by the database.
    fn matches(&self, row: &Assignment) -> bool {
        let actor = |wanted: &Option<String>, kind: ActorKind| {
            wanted.as_ref().is_none_or(|id| row.actor_kind == kind && row.actor_id == *id)
        };
        let target = |wanted: &Option<String>, kind: TargetKind| {
            wanted.as_ref().is_none_or(|id| row.target_kind == kind && row.target_id == *id)
        };
        actor(&self.user, ActorKind::User)
            && actor(&self.group, ActorKind::Group)
            && self.role.as_ref().is_none_or(|id| row.role_id.as_str() == id)
            && target(&self.project, TargetKind::Project)
            && self.tree.as_ref().is_none_or(|tree| {
                row.target_kind == TargetKind::Project && tree.contains(&row.target_id)
            })
            && target(&self.domain, TargetKind::Domain)
            && (!self.system || row.target_kind == TargetKind::System)
            && (!self.only_inherited || row.inherited)
    }
}

/// Puts names beside the ids.
pub(super) fn add_names(view: &mut Value, row: &Assignment, names: &Names) {
    let name = |kind: &str, id: &str| names.get(&(kind.to_owned(), id.to_owned()));
    let describe = |kind: &str, id: &str| {
        let (text, domain) = name(kind, id)?;
        let mut shown = json!({"id": id, "name": text});
        if let Some(domain) = domain {
            let domain_name = name("domain", domain).map(|(text, _)| text.as_str());
            shown["domain"] = json!({"id": domain, "name": domain_name});
        }
        Some(shown)
    };
    if let Some(shown) = describe("role", row.role_id.as_str()) {
        view["role"] = shown;
    }
    let actor = row.actor_kind.as_str();
    if let Some(shown) = describe(actor, &row.actor_id) {
        view[actor] = shown;
    }
    let target = row.target_kind.as_str();
    if row.target_id != SYSTEM
        && let Some(shown) = describe(target, &row.target_id)
    {
        view["scope"][target] = shown;
    }
}
