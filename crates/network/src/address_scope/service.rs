//! Creating, showing, changing and deleting address scopes.

use cloud_types::{AddressScopeId, Fault, ProjectId};
use database::{ObjectLock, Tx};
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::store::{self, ScopeRow};
use crate::listing::model::ListQuery;
use crate::rbac::model::ObjectType;
use crate::rbac::service as rbac;
use crate::rbac::store::shared_among;
use crate::subnet_pool::store as pools;
use crate::{Network, caller_project, faults, journal, owner, quota_fault, viewer};

/// A scope with what the caller is shown beside its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeView {
    /// The row.
    pub row: ScopeRow,
    /// Whether it is shared with everybody or with the caller.
    pub shared: bool,
}

/// A scope to make.
#[derive(Clone, Debug)]
pub struct NewScope {
    /// The owner, when an operator names one.
    pub project: Option<ProjectId>,
    /// Free text.
    pub name: String,
    /// 4 or 6.
    pub ip_version: u8,
    /// Whether everybody may use it; operators only.
    pub shared: bool,
}

impl Network {
    /// Makes scopes, all or none.
    pub async fn create_address_scopes(
        &self,
        ctx: &Ctx,
        items: Vec<NewScope>,
    ) -> Result<Vec<ScopeView>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            let target = Target::project(&project);
            ctx.authorise("network:address_scopes:create", &target)?;
            if item.shared {
                ctx.authorise("network:address_scopes:shared", &target)?;
            }
            wanted.push((project, item));
        }
        self.kit
            .transact(ctx, move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let mut made = Vec::with_capacity(wanted.len());
                    for (project_id, item) in wanted {
                        check_and_add(tx, &project_id, "address_scope", 1)
                            .await
                            .map_err(quota_fault)?;
                        let row = ScopeRow {
                            id: AddressScopeId::random(),
                            project_id,
                            name: item.name,
                            ip_version: item.ip_version,
                            revision: 0,
                        };
                        store::insert(tx, &row).await?;
                        if item.shared {
                            let kind = ObjectType::AddressScope;
                            rbac::share_with_everybody(tx, kind, row.id, &row.project_id).await?;
                        }
                        let owner = &row.project_id;
                        journal(tx, "address_scope", row.id, owner, None, Some(&row));
                        made.push(ScopeView { row, shared: item.shared });
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The scope, if the caller sees it.
    pub async fn address_scope(&self, ctx: &Ctx, id: AddressScopeId) -> Result<ScopeView, Fault> {
        ctx.authorise("network:address_scopes:get", &Target::none())?;
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

    /// A page of the scopes that the caller sees.
    pub async fn address_scopes(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<ScopeView>, bool), Fault> {
        ctx.authorise("network:address_scopes:get", &Target::none())?;
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

    /// Changes a scope. What everybody may use stays so.
    pub async fn update_address_scope(
        &self,
        ctx: &Ctx,
        id: AddressScopeId,
        name: Option<String>,
        shared: Option<bool>,
    ) -> Result<ScopeView, Fault> {
        let (viewer, project) = (viewer(ctx)?, caller_project(ctx));
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, project) = (viewer.clone(), project.clone());
                let (ctx, name) = (caller.clone(), name.clone());
                Box::pin(async move {
                    let before = locked(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&before.project_id);
                    ctx.authorise("network:address_scopes:update", &target)?;
                    let mut row = before.clone();
                    if let Some(name) = name {
                        row.name = name;
                    }
                    if let Some(shared) = shared {
                        ctx.authorise("network:address_scopes:shared", &target)?;
                        share(tx, &before, shared).await?;
                    }
                    if row != before {
                        store::update(tx, &mut row).await?;
                        let owner = &row.project_id;
                        journal(tx, "address_scope", id, owner, Some(&before), Some(&row));
                    }
                    Ok::<_, Fault>(views(tx, project.as_ref(), vec![row]).await?.remove(0))
                })
            })
            .await
    }

    /// Deletes a scope in which there is no pool.
    pub async fn delete_address_scope(&self, ctx: &Ctx, id: AddressScopeId) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let row = locked(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&row.project_id);
                    ctx.authorise("network:address_scopes:delete", &target)?;
                    if !pools::of_scope(tx, &id).await?.is_empty() {
                        return Err(Fault::conflict(format!(
                            "Unable to complete operation on address scope {id}. There are one or \
                             more subnet pools in use on the address scope"
                        ))
                        .named("AddressScopeInUse"));
                    }
                    rbac::forget(tx, ObjectType::AddressScope, id).await?;
                    store::delete(tx, &id).await?;
                    check_and_add(tx, &row.project_id, "address_scope", -1)
                        .await
                        .map_err(quota_fault)?;
                    journal(tx, "address_scope", id, &row.project_id, Some(&row), None);
                    Ok::<_, Fault>(())
                })
            })
            .await
    }
}

/// Orders all changes of a scope, and of which pools are in it.
pub fn scope_lock(id: &AddressScopeId) -> ObjectLock {
    ObjectLock::new("address_scope", id)
}

/// The scope, if the viewer sees it.
pub async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &AddressScopeId,
) -> Result<ScopeRow, Fault> {
    let row = store::get(tx, id).await?.ok_or_else(|| faults::address_scope_not_found(id))?;
    if rbac::may_use(tx, viewer, ObjectType::AddressScope, id, &row.project_id).await? {
        return Ok(row);
    }
    Err(faults::address_scope_not_found(id))
}

async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &AddressScopeId,
) -> Result<ScopeRow, Fault> {
    tx.lock(&[scope_lock(id)]).await?;
    visible(tx, viewer, id).await
}

async fn share(tx: &mut Tx, row: &ScopeRow, shared: bool) -> Result<(), Fault> {
    let kind = ObjectType::AddressScope;
    if shared {
        return rbac::share_with_everybody(tx, kind, row.id, &row.project_id).await;
    }
    if shared_among(tx, kind, &[row.id.to_string()], None).await?.is_empty() {
        return Ok(());
    }
    Err(Fault::bad_request(format!(
        "Unable to update address scope {} : Shared address scope can't be unshared",
        row.id
    ))
    .named("AddressScopeUpdateError"))
}

async fn views(
    tx: &mut Tx,
    caller: Option<&ProjectId>,
    rows: Vec<ScopeRow>,
) -> Result<Vec<ScopeView>, Fault> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let shared = shared_among(tx, ObjectType::AddressScope, &ids, caller).await?;
    let view = |row: ScopeRow| ScopeView { shared: shared.contains(&row.id.to_string()), row };
    Ok(rows.into_iter().map(view).collect())
}
