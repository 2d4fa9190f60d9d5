//! Binds ports to hosts and keeps the hosts' documents as the rows say. Callers hold the lock of
//! the network, and that of the project's security groups where groups are concerned.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::{AddressGroupId, Fault, HostId, NetworkId, PortId, SecurityGroupId};
use database::Tx;
use host_documents::{Host, documents};
use host_protocol::{Attachment, DocumentKind};
use planted_bugs::planted;
use serde_json::Value;

use super::model::{Rules, neighbour_spec, network_spec, port_spec};
use super::numbers::{self, Numbered};
use crate::address_group::store as address_groups;
use crate::network::store as networks;
use crate::port::model::{COMPUTE_OWNER, Port, PortBinding, PortStatus};
use crate::port::store as ports;
use crate::security_group::store as groups;
use crate::subnet::store as subnets;
use crate::{faults, journal};

/// What is to be said to hosts. Collected first and put in the order of host ids, in which every
/// transaction takes the hosts' counters.
#[derive(Debug, Default)]
struct Batch {
    changes: BTreeMap<(HostId, DocumentKind, String), Change>,
}

#[derive(Debug)]
enum Change {
    Put(Value),
    /// The document goes, and these numbers wait for it.
    Tombstone(Vec<Numbered>),
}

impl Batch {
    fn put<T: serde::Serialize>(
        &mut self,
        host: HostId,
        kind: DocumentKind,
        id: impl ToString,
        spec: &T,
    ) -> Result<(), Fault> {
        let spec = serde_json::to_value(spec)
            .map_err(|error| Fault::internal(format!("a document cannot be written: {error}")))?;
        self.changes.insert((host, kind, id.to_string()), Change::Put(spec));
        Ok(())
    }

    fn tombstone(
        &mut self,
        host: HostId,
        kind: DocumentKind,
        id: impl ToString,
        waiting: Vec<Numbered>,
    ) {
        self.changes.insert((host, kind, id.to_string()), Change::Tombstone(waiting));
    }

    async fn apply(self, tx: &mut Tx) -> Result<(), Fault> {
        for ((host, kind, id), change) in self.changes {
            match change {
                Change::Put(spec) => {
                    documents::put(tx, &host, kind, &id, 0, &spec).await?;
                }
                Change::Tombstone(waiting) => {
                    // A host that was never told has nothing to confirm.
                    if let Some(generation) = documents::put_tombstone(tx, &host, kind, &id).await?
                    {
                        for numbered in &waiting {
                            numbers::wait_for(tx, numbered, &host, kind, &id, generation).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Binds a port to a host, or says again what a bound port's hosts should know. A port that lives
/// on another host is unbound there first.
pub async fn bind(
    tx: &mut Tx,
    mut port: Port,
    host: &Host,
    attachment: Attachment,
) -> Result<Port, Fault> {
    match &port.binding {
        Some(binding) if binding.host == host.id && binding.attachment == attachment => {
            publish(tx, &port).await?;
            return Ok(port);
        }
        Some(_) => port = unbind(tx, port).await?,
        None => {}
    }
    check_domain(tx, &port, host).await?;
    let before = port.clone();
    let port_number = numbers::take_port(tx, &host.id, &port.id).await?;
    port.binding = Some(PortBinding {
        host: host.id,
        host_number: host.host_number,
        l2_domain: host.l2_domain.clone(),
        port_number,
        attachment,
    });
    port.binding_host = host.name.clone();
    port.status = PortStatus::Down;
    if port.is_compute() {
        port.device_owner = format!("{COMPUTE_OWNER}{}", host.zone);
    }
    ports::update(tx, &mut port).await?;
    journal(tx, "port", port.id, &port.project_id, Some(&before), Some(&port));
    publish(tx, &port).await?;
    Ok(port)
}

/// Until tunnels exist, a network lives in one L2 domain.
async fn check_domain(tx: &mut Tx, port: &Port, host: &Host) -> Result<(), Fault> {
    let hosts = ports::hosts_of_network(tx, &port.network_id).await?;
    match hosts.iter().find(|(_, domain)| *domain != host.l2_domain) {
        None => Ok(()),
        Some((_, domain)) => Err(Fault::conflict(format!(
            "Binding failed for port {}: its network has ports in the L2 domain {domain}, and host \
             {} stands in {}; networks do not yet span L2 domains",
            port.id, host.name, host.l2_domain
        ))
        .named("PortBindingFailed")),
    }
}

/// Takes a port off its host. Its number, and whatever else the host may still use, stays
/// quarantined until every host concerned has said that it is done.
pub async fn unbind(tx: &mut Tx, mut port: Port) -> Result<Port, Fault> {
    let before = port.clone();
    let Some(binding) = port.binding.take() else { return Ok(port) };
    port.status = PortStatus::Down;
    port.binding_host = String::new();
    ports::update(tx, &mut port).await?;
    journal(tx, "port", port.id, &port.project_id, Some(&before), Some(&port));
    let own = Numbered { host: Some(binding.host), number: binding.port_number };
    let mut batch = Batch::default();
    batch.tombstone(binding.host, DocumentKind::Port, port.id, vec![own]);
    let hosts = ports::hosts_of_network(tx, &port.network_id).await?;
    for (host, _) in hosts.iter().filter(|(host, _)| *host != binding.host) {
        batch.tombstone(*host, DocumentKind::Neighbour, port.id, vec![own]);
    }
    if !hosts.iter().any(|(host, _)| *host == binding.host) {
        leave_network(tx, &mut batch, &port, &binding).await?;
    }
    batch.apply(tx).await?;
    numbers::release_port(tx, &binding.host, &port.id).await?;
    Ok(port)
}

/// The last port of a network has left a host: so do the network and the neighbours.
async fn leave_network(
    tx: &mut Tx,
    batch: &mut Batch,
    port: &Port,
    binding: &PortBinding,
) -> Result<(), Fault> {
    let network = networks::get(tx, &port.network_id)
        .await?
        .ok_or_else(|| faults::network_not_found(port.network_id))?;
    let numbered = Numbered { host: None, number: network.network_number };
    batch.tombstone(binding.host, DocumentKind::Network, network.id, vec![numbered]);
    if planted("leave_neighbours_behind") {
        return Ok(());
    }
    for other in ports::bound_in(tx, &port.network_id, &binding.l2_domain).await? {
        if let Some(there) = &other.binding {
            let numbered = Numbered { host: Some(there.host), number: there.port_number };
            batch.tombstone(binding.host, DocumentKind::Neighbour, other.id, vec![numbered]);
        }
    }
    Ok(())
}

/// Says to everybody concerned what a bound port is now: one document for each host that knows the
/// network, however many ports there have rules about the port's groups.
pub async fn publish(tx: &mut Tx, port: &Port) -> Result<(), Fault> {
    let Some(binding) = &port.binding else { return Ok(()) };
    let mut batch = Batch::default();
    let about_me = neighbour_spec(port, binding);
    for (host, domain) in ports::hosts_of_network(tx, &port.network_id).await? {
        if host != binding.host && domain == binding.l2_domain {
            batch.put(host, DocumentKind::Neighbour, port.id, &about_me)?;
        }
    }
    if ports::is_alone(tx, port, &binding.host).await? {
        put_network(tx, &mut batch, &port.network_id, &[binding.host]).await?;
        for other in ports::bound_in(tx, &port.network_id, &binding.l2_domain).await? {
            if let Some(there) = other.binding.as_ref().filter(|there| there.host != binding.host) {
                let spec = neighbour_spec(&other, there);
                batch.put(binding.host, DocumentKind::Neighbour, other.id, &spec)?;
            }
        }
    }
    let rules = load_rules(tx, std::slice::from_ref(port)).await?;
    batch.put(binding.host, DocumentKind::Port, port.id, &port_spec(port, binding, &rules))?;
    batch.apply(tx).await
}

/// Computes the documents of these ports from rows, and puts those that changed. Ports that are
/// not bound have none.
pub async fn refresh_port_documents(tx: &mut Tx, ids: &[PortId]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    let all = ports::get_many(tx, ids).await?;
    let rules = load_rules(tx, &all).await?;
    let mut batch = Batch::default();
    for port in &all {
        if let Some(binding) = &port.binding {
            let spec = port_spec(port, binding, &rules);
            batch.put(binding.host, DocumentKind::Port, port.id, &spec)?;
        }
    }
    batch.apply(tx).await
}

/// The documents of every port in one of these groups: their rules changed.
pub async fn refresh_members(tx: &mut Tx, changed: &[SecurityGroupId]) -> Result<(), Fault> {
    let ids = groups::bound_ports_in(tx, changed).await?;
    refresh_port_documents(tx, &ids).await
}

/// The documents of every port of a network.
pub async fn refresh_all_ports(tx: &mut Tx, network: &NetworkId) -> Result<(), Fault> {
    let ids: Vec<PortId> =
        ports::of_network(tx, network).await?.into_iter().map(|port| port.id).collect();
    refresh_port_documents(tx, &ids).await
}

/// The network's document on every host that has one: its subnets changed.
pub async fn refresh_network(tx: &mut Tx, network: &NetworkId) -> Result<(), Fault> {
    let hosts: Vec<HostId> =
        ports::hosts_of_network(tx, network).await?.into_iter().map(|(host, _)| host).collect();
    if hosts.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    put_network(tx, &mut batch, network, &hosts).await?;
    batch.apply(tx).await
}

async fn put_network(
    tx: &mut Tx,
    batch: &mut Batch,
    network: &NetworkId,
    hosts: &[HostId],
) -> Result<(), Fault> {
    let row =
        networks::get(tx, network).await?.ok_or_else(|| faults::network_not_found(network))?;
    let spec = network_spec(&row, &subnets::of_network(tx, network).await?);
    for host in hosts {
        batch.put(*host, DocumentKind::Network, network, &spec)?;
    }
    Ok(())
}

/// The rules of the ports' groups.
async fn load_rules(tx: &mut Tx, all: &[Port]) -> Result<Rules, Fault> {
    let bound = all.iter().filter(|port| port.binding.is_some() && port.port_security_enabled);
    let ids: BTreeSet<SecurityGroupId> =
        bound.flat_map(|port| port.security_groups.iter().copied()).collect();
    let ids: Vec<SecurityGroupId> = ids.into_iter().collect();
    let rules = groups::rules_of(tx, &ids).await?;
    let named: BTreeSet<AddressGroupId> =
        rules.values().flatten().filter_map(|rule| rule.spec.remote_address_group_id).collect();
    let named: Vec<AddressGroupId> = named.into_iter().collect();
    Ok(Rules {
        rules,
        addresses: address_groups::addresses_of(tx, &named).await?,
        stateless: groups::stateless_among(tx, &ids).await?,
    })
}
