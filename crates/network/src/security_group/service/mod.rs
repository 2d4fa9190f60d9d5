//! Creating, showing, changing and deleting security groups. Their rules are in [`rule`].

mod rule;

use cloud_types::{Fault, ProjectId, SecurityGroupId};
use database::Tx;
use service_kit::quota::{QuotaError, check_and_add};
use service_kit::{Ctx, policy::Target};

use super::model::{DEFAULT_NAME, GroupRow, RuleRow, RuleSpec};
use super::store;
use crate::binding::service as binding;
use crate::default_rule::service as default_rules;
use crate::if_match::IfMatch;
use crate::listing::model::{FilterValue, ListQuery};
use crate::rbac::model::ObjectType;
use crate::rbac::service as rbac;
use crate::rbac::store::shared_among;
use crate::{Network, caller_project, faults, groups_lock, journal, owner, quota_fault, viewer};

pub use rule::NewRule;
use rule::{new_rule, remove_rule};

/// A group with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: GroupRow,
    /// Its rules, oldest first.
    pub rules: Vec<RuleRow>,
    /// Whether it is shared with everybody or with the caller.
    pub shared: bool,
}

/// A group to make.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// The owner, when an operator names one.
    pub project: Option<ProjectId>,
    /// Free text, but not `default`.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether answers to what was allowed pass by themselves.
    pub stateful: bool,
}

/// What to change of a group; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// Free text.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Whether answers to what was allowed pass by themselves; fixed while a port is in it.
    pub stateful: Option<bool>,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// The revision that it must have.
    pub if_match: IfMatch,
}

impl Network {
    /// Makes groups, all or none.
    pub async fn create_security_groups(
        &self,
        ctx: &Ctx,
        items: Vec<NewGroup>,
    ) -> Result<Vec<GroupView>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            ctx.authorise("network:security_groups:create", &Target::project(&project))?;
            if item.name.eq_ignore_ascii_case(DEFAULT_NAME) {
                return Err(Fault::conflict("Default security group already exists.")
                    .named("SecurityGroupDefaultAlreadyExists"));
            }
            wanted.push((project, item));
        }
        self.kit
            .transact(ctx, move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let locks: Vec<_> =
                        wanted.iter().map(|(project, _)| groups_lock(project)).collect();
                    tx.lock(&locks).await?;
                    let mut made = Vec::with_capacity(wanted.len());
                    for (project, item) in wanted {
                        ensure_default(tx, &project).await?;
                        check_and_add(tx, &project, "security_group", 1)
                            .await
                            .map_err(quota_fault)?;
                        let mut group = new_group(tx, project, item.name, item.description, false);
                        group.stateful = item.stateful;
                        let rules = default_rules::for_new_group(tx, group.id, false).await?;
                        let count = i64::try_from(rules.len()).unwrap_or(i64::MAX);
                        check_and_add(tx, &group.project_id, "security_group_rule", count)
                            .await
                            .map_err(quota_fault)?;
                        made.push(insert(tx, group, &rules).await?);
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The group, if the caller sees it.
    pub async fn security_group(&self, ctx: &Ctx, id: SecurityGroupId) -> Result<GroupView, Fault> {
        ctx.authorise("network:security_groups:get", &Target::none())?;
        let (viewer, caller) = (viewer(ctx)?, caller_project(ctx));
        self.kit
            .db
            .read(move |tx| {
                let (viewer, caller) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let group = visible(tx, viewer.as_ref(), &id).await?;
                    Ok::<_, Fault>(views(tx, caller.as_ref(), vec![group]).await?.remove(0))
                })
            })
            .await
    }

    /// A page of the groups that the caller sees. A project that looks for the first time finds
    /// its default group.
    pub async fn security_groups(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<GroupView>, bool), Fault> {
        ctx.authorise("network:security_groups:get", &Target::none())?;
        self.make_default_group(ctx, asked_about(ctx, &query)).await?;
        let (viewer, caller) = (viewer(ctx)?, caller_project(ctx));
        self.kit
            .db
            .read(move |tx| {
                let (viewer, caller, query) = (viewer.clone(), caller.clone(), query.clone());
                Box::pin(async move {
                    let (groups, cut) =
                        store::list(tx, viewer.as_ref(), caller.as_ref(), &query).await?;
                    Ok::<_, Fault>((views(tx, caller.as_ref(), groups).await?, cut))
                })
            })
            .await
    }

    /// Makes the default group of a project, if it has none: of the caller's unless one is named.
    async fn make_default_group(&self, ctx: &Ctx, named: Option<ProjectId>) -> Result<(), Fault> {
        let Some(project) = named.or_else(|| caller_project(ctx)) else { return Ok(()) };
        let known = project.clone();
        let found = self
            .kit
            .db
            .read(move |tx| {
                let project = known.clone();
                Box::pin(
                    async move { Ok::<_, Fault>(store::default_of(tx, &project).await?.is_some()) },
                )
            })
            .await?;
        if found {
            return Ok(());
        }
        self.kit
            .db
            .transact(&ctx.origin(), move |tx| {
                let project = project.clone();
                Box::pin(async move {
                    tx.lock(&[groups_lock(&project)]).await?;
                    ensure_default(tx, &project).await.map(|_| ())
                })
            })
            .await
    }

    /// Changes a group.
    pub async fn update_security_group(
        &self,
        ctx: &Ctx,
        id: SecurityGroupId,
        change: GroupChange,
    ) -> Result<GroupView, Fault> {
        let (viewer, project) = (viewer(ctx)?, caller_project(ctx));
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, change, ctx) = (viewer.clone(), change.clone(), caller.clone());
                let own = project.clone();
                Box::pin(async move {
                    let before = locked(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise(
                        "network:security_groups:update",
                        &Target::project(&before.project_id),
                    )?;
                    change.if_match.check(before.revision)?;
                    let mut group = before.clone();
                    apply(&mut group, change)?;
                    if group.stateful != before.stateful && store::has_ports(tx, &id).await? {
                        return Err(in_use(&id));
                    }
                    if group != before {
                        store::update(tx, &mut group).await?;
                        let project = group.project_id.clone();
                        journal(tx, "security_group", id, &project, Some(&before), Some(&group));
                    }
                    Ok::<_, Fault>(views(tx, own.as_ref(), vec![group]).await?.remove(0))
                })
            })
            .await
    }

    /// Deletes a group that no port is in, with its rules and those that name it.
    pub async fn delete_security_group(
        &self,
        ctx: &Ctx,
        id: SecurityGroupId,
        if_match: IfMatch,
    ) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let group = locked(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&group.project_id);
                    ctx.authorise("network:security_groups:delete", &target)?;
                    if_match.check(group.revision)?;
                    if group.is_default && !ctx.is_admin() {
                        return Err(Fault::conflict(
                            "Insufficient rights for removing default security group.",
                        )
                        .named("SecurityGroupCannotRemoveDefault"));
                    }
                    if store::has_ports(tx, &id).await? {
                        return Err(in_use(&id));
                    }
                    delete(tx, &group).await
                })
            })
            .await
    }
}

/// The project whose groups an operator lists.
fn asked_about(ctx: &Ctx, query: &ListQuery) -> Option<ProjectId> {
    if !ctx.is_admin() {
        return None;
    }
    let of = |name: &str| name == "project_id" || name == "tenant_id";
    let (_, values) = query.filters.iter().find(|(column, _)| of(column.name))?;
    match values.as_slice() {
        [FilterValue::Text(project)] => project.parse().ok(),
        _ => None,
    }
}

fn in_use(id: &SecurityGroupId) -> Fault {
    Fault::conflict(format!("Security Group {id} in use.")).named("SecurityGroupInUse")
}

/// The group, if the viewer sees it: its own, or one shared with it.
async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SecurityGroupId,
) -> Result<GroupRow, Fault> {
    let group = store::get(tx, id).await?.ok_or_else(|| faults::security_group_not_found(id))?;
    if rbac::may_use(tx, viewer, ObjectType::SecurityGroup, id, &group.project_id).await? {
        return Ok(group);
    }
    Err(faults::security_group_not_found(id))
}

/// The group, read after the locks of its owner, and of the owners of groups whose rules name it,
/// were taken.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SecurityGroupId,
) -> Result<GroupRow, Fault> {
    let known = visible(tx, viewer, id).await?;
    let mut locks = vec![groups_lock(&known.project_id)];
    locks.extend(
        store::rules_naming(tx, id).await?.iter().map(|rule| groups_lock(&rule.project_id)),
    );
    tx.lock(&locks).await?;
    visible(tx, viewer, id).await
}

/// The groups with what is shown beside them: two statements for any number of groups.
async fn views(
    tx: &mut Tx,
    caller: Option<&ProjectId>,
    groups: Vec<GroupRow>,
) -> Result<Vec<GroupView>, Fault> {
    let ids: Vec<SecurityGroupId> = groups.iter().map(|group| group.id).collect();
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let mut rules = store::rules_of(tx, &ids).await?;
    let shared = shared_among(tx, ObjectType::SecurityGroup, &names, caller).await?;
    let view = |group: GroupRow| GroupView {
        rules: rules.remove(&group.id).unwrap_or_default(),
        shared: shared.contains(&group.id.to_string()),
        group,
    };
    Ok(groups.into_iter().map(view).collect())
}

fn new_group(
    tx: &Tx,
    project_id: ProjectId,
    name: String,
    description: String,
    is_default: bool,
) -> GroupRow {
    let now = tx.now();
    GroupRow {
        id: SecurityGroupId::random(),
        project_id,
        name,
        description,
        is_default,
        stateful: true,
        tags: Vec::new(),
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

async fn insert(tx: &mut Tx, group: GroupRow, specs: &[RuleSpec]) -> Result<GroupView, Fault> {
    store::insert(tx, &group).await?;
    let mut rules = Vec::with_capacity(specs.len());
    for spec in specs {
        let rule = new_rule(tx, &group, spec.clone(), String::new());
        store::insert_rule(tx, &rule).await?;
        rules.push(rule);
    }
    journal(tx, "security_group", group.id, &group.project_id, None, Some(&group));
    Ok(GroupView { group, rules, shared: false })
}

/// The project's default group, made when it is not there: everything may leave, and members reach
/// each other. The caller holds the project's lock.
pub async fn ensure_default(tx: &mut Tx, project: &ProjectId) -> Result<SecurityGroupId, Fault> {
    if let Some(id) = store::default_of(tx, project).await? {
        return Ok(id);
    }
    let group = new_group(
        tx,
        project.clone(),
        DEFAULT_NAME.to_owned(),
        "Default security group".to_owned(),
        true,
    );
    let id = group.id;
    store::set_default(tx, project, &id).await?;
    let rules = default_rules::for_new_group(tx, id, true).await?;
    let count = i64::try_from(rules.len()).unwrap_or(i64::MAX);
    // A project without room for groups still has its default one, else it could have no port.
    for (resource, count) in [("security_group", 1), ("security_group_rule", count)] {
        match check_and_add(tx, project, resource, count).await {
            Ok(()) | Err(QuotaError::Over(_)) => {}
            Err(QuotaError::Database(error)) => return Err(error.into()),
        }
    }
    insert(tx, group, &rules).await?;
    Ok(id)
}

/// Checks that a port of the project may be in these groups; each once, sorted.
pub async fn check_usable(
    tx: &mut Tx,
    project: &ProjectId,
    wanted: &[SecurityGroupId],
) -> Result<Vec<SecurityGroupId>, Fault> {
    let mut ids = wanted.to_vec();
    ids.sort();
    ids.dedup();
    let mut stateful = None;
    for id in &ids {
        let group = visible(tx, Some(project), id).await?;
        if *stateful.get_or_insert(group.stateful) != group.stateful {
            return Err(Fault::conflict(
                "Error when associating security group(s) to port: a port cannot be in stateful \
                 and in stateless security groups at the same time",
            )
            .named("SecurityGroupConflict"));
        }
    }
    Ok(ids)
}

fn apply(group: &mut GroupRow, change: GroupChange) -> Result<(), Fault> {
    if let Some(name) = change.name.filter(|name| *name != group.name) {
        if group.is_default {
            return Err(Fault::conflict("Updating default security group not allowed.")
                .named("SecurityGroupCannotUpdateDefault"));
        }
        if name.eq_ignore_ascii_case(DEFAULT_NAME) {
            return Err(Fault::conflict("Default security group already exists.")
                .named("SecurityGroupDefaultAlreadyExists"));
        }
        group.name = name;
    }
    if let Some(description) = change.description {
        group.description = description;
    }
    if let Some(stateful) = change.stateful {
        group.stateful = stateful;
    }
    if let Some(tags) = change.tags {
        group.tags = tags;
    }
    Ok(())
}

async fn delete(tx: &mut Tx, group: &GroupRow) -> Result<(), Fault> {
    let naming = store::rules_naming(tx, &group.id).await?;
    let mut concerned: Vec<SecurityGroupId> = naming.iter().map(|rule| rule.group_id).collect();
    concerned.sort();
    concerned.dedup();
    for rule in &naming {
        remove_rule(tx, rule).await?;
    }
    rbac::forget(tx, ObjectType::SecurityGroup, group.id).await?;
    let rules = store::delete(tx, &group.id).await?;
    if group.is_default {
        store::forget_default(tx, &group.project_id).await?;
    }
    let project = &group.project_id;
    check_and_add(tx, project, "security_group", -1).await.map_err(quota_fault)?;
    let rules = i64::try_from(rules).unwrap_or(i64::MAX);
    check_and_add(tx, project, "security_group_rule", -rules).await.map_err(quota_fault)?;
    journal(tx, "security_group", group.id, project, Some(group), None);
    binding::refresh_members(tx, &concerned).await
}
