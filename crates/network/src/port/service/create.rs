//! Making ports.

use std::collections::BTreeSet;

use cloud_types::{Fault, MacAddress, NetworkId, PortId, ProjectId, SecurityGroupId};
use database::{ObjectLock, Tx};
use host_documents::hosts;
use serde_json::{Value, json};
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::profile;
use crate::address::service::{self as addresses, Receiver};
use crate::binding::model::access_attachment;
use crate::binding::service as binding;
use crate::faults::{self, http_bad_request};
use crate::network::model::{NetworkRow, domain};
use crate::network::service::visible as visible_network;
use crate::port::model::{
    ACCESS_OWNER, AddressPair, DhcpOptionChange, FixedIpWish, Port, PortStatus,
    check_port_security, merge_dhcp_options, read_dns_name,
};
use crate::port::store;
use crate::security_group::service as groups;
use crate::security_group::store as group_store;
use crate::subnet::model::serving;
use crate::subnet::store as subnets;
use crate::{Network, groups_lock, journal, network_lock, owner, quota_fault, viewer};

/// How many random MACs are tried.
const MAC_TRIES: usize = 16;

/// A port to make.
#[derive(Clone, Debug)]
pub struct NewPort {
    /// The owner, when an operator names one.
    pub project: Option<ProjectId>,
    /// The network.
    pub network_id: NetworkId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether it forwards.
    pub admin_state_up: bool,
    /// The MAC, when the caller chooses it.
    pub mac: Option<MacAddress>,
    /// The addresses; `None` means one of each family.
    pub fixed_ips: Option<Vec<FixedIpWish>>,
    /// What uses it.
    pub device_id: String,
    /// What kind of user that is.
    pub device_owner: String,
    /// Its groups; `None` means the project's default group.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// Whether anti-spoofing applies; `None` means what the network says.
    pub port_security_enabled: Option<bool>,
    /// More addresses.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// The host, by name or id; operators only.
    pub binding_host: Option<String>,
    /// Kind of NIC.
    pub vnic_type: Option<String>,
    /// Map for drivers; operators only.
    pub binding_profile: Option<Value>,
    /// Its name in the tenant's DNS, as it was written.
    pub dns_name: String,
    /// Its own domain, with its last dot, or empty.
    pub dns_domain: String,
    /// More options for its guest's DHCP.
    pub extra_dhcp_opts: Vec<DhcpOptionChange>,
    /// Labels.
    pub tags: Vec<String>,
}

impl NewPort {
    /// A port on a network with everything left open.
    pub fn on(network_id: NetworkId) -> Self {
        NewPort {
            project: None,
            network_id,
            name: String::new(),
            description: String::new(),
            admin_state_up: true,
            mac: None,
            fixed_ips: None,
            device_id: String::new(),
            device_owner: String::new(),
            security_groups: None,
            port_security_enabled: None,
            allowed_address_pairs: Vec::new(),
            binding_host: None,
            vnic_type: None,
            binding_profile: None,
            dns_name: String::new(),
            dns_domain: String::new(),
            extra_dhcp_opts: Vec::new(),
            tags: Vec::new(),
        }
    }

    fn is_access(&self) -> bool {
        self.device_owner == ACCESS_OWNER
    }
}

impl Network {
    /// Makes ports, all or none.
    pub async fn create_ports(&self, ctx: &Ctx, items: Vec<NewPort>) -> Result<Vec<Port>, Fault> {
        let mut wanted = Vec::with_capacity(items.len());
        for item in items {
            let project = owner(ctx, item.project.clone())?;
            ctx.authorise("network:ports:create", &Target::project(&project))?;
            wanted.push((project, item));
        }
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (wanted, viewer, ctx) = (wanted.clone(), viewer.clone(), caller.clone());
                Box::pin(async move {
                    let groups: Vec<SecurityGroupId> = wanted
                        .iter()
                        .flat_map(|(_, item)| item.security_groups.iter().flatten().copied())
                        .collect();
                    let owners = group_store::owners_of(tx, &groups).await?;
                    let locks: BTreeSet<ObjectLock> = wanted
                        .iter()
                        .flat_map(|(project, item)| {
                            [network_lock(&item.network_id), groups_lock(project)]
                        })
                        .chain(owners.iter().map(groups_lock))
                        .collect();
                    tx.lock(&locks.into_iter().collect::<Vec<_>>()).await?;
                    let mut made = Vec::with_capacity(wanted.len());
                    for (project, item) in wanted {
                        let network =
                            visible_network(tx, viewer.as_ref(), &item.network_id).await?;
                        authorise_attributes(&ctx, &network, &item)?;
                        let host = item.binding_host.clone();
                        let mut port =
                            create(tx, &network, project, item, Extra::default()).await?;
                        if let Some(host) = host {
                            port = place(tx, port, &host).await?;
                        }
                        made.push(port);
                    }
                    Ok::<_, Fault>(made)
                })
            })
            .await
    }
}

/// Some attributes are for the network's owner, or for operators.
fn authorise_attributes(ctx: &Ctx, network: &NetworkRow, item: &NewPort) -> Result<(), Fault> {
    let target = Target::project(&network.project_id);
    if item.mac.is_some() {
        ctx.authorise("network:ports:create:mac_address", &target)?;
    }
    if item.fixed_ips.iter().flatten().any(|wish| wish.ip.is_some()) {
        ctx.authorise("network:ports:create:fixed_ips:ip_address", &target)?;
    }
    if item.port_security_enabled.is_some() {
        ctx.authorise("network:ports:create:port_security_enabled", &target)?;
    }
    if !item.allowed_address_pairs.is_empty() {
        ctx.authorise("network:ports:create:allowed_address_pairs", &target)?;
    }
    // Guests of the network would be told of a name that they take for somebody else's.
    if !item.dns_domain.is_empty() {
        ctx.authorise("network:ports:create:dns_domain", &target)?;
    }
    if item.device_owner.starts_with("network:") {
        ctx.authorise("network:ports:create:device_owner", &target)?;
    }
    if item.device_owner.starts_with("meridian:") {
        ctx.authorise("network:ports:create:access", &target)?;
    }
    if item.binding_host.is_some() || item.binding_profile.is_some() {
        ctx.authorise("network:ports:create:binding", &target)?;
    }
    Ok(())
}

/// What only compute says of a port.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// The NIC's place.
    pub device_index: i64,
    /// The NIC's tag.
    pub device_tag: String,
    /// Whether the port goes with its server.
    pub made_for_device: bool,
    /// Name in the tenant's DNS.
    pub hostname: String,
}

/// Makes a port. The caller has authorised it and holds the locks of the network and of the
/// owner's groups.
pub async fn create(
    tx: &mut Tx,
    network: &NetworkRow,
    project: ProjectId,
    item: NewPort,
    extra: Extra,
) -> Result<Port, Fault> {
    check_and_add(tx, &project, "port", 1).await.map_err(quota_fault)?;
    let id = PortId::random();
    let mac = match item.mac {
        Some(mac) if store::mac_is_taken(tx, &network.id, mac).await? => {
            return Err(faults::mac_address_in_use(network.id, mac));
        }
        Some(mac) => mac,
        None => random_mac(tx, &network.id).await?,
    };
    let all = subnets::of_network(tx, &network.id).await?;
    let has_subnets = !all.is_empty();
    let mut subnets = serving(all, &item.device_owner);
    if has_subnets && subnets.is_empty() && item.fixed_ips.is_none() {
        return Err(Fault::conflict(format!(
            "No valid service subnet for the given device owner, network_id: {}, service_type: {}.",
            network.id, item.device_owner
        ))
        .named("IpAddressGenerationFailureNoMatchingSubnet"));
    }
    let to = Receiver { port: id, network: network.id, mac };
    let fixed_ips = match &item.fixed_ips {
        None => addresses::allocate_default(tx, &mut subnets, &to).await?,
        Some(wishes) => addresses::allocate_wishes(tx, &mut subnets, &to, wishes, &[]).await?,
    };
    let secure =
        item.port_security_enabled.unwrap_or(network.port_security_enabled && !item.is_access());
    let security_groups = match &item.security_groups {
        Some(ids) if !ids.is_empty() => {
            if !secure {
                return Err(Fault::bad_request(
                    "Port security must be enabled and port must have an IP address in order to \
                     use security groups.",
                )
                .named("PortSecurityAndIPRequiredForSecurityGroups"));
            }
            groups::check_usable(tx, &project, ids).await?
        }
        Some(_) => Vec::new(),
        None if secure && !item.device_owner.starts_with("network:") => {
            vec![groups::ensure_default(tx, &project).await?]
        }
        None => Vec::new(),
    };
    check_port_security(secure, false, !item.allowed_address_pairs.is_empty())?;
    let now = tx.now();
    let port = Port {
        id,
        project_id: project,
        network_id: network.id,
        name: item.name,
        description: item.description,
        admin_state_up: item.admin_state_up,
        mac,
        fixed_ips,
        security_groups,
        device_id: item.device_id,
        device_owner: item.device_owner,
        device_index: extra.device_index,
        device_tag: extra.device_tag,
        made_for_device: extra.made_for_device,
        hostname: extra.hostname,
        dns_name: read_dns_name(&item.dns_name, domain(&item.dns_domain, network.domain()))?,
        extra_dhcp_opts: merge_dhcp_options(Vec::new(), &item.extra_dhcp_opts)?,
        domain: domain(&item.dns_domain, network.domain()).to_owned(),
        dns_domain: item.dns_domain,
        status: PortStatus::Down,
        port_security_enabled: secure,
        allowed_address_pairs: item.allowed_address_pairs,
        vnic_type: check_vnic_type(item.vnic_type)?,
        binding_host: item.binding_host.unwrap_or_default(),
        binding_profile: item.binding_profile.map_or_else(|| Ok(json!({})), profile)?,
        binding: None,
        mtu: network.mtu,
        network_up: network.admin_state_up,
        tags: item.tags,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    store::insert(tx, &port).await?;
    group_store::set_groups_of_port(tx, &port.id, &port.security_groups).await?;
    journal(tx, "port", port.id, &port.project_id, None, Some(&port));
    Ok(port)
}

/// Hosts have one kind of NIC; another is refused rather than silently replaced.
pub fn check_vnic_type(wanted: Option<String>) -> Result<String, Fault> {
    let wanted = wanted.unwrap_or_else(|| "normal".to_owned());
    if wanted == "normal" {
        return Ok(wanted);
    }
    Err(faults::invalid_attribute(
        "binding:vnic_type",
        format!("'{wanted}' is not in ['normal']: this cloud has no other kind of NIC"),
    ))
}

/// Plugs an operator's port into its host at once. Other ports are bound by compute, which knows
/// when; for them the host is only written down.
pub async fn place(tx: &mut Tx, port: Port, host: &str) -> Result<Port, Fault> {
    if port.device_owner != ACCESS_OWNER || host.is_empty() {
        return Ok(port);
    }
    let found = match host.parse() {
        Ok(id) => hosts::get(tx, &id).await?,
        Err(_) => hosts::get_by_name(tx, host).await?,
    };
    let host = found.ok_or_else(|| {
        http_bad_request(format!(
            "There is no host {host:?}; `openstack network agent list` names them"
        ))
    })?;
    let attachment = access_attachment(&port.network_id);
    binding::bind(tx, port, &host, attachment).await
}

/// A MAC that no port of the network has.
pub async fn random_mac(tx: &mut Tx, network: &NetworkId) -> Result<MacAddress, Fault> {
    for _ in 0..MAC_TRIES {
        let [_, _, _, _, _, d, e, f] = tx.random_u64().to_be_bytes();
        let mac = MacAddress([0xfa, 0x16, 0x3e, d, e, f]);
        if !store::mac_is_taken(tx, network, mac).await? {
            return Ok(mac);
        }
    }
    Err(faults::mac_address_generation_failure(network))
}
