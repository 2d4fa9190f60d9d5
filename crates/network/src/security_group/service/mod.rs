//! Creating, showing, changing and deleting security groups. Their rules are in [`rule`].

mod rule;

use cloud_types::{Fault, ProjectId, SecurityGroupId};
use database::Tx;
use service_kit::quota::{QuotaError, check_and_add};
use service_kit::{Ctx, policy::Target};

use super::model::{DEFAULT_NAME, GroupRow, RuleRow, RuleSpec, egress_all, ingress_from};
use super::store;
use crate::binding::service as binding;
use crate::listing::model::ListQuery;
use crate::{Network, faults, groups_lock, journal, owner, quota_fault, sees, viewer};

pub use rule::NewRule;
use rule::{new_rule, remove_rule};

/// A group with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: GroupRow,
    /// Its rules, oldest first.
    pub rules: Vec<RuleRow>,
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
}

/// What to change of a group; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// Free text.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Labels.
    pub tags: Option<Vec<String>>,
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
                        check_and_add(tx, &project, "security_group_rule", 2)
                            .await
                            .map_err(quota_fault)?;
                        let group = new_group(tx, project, item.name, item.description, false);
                        made.push(insert(tx, group, &egress_all()).await?);
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The group, if the caller sees it.
    pub async fn security_group(&self, ctx: &Ctx, id: SecurityGroupId) -> Result<GroupView, Fault> {
        ctx.authorise("network:security_groups:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move {
                    let group = visible(tx, viewer.as_ref(), &id).await?;
                    let rules = store::rules_of(tx, &[id]).await?.remove(&id);
                    Ok::<_, Fault>(GroupView { group, rules: rules.unwrap_or_default() })
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
        self.make_default_group(ctx).await?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let (viewer, query) = (viewer.clone(), query.clone());
                Box::pin(async move {
                    let (groups, cut) = store::list(tx, viewer.as_ref(), &query).await?;
                    let ids: Vec<SecurityGroupId> = groups.iter().map(|group| group.id).collect();
                    let mut rules = store::rules_of(tx, &ids).await?;
                    let views = groups.into_iter().map(|group| GroupView {
                        rules: rules.remove(&group.id).unwrap_or_default(),
                        group,
                    });
                    Ok::<_, Fault>((views.collect(), cut))
                })
            })
            .await
    }

    async fn make_default_group(&self, ctx: &Ctx) -> Result<(), Fault> {
        let Ok(project) = ctx.project() else { return Ok(()) };
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
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, change, ctx) = (viewer.clone(), change.clone(), caller.clone());
                Box::pin(async move {
                    let before = locked(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise(
                        "network:security_groups:update",
                        &Target::project(&before.project_id),
                    )?;
                    let mut group = before.clone();
                    apply(&mut group, change)?;
                    if group != before {
                        store::update(tx, &mut group).await?;
                        let project = group.project_id.clone();
                        journal(tx, "security_group", id, &project, Some(&before), Some(&group));
                    }
                    let rules = store::rules_of(tx, &[id]).await?.remove(&id);
                    Ok::<_, Fault>(GroupView { group, rules: rules.unwrap_or_default() })
                })
            })
            .await
    }

    /// Deletes a group that no port is in, with its rules and those that name it.
    pub async fn delete_security_group(&self, ctx: &Ctx, id: SecurityGroupId) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let group = locked(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&group.project_id);
                    ctx.authorise("network:security_groups:delete", &target)?;
                    if group.is_default && !ctx.is_admin() {
                        return Err(Fault::conflict(
                            "Insufficient rights for removing default security group.",
                        )
                        .named("SecurityGroupCannotRemoveDefault"));
                    }
                    if store::has_ports(tx, &id).await? {
                        return Err(Fault::conflict(format!("Security Group {id} in use."))
                            .named("SecurityGroupInUse"));
                    }
                    delete(tx, &group).await
                })
            })
            .await
    }
}

async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SecurityGroupId,
) -> Result<GroupRow, Fault> {
    store::get(tx, id)
        .await?
        .filter(|group| sees(viewer, &group.project_id))
        .ok_or_else(|| faults::security_group_not_found(id))
}

/// The group, read after its owner's lock was taken.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SecurityGroupId,
) -> Result<GroupRow, Fault> {
    let known = visible(tx, viewer, id).await?;
    tx.lock(&[groups_lock(&known.project_id)]).await?;
    visible(tx, viewer, id).await
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
    Ok(GroupView { group, rules })
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
    // A project without room for groups still has its default one, else it could have no port.
    for (resource, count) in [("security_group", 1), ("security_group_rule", 4)] {
        match check_and_add(tx, project, resource, count).await {
            Ok(()) | Err(QuotaError::Over(_)) => {}
            Err(QuotaError::Database(error)) => return Err(error.into()),
        }
    }
    let rules: Vec<RuleSpec> = egress_all().into_iter().chain(ingress_from(id)).collect();
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
    for id in &ids {
        visible(tx, Some(project), id).await?;
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
