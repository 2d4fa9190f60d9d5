//! Creating, showing, changing and deleting networks.

use cloud_types::{Fault, NetworkId, ProjectId};
use database::Tx;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::model::{NETWORK_NUMBER_MAX, NetworkRow, NetworkView, check_mtu_of_subnets};
use super::store;
use crate::binding::{numbers, service as binding};
use crate::if_match::IfMatch;
use crate::listing::model::ListQuery;
use crate::port::{service as ports, store as port_store};
use crate::rbac::model::ObjectType;
use crate::rbac::service as rbac;
use crate::rbac::store::shared_among;
use crate::security_group::service as groups;
use crate::subnet::model::SubnetRow;
use crate::subnet::{service as subnets, store as subnet_store};
use crate::{
    Network, caller_project, faults, groups_lock, journal, network_lock, owner, quota_fault, viewer,
};

/// A network to make.
#[derive(Clone, Debug)]
pub struct NewNetwork {
    /// The owner, when an operator names one.
    pub project: Option<ProjectId>,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether its ports forward.
    pub admin_state_up: bool,
    /// Whether every project may use it; operators only.
    pub shared: Option<bool>,
    /// What new ports have.
    pub port_security_enabled: bool,
    /// What guests are told, in bytes.
    pub mtu: u16,
    /// The tenant's domain, with its last dot, or empty.
    pub dns_domain: String,
}

/// What to change of a network; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct NetworkChange {
    /// Free text.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Whether its ports forward.
    pub admin_state_up: Option<bool>,
    /// Whether every project may use it; operators only.
    pub shared: Option<bool>,
    /// What new ports have.
    pub port_security_enabled: Option<bool>,
    /// What guests are told, in bytes.
    pub mtu: Option<u16>,
    /// The tenant's domain, with its last dot, or empty.
    pub dns_domain: Option<String>,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// The revision that it must have.
    pub if_match: IfMatch,
}

impl Network {
    /// Makes networks, all or none.
    pub async fn create_networks(
        &self,
        ctx: &Ctx,
        items: Vec<NewNetwork>,
    ) -> Result<Vec<NetworkView>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            let target = Target::project(&project);
            ctx.authorise("network:networks:create", &target)?;
            if item.shared == Some(true) {
                ctx.authorise("network:networks:create:shared", &target)?;
            }
            wanted.push((project, item));
        }
        let settings = self.settings.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (wanted, settings) = (wanted.clone(), settings.clone());
                Box::pin(async move {
                    let mut made = Vec::with_capacity(wanted.len());
                    for (project, item) in wanted {
                        let row = create(tx, project, item, &settings.dns_domain).await?;
                        let shared = row.shared;
                        made.push(NetworkView {
                            row,
                            subnets: Vec::new(),
                            shared,
                            scopes: [None, None],
                        });
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The network, if the caller sees it.
    pub async fn network(&self, ctx: &Ctx, id: NetworkId) -> Result<NetworkView, Fault> {
        ctx.authorise("network:networks:get", &Target::none())?;
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

    /// A page of the networks that the caller sees.
    pub async fn networks(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<NetworkView>, bool), Fault> {
        ctx.authorise("network:networks:get", &Target::none())?;
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

    /// Changes a network.
    pub async fn update_network(
        &self,
        ctx: &Ctx,
        id: NetworkId,
        change: NetworkChange,
    ) -> Result<NetworkView, Fault> {
        let (viewer, project) = (viewer(ctx)?, caller_project(ctx));
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, change, ctx) = (viewer.clone(), change.clone(), caller.clone());
                let project = project.clone();
                Box::pin(async move {
                    tx.lock(&[network_lock(&id)]).await?;
                    let mut row = visible(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&row.project_id);
                    ctx.authorise("network:networks:update", &target)?;
                    if change.shared.is_some_and(|shared| shared != row.shared) {
                        ctx.authorise("network:networks:update:shared", &target)?;
                    }
                    change.if_match.check(row.revision)?;
                    let before = row.clone();
                    match change.shared {
                        Some(false) if row.shared => unshare(tx, &row).await?,
                        Some(true) if !row.shared => {
                            let kind = ObjectType::Network;
                            rbac::share_with_everybody(tx, kind, id, &row.project_id).await?;
                        }
                        _ => {}
                    }
                    apply(&mut row, change);
                    if row.mtu != before.mtu {
                        let versions = versions(tx, &id).await?;
                        check_mtu_of_subnets(row.mtu, &versions)?;
                    }
                    if row != before {
                        store::update(tx, &mut row).await?;
                        journal(tx, "network", id, &row.project_id, Some(&before), Some(&row));
                    }
                    if row.admin_state_up != before.admin_state_up {
                        binding::refresh_all_ports(tx, &id).await?;
                    }
                    if row.mtu != before.mtu || row.domain() != before.domain() {
                        binding::refresh_network(tx, &id).await?;
                    }
                    Ok::<_, Fault>(views(tx, project.as_ref(), vec![row]).await?.remove(0))
                })
            })
            .await
    }

    /// Deletes a network with its subnets. Ports keep it from being deleted, except those that an
    /// operator plugged in to look at it.
    pub async fn delete_network(
        &self,
        ctx: &Ctx,
        id: NetworkId,
        if_match: IfMatch,
    ) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    tx.lock(&[network_lock(&id)]).await?;
                    let row = visible(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise("network:networks:delete", &Target::project(&row.project_id))?;
                    if_match.check(row.revision)?;
                    let all = port_store::of_network(tx, &id).await?;
                    let (own, others): (Vec<_>, Vec<_>) =
                        all.into_iter().partition(|port| port.is_infrastructure());
                    if !others.is_empty() {
                        let ids: Vec<String> =
                            others.iter().take(10).map(|port| port.id.to_string()).collect();
                        return Err(faults::network_in_use(id, &ids));
                    }
                    for port in own {
                        ports::delete(tx, port).await?;
                    }
                    subnets::delete_all(tx, &row).await?;
                    rbac::forget(tx, ObjectType::Network, id).await?;
                    store::delete(tx, &id).await?;
                    numbers::release_network(tx, &id).await?;
                    check_and_add(tx, &row.project_id, "network", -1).await.map_err(quota_fault)?;
                    journal(tx, "network", id, &row.project_id, Some(&row), None);
                    Ok::<_, Fault>(())
                })
            })
            .await
    }
}

/// The network, if the viewer sees it.
pub async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &NetworkId,
) -> Result<NetworkRow, Fault> {
    let row = store::get(tx, id).await?.ok_or_else(|| faults::network_not_found(id))?;
    if row.shared || rbac::may_use(tx, viewer, ObjectType::Network, id, &row.project_id).await? {
        return Ok(row);
    }
    Err(faults::network_not_found(id))
}

/// The rows with what is shown beside them: four statements for any number of networks.
async fn views(
    tx: &mut Tx,
    caller: Option<&ProjectId>,
    rows: Vec<NetworkRow>,
) -> Result<Vec<NetworkView>, Fault> {
    let ids: Vec<NetworkId> = rows.iter().map(|row| row.id).collect();
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let mut subnets = store::subnets_of(tx, &ids).await?;
    let mut scopes = store::scopes_of(tx, &ids).await?;
    let shared = shared_among(tx, ObjectType::Network, &names, caller).await?;
    let view = |row: NetworkRow| NetworkView {
        subnets: subnets.remove(&row.id).unwrap_or_default(),
        scopes: scopes.remove(&row.id).unwrap_or_default(),
        shared: shared.contains(&row.id.to_string()),
        row,
    };
    Ok(rows.into_iter().map(view).collect())
}

/// The versions of the network's subnets.
async fn versions(tx: &mut Tx, id: &NetworkId) -> Result<Vec<u8>, Fault> {
    Ok(subnet_store::of_network(tx, id).await?.iter().map(SubnetRow::ip_version).collect())
}

async fn create(
    tx: &mut Tx,
    project: ProjectId,
    item: NewNetwork,
    dns_domain: &str,
) -> Result<NetworkRow, Fault> {
    tx.lock(&[groups_lock(&project)]).await?;
    groups::ensure_default(tx, &project).await?;
    check_and_add(tx, &project, "network", 1).await.map_err(quota_fault)?;
    let id = NetworkId::random();
    let now = tx.now();
    let row = NetworkRow {
        network_number: numbers::take_network(tx, &id, NETWORK_NUMBER_MAX).await?,
        id,
        project_id: project,
        name: item.name,
        description: item.description,
        admin_state_up: item.admin_state_up,
        shared: item.shared.unwrap_or(false),
        port_security_enabled: item.port_security_enabled,
        mtu: item.mtu,
        dns_domain: dns_domain.to_owned(),
        tenant_dns_domain: item.dns_domain,
        tags: Vec::new(),
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    store::insert(tx, &row).await?;
    if row.shared {
        rbac::share_with_everybody(tx, ObjectType::Network, id, &row.project_id).await?;
    }
    journal(tx, "network", id, &row.project_id, None, Some(&row));
    Ok(row)
}

fn apply(row: &mut NetworkRow, change: NetworkChange) {
    if let Some(name) = change.name {
        row.name = name;
    }
    if let Some(description) = change.description {
        row.description = description;
    }
    if let Some(up) = change.admin_state_up {
        row.admin_state_up = up;
    }
    if let Some(shared) = change.shared {
        row.shared = shared;
    }
    if let Some(enabled) = change.port_security_enabled {
        row.port_security_enabled = enabled;
    }
    if let Some(mtu) = change.mtu {
        row.mtu = mtu;
    }
    if let Some(domain) = change.dns_domain {
        row.tenant_dns_domain = domain;
    }
    if let Some(tags) = change.tags {
        row.tags = tags;
    }
}

/// A network on which other projects have ports cannot be taken from them.
async fn unshare(tx: &mut Tx, row: &NetworkRow) -> Result<(), Fault> {
    let done = rbac::unshare(tx, ObjectType::Network, row.id, &row.project_id).await;
    done.map_err(|fault| match fault.name.as_deref() {
        Some("RbacPolicyInUse") => Fault::conflict(format!(
            "Unable to reconfigure sharing settings for network {}. Multiple projects are using \
             it.",
            row.id
        ))
        .named("InvalidSharedSetting"),
        _ => fault,
    })
}
