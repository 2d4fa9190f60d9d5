//! Adding and removing rules of security groups.

use cloud_types::{Fault, ProjectId, SecurityGroupId, SecurityGroupRuleId};
use database::Tx;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::visible;
use crate::address_group::service::visible as visible_addresses;
use crate::address_group::store as address_groups;
use crate::binding::service as binding;
use crate::listing::model::ListQuery;
use crate::security_group::model::{GroupRow, RuleRow, RuleSpec};
use crate::security_group::store;
use crate::{Network, faults, groups_lock, journal, quota_fault, sees, viewer};

/// A rule to add.
#[derive(Clone, Debug)]
pub struct NewRule {
    /// The owner that an operator names; the group's in any case.
    pub project: Option<ProjectId>,
    /// The group.
    pub group_id: SecurityGroupId,
    /// What it says.
    pub spec: RuleSpec,
    /// Free text.
    pub description: String,
}

impl Network {
    /// Adds rules to a group, all or none.
    pub async fn create_security_group_rules(
        &self,
        ctx: &Ctx,
        items: Vec<NewRule>,
    ) -> Result<Vec<RuleRow>, Fault> {
        let first = items.first().map(|item| item.group_id);
        if items.iter().any(|item| Some(item.group_id) != first) {
            return Err(Fault::bad_request(
                "Only allowed to update rules for one security profile at a time",
            )
            .named("SecurityGroupNotSingleGroupRules"));
        }
        for item in &items {
            item.spec.check()?;
        }
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (items, viewer, ctx) = (items.clone(), viewer.clone(), caller.clone());
                Box::pin(async move {
                    let Some(id) = first else { return Ok(Vec::new()) };
                    lock_remotes(tx, &id, &items).await?;
                    let group = visible(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&group.project_id);
                    ctx.authorise("network:security_group_rules:create", &target)?;
                    let mut made = Vec::with_capacity(items.len());
                    for item in items {
                        made.push(add_rule(tx, &group, item).await?);
                    }
                    store::bump(tx, &id).await?;
                    binding::refresh_members(tx, &[id]).await?;
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The rule, if the caller sees it.
    pub async fn security_group_rule(
        &self,
        ctx: &Ctx,
        id: SecurityGroupRuleId,
    ) -> Result<RuleRow, Fault> {
        ctx.authorise("network:security_group_rules:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move { visible_rule(tx, viewer.as_ref(), &id).await })
            })
            .await
    }

    /// A page of the rules that the caller sees.
    pub async fn security_group_rules(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<RuleRow>, bool), Fault> {
        ctx.authorise("network:security_group_rules:get", &Target::none())?;
        self.make_default_group(ctx, None).await?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let (viewer, query) = (viewer.clone(), query.clone());
                Box::pin(async move { store::list_rules(tx, viewer.as_ref(), &query).await })
            })
            .await
    }

    /// Removes a rule; the hosts of the group's ports hear of it in the same transaction.
    pub async fn delete_security_group_rule(
        &self,
        ctx: &Ctx,
        id: SecurityGroupRuleId,
    ) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let known = visible_rule(tx, viewer.as_ref(), &id).await?;
                    tx.lock(&[groups_lock(&known.project_id)]).await?;
                    let rule = visible_rule(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&rule.project_id);
                    ctx.authorise("network:security_group_rules:delete", &target)?;
                    remove_rule(tx, &rule).await?;
                    store::bump(tx, &rule.group_id).await?;
                    binding::refresh_members(tx, &[rule.group_id]).await
                })
            })
            .await
    }
}

async fn visible_rule(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SecurityGroupRuleId,
) -> Result<RuleRow, Fault> {
    store::get_rule(tx, id)
        .await?
        .filter(|rule| sees(viewer, &rule.project_id))
        .ok_or_else(|| faults::security_group_rule_not_found(id))
}

/// Takes the locks of the group's owner, and of the owners of what the rules name.
async fn lock_remotes(
    tx: &mut Tx,
    group: &SecurityGroupId,
    items: &[NewRule],
) -> Result<(), Fault> {
    let remotes = items.iter().filter_map(|item| item.spec.remote_group_id);
    let groups: Vec<SecurityGroupId> = remotes.chain([*group]).collect();
    let mut owners = store::owners_of(tx, &groups).await?;
    for id in items.iter().filter_map(|item| item.spec.remote_address_group_id) {
        owners.extend(address_groups::get(tx, &id).await?.map(|row| row.project_id));
    }
    let locks: Vec<_> = owners.iter().map(groups_lock).collect();
    Ok(tx.lock(&locks).await?)
}

/// A row for a rule of the group.
pub fn new_rule(tx: &Tx, group: &GroupRow, spec: RuleSpec, description: String) -> RuleRow {
    let now = tx.now();
    RuleRow {
        id: SecurityGroupRuleId::random(),
        project_id: group.project_id.clone(),
        group_id: group.id,
        spec,
        description,
        revision: 0,
        created_at: now,
        updated_at: now,
    }
}

async fn add_rule(tx: &mut Tx, group: &GroupRow, item: NewRule) -> Result<RuleRow, Fault> {
    // Whoever writes the rule: it is the group's owner who must be able to see the other side.
    if let Some(remote) = item.spec.remote_group_id {
        visible(tx, Some(&group.project_id), &remote).await?;
    }
    if let Some(remote) = item.spec.remote_address_group_id {
        visible_addresses(tx, Some(&group.project_id), &remote).await?;
    }
    check_and_add(tx, &group.project_id, "security_group_rule", 1).await.map_err(quota_fault)?;
    let rule = new_rule(tx, group, item.spec, item.description);
    if !store::insert_rule(tx, &rule).await? {
        let same = store::same_rule(tx, &rule.spec.same_key(&group.id)).await?;
        let same = same.map(|id| id.to_string()).unwrap_or_default();
        return Err(Fault::conflict(format!(
            "Security group rule already exists. Rule id is {same}."
        ))
        .named("SecurityGroupRuleExists"));
    }
    journal(tx, "security_group_rule", rule.id, &rule.project_id, None, Some(&rule));
    Ok(rule)
}

/// Removes a rule, if it is still there.
pub async fn remove_rule(tx: &mut Tx, rule: &RuleRow) -> Result<(), Fault> {
    if store::delete_rule(tx, &rule.id).await? {
        check_and_add(tx, &rule.project_id, "security_group_rule", -1)
            .await
            .map_err(quota_fault)?;
        journal(tx, "security_group_rule", rule.id, &rule.project_id, Some(rule), None);
    }
    Ok(())
}
