//! Creating, showing, changing and deleting subnet pools, and taking ranges from them.

use cloud_types::{AddressScopeId, Fault, NetworkId, ProjectId, SubnetPoolId};
use database::{ObjectLock, Tx};
use ipnet::IpNet;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::model::{
    BoundsWish, PoolRow, RangeWish, covers, give, merge, overlaps, settle_bounds, without,
};
use super::store;
use crate::address_scope::service::{scope_lock, visible as visible_scope};
use crate::if_match::IfMatch;
use crate::listing::model::ListQuery;
use crate::network::service::visible as visible_network;
use crate::rbac::model::ObjectType;
use crate::rbac::service as rbac;
use crate::rbac::store::shared_among;
use crate::subnet::model::SubnetRow;
use crate::subnet::store as subnets;
use crate::{
    Network, caller_project, faults, journal, network_lock, owner, quota_fault, sees, viewer,
};

/// A pool with what the caller is shown beside its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// The row.
    pub row: PoolRow,
    /// Whether it is shared with everybody or with the caller.
    pub shared: bool,
}

/// A pool to make.
#[derive(Clone, Debug)]
pub struct NewPool {
    /// The owner, when an operator names one.
    pub project: Option<ProjectId>,
    /// Free text, not empty.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
    /// The lengths that it gives.
    pub bounds: BoundsWish,
    /// How much each project may have.
    pub default_quota: Option<i64>,
    /// Whether it is the cloud's; operators only.
    pub is_default: bool,
    /// Whether everybody may use it; operators only.
    pub shared: bool,
    /// Its scope.
    pub address_scope_id: Option<AddressScopeId>,
}

/// What to change of a pool; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct PoolChange {
    /// Free text, not empty.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// All its prefixes; none of those that it has may be missing.
    pub prefixes: Option<Vec<IpNet>>,
    /// The lengths that it gives.
    pub bounds: BoundsWish,
    /// How much each project may have, or no limit.
    pub default_quota: Option<Option<i64>>,
    /// Whether it is the cloud's; operators only.
    pub is_default: Option<bool>,
    /// Its scope, or none.
    pub address_scope_id: Option<Option<AddressScopeId>>,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// The revision that it must have.
    pub if_match: IfMatch,
}

/// Prefixes that come or go.
#[derive(Clone, Debug)]
pub enum PrefixChange {
    /// These come.
    Add(Vec<IpNet>),
    /// These go; nothing may have been given from them.
    Remove(Vec<IpNet>),
}

impl Network {
    /// Makes pools, all or none.
    pub async fn create_subnet_pools(
        &self,
        ctx: &Ctx,
        items: Vec<NewPool>,
    ) -> Result<Vec<PoolView>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            let target = Target::project(&project);
            ctx.authorise("network:subnetpools:create", &target)?;
            if item.shared {
                ctx.authorise("network:subnetpools:create:shared", &target)?;
            }
            if item.is_default {
                ctx.authorise("network:subnetpools:is_default", &target)?;
            }
            wanted.push((project, item));
        }
        let viewer = viewer(ctx)?;
        self.kit
            .transact(ctx, move |tx| {
                let (wanted, viewer) = (wanted.clone(), viewer.clone());
                Box::pin(async move {
                    let mut locks: Vec<ObjectLock> = wanted
                        .iter()
                        .filter_map(|(_, item)| item.address_scope_id.as_ref())
                        .map(scope_lock)
                        .collect();
                    if wanted.iter().any(|(_, item)| item.is_default) {
                        locks.push(default_lock());
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

    /// The pool, if the caller sees it.
    pub async fn subnet_pool(&self, ctx: &Ctx, id: SubnetPoolId) -> Result<PoolView, Fault> {
        ctx.authorise("network:subnetpools:get", &Target::none())?;
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

    /// A page of the pools that the caller sees.
    pub async fn subnet_pools(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<PoolView>, bool), Fault> {
        ctx.authorise("network:subnetpools:get", &Target::none())?;
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

    /// Changes a pool.
    pub async fn update_subnet_pool(
        &self,
        ctx: &Ctx,
        id: SubnetPoolId,
        change: PoolChange,
    ) -> Result<PoolView, Fault> {
        let (viewer, project) = (viewer(ctx)?, caller_project(ctx));
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, project) = (viewer.clone(), project.clone());
                let (ctx, change) = (caller.clone(), change.clone());
                Box::pin(async move {
                    let mut locks = vec![pool_lock(&id)];
                    locks.extend(change.address_scope_id.flatten().as_ref().map(scope_lock));
                    locks.extend(change.is_default.map(|_| default_lock()));
                    let before = locked(tx, viewer.as_ref(), &id, locks).await?;
                    let target = Target::project(&before.project_id);
                    ctx.authorise("network:subnetpools:update", &target)?;
                    if change.is_default.is_some_and(|is| is != before.is_default) {
                        ctx.authorise("network:subnetpools:is_default", &target)?;
                    }
                    change.if_match.check(before.revision)?;
                    let row = apply(tx, viewer.as_ref(), &before, change).await?;
                    Ok::<_, Fault>(views(tx, project.as_ref(), vec![row]).await?.remove(0))
                })
            })
            .await
    }

    /// Adds prefixes to a pool, or takes some away.
    pub async fn change_prefixes(
        &self,
        ctx: &Ctx,
        id: SubnetPoolId,
        change: PrefixChange,
    ) -> Result<PoolView, Fault> {
        let (viewer, project) = (viewer(ctx)?, caller_project(ctx));
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, project) = (viewer.clone(), project.clone());
                let (ctx, change) = (caller.clone(), change.clone());
                Box::pin(async move {
                    let before = locked(tx, viewer.as_ref(), &id, vec![pool_lock(&id)]).await?;
                    let target = Target::project(&before.project_id);
                    ctx.authorise("network:subnetpools:update", &target)?;
                    let mut row = before.clone();
                    row.prefixes = match &change {
                        PrefixChange::Add(more) => [row.prefixes, more.clone()].concat(),
                        PrefixChange::Remove(gone) => {
                            let given = store::ranges(tx, &id).await?;
                            check_removable(&before, gone, &given)?;
                            without(&row.prefixes, gone)
                        }
                    };
                    let row = settle(tx, viewer.as_ref(), &before, row).await?;
                    Ok::<_, Fault>(views(tx, project.as_ref(), vec![row]).await?.remove(0))
                })
            })
            .await
    }

    /// Takes the subnets of a network, as they are, into a pool, which gets their ranges.
    pub async fn onboard_subnets(
        &self,
        ctx: &Ctx,
        id: SubnetPoolId,
        from: NetworkId,
    ) -> Result<Vec<SubnetRow>, Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let locks = vec![pool_lock(&id), network_lock(&from)];
                    let before = locked(tx, viewer.as_ref(), &id, locks).await?;
                    let target = Target::project(&before.project_id);
                    ctx.authorise("network:subnetpools:update", &target)?;
                    let network = visible_network(tx, viewer.as_ref(), &from).await?;
                    let target = Target::project(&network.project_id);
                    ctx.authorise("network:subnets:update", &target)?;
                    onboard(tx, viewer.as_ref(), &before, &from).await
                })
            })
            .await
    }

    /// Deletes a pool from which nothing is given.
    pub async fn delete_subnet_pool(
        &self,
        ctx: &Ctx,
        id: SubnetPoolId,
        if_match: IfMatch,
    ) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let row = locked(tx, viewer.as_ref(), &id, vec![pool_lock(&id)]).await?;
                    let target = Target::project(&row.project_id);
                    ctx.authorise("network:subnetpools:delete", &target)?;
                    if_match.check(row.revision)?;
                    if !store::ranges(tx, &id).await?.is_empty() {
                        return Err(Fault::bad_request(
                            "Unable to delete subnet pool: Subnet pool has existing allocations.",
                        )
                        .named("SubnetPoolDeleteError"));
                    }
                    rbac::forget(tx, ObjectType::SubnetPool, id).await?;
                    store::delete(tx, &id).await?;
                    check_and_add(tx, &row.project_id, "subnetpool", -1)
                        .await
                        .map_err(quota_fault)?;
                    journal(tx, "subnetpool", id, &row.project_id, Some(&row), None);
                    Ok::<_, Fault>(())
                })
            })
            .await
    }
}

/// Orders all changes of a pool and of what is given from it. Sorts after
/// [`network_lock`](crate::network_lock).
pub fn pool_lock(id: &SubnetPoolId) -> ObjectLock {
    ObjectLock::new("subnet_pool", id)
}

/// Orders who is the cloud's pool.
fn default_lock() -> ObjectLock {
    ObjectLock::new("subnet_pool", "default")
}

/// The pool, if the viewer sees it.
pub async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SubnetPoolId,
) -> Result<PoolRow, Fault> {
    let row = store::get(tx, id).await?.ok_or_else(|| faults::subnet_pool_not_found(id))?;
    if rbac::may_use(tx, viewer, ObjectType::SubnetPool, id, &row.project_id).await? {
        return Ok(row);
    }
    Err(faults::subnet_pool_not_found(id))
}

/// The pool, read after these locks and that of its scope were taken.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SubnetPoolId,
    mut locks: Vec<ObjectLock>,
) -> Result<PoolRow, Fault> {
    let known = visible(tx, viewer, id).await?;
    locks.extend(known.address_scope_id.as_ref().map(scope_lock));
    tx.lock(&locks).await?;
    visible(tx, viewer, id).await
}

async fn create(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    project_id: ProjectId,
    item: NewPool,
) -> Result<PoolView, Fault> {
    let (ip_version, prefixes) = merge(&item.prefixes)?;
    let now = tx.now();
    let row = PoolRow {
        id: SubnetPoolId::random(),
        project_id,
        name: item.name,
        description: item.description,
        ip_version,
        prefixes,
        bounds: settle_bounds(ip_version, item.bounds, None)?,
        default_quota: item.default_quota,
        is_default: item.is_default,
        address_scope_id: item.address_scope_id,
        tags: Vec::new(),
        revision: 0,
        created_at: now,
        updated_at: now,
    };
    if row.is_default {
        check_only_default(tx, ip_version).await?;
    }
    check_scope(tx, viewer, &row).await?;
    check_and_add(tx, &row.project_id, "subnetpool", 1).await.map_err(quota_fault)?;
    store::insert(tx, &row).await?;
    if item.shared {
        rbac::share_with_everybody(tx, ObjectType::SubnetPool, row.id, &row.project_id).await?;
    }
    journal(tx, "subnetpool", row.id, &row.project_id, None, Some(&row));
    Ok(PoolView { row, shared: item.shared })
}

async fn check_only_default(tx: &mut Tx, version: u8) -> Result<(), Fault> {
    if store::default_of(tx, version).await?.is_some() {
        return Err(faults::invalid_input(
            "A default subnetpool for this IP family has already been set. Only one default may \
             exist per IP family",
        ));
    }
    Ok(())
}

async fn apply(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    before: &PoolRow,
    change: PoolChange,
) -> Result<PoolRow, Fault> {
    let mut row = before.clone();
    if let Some(name) = change.name {
        row.name = name;
    }
    if let Some(description) = change.description {
        row.description = description;
    }
    if let Some(quota) = change.default_quota {
        row.default_quota = quota;
    }
    if let Some(scope) = change.address_scope_id {
        row.address_scope_id = scope;
    }
    if let Some(tags) = change.tags {
        row.tags = tags;
    }
    if let Some(is_default) = change.is_default {
        if is_default && !before.is_default {
            check_only_default(tx, before.ip_version).await?;
        }
        row.is_default = is_default;
    }
    row.bounds = settle_bounds(row.ip_version, change.bounds, Some(before.bounds))?;
    if let Some(prefixes) = change.prefixes {
        let (_, merged) = merge(&prefixes)?;
        if before.prefixes.iter().any(|old| !covers(&merged, old)) {
            return Err(Fault::bad_request(
                "Illegal subnetpool update : Existing prefixes must be a subset of the new \
                 prefixes.",
            )
            .named("IllegalSubnetPoolPrefixUpdate"));
        }
        row.prefixes = merged;
    }
    settle(tx, viewer, before, row).await
}

/// Writes a changed pool, if its prefixes and its scope go together.
async fn settle(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    before: &PoolRow,
    mut row: PoolRow,
) -> Result<PoolRow, Fault> {
    let (version, merged) = merge(&row.prefixes)?;
    if version != before.ip_version {
        return Err(Fault::bad_request("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
            .named("PrefixVersionMismatch"));
    }
    row.prefixes = merged;
    if row == *before {
        return Ok(row);
    }
    let labels_only = PoolRow { tags: before.tags.clone(), ..row.clone() } == *before;
    if !labels_only {
        check_own_scope(tx, viewer, before).await?;
    }
    if row.prefixes != before.prefixes || row.address_scope_id != before.address_scope_id {
        check_scope(tx, viewer, &row).await?;
    }
    store::update(tx, &mut row).await?;
    journal(tx, "subnetpool", row.id, &row.project_id, Some(before), Some(&row));
    Ok(row)
}

/// A pool in somebody else's scope is changed by the scope's owner alone.
async fn check_own_scope(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    row: &PoolRow,
) -> Result<(), Fault> {
    let Some(scope) = row.address_scope_id else { return Ok(()) };
    let known = crate::address_scope::store::get(tx, &scope).await?;
    if known.is_none_or(|known| sees(viewer, &known.project_id)) {
        return Ok(());
    }
    Err(Fault::bad_request(format!(
        "Illegal subnetpool update : subnetpool {} cannot be updated when associated with shared \
         address scope {scope}.",
        row.id
    ))
    .named("IllegalSubnetPoolUpdate"))
}

/// Checks a pool against its scope: of one version, without overlap, and not tearing networks
/// apart.
async fn check_scope(tx: &mut Tx, viewer: Option<&ProjectId>, row: &PoolRow) -> Result<(), Fault> {
    let Some(id) = row.address_scope_id else { return Ok(()) };
    let scope = visible_scope(tx, viewer, &id).await?;
    if scope.ip_version != row.ip_version {
        return Err(Fault::bad_request(format!(
            "Illegal subnetpool association: subnetpool {} cannot associate with address scope \
             {id} because subnetpool ip_version is not {}.",
            row.id, scope.ip_version
        ))
        .named("IllegalSubnetPoolIpVersionAssociationToAddressScope"));
    }
    if let Some(subnet) = subnets::beside_pool(tx, &row.id, row.ip_version).await? {
        return Err(Fault::bad_request(format!(
            "Subnets of the same address family hosted on the same network must all be allocated \
             from the same address scope; subnet {subnet} is not."
        ))
        .named("NetworkAddressScopeAffinityError"));
    }
    for other in store::of_scope(tx, &id).await?.into_iter().filter(|other| other.id != row.id) {
        let meet = |net: &IpNet| other.prefixes.iter().any(|known| overlaps(known, net));
        if row.prefixes.iter().any(meet) {
            return Err(Fault::conflict(
                "Failed to associate address scope: subnetpools within an address scope must have \
                 unique prefixes.",
            )
            .named("AddressScopePrefixConflict"));
        }
    }
    Ok(())
}

fn check_removable(
    pool: &PoolRow,
    gone: &[IpNet],
    given: &[(ProjectId, IpNet)],
) -> Result<(), Fault> {
    let refused = |reason: String| {
        Err(Fault::bad_request(format!("Illegal subnetpool update : {reason}."))
            .named("IllegalSubnetPoolPrefixUpdate"))
    };
    if let Some(foreign) = gone.iter().find(|net| !covers(&pool.prefixes, net)) {
        return refused(format!("{foreign} is not among the prefixes of the pool"));
    }
    if given.iter().any(|(_, net)| gone.iter().any(|one| overlaps(one, net))) {
        return refused("One or more of the prefixes to be removed is in use by a subnet".into());
    }
    Ok(())
}

async fn onboard(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    pool: &PoolRow,
    from: &NetworkId,
) -> Result<Vec<SubnetRow>, Fault> {
    let given = store::ranges(tx, &pool.id).await?;
    let all = subnets::of_network(tx, from).await?;
    let mut wanted: Vec<SubnetRow> =
        all.into_iter().filter(|row| row.ip_version() == pool.ip_version).collect();
    let mut row = pool.clone();
    for subnet in &wanted {
        let elsewhere = subnet.subnetpool_id.is_some_and(|id| id != pool.id);
        if elsewhere || given.iter().any(|(_, net)| overlaps(net, &subnet.cidr)) {
            return Err(Fault::bad_request(format!(
                "Illegal subnetpool update : Onboarding subnet {}: {} conflicts with allocated \
                 prefixes in subnet pool {}, or it is in another pool.",
                subnet.id, subnet.cidr, pool.id
            ))
            .named("IllegalSubnetPoolUpdate"));
        }
        row.prefixes.push(subnet.cidr);
    }
    for subnet in &mut wanted {
        let before = subnet.clone();
        subnet.subnetpool_id = Some(pool.id);
        subnets::update(tx, subnet).await?;
        journal(tx, "subnet", subnet.id, &subnet.project_id, Some(&before), Some(&*subnet));
    }
    settle(tx, viewer, pool, row).await?;
    Ok(wanted)
}

/// Takes the range of a new subnet of the project, of this version. The caller holds the pool's lock.
pub async fn take(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SubnetPoolId,
    project: &ProjectId,
    version: u8,
    wish: RangeWish,
) -> Result<(PoolRow, IpNet), Fault> {
    let pool = visible(tx, viewer, id).await?;
    if pool.ip_version != version {
        return Err(Fault::bad_request(format!(
            "Bad subnets request: Cannot allocate IPv{version} subnet from IPv{} subnet pool.",
            pool.ip_version
        ))
        .named("BadRequest"));
    }
    let given = store::ranges(tx, id).await?;
    let taken: Vec<IpNet> = given.iter().map(|(_, net)| *net).collect();
    let own: Vec<IpNet> =
        given.iter().filter(|(of, _)| of == project).map(|(_, net)| *net).collect();
    let net = give(&pool, wish, &taken, &own)?;
    Ok((pool, net))
}

async fn views(
    tx: &mut Tx,
    caller: Option<&ProjectId>,
    rows: Vec<PoolRow>,
) -> Result<Vec<PoolView>, Fault> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let shared = shared_among(tx, ObjectType::SubnetPool, &ids, caller).await?;
    let view = |row: PoolRow| PoolView { shared: shared.contains(&row.id.to_string()), row };
    Ok(rows.into_iter().map(view).collect())
}
