//! Changing ports.

use std::net::IpAddr;

use cloud_types::{Fault, MacAddress, PortId, SecurityGroupId, SubnetId};
use database::Tx;
use serde_json::Value;
use service_kit::{Ctx, policy::Target};

use super::create::{check_vnic_type, place, random_mac};
use super::{authorise, locked, profile};
use crate::address::service::{self as addresses, Receiver};
use crate::binding::service as binding;
use crate::faults;
use crate::if_match::IfMatch;
use crate::network::model::domain;
use crate::network::store as networks;
use crate::port::model::{
    ACCESS_OWNER, AddressPair, DhcpOptionChange, FixedIpWish, Port, check_port_security,
    merge_dhcp_options, read_dns_name,
};
use crate::port::store;
use crate::security_group::service as groups;
use crate::security_group::store as group_store;
use crate::subnet::model::{SubnetRow, serving};
use crate::subnet::store as subnets;
use crate::{Network, journal, viewer};

/// What to change of a port; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct PortChange {
    /// Free text.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Whether it forwards.
    pub admin_state_up: Option<bool>,
    /// The MAC; operators only, and only while it lives nowhere.
    pub mac: Option<MacAddress>,
    /// All its addresses.
    pub fixed_ips: Option<Vec<FixedIpWish>>,
    /// What uses it.
    pub device_id: Option<String>,
    /// What kind of user that is.
    pub device_owner: Option<String>,
    /// All its groups.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// Whether anti-spoofing and groups apply.
    pub port_security_enabled: Option<bool>,
    /// All its further addresses.
    pub allowed_address_pairs: Option<Vec<AddressPair>>,
    /// The host; operators only.
    pub binding_host: Option<String>,
    /// Kind of NIC.
    pub vnic_type: Option<String>,
    /// Map for drivers; operators only.
    pub binding_profile: Option<Value>,
    /// Its name in the tenant's DNS, as it was written.
    pub dns_name: Option<String>,
    /// Its own domain, with its last dot, or empty.
    pub dns_domain: Option<String>,
    /// DHCP options that come, change or go.
    pub extra_dhcp_opts: Option<Vec<DhcpOptionChange>>,
    /// Whether it gets another, random MAC; operators only.
    pub new_mac: bool,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// The revision that it must have.
    pub if_match: IfMatch,
}

impl Network {
    /// Changes a port; its hosts hear of it in the same transaction.
    pub async fn update_port(
        &self,
        ctx: &Ctx,
        id: PortId,
        change: PortChange,
    ) -> Result<Port, Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, change, ctx) = (viewer.clone(), change.clone(), caller.clone());
                Box::pin(async move {
                    let more = change.security_groups.clone().unwrap_or_default();
                    let port = locked(tx, viewer.as_ref(), &id, &more).await?;
                    authorise(tx, &ctx, "network:ports:update", &port).await?;
                    change.if_match.check(port.revision)?;
                    authorise_attributes(tx, &ctx, &port, &change).await?;
                    apply(tx, port, change).await
                })
            })
            .await
    }
}

async fn authorise_attributes(
    tx: &mut Tx,
    ctx: &Ctx,
    port: &Port,
    change: &PortChange,
) -> Result<(), Fault> {
    let network = networks::get(tx, &port.network_id)
        .await?
        .ok_or_else(|| faults::network_not_found(port.network_id))?;
    let target = Target::project(&network.project_id);
    if change.new_mac || change.mac.is_some_and(|mac| mac != port.mac) {
        ctx.authorise("network:ports:update:mac_address", &target)?;
    }
    let has = |ip| port.fixed_ips.iter().any(|(_, own)| *own == ip);
    if change.fixed_ips.iter().flatten().filter_map(|wish| wish.ip).any(|ip| !has(ip)) {
        ctx.authorise("network:ports:create:fixed_ips:ip_address", &target)?;
    }
    if change.port_security_enabled.is_some_and(|on| on != port.port_security_enabled) {
        ctx.authorise("network:ports:create:port_security_enabled", &target)?;
    }
    if change
        .allowed_address_pairs
        .as_ref()
        .is_some_and(|pairs| *pairs != port.allowed_address_pairs)
    {
        ctx.authorise("network:ports:create:allowed_address_pairs", &target)?;
    }
    if change.dns_domain.as_ref().is_some_and(|own| !own.is_empty() && *own != port.dns_domain) {
        ctx.authorise("network:ports:create:dns_domain", &target)?;
    }
    if let Some(owner) = change.device_owner.as_ref().filter(|new| **new != port.device_owner) {
        if owner.starts_with("network:") {
            ctx.authorise("network:ports:create:device_owner", &target)?;
        }
        if owner.starts_with("meridian:") || port.device_owner.starts_with("meridian:") {
            ctx.authorise("network:ports:create:access", &target)?;
        }
    }
    if change.binding_host.is_some() || change.binding_profile.is_some() {
        ctx.authorise("network:ports:create:binding", &target)?;
    }
    Ok(())
}

async fn apply(tx: &mut Tx, mut port: Port, change: PortChange) -> Result<Port, Fault> {
    let before = port.clone();
    let network = networks::get(tx, &port.network_id)
        .await?
        .ok_or_else(|| faults::network_not_found(port.network_id))?;
    apply_plain(&mut port, &change, network.domain())?;
    let mac = match change.mac {
        None if change.new_mac => Some(random_mac(tx, &port.network_id).await?),
        named => named.filter(|mac| *mac != before.mac),
    };
    if let Some(mac) = mac {
        check_mac(tx, &port, mac).await?;
        port.mac = mac;
    }
    match &change.fixed_ips {
        Some(wishes) => change_addresses(tx, &mut port, wishes).await?,
        None if port.mac != before.mac => follow_mac(tx, &mut port).await?,
        None => {}
    }
    if let Some(wanted) = change.security_groups {
        port.security_groups = groups::check_usable(tx, &port.project_id, &wanted).await?;
    }
    check_port_security(
        port.port_security_enabled,
        !port.security_groups.is_empty(),
        !port.allowed_address_pairs.is_empty(),
    )?;
    if port.security_groups != before.security_groups {
        group_store::set_groups_of_port(tx, &port.id, &port.security_groups).await?;
    }
    if let Some(host) = change.binding_host {
        port = rebind(tx, port, host).await?;
    }
    if port == before {
        return Ok(port);
    }
    store::update(tx, &mut port).await?;
    binding::publish(tx, &port).await?;
    journal(tx, "port", port.id, &port.project_id, Some(&before), Some(&port));
    Ok(port)
}

/// `networks_domain` is where the port's name is when it has no domain of its own.
fn apply_plain(port: &mut Port, change: &PortChange, networks_domain: &str) -> Result<(), Fault> {
    let set = |field: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            field.clone_from(value);
        }
    };
    set(&mut port.name, &change.name);
    set(&mut port.description, &change.description);
    set(&mut port.device_id, &change.device_id);
    set(&mut port.device_owner, &change.device_owner);
    if let Some(up) = change.admin_state_up {
        port.admin_state_up = up;
    }
    if let Some(enabled) = change.port_security_enabled {
        port.port_security_enabled = enabled;
    }
    if let Some(pairs) = &change.allowed_address_pairs {
        port.allowed_address_pairs.clone_from(pairs);
    }
    if let Some(own) = &change.dns_domain {
        port.dns_domain.clone_from(own);
        port.domain = domain(own, networks_domain).to_owned();
    }
    if let Some(name) = &change.dns_name {
        port.dns_name = read_dns_name(name, &port.domain)?;
    }
    if let Some(options) = &change.extra_dhcp_opts {
        let known = std::mem::take(&mut port.extra_dhcp_opts);
        port.extra_dhcp_opts = merge_dhcp_options(known, options)?;
    }
    if let Some(tags) = &change.tags {
        port.tags.clone_from(tags);
    }
    if change.vnic_type.is_some() {
        port.vnic_type = check_vnic_type(change.vnic_type.clone())?;
    }
    if let Some(value) = &change.binding_profile {
        port.binding_profile = profile(value.clone())?;
    }
    Ok(())
}

async fn check_mac(tx: &mut Tx, port: &Port, mac: MacAddress) -> Result<(), Fault> {
    if port.binding.is_some() {
        return Err(Fault::conflict(format!(
            "Unable to complete operation on port {}, port is already bound, port type: ovs, \
             old_mac {}, new_mac {mac}.",
            port.id, port.mac
        ))
        .named("PortBound"));
    }
    if store::mac_is_taken(tx, &port.network_id, mac).await? {
        return Err(faults::mac_address_in_use(port.network_id, mac));
    }
    Ok(())
}

/// Addresses that the guest makes of its MAC follow the MAC.
async fn follow_mac(tx: &mut Tx, port: &mut Port) -> Result<(), Fault> {
    let all = subnets::of_network(tx, &port.network_id).await?;
    let automatic: Vec<_> =
        all.iter().filter(|subnet| subnet.is_auto_address()).map(|subnet| subnet.id).collect();
    if !port.fixed_ips.iter().any(|(subnet, _)| automatic.contains(subnet)) {
        return Ok(());
    }
    let wish = |(subnet, ip): &(SubnetId, IpAddr)| FixedIpWish {
        subnet: Some(*subnet),
        ip: Some(*ip).filter(|_| !automatic.contains(subnet)),
    };
    let wishes: Vec<FixedIpWish> = port.fixed_ips.iter().map(wish).collect();
    change_addresses(tx, port, &wishes).await
}

async fn change_addresses(
    tx: &mut Tx,
    port: &mut Port,
    wishes: &[FixedIpWish],
) -> Result<(), Fault> {
    let has = |subnet: &SubnetRow| port.fixed_ips.iter().any(|(id, _)| *id == subnet.id);
    let (has, others): (Vec<_>, Vec<_>) =
        subnets::of_network(tx, &port.network_id).await?.into_iter().partition(has);
    let mut subnets = [has, serving(others, &port.device_owner)].concat();
    let to = Receiver { port: port.id, network: port.network_id, mac: port.mac };
    let had = std::mem::take(&mut port.fixed_ips);
    port.fixed_ips = addresses::allocate_wishes(tx, &mut subnets, &to, wishes, &had).await?;
    let dropped: Vec<_> =
        had.into_iter().filter(|address| !port.fixed_ips.contains(address)).collect();
    addresses::release(tx, &port.id, &dropped, false).await
}

/// An operator moves a port of its own, or writes down where another should be.
async fn rebind(tx: &mut Tx, mut port: Port, host: String) -> Result<Port, Fault> {
    if host == port.binding_host {
        return Ok(port);
    }
    if port.device_owner == ACCESS_OWNER {
        let port = binding::unbind(tx, port).await?;
        return place(tx, port, &host).await;
    }
    if port.binding.is_some() {
        return Err(Fault::conflict(format!(
            "Port {} lives on host {} with its server; move the server",
            port.id, port.binding_host
        ))
        .named("PortBound"));
    }
    port.binding_host = host;
    Ok(port)
}
