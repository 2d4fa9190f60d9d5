//! What compute does with ports, inside its own transactions. Faults are in Nova's terms, because
//! they are what the person who creates a server reads.

use std::collections::{BTreeSet, HashMap};

use cloud_types::{Fault, HostId, NetworkId, PortId, ProjectId, SecurityGroupId, ServerId};
use database::Tx;
use host_documents::Host;
use host_protocol::Attachment;
use service_kit::{Ctx, policy::Target};

use super::create::{Extra, NewPort, create};
use super::delete;
use crate::binding::{numbers, service as binding};
use crate::network::model::NetworkRow;
use crate::network::service::visible as visible_network;
use crate::network::store as networks;
use crate::port::model::{
    COMPUTE_OWNER, FixedIpWish, NicRequest, Port, PortStatus, PortView, ServerOwner,
};
use crate::port::store;
use crate::security_group::model::DEFAULT_NAME;
use crate::security_group::service as groups;
use crate::security_group::store as group_store;
use crate::subnet::store as subnets;
use crate::{Network, faults, groups_lock, journal, network_lock};

impl Network {
    /// Prepares the NICs of a new server, in order: makes ports, or takes those that exist. Names
    /// and ids of groups apply to ports that are made; none given means the default group.
    pub async fn prepare_ports(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        owner: &ServerOwner,
        requests: &[NicRequest],
        security_groups: &[String],
    ) -> Result<Vec<Port>, Fault> {
        let project = ctx.project()?;
        ctx.authorise("network:ports:create", &Target::project(&project))?;
        let concerned = networks_of(tx, requests).await?;
        let mut locks: Vec<_> = concerned.iter().map(network_lock).collect();
        locks.push(groups_lock(&project));
        for port in requests.iter().filter_map(|request| request.port) {
            locks.extend(store::owners_of_groups(tx, &port).await?.iter().map(groups_lock));
        }
        let named: Vec<SecurityGroupId> =
            security_groups.iter().filter_map(|name| name.parse().ok()).collect();
        locks.extend(group_store::owners_of(tx, &named).await?.iter().map(groups_lock));
        tx.lock(&locks).await?;
        let wanted = resolve_groups(tx, &project, security_groups).await?;
        let mut ports = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let extra = Extra {
                device_index: i64::try_from(index).unwrap_or(i64::MAX),
                device_tag: request.tag.clone().unwrap_or_default(),
                made_for_device: request.port.is_none(),
                hostname: owner.hostname.clone(),
            };
            let port = match (request.port, request.network) {
                (Some(port), _) => adopt(tx, &project, owner, &port, extra).await?,
                (None, Some(network)) => {
                    let groups = wanted.clone();
                    make(tx, &project, owner, &network, request, groups, extra).await?
                }
                (None, None) => {
                    return Err(Fault::bad_request("A NIC must name a network or a port."));
                }
            };
            ports.push(port);
        }
        Ok(ports)
    }

    /// The NICs of a server whose creator named none: one on the only network that the project
    /// has, or, when it has none of its own, on the only shared one. No network, no NIC.
    pub async fn auto_networks(&self, tx: &mut Tx, ctx: &Ctx) -> Result<Vec<NicRequest>, Fault> {
        let project = ctx.project()?;
        let all = networks::available(tx, &project).await?;
        let own: Vec<&NetworkRow> = all.iter().filter(|row| row.project_id == project).collect();
        let choice: Vec<&NetworkRow> = if own.is_empty() { all.iter().collect() } else { own };
        match choice.as_slice() {
            [] => Ok(Vec::new()),
            [only] => Ok(vec![NicRequest { network: Some(only.id), ..NicRequest::default() }]),
            _ => Err(Fault::conflict(
                "Multiple possible networks found, use a Network ID to be more specific.",
            )),
        }
    }

    /// Binds a server's port to the host on which the server is placed.
    pub async fn bind_port(&self, tx: &mut Tx, id: &PortId, host: &Host) -> Result<(), Fault> {
        let port = locked(tx, id).await?;
        binding::bind(tx, port, host, Attachment::Tap).await?;
        Ok(())
    }

    /// Takes a port off its host. A port that is bound nowhere, or gone, is none the worse.
    pub async fn unbind_port(&self, tx: &mut Tx, id: &PortId) -> Result<(), Fault> {
        if store::place_of(tx, id).await?.is_some() {
            let port = locked(tx, id).await?;
            binding::unbind(tx, port).await?;
        }
        Ok(())
    }

    /// Whether the port's host says that device and flows are in force.
    pub async fn port_is_up(&self, tx: &mut Tx, id: &PortId) -> Result<bool, Fault> {
        Ok(store::get(tx, id).await?.is_some_and(|port| port.status == PortStatus::Active))
    }

    /// The server goes: so do the ports that were made for it; the others are free again.
    pub async fn release_ports(&self, tx: &mut Tx, server: &ServerId) -> Result<(), Fault> {
        let found = store::of_servers(tx, std::slice::from_ref(server)).await?;
        lock_all(tx, &found).await?;
        for port in store::of_servers(tx, std::slice::from_ref(server)).await? {
            if port.made_for_device {
                delete(tx, port).await?;
                continue;
            }
            let before = port.clone();
            let mut port = binding::unbind(tx, port).await?;
            port.device_id = String::new();
            port.device_owner = String::new();
            port.device_tag = String::new();
            port.hostname = String::new();
            store::update(tx, &mut port).await?;
            journal(tx, "port", port.id, &port.project_id, Some(&before), Some(&port));
        }
        Ok(())
    }

    /// The ports of the servers, NIC by NIC.
    pub async fn ports_of_servers(
        &self,
        tx: &mut Tx,
        servers: &[ServerId],
    ) -> Result<HashMap<ServerId, Vec<PortView>>, Fault> {
        let ports = store::of_servers(tx, servers).await?;
        let ids: BTreeSet<NetworkId> = ports.iter().map(|port| port.network_id).collect();
        let names = store::network_names(tx, &ids.into_iter().collect::<Vec<_>>()).await?;
        let ids: BTreeSet<SecurityGroupId> =
            ports.iter().flat_map(|port| port.security_groups.iter().copied()).collect();
        let groups = group_store::names_of(tx, &ids.into_iter().collect::<Vec<_>>()).await?;
        let mut found: HashMap<ServerId, Vec<PortView>> = HashMap::new();
        for port in ports {
            let Ok(server) = port.device_id.parse() else { continue };
            let name = |id: &SecurityGroupId| groups.get(id).cloned().unwrap_or_default();
            found.entry(server).or_default().push(PortView {
                port_id: port.id,
                network_id: port.network_id,
                network_name: names.get(&port.network_id).cloned().unwrap_or_default(),
                mac: port.mac,
                mtu: port.mtu,
                security_groups: port.security_groups.iter().map(|id| (*id, name(id))).collect(),
                status: port.status,
                tag: Some(port.device_tag).filter(|tag| !tag.is_empty()),
                ips: port.fixed_ips,
            });
        }
        Ok(found)
    }

    /// Which of these ports there are (still).
    pub async fn existing_ports(tx: &mut Tx, ids: &[PortId]) -> Result<BTreeSet<PortId>, Fault> {
        Ok(store::get_many(tx, ids).await?.into_iter().map(|port| port.id).collect())
    }

    /// The L2 domain in which the networks of these ports already live, if any does: until tunnels
    /// exist, a server with such a port can only be placed there.
    pub async fn l2_domain_of_ports(
        &self,
        tx: &mut Tx,
        ids: &[PortId],
    ) -> Result<Option<String>, Fault> {
        for port in store::get_many(tx, ids).await? {
            let hosts = store::hosts_of_network(tx, &port.network_id).await?;
            if let Some((_, domain)) = hosts.into_iter().next() {
                return Ok(Some(domain));
            }
        }
        Ok(None)
    }

    /// An operator declared a host lost: what waited for its word is free. Its servers' ports must
    /// have been unbound.
    pub async fn forget_host(&self, tx: &mut Tx, host: &HostId) -> Result<(), Fault> {
        numbers::forget_host(tx, host).await
    }
}

/// The port, read after its locks were taken. Compute binds the NICs of a server one after the
/// other in one transaction: the first call takes the locks of all of them, so that everybody takes
/// them in one order.
async fn locked(tx: &mut Tx, id: &PortId) -> Result<Port, Fault> {
    let missing = || faults::port_not_found(id);
    let known = store::get(tx, id).await?.ok_or_else(missing)?;
    let mut together = Vec::new();
    if let Some(server) = known.device_id.parse().ok().filter(|_| known.is_compute()) {
        together = store::of_servers(tx, &[server]).await?;
    }
    together.push(known);
    lock_all(tx, &together).await?;
    store::get(tx, id).await?.ok_or_else(missing)
}

async fn lock_all(tx: &mut Tx, ports: &[Port]) -> Result<(), Fault> {
    let groups: BTreeSet<SecurityGroupId> =
        ports.iter().flat_map(|port| port.security_groups.iter().copied()).collect();
    let owners = group_store::owners_of(tx, &groups.into_iter().collect::<Vec<_>>()).await?;
    let locks: Vec<_> = ports
        .iter()
        .flat_map(|port| [network_lock(&port.network_id), groups_lock(&port.project_id)])
        .chain(owners.iter().map(groups_lock))
        .collect();
    Ok(tx.lock(&locks).await?)
}

async fn networks_of(tx: &mut Tx, requests: &[NicRequest]) -> Result<BTreeSet<NetworkId>, Fault> {
    let mut concerned = BTreeSet::new();
    let mut named = BTreeSet::new();
    for request in requests {
        if let Some(port) = request.port {
            if !named.insert(port) {
                return Err(Fault::bad_request(format!("Port {port} is named twice.")));
            }
            let (network, _) = store::place_of(tx, &port)
                .await?
                .ok_or_else(|| Fault::bad_request(format!("Port id {port} could not be found.")))?;
            concerned.insert(network);
        } else {
            concerned.extend(request.network);
        }
    }
    Ok(concerned)
}

/// Groups by id or by name, of the project.
async fn resolve_groups(
    tx: &mut Tx,
    project: &ProjectId,
    wanted: &[String],
) -> Result<Option<Vec<SecurityGroupId>>, Fault> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let missing = |name: &str| {
        Fault::bad_request(format!("Security group {name} not found for project {project}."))
    };
    let mut found = BTreeSet::new();
    for name in wanted {
        if name == DEFAULT_NAME {
            found.insert(groups::ensure_default(tx, project).await?);
            continue;
        }
        if let Ok(id) = name.parse::<SecurityGroupId>()
            && groups::check_usable(tx, project, &[id]).await.is_ok()
        {
            found.insert(id);
            continue;
        }
        match group_store::by_name(tx, project, name).await?.as_slice() {
            [] => return Err(missing(name)),
            [only] => {
                found.insert(only.id);
            }
            _ => {
                return Err(Fault::conflict(format!(
                    "Multiple security_group matches found for name '{name}', use an ID to be \
                     more specific."
                )));
            }
        }
    }
    Ok(Some(found.into_iter().collect()))
}

fn device_owner(owner: &ServerOwner) -> String {
    format!("{COMPUTE_OWNER}{}", owner.zone.as_deref().unwrap_or_default())
}

async fn make(
    tx: &mut Tx,
    project: &ProjectId,
    owner: &ServerOwner,
    network: &NetworkId,
    request: &NicRequest,
    groups: Option<Vec<SecurityGroupId>>,
    extra: Extra,
) -> Result<Port, Fault> {
    let row = visible_network(tx, Some(project), network)
        .await
        .map_err(|_| Fault::bad_request(format!("Network {network} could not be found.")))?;
    if subnets::of_network(tx, network).await?.is_empty() {
        return Err(Fault::bad_request(format!(
            "Network {network} requires a subnet in order to boot instances on."
        )));
    }
    let item = NewPort {
        fixed_ips: request.fixed_ip.map(|ip| vec![FixedIpWish { subnet: None, ip: Some(ip) }]),
        device_id: owner.server_id.to_string(),
        device_owner: device_owner(owner),
        security_groups: groups.filter(|_| row.port_security_enabled),
        ..NewPort::on(*network)
    };
    create(tx, &row, project.clone(), item, extra).await.map_err(in_novas_words)
}

/// Takes a port that exists.
async fn adopt(
    tx: &mut Tx,
    project: &ProjectId,
    owner: &ServerOwner,
    id: &PortId,
    extra: Extra,
) -> Result<Port, Fault> {
    let port = store::get(tx, id).await?.filter(|port| port.project_id == *project);
    let mut port =
        port.ok_or_else(|| Fault::bad_request(format!("Port id {id} could not be found.")))?;
    if !port.device_id.is_empty() {
        return Err(Fault::conflict(format!("Port {id} is still in use.")));
    }
    if port.fixed_ips.is_empty() {
        return Err(Fault::bad_request(format!(
            "Port {id} requires a FixedIP in order to be used."
        )));
    }
    let before = port.clone();
    port.device_id = owner.server_id.to_string();
    port.device_owner = device_owner(owner);
    port.device_index = extra.device_index;
    port.device_tag = extra.device_tag;
    port.made_for_device = false;
    port.hostname = extra.hostname;
    store::update(tx, &mut port).await?;
    journal(tx, "port", port.id, &port.project_id, Some(&before), Some(&port));
    Ok(port)
}

/// Nova answers what Neutron refuses with statuses of its own.
fn in_novas_words(fault: Fault) -> Fault {
    match fault.name.as_deref() {
        Some("OverQuota") => Fault::forbidden("Maximum number of ports exceeded"),
        Some("IpAddressAlreadyAllocated" | "InvalidIpForNetwork" | "InvalidIpForSubnet") => {
            let retry = fault.retry_after;
            let fault = Fault::bad_request(fault.message);
            match retry {
                Some(seconds) => fault.retry_after(seconds),
                None => fault,
            }
        }
        Some("IpAddressGenerationFailure") => {
            Fault::bad_request(fault.message).named("NoMoreFixedIps")
        }
        _ => fault,
    }
}
