//! Creating, showing and deleting default rules, and giving them to new groups.

use cloud_types::{DefaultSecurityGroupRuleId, Fault, SecurityGroupId};
use database::{ObjectLock, Tx};
use service_kit::{Ctx, policy::Target};

use super::store::{self, DefaultRuleRow};
use crate::listing::model::ListQuery;
use crate::security_group::model::RuleSpec;
use crate::security_group::store as groups;
use crate::{Network, caller_project, faults, journal};

/// A rule to add.
#[derive(Clone, Debug)]
pub struct NewDefaultRule {
    /// What it says.
    pub spec: RuleSpec,
    /// Whether the remote side is the new group itself.
    pub parent: bool,
    /// Whether default groups get it.
    pub in_default: bool,
    /// Whether all other groups get it.
    pub in_others: bool,
    /// Free text.
    pub description: String,
}

fn lock() -> ObjectLock {
    ObjectLock::new("default_security_group_rules", "all")
}

impl Network {
    /// Adds rules, all or none.
    pub async fn create_default_rules(
        &self,
        ctx: &Ctx,
        items: Vec<NewDefaultRule>,
    ) -> Result<Vec<DefaultRuleRow>, Fault> {
        ctx.authorise("network:default_security_group_rules:create", &Target::none())?;
        for item in &items {
            item.spec.check()?;
        }
        let project = caller_project(ctx);
        self.kit
            .transact(ctx, move |tx| {
                let (items, project) = (items.clone(), project.clone());
                Box::pin(async move {
                    tx.lock(&[lock()]).await?;
                    let mut made = Vec::with_capacity(items.len());
                    for item in items {
                        let row = add(tx, item).await?;
                        if let Some(project) = &project {
                            let kind = "default_security_group_rule";
                            journal(tx, kind, row.id, project, None, Some(&row));
                        }
                        made.push(row);
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The rule.
    pub async fn default_rule(
        &self,
        ctx: &Ctx,
        id: DefaultSecurityGroupRuleId,
    ) -> Result<DefaultRuleRow, Fault> {
        ctx.authorise("network:default_security_group_rules:get", &Target::none())?;
        self.kit
            .db
            .read(move |tx| {
                Box::pin(async move {
                    store::get(tx, &id).await?.ok_or_else(|| faults::default_rule_not_found(id))
                })
            })
            .await
    }

    /// A page of the rules.
    pub async fn default_rules(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<DefaultRuleRow>, bool), Fault> {
        ctx.authorise("network:default_security_group_rules:get", &Target::none())?;
        self.kit
            .db
            .read(move |tx| {
                let query = query.clone();
                Box::pin(async move { store::list(tx, &query).await })
            })
            .await
    }

    /// Removes a rule; groups that have got it keep theirs.
    pub async fn delete_default_rule(
        &self,
        ctx: &Ctx,
        id: DefaultSecurityGroupRuleId,
    ) -> Result<(), Fault> {
        ctx.authorise("network:default_security_group_rules:delete", &Target::none())?;
        let project = caller_project(ctx);
        self.kit
            .transact(ctx, move |tx| {
                let project = project.clone();
                Box::pin(async move {
                    tx.lock(&[lock()]).await?;
                    let row = store::get(tx, &id).await?;
                    let row = row.ok_or_else(|| faults::default_rule_not_found(id))?;
                    store::delete(tx, &id).await?;
                    if let Some(project) = &project {
                        let kind = "default_security_group_rule";
                        journal(tx, kind, id, project, Some(&row), None);
                    }
                    Ok::<_, Fault>(())
                })
            })
            .await
    }
}

async fn add(tx: &mut Tx, item: NewDefaultRule) -> Result<DefaultRuleRow, Fault> {
    if let Some(id) = item.spec.remote_group_id
        && groups::get(tx, &id).await?.is_none()
    {
        return Err(faults::security_group_not_found(id));
    }
    if let Some(id) = item.spec.remote_address_group_id
        && crate::address_group::store::get(tx, &id).await?.is_none()
    {
        return Err(faults::address_group_not_found(id));
    }
    let now = tx.now();
    let row = DefaultRuleRow {
        id: DefaultSecurityGroupRuleId::random(),
        spec: item.spec,
        parent: item.parent,
        in_default: item.in_default,
        in_others: item.in_others,
        description: item.description,
        revision: 0,
        created_at: now,
        updated_at: now,
    };
    let same = store::same(tx, &row.same_key()).await?;
    let meets = |other: &DefaultRuleRow| {
        (other.in_default && row.in_default) || (other.in_others && row.in_others)
    };
    if let Some(other) = same.iter().find(|other| meets(other)) {
        return Err(Fault::conflict(format!(
            "Default Security group rule already exists. Rule id is {}.",
            other.id
        ))
        .named("DefaultSecurityGroupRuleExists"));
    }
    store::insert(tx, &row).await?;
    Ok(row)
}

/// The rules with which a new group begins. What names a group that is gone is left out.
pub async fn for_new_group(
    tx: &mut Tx,
    group: SecurityGroupId,
    is_default: bool,
) -> Result<Vec<RuleSpec>, Fault> {
    let mut specs = Vec::new();
    for row in store::all(tx).await? {
        let wanted = if is_default { row.in_default } else { row.in_others };
        if !wanted {
            continue;
        }
        let mut spec = row.spec;
        if row.parent {
            spec.remote_group_id = Some(group);
        } else if let Some(id) = spec.remote_group_id
            && groups::get(tx, &id).await?.is_none()
        {
            continue;
        }
        if let Some(id) = spec.remote_address_group_id
            && crate::address_group::store::get(tx, &id).await?.is_none()
        {
            continue;
        }
        specs.push(spec);
    }
    Ok(specs)
}
