//! Creating, showing, changing and deleting subnets.

use std::net::IpAddr;

use cloud_types::{Fault, NetworkId, ProjectId, SubnetId, SubnetPoolId};
use database::Tx;
use ipnet::IpNet;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::model::{
    GatewayWish, HostRoute, Ipv6Mode, SubnetRow, check_family, check_gateway, check_pools,
    check_version, overlapping, plan_addresses, version_of,
};
use super::store;
use crate::address::model::{Pool, slaac_address};
use crate::address::service::{Receiver, allocate_exact};
use crate::address::store as addresses;
use crate::binding::service as binding;
use crate::if_match::IfMatch;
use crate::listing::model::ListQuery;
use crate::network::model::{NetworkRow, check_mtu_of_subnets};
use crate::network::service::visible as visible_network;
use crate::network::store as networks;
use crate::port::store as ports;
use crate::subnet_pool::model::RangeWish;
use crate::subnet_pool::service::{pool_lock, take as take_range};
use crate::subnet_pool::store as pools;
use crate::{Network, caller_project, faults, journal, network_lock, quota_fault, sees, viewer};

/// A subnet to make.
#[derive(Clone, Debug)]
pub struct NewSubnet {
    /// The owner, when an operator names one; otherwise the network's.
    pub project: Option<ProjectId>,
    /// The network.
    pub network_id: NetworkId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Where its range comes from.
    pub range: RangeOf,
    /// Its gateway.
    pub gateway: GatewayWish,
    /// Where automatic addresses come from; `None` means everything but the gateway.
    pub allocation_pools: Option<Vec<Pool>>,
    /// Whether hosts answer DHCP.
    pub enable_dhcp: bool,
    /// Name servers for guests.
    pub dns_nameservers: Vec<String>,
    /// Routes for guests.
    pub host_routes: Vec<HostRoute>,
    /// Router advertisements.
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    /// How guests get IPv6 addresses.
    pub ipv6_address_mode: Option<Ipv6Mode>,
    /// Kinds of port for which it is kept.
    pub service_types: Vec<String>,
}

/// Where the range of a new subnet comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeOf {
    /// The caller names it.
    Named(IpNet),
    /// A pool gives it, of this version.
    Pool(SubnetPoolId, u8, RangeWish),
    /// The cloud's pool of this version gives it.
    DefaultPool(u8, RangeWish),
}

/// What to change of a subnet; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct SubnetChange {
    /// Free text.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The gateway, or none.
    pub gateway_ip: Option<Option<IpAddr>>,
    /// Where automatic addresses come from.
    pub allocation_pools: Option<Vec<Pool>>,
    /// Whether hosts answer DHCP.
    pub enable_dhcp: Option<bool>,
    /// Name servers for guests.
    pub dns_nameservers: Option<Vec<String>>,
    /// Routes for guests.
    pub host_routes: Option<Vec<HostRoute>>,
    /// Kinds of port for which it is kept.
    pub service_types: Option<Vec<String>>,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// The revision that it must have.
    pub if_match: IfMatch,
}

impl Network {
    /// Makes subnets, all or none.
    pub async fn create_subnets(
        &self,
        ctx: &Ctx,
        items: Vec<NewSubnet>,
    ) -> Result<Vec<SubnetRow>, Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (items, viewer, ctx) = (items.clone(), viewer.clone(), caller.clone());
                Box::pin(async move {
                    let locks: Vec<_> =
                        items.iter().map(|item| network_lock(&item.network_id)).collect();
                    tx.lock(&locks).await?;
                    let items = name_pools(tx, items).await?;
                    let locks: Vec<_> =
                        items.iter().filter_map(|item| item.range.pool()).map(pool_lock).collect();
                    tx.lock(&locks).await?;
                    let mut made = Vec::with_capacity(items.len());
                    for item in items {
                        let network =
                            visible_network(tx, viewer.as_ref(), &item.network_id).await?;
                        let target = Target::project(&network.project_id);
                        ctx.authorise("network:subnets:create", &target)?;
                        if let Some(project) = &item.project {
                            ctx.authorise("network:subnets:create", &Target::project(project))?;
                        }
                        made.push(create(tx, viewer.as_ref(), &network, item).await?);
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }

    /// The subnet, if the caller sees it.
    pub async fn subnet(&self, ctx: &Ctx, id: SubnetId) -> Result<SubnetRow, Fault> {
        ctx.authorise("network:subnets:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move { visible(tx, viewer.as_ref(), &id).await })
            })
            .await
    }

    /// A page of the subnets that the caller sees.
    pub async fn subnets(
        &self,
        ctx: &Ctx,
        query: ListQuery,
    ) -> Result<(Vec<SubnetRow>, bool), Fault> {
        ctx.authorise("network:subnets:get", &Target::none())?;
        let (viewer, caller) = (viewer(ctx)?, caller_project(ctx));
        self.kit
            .db
            .read(move |tx| {
                let (viewer, caller, query) = (viewer.clone(), caller.clone(), query.clone());
                Box::pin(
                    async move { store::list(tx, viewer.as_ref(), caller.as_ref(), &query).await },
                )
            })
            .await
    }

    /// Changes a subnet; hosts with the network hear of it in the same transaction.
    pub async fn update_subnet(
        &self,
        ctx: &Ctx,
        id: SubnetId,
        change: SubnetChange,
    ) -> Result<SubnetRow, Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, change, ctx) = (viewer.clone(), change.clone(), caller.clone());
                Box::pin(async move {
                    let before = locked(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise("network:subnets:update", &Target::project(&before.project_id))?;
                    change.if_match.check(before.revision)?;
                    let mut row = before.clone();
                    apply(tx, &mut row, change).await?;
                    if row != before {
                        store::update(tx, &mut row).await?;
                        journal(tx, "subnet", id, &row.project_id, Some(&before), Some(&row));
                        networks::bump(tx, &row.network_id).await?;
                        binding::refresh_network(tx, &row.network_id).await?;
                    }
                    Ok::<_, Fault>(row)
                })
            })
            .await
    }

    /// Deletes a subnet. Ports with one of its addresses keep it from being deleted, unless their
    /// addresses are automatic or they are an operator's own.
    pub async fn delete_subnet(
        &self,
        ctx: &Ctx,
        id: SubnetId,
        if_match: IfMatch,
    ) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let row = locked(tx, viewer.as_ref(), &id).await?;
                    ctx.authorise("network:subnets:delete", &Target::project(&row.project_id))?;
                    if_match.check(row.revision)?;
                    let users = addresses::users_of(tx, &id).await?;
                    let ids: Vec<_> = users.iter().map(|(port, _)| *port).collect();
                    let using = ports::get_many(tx, &ids).await?;
                    if !row.is_auto_address() && !using.iter().all(|port| port.is_infrastructure())
                    {
                        return Err(faults::subnet_in_use(id));
                    }
                    remove(tx, &row).await?;
                    networks::bump(tx, &row.network_id).await?;
                    for mut port in using {
                        port.fixed_ips.retain(|(subnet, _)| *subnet != id);
                        ports::update(tx, &mut port).await?;
                        binding::publish(tx, &port).await?;
                    }
                    binding::refresh_network(tx, &row.network_id).await
                })
            })
            .await
    }
}

/// The subnet, if the viewer sees it: its own, or one of a shared network.
async fn visible(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SubnetId,
) -> Result<SubnetRow, Fault> {
    let row = store::get(tx, id).await?.ok_or_else(|| faults::subnet_not_found(id))?;
    if sees(viewer, &row.project_id) {
        return Ok(row);
    }
    match visible_network(tx, viewer, &row.network_id).await {
        Ok(_) => Ok(row),
        Err(_) => Err(faults::subnet_not_found(id)),
    }
}

/// The subnet, read after its network's lock was taken.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &SubnetId,
) -> Result<SubnetRow, Fault> {
    let known = store::get(tx, id).await?.ok_or_else(|| faults::subnet_not_found(id))?;
    tx.lock(&[network_lock(&known.network_id)]).await?;
    visible(tx, viewer, id).await
}

/// Puts the cloud's pools in the place of "the cloud's pool".
async fn name_pools(tx: &mut Tx, items: Vec<NewSubnet>) -> Result<Vec<NewSubnet>, Fault> {
    let mut named = Vec::with_capacity(items.len());
    for mut item in items {
        if let RangeOf::DefaultPool(version, wish) = item.range {
            let pool = pools::default_of(tx, version).await?.ok_or_else(|| {
                Fault::bad_request(format!(
                    "Bad subnets request: No default subnetpool found for IPv{version}."
                ))
                .named("BadRequest")
            })?;
            item.range = RangeOf::Pool(pool.id, version, wish);
        }
        named.push(item);
    }
    Ok(named)
}

impl RangeOf {
    fn pool(&self) -> Option<&SubnetPoolId> {
        match self {
            RangeOf::Pool(id, ..) => Some(id),
            _ => None,
        }
    }
}

/// Subnets of one version on one network come from one pool, or all from none.
fn check_affinity(
    version: u8,
    pool: Option<SubnetPoolId>,
    others: &[SubnetRow],
) -> Result<(), Fault> {
    let other = |row: &SubnetRow| row.ip_version() == version && row.subnetpool_id != pool;
    if others.iter().any(other) {
        return Err(Fault::bad_request(
            "Subnets hosted on the same network must be allocated from the same subnet pool.",
        )
        .named("NetworkSubnetPoolAffinityError"));
    }
    Ok(())
}

async fn create(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    network: &NetworkRow,
    item: NewSubnet,
) -> Result<SubnetRow, Fault> {
    let others = store::of_network(tx, &network.id).await?;
    let project_id = item.project.unwrap_or_else(|| network.project_id.clone());
    let (cidr, subnetpool_id) = match item.range {
        RangeOf::Named(cidr) => (cidr, None),
        RangeOf::Pool(id, version, wish) => {
            let (pool, cidr) = take_range(tx, viewer, &id, &project_id, version, wish).await?;
            (cidr, Some(pool.id))
        }
        RangeOf::DefaultPool(..) => return Err(Fault::internal("a pool was not named")),
    };
    check_version(&cidr, item.enable_dhcp, item.ipv6_ra_mode, item.ipv6_address_mode)?;
    check_family(version_of(&cidr), &item.dns_nameservers, &item.host_routes)?;
    check_mtu_of_subnets(network.mtu, &[version_of(&cidr)])?;
    if let Some(other) = overlapping(&cidr, &others) {
        return Err(faults::invalid_input(format!(
            "Requested subnet with cidr: {cidr} for network: {} overlaps with another subnet: {}",
            network.id, other.cidr
        )));
    }
    check_affinity(version_of(&cidr), subnetpool_id, &others)?;
    let (gateway_ip, allocation_pools) =
        plan_addresses(&cidr, item.gateway, item.allocation_pools)?;
    let now = tx.now();
    let row = SubnetRow {
        id: SubnetId::random(),
        project_id,
        network_id: network.id,
        name: item.name,
        description: item.description,
        cidr,
        gateway_ip,
        enable_dhcp: item.enable_dhcp,
        allocation_pools,
        dns_nameservers: item.dns_nameservers,
        host_routes: item.host_routes,
        ipv6_ra_mode: item.ipv6_ra_mode,
        ipv6_address_mode: item.ipv6_address_mode,
        next_key: String::new(),
        subnetpool_id,
        service_types: item.service_types,
        tags: Vec::new(),
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    check_and_add(tx, &row.project_id, "subnet", 1).await.map_err(quota_fault)?;
    store::insert(tx, &row).await?;
    networks::bump(tx, &network.id).await?;
    journal(tx, "subnet", row.id, &row.project_id, None, Some(&row));
    binding::refresh_network(tx, &network.id).await?;
    if row.is_auto_address() {
        add_automatic_addresses(tx, &row).await?;
    }
    Ok(row)
}

/// Guests of the network will give themselves an address of a new subnet as soon as they hear its
/// advertisement, so their ports get it too.
async fn add_automatic_addresses(tx: &mut Tx, subnet: &SubnetRow) -> Result<(), Fault> {
    for mut port in ports::of_network(tx, &subnet.network_id).await? {
        let Some(ip) = slaac_address(&subnet.cidr, port.mac) else { continue };
        let to = Receiver { port: port.id, network: port.network_id, mac: port.mac };
        allocate_exact(tx, subnet, ip, &to, port.fixed_ips.len()).await?;
        port.fixed_ips.push((subnet.id, ip));
        ports::update(tx, &mut port).await?;
        binding::publish(tx, &port).await?;
    }
    Ok(())
}

async fn apply(tx: &mut Tx, row: &mut SubnetRow, change: SubnetChange) -> Result<(), Fault> {
    if let Some(name) = change.name {
        row.name = name;
    }
    if let Some(description) = change.description {
        row.description = description;
    }
    if let Some(enabled) = change.enable_dhcp {
        row.enable_dhcp = enabled;
    }
    if let Some(servers) = change.dns_nameservers {
        row.dns_nameservers = servers;
    }
    if let Some(routes) = change.host_routes {
        row.host_routes = routes;
    }
    if let Some(types) = change.service_types {
        row.service_types = types;
    }
    if let Some(tags) = change.tags {
        row.tags = tags;
    }
    check_version(&row.cidr, row.enable_dhcp, row.ipv6_ra_mode, row.ipv6_address_mode)?;
    check_family(row.ip_version(), &row.dns_nameservers, &row.host_routes)?;
    if let Some(gateway) = change.gateway_ip.filter(|gateway| *gateway != row.gateway_ip) {
        if let Some(ip) = gateway {
            check_gateway(&row.cidr, ip)?;
            let taken = addresses::users_of_address(tx, &row.id, ip).await?;
            if let Some(port) = taken {
                return Err(Fault::conflict(format!(
                    "Gateway ip {ip} of subnet {} is an address of port {port}",
                    row.id
                ))
                .named("IpAddressAlreadyAllocated"));
            }
        }
        row.gateway_ip = gateway;
    }
    let pools = change.allocation_pools.unwrap_or_else(|| row.allocation_pools.clone());
    let pools = check_pools(&row.cidr, row.gateway_ip, pools)?;
    if pools != row.allocation_pools {
        row.allocation_pools = pools;
        row.next_key = String::new();
        addresses::forget_all_released(tx, &row.id).await?;
    }
    Ok(())
}

async fn remove(tx: &mut Tx, row: &SubnetRow) -> Result<(), Fault> {
    addresses::forget_subnet(tx, &row.id).await?;
    store::delete(tx, &row.id).await?;
    check_and_add(tx, &row.project_id, "subnet", -1).await.map_err(quota_fault)?;
    journal(tx, "subnet", row.id, &row.project_id, Some(row), None);
    Ok(())
}

/// Removes every subnet of a network that goes; it has no ports any more.
pub async fn delete_all(tx: &mut Tx, network: &NetworkRow) -> Result<(), Fault> {
    for row in store::of_network(tx, &network.id).await? {
        remove(tx, &row).await?;
    }
    Ok(())
}
