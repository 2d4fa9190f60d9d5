//! Changing ports.

use cloud_types::{Fault, MacAddress, PortId, SecurityGroupId};
use database::Tx;
use serde_json::Value;
use service_kit::{Ctx, policy::Target};

use super::create::{check_vnic_type, place};
use super::{authorise, locked, profile};
use crate::address::service::{self as addresses, Receiver};
use crate::binding::service as binding;
use crate::faults;
use crate::network::store as networks;
use crate::port::model::{ACCESS_OWNER, AddressPair, FixedIpWish, Port, check_port_security};
use crate::port::store;
use crate::security_group::service as groups;
use crate::security_group::store as group_store;
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
    /// Labels.
    pub tags: Option<Vec<String>>,
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
                    let port = locked(tx, viewer.as_ref(), &id).await?;
                    authorise(tx, &ctx, "network:ports:update", &port).await?;
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
    if change.mac.is_some_and(|mac| mac != port.mac) {
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
    apply_plain(&mut port, &change)?;
    if let Some(mac) = change.mac.filter(|mac| *mac != before.mac) {
        check_mac(tx, &port, mac).await?;
        port.mac = mac;
    }
    if let Some(wishes) = &change.fixed_ips {
        change_addresses(tx, &mut port, wishes).await?;
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

fn apply_plain(port: &mut Port, change: &PortChange) -> Result<(), Fault> {
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

async fn change_addresses(
    tx: &mut Tx,
    port: &mut Port,
    wishes: &[FixedIpWish],
) -> Result<(), Fault> {
    let mut subnets = subnets::of_network(tx, &port.network_id).await?;
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
