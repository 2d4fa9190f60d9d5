//! Creating, showing, changing and deleting networks.

use cloud_types::{Fault, NetworkId, ProjectId};
use database::Tx;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::model::{MTU, NETWORK_NUMBER_MAX, NetworkRow, NetworkView};
use super::store;
use crate::binding::{numbers, service as binding};
use crate::listing::model::ListQuery;
use crate::port::{service as ports, store as port_store};
use crate::security_group::service as groups;
use crate::subnet::service as subnets;
use crate::{
    Network, faults, groups_lock, journal, network_lock, owner, quota_fault, sees, viewer,
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
    /// Labels.
    pub tags: Option<Vec<String>>,
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
                        made.push(NetworkView { row, subnets: Vec::new() });
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The network, if the caller sees it.
    pub async fn network(&self, ctx: &Ctx, id: NetworkId) -> Result<NetworkView, Fault> {
        ctx.authorise("network:networks:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move {
                    let row = visible(tx, viewer.as_ref(), &id).await?;
                    let subnets = store::subnets_of(tx, &[id]).await?.remove(&id);
                    Ok::<_, Fault>(NetworkView { row, subnets: subnets.unwrap_or_default() })
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
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let (viewer, query) = (viewer.clone(), query.clone());
                Box::pin(async move {
                    let (rows, cut) = store::list(tx, viewer.as_ref(), &query).await?;
                    let ids: Vec<NetworkId> = rows.iter().map(|row| row.id).collect();
                    let mut subnets = store::subnets_of(tx, &ids).await?;
                    let views = rows.into_iter().map(|row| NetworkView {
                        subnets: subnets.remove(&row.id).unwrap_or_default(),
                        row,
                    });
                    Ok::<_, Fault>((views.collect(), cut))
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
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, change, ctx) = (viewer.clone(), change.clone(), caller.clone());
                Box::pin(async move {
                    tx.lock(&[network_lock(&id)]).await?;
                    let mut row = visible(tx, viewer.as_ref(), &id).await?;
                    let target = Target::project(&row.project_id);
                    ctx.authorise("network:networks:update", &target)?;
                    if change.shared.is_some_and(|shared| shared != row.shared) {
                        ctx.authorise("network:networks:update:shared", &target)?;
                    }
                    let before = row.clone();
                    if change.shared == Some(false) && row.shared {
                        check_unshare(tx, &row).await?;
                    }
                    apply(&mut row, change);
                    if row != before {
                        store::update(tx, &mut row).await?;
                        journal(tx, "network", id, &row.project_id, Some(&before), Some(&row));
                    }
                    if row.admin_state_up != before.admin_state_up {
                        binding::refresh_all_ports(tx, &id).await?;
                    }
                    let subnets = store::subnets_of(tx, &[id]).await?.remove(&id);
                    Ok::<_, Fault>(NetworkView { row, subnets: subnets.unwrap_or_default() })
                })
            })
            .await
    }

    /// Deletes a network with its subnets. Ports keep it from being deleted, except those that an
    /// operator plugged in to look at it.
    pub async fn delete_network(&self, ctx: &Ctx, id: NetworkId) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    tx.lock(&[network_lock(&id)]).await?;
                    let row = visible(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise("network:networks:delete", &Target::project(&row.project_id))?;
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
    store::get(tx, id)
        .await?
        .filter(|row| row.shared || sees(viewer, &row.project_id))
        .ok_or_else(|| faults::network_not_found(id))
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
        mtu: MTU,
        dns_domain: dns_domain.to_owned(),
        tags: Vec::new(),
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    store::insert(tx, &row).await?;
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
    if let Some(tags) = change.tags {
        row.tags = tags;
    }
}

/// A network on which other projects have ports cannot be taken from them.
async fn check_unshare(tx: &mut Tx, row: &NetworkRow) -> Result<(), Fault> {
    let foreign = port_store::of_network(tx, &row.id)
        .await?
        .into_iter()
        .any(|port| port.project_id != row.project_id);
    if foreign {
        return Err(Fault::conflict(format!(
            "Unable to reconfigure sharing settings for network {}. Multiple projects are using \
             it.",
            row.id
        ))
        .named("InvalidSharedSetting"));
    }
    Ok(())
}
