//! Creating, showing, changing and deleting policies, and asking what they allow.

use cloud_types::{Fault, ProjectId, RbacPolicyId};
use database::Tx;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::model::{EVERYBODY, ObjectType, PolicyRow, SHARED, stranded};
use super::store;
use crate::listing::model::ListQuery;
use crate::{Network, faults, journal, owner, quota_fault, sees, viewer};

/// A policy to make.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// Who makes it, when an operator names somebody else.
    pub project: Option<ProjectId>,
    /// What is shared.
    pub object_type: ObjectType,
    /// Which one.
    pub object_id: String,
    /// How.
    pub action: String,
    /// With whom.
    pub target: String,
}

impl Network {
    /// Shares objects, all or none.
    pub async fn create_rbac_policies(
        &self,
        ctx: &Ctx,
        items: Vec<NewPolicy>,
    ) -> Result<Vec<PolicyRow>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            ctx.authorise("network:rbac_policies:create", &Target::project(&project))?;
            authorise_target(ctx, &project, &item.target)?;
            wanted.push((project, item));
        }
        let viewer = viewer(ctx)?;
        self.kit
            .transact(ctx, move |tx| {
                let (wanted, viewer) = (wanted.clone(), viewer.clone());
                Box::pin(async move {
                    let mut locks = Vec::with_capacity(wanted.len());
                    for (_, item) in &wanted {
                        let owner = visible_object(tx, viewer.as_ref(), item).await?;
                        locks.push(item.object_type.lock(&item.object_id, &owner));
                    }
                    tx.lock(&locks).await?;
                    let mut made = Vec::with_capacity(wanted.len());
                    for (project, item) in wanted {
                        made.push(create(tx, viewer.as_ref(), project, item).await?);
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The policy, if the caller sees it.
    pub async fn rbac_policy(&self, ctx: &Ctx, id: RbacPolicyId) -> Result<PolicyRow, Fault> {
        ctx.authorise("network:rbac_policies:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move { visible(tx, viewer.as_ref(), &id).await })
            })
            .await
    }

    /// A page of the policies that the caller sees.
    pub async fn rbac_policies(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<PolicyRow>, bool), Fault> {
        ctx.authorise("network:rbac_policies:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let (viewer, query) = (viewer.clone(), query.clone());
                Box::pin(async move { store::list(tx, viewer.as_ref(), &query).await })
            })
            .await
    }

    /// Gives a policy another target, unless somebody uses the object by it.
    pub async fn update_rbac_policy(
        &self,
        ctx: &Ctx,
        id: RbacPolicyId,
        target: Option<String>,
    ) -> Result<PolicyRow, Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx, target) = (viewer.clone(), caller.clone(), target.clone());
                Box::pin(async move {
                    let (before, owner) = locked(tx, viewer.as_ref(), &id).await?;
                    let about = Target::project(&before.project_id);
                    ctx.authorise("network:rbac_policies:update", &about)?;
                    let Some(target) = target.filter(|target| *target != before.target) else {
                        return Ok(before);
                    };
                    authorise_target(&ctx, &before.project_id, &target)?;
                    check_scope(tx, &before, &target).await?;
                    check_unused(tx, &before, &owner, Some(&target)).await?;
                    let all = store::of_object(tx, before.object_type, &before.object_id).await?;
                    if all.iter().any(|one| one.target == target && one.action == before.action) {
                        return Err(duplicate());
                    }
                    if before.implied {
                        count(tx, &before.project_id, 1).await?;
                    }
                    store::set_target(tx, &id, &target).await?;
                    let row = PolicyRow { target, implied: false, ..before.clone() };
                    settled(tx, &row).await?;
                    journal(tx, "rbac_policy", id, &row.project_id, Some(&before), Some(&row));
                    Ok::<_, Fault>(row)
                })
            })
            .await
    }

    /// Deletes a policy, unless somebody uses the object by it.
    pub async fn delete_rbac_policy(&self, ctx: &Ctx, id: RbacPolicyId) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let (row, owner) = locked(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise(
                        "network:rbac_policies:delete",
                        &Target::project(&row.project_id),
                    )?;
                    check_unused(tx, &row, &owner, None).await?;
                    remove(tx, &row).await?;
                    settled(tx, &row).await
                })
            })
            .await
    }
}

/// Everybody is a target for operators only.
fn authorise_target(ctx: &Ctx, project: &ProjectId, target: &str) -> Result<(), Fault> {
    if target == EVERYBODY {
        ctx.authorise("network:rbac_policies:everybody", &Target::project(project))?;
    }
    Ok(())
}

fn duplicate() -> Fault {
    Fault::conflict("An RBAC policy already exists with those values.").named("DuplicateRbacPolicy")
}

async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &RbacPolicyId,
) -> Result<PolicyRow, Fault> {
    store::get(tx, id)
        .await?
        .filter(|row| sees(viewer, &row.project_id))
        .ok_or_else(|| faults::rbac_policy_not_found(id))
}

/// The policy, read after its object's lock was taken, and the object's owner.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &RbacPolicyId,
) -> Result<(PolicyRow, ProjectId), Fault> {
    let known = visible(tx, viewer, id).await?;
    let owner = store::owner_of(tx, known.object_type, &known.object_id).await?;
    let owner = owner.ok_or_else(|| faults::rbac_policy_not_found(id))?;
    tx.lock(&[known.object_type.lock(&known.object_id, &owner)]).await?;
    Ok((visible(tx, viewer, id).await?, owner))
}

/// The owner of the object that is to be shared, if the viewer sees it.
async fn visible_object(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    item: &NewPolicy,
) -> Result<ProjectId, Fault> {
    let (kind, id) = (item.object_type, &item.object_id);
    let owner = store::owner_of(tx, kind, id).await?.ok_or_else(|| kind.not_found(id))?;
    if let Some(project) = viewer
        && *project != owner
        && !store::is_shared_with(tx, kind, id, project).await?
    {
        return Err(kind.not_found(id));
    }
    Ok(owner)
}

async fn create(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    project: ProjectId,
    item: NewPolicy,
) -> Result<PolicyRow, Fault> {
    let owner = visible_object(tx, viewer, &item).await?;
    if !sees(viewer, &owner) {
        return Err(faults::invalid_input(
            "Only admins can manipulate policies on objects they do not own",
        ));
    }
    let row = PolicyRow {
        id: RbacPolicyId::random(),
        project_id: project,
        object_type: item.object_type,
        object_id: item.object_id,
        action: item.action,
        target: item.target,
        implied: false,
    };
    check_scope(tx, &row, &row.target).await?;
    count(tx, &row.project_id, 1).await?;
    if !store::insert(tx, &row).await? {
        return Err(duplicate());
    }
    settled(tx, &row).await?;
    journal(tx, "rbac_policy", row.id, &row.project_id, None, Some(&row));
    Ok(row)
}

/// A pool in a scope is of use only to those who may use the scope.
async fn check_scope(tx: &mut Tx, row: &PolicyRow, target: &str) -> Result<(), Fault> {
    if row.object_type != ObjectType::SubnetPool {
        return Ok(());
    }
    let Ok(id) = row.object_id.parse() else { return Ok(()) };
    let pool = crate::subnet_pool::store::get(tx, &id).await?;
    let Some(scope) = pool.and_then(|pool| pool.address_scope_id) else { return Ok(()) };
    let scope = scope.to_string();
    let kind = ObjectType::AddressScope;
    let owner = store::owner_of(tx, kind, &scope).await?;
    let may = match target.parse::<ProjectId>() {
        Ok(project) => {
            owner.as_ref() == Some(&project)
                || store::is_shared_with(tx, kind, &scope, &project).await?
        }
        Err(_) => {
            store::of_object(tx, kind, &scope).await?.iter().any(|one| one.target == EVERYBODY)
        }
    };
    if may {
        return Ok(());
    }
    Err(faults::invalid_input(format!(
        "Project {target} cannot use subnet pool {} as it has no access to its address scope \
         {scope}",
        row.object_id
    )))
}

/// Refuses to take a permission away that somebody rests on. `next` is the target in its place.
async fn check_unused(
    tx: &mut Tx,
    row: &PolicyRow,
    owner: &ProjectId,
    next: Option<&str>,
) -> Result<(), Fault> {
    let users = store::users_of(tx, row.object_type, &row.object_id).await?;
    let all = store::of_object(tx, row.object_type, &row.object_id).await?;
    let left: Vec<String> = all
        .into_iter()
        .filter(|one| one.id != row.id)
        .map(|one| one.target)
        .chain(next.map(str::to_owned))
        .collect();
    let stranded = stranded(&users, owner, &row.target, &left);
    if stranded.is_empty() {
        return Ok(());
    }
    let projects: Vec<&str> = stranded.iter().take(10).map(|project| project.as_str()).collect();
    Err(Fault::conflict(format!(
        "RBAC policy on object {} cannot be removed because other objects depend on it. Details: \
         it is used by {}",
        row.object_id,
        if row.target == EVERYBODY { "other projects".to_owned() } else { projects.join(", ") }
    ))
    .named("RbacPolicyInUse"))
}

async fn count(tx: &mut Tx, project: &ProjectId, delta: i64) -> Result<(), Fault> {
    check_and_add(tx, project, "rbac_policy", delta).await.map_err(quota_fault)
}

async fn remove(tx: &mut Tx, row: &PolicyRow) -> Result<(), Fault> {
    store::delete(tx, &row.id).await?;
    if !row.implied {
        count(tx, &row.project_id, -1).await?;
        journal(tx, "rbac_policy", row.id, &row.project_id, Some(row), None);
    }
    Ok(())
}

/// The object's revision says that its policies have changed.
async fn settled(tx: &mut Tx, row: &PolicyRow) -> Result<(), Fault> {
    let all = store::of_object(tx, row.object_type, &row.object_id).await?;
    let everybody = all.iter().any(|one| one.target == EVERYBODY && one.action == SHARED);
    Ok(store::bump(tx, row.object_type, &row.object_id, everybody).await?)
}

/// An object says of itself that everybody may use it. The caller holds its lock.
pub async fn share_with_everybody(
    tx: &mut Tx,
    kind: ObjectType,
    id: impl ToString,
    owner: &ProjectId,
) -> Result<(), Fault> {
    let row = PolicyRow {
        id: RbacPolicyId::random(),
        project_id: owner.clone(),
        object_type: kind,
        object_id: id.to_string(),
        action: SHARED.to_owned(),
        target: EVERYBODY.to_owned(),
        implied: true,
    };
    store::insert(tx, &row).await?;
    Ok(())
}

/// An object says of itself that it is its owner's alone, and whoever else has leave of its own.
///
/// # Errors
/// 409 when somebody uses it who could not any more.
pub async fn unshare(
    tx: &mut Tx,
    kind: ObjectType,
    id: impl ToString,
    owner: &ProjectId,
) -> Result<(), Fault> {
    let all = store::of_object(tx, kind, &id.to_string()).await?;
    for row in all.into_iter().filter(|row| row.target == EVERYBODY) {
        check_unused(tx, &row, owner, None).await?;
        remove(tx, &row).await?;
    }
    Ok(())
}

/// An object goes, and so do its policies.
pub async fn forget(tx: &mut Tx, kind: ObjectType, id: impl ToString) -> Result<(), Fault> {
    for row in store::of_object(tx, kind, &id.to_string()).await? {
        remove(tx, &row).await?;
    }
    Ok(())
}

/// Whether the viewer sees an object of this owner: its own, or one shared with it.
pub async fn may_use(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    kind: ObjectType,
    id: impl ToString,
    owner: &ProjectId,
) -> Result<bool, Fault> {
    match viewer {
        None => Ok(true),
        Some(project) if project == owner => Ok(true),
        Some(project) => Ok(store::is_shared_with(tx, kind, &id.to_string(), project).await?),
    }
}
