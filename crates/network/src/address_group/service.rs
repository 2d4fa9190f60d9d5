//! Creating, showing, changing and deleting address groups.

use cloud_types::{AddressGroupId, Fault, ProjectId, SecurityGroupId};
use database::Tx;
use ipnet::IpNet;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::store::{self, AddressGroupRow};
use crate::binding::service as binding;
use crate::faults::http_bad_request;
use crate::if_match::IfMatch;
use crate::listing::model::ListQuery;
use crate::rbac::model::ObjectType;
use crate::rbac::service as rbac;
use crate::rbac::store::shared_among;
use crate::security_group::store as security_groups;
use crate::{Network, caller_project, faults, groups_lock, journal, owner, quota_fault, viewer};

/// Most ranges of one group: each is a rule of every port that refers to it.
pub const ADDRESSES_MAX: usize = 1000;

/// A group with what the caller is shown beside its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressGroupView {
    /// The row.
    pub row: AddressGroupRow,
    /// Whether it is shared with everybody or with the caller.
    pub shared: bool,
}

/// A group to make.
#[derive(Clone, Debug)]
pub struct NewAddressGroup {
    /// The owner, when an operator names one.
    pub project: Option<ProjectId>,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its ranges.
    pub addresses: Vec<IpNet>,
}

/// What to change of a group; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct AddressGroupChange {
    /// Free text.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Ranges that come.
    pub add: Vec<IpNet>,
    /// Ranges that go; each must be there.
    pub remove: Vec<IpNet>,
    /// The revision that it must have.
    pub if_match: IfMatch,
}

impl Network {
    /// Makes groups, all or none.
    pub async fn create_address_groups(
        &self,
        ctx: &Ctx,
        items: Vec<NewAddressGroup>,
    ) -> Result<Vec<AddressGroupView>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            ctx.authorise("network:address_groups:create", &Target::project(&project))?;
            wanted.push((project, item));
        }
        self.kit
            .transact(ctx, move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let mut made = Vec::with_capacity(wanted.len());
                    for (project_id, item) in wanted {
                        check_and_add(tx, &project_id, "address_group", 1)
                            .await
                            .map_err(quota_fault)?;
                        let now = tx.now();
                        let row = AddressGroupRow {
                            id: AddressGroupId::random(),
                            project_id,
                            name: item.name,
                            description: item.description,
                            addresses: in_order(item.addresses)?,
                            revision: 0,
                            created_at: now,
                            updated_at: now,
                        };
                        store::insert(tx, &row).await?;
                        let owner = &row.project_id;
                        journal(tx, "address_group", row.id, owner, None, Some(&row));
                        made.push(AddressGroupView { row, shared: false });
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The group, if the caller sees it.
    pub async fn address_group(
        &self,
        ctx: &Ctx,
        id: AddressGroupId,
    ) -> Result<AddressGroupView, Fault> {
        ctx.authorise("network:address_groups:get", &Target::none())?;
        let (viewer, caller) = (viewer(ctx)?, caller_project(ctx));
        self.kit
            .db
            .read(move |tx| {
                let (viewer, caller) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let row = visible(tx, viewer.as_ref(), &id).await?;
                    Ok::<_, Fault>(views(tx, caller.as_ref(), vec![row]).await?.remove(0))
                })
            })
            .await
    }

    /// A page of the groups that the caller sees.
    pub async fn address_groups(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<AddressGroupView>, bool), Fault> {
        ctx.authorise("network:address_groups:get", &Target::none())?;
        let (viewer, caller) = (viewer(ctx)?, caller_project(ctx));
        self.kit
            .db
            .read(move |tx| {
                let (viewer, caller, query) = (viewer.clone(), caller.clone(), query.clone());
                Box::pin(async move {
                    let (rows, cut) =
                        store::list(tx, viewer.as_ref(), caller.as_ref(), &query).await?;
                    Ok::<_, Fault>((views(tx, caller.as_ref(), rows).await?, cut))
                })
            })
            .await
    }

    /// Changes a group; the hosts of every port whose rules name it hear of it in the same
    /// transaction.
    pub async fn update_address_group(
        &self,
        ctx: &Ctx,
        id: AddressGroupId,
        change: AddressGroupChange,
    ) -> Result<AddressGroupView, Fault> {
        let (viewer, project) = (viewer(ctx)?, caller_project(ctx));
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, project) = (viewer.clone(), project.clone());
                let (ctx, change) = (caller.clone(), change.clone());
                Box::pin(async move {
                    let (before, naming) = locked(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&before.project_id);
                    ctx.authorise("network:address_groups:update", &target)?;
                    change.if_match.check(before.revision)?;
                    let mut row = before.clone();
                    apply(&mut row, change)?;
                    if row != before {
                        store::update(tx, &mut row).await?;
                        let owner = &row.project_id;
                        journal(tx, "address_group", id, owner, Some(&before), Some(&row));
                    }
                    if row.addresses != before.addresses {
                        binding::refresh_members(tx, &naming).await?;
                    }
                    Ok::<_, Fault>(views(tx, project.as_ref(), vec![row]).await?.remove(0))
                })
            })
            .await
    }

    /// Deletes a group that no rule names.
    pub async fn delete_address_group(
        &self,
        ctx: &Ctx,
        id: AddressGroupId,
        if_match: IfMatch,
    ) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let (row, naming) = locked(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&row.project_id);
                    ctx.authorise("network:address_groups:delete", &target)?;
                    if_match.check(row.revision)?;
                    if !naming.is_empty() {
                        return Err(Fault::conflict(format!(
                            "Address group {id} is in use on one or more security group rules"
                        ))
                        .named("AddressGroupInUse"));
                    }
                    rbac::forget(tx, ObjectType::AddressGroup, id).await?;
                    store::delete(tx, &id).await?;
                    check_and_add(tx, &row.project_id, "address_group", -1)
                        .await
                        .map_err(quota_fault)?;
                    journal(tx, "address_group", id, &row.project_id, Some(&row), None);
                    Ok::<_, Fault>(())
                })
            })
            .await
    }
}

/// The group, if the viewer sees it: its own, or one shared with it.
pub async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &AddressGroupId,
) -> Result<AddressGroupRow, Fault> {
    let row = store::get(tx, id).await?.ok_or_else(|| faults::address_group_not_found(id))?;
    if rbac::may_use(tx, viewer, ObjectType::AddressGroup, id, &row.project_id).await? {
        return Ok(row);
    }
    Err(faults::address_group_not_found(id))
}

/// The group and the security groups whose rules name it, read after the locks of all their owners
/// were taken.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &AddressGroupId,
) -> Result<(AddressGroupRow, Vec<SecurityGroupId>), Fault> {
    let known = visible(tx, viewer, id).await?;
    let naming = security_groups::naming_addresses(tx, id).await?;
    let owners = naming.iter().map(|(_, owner)| owner).chain([&known.project_id]);
    let locks: Vec<_> = owners.map(groups_lock).collect();
    tx.lock(&locks).await?;
    // With the owner's lock no rule can begin to name it.
    let naming = security_groups::naming_addresses(tx, id).await?;
    let row = visible(tx, viewer, id).await?;
    Ok((row, naming.into_iter().map(|(group, _)| group).collect()))
}

fn in_order(mut addresses: Vec<IpNet>) -> Result<Vec<IpNet>, Fault> {
    addresses.sort();
    addresses.dedup();
    if addresses.len() > ADDRESSES_MAX {
        return Err(http_bad_request(format!(
            "Invalid input for addresses. Reason: {} ranges in one group; at most {ADDRESSES_MAX} \
             are allowed.",
            addresses.len()
        )));
    }
    Ok(addresses)
}

fn apply(row: &mut AddressGroupRow, change: AddressGroupChange) -> Result<(), Fault> {
    if let Some(name) = change.name {
        row.name = name;
    }
    if let Some(description) = change.description {
        row.description = description;
    }
    let listed = |nets: &[&IpNet]| {
        nets.iter().take(10).map(|net| net.to_string()).collect::<Vec<_>>().join(", ")
    };
    let known: Vec<&IpNet> = change.add.iter().filter(|net| row.addresses.contains(net)).collect();
    if !known.is_empty() {
        return Err(Fault::bad_request(format!(
            "Addresses {} already exist in the address group {}.",
            listed(&known),
            row.id
        ))
        .named("AddressesAlreadyExist"));
    }
    let missing: Vec<&IpNet> =
        change.remove.iter().filter(|net| !row.addresses.contains(net)).collect();
    if !missing.is_empty() {
        return Err(Fault::not_found(format!(
            "Addresses {} not found in the address group {}.",
            listed(&missing),
            row.id
        ))
        .named("AddressesNotFound"));
    }
    let stays = row.addresses.iter().copied().filter(|net| !change.remove.contains(net));
    row.addresses = in_order(stays.chain(change.add.iter().copied()).collect())?;
    Ok(())
}

async fn views(
    tx: &mut Tx,
    caller: Option<&ProjectId>,
    rows: Vec<AddressGroupRow>,
) -> Result<Vec<AddressGroupView>, Fault> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let shared = shared_among(tx, ObjectType::AddressGroup, &ids, caller).await?;
    let view = |row: AddressGroupRow| AddressGroupView {
        shared: shared.contains(&row.id.to_string()),
        row,
    };
    Ok(rows.into_iter().map(view).collect())
}
