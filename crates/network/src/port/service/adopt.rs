//! Taking in a server's port that a host has and no row speaks of: the database was restored from a
//! backup that is older than the port.

use std::collections::BTreeSet;

use cloud_types::{Fault, NetworkId, PortId, ProjectId, SecurityGroupId, SubnetId};
use database::Tx;
use host_documents::{Host, documents};
use host_protocol::{Document, PortSpec};
use serde_json::json;
use service_kit::quota::check_and_add;

use super::super::model::{AddressPair, COMPUTE_OWNER, DhcpOption, Port, PortBinding, PortStatus};
use super::super::store;
use crate::address::service::{Receiver, allocate_exact};
use crate::binding::service as binding;
use crate::binding::store as numbers;
use crate::network::store as networks;
use crate::security_group::store as groups;
use crate::subnet::store as subnets;
use crate::{Network, faults, groups_lock, journal, network_lock, quota_fault};

impl Network {
    /// Takes in a port as a host has it: its row, its addresses, its number, and the document in
    /// the host's own version, so that nothing changes there; other hosts learn of it. False when
    /// there is such a port.
    ///
    /// # Errors
    /// 400 for a description that is no port's; 404 when its network or subnet is unknown too; 409
    /// when its MAC, an address or its number has gone to another port meanwhile.
    pub async fn adopt_port(
        tx: &mut Tx,
        host: &Host,
        held: &Document,
        device_index: usize,
    ) -> Result<bool, Fault> {
        let unreadable = || {
            Fault::bad_request(format!("Port {} of host {} cannot be read.", held.id, host.name))
        };
        let spec: PortSpec = held.read().map_err(|_| unreadable())?;
        let id: PortId = spec.port_id.parse().map_err(|_| unreadable())?;
        let project: ProjectId = spec.project_id.parse().map_err(|_| unreadable())?;
        let network: NetworkId = spec.network_id.parse().map_err(|_| unreadable())?;
        tx.lock(&[network_lock(&network), groups_lock(&project)]).await?;
        if store::get(tx, &id).await?.is_some() {
            return Ok(false);
        }
        let network =
            networks::get(tx, &network).await?.ok_or_else(|| faults::network_not_found(network))?;
        check_and_add(tx, &project, "port", 1).await.map_err(quota_fault)?;
        if store::mac_is_taken(tx, &network.id, spec.mac).await? {
            return Err(faults::mac_address_in_use(network.id, spec.mac));
        }
        let to = Receiver { port: id, network: network.id, mac: spec.mac };
        let mut fixed_ips = Vec::with_capacity(spec.fixed_ips.len());
        for (place, fixed) in spec.fixed_ips.iter().enumerate() {
            let subnet: SubnetId = fixed.subnet_id.parse().map_err(|_| unreadable())?;
            let subnet = subnets::get(tx, &subnet).await?.ok_or_else(|| {
                Fault::not_found(format!("Subnet {subnet} of port {id} is unknown here."))
            })?;
            allocate_exact(tx, &subnet, fixed.ip, &to, place).await?;
            fixed_ips.push((subnet.id, fixed.ip));
        }
        // Groups that were made since the backup are gone with their rules.
        let mut known = BTreeSet::new();
        for group in &spec.security_groups {
            if let Ok(group) = group.parse::<SecurityGroupId>()
                && groups::get(tx, &group).await?.is_some()
            {
                known.insert(group);
            }
        }
        let now = tx.now();
        let mut port = Port {
            id,
            project_id: project,
            network_id: network.id,
            name: String::new(),
            description: String::new(),
            admin_state_up: spec.admin_state_up,
            mac: spec.mac,
            fixed_ips,
            security_groups: known.into_iter().collect(),
            device_id: spec.server_id.clone().unwrap_or_default(),
            device_owner: format!("{COMPUTE_OWNER}{}", host.zone),
            device_index: i64::try_from(device_index).unwrap_or(i64::MAX),
            device_tag: String::new(),
            made_for_device: true,
            hostname: spec.hostname.clone(),
            dns_name: String::new(),
            extra_dhcp_opts: spec
                .dhcp_options
                .iter()
                .map(|option| DhcpOption {
                    name: option.name.clone(),
                    value: option.value.clone(),
                    ip_version: if option.ipv6 { 6 } else { 4 },
                })
                .collect(),
            dns_domain: spec.dns_domain.as_ref().map(|own| format!("{own}.")).unwrap_or_default(),
            domain: spec.dns_domain.clone().unwrap_or_else(|| network.domain().to_owned()),
            status: PortStatus::Active,
            port_security_enabled: spec.port_security,
            allowed_address_pairs: spec
                .allowed_address_pairs
                .iter()
                .map(|(range, mac)| AddressPair { ip_address: *range, mac_address: Some(*mac) })
                .collect(),
            vnic_type: "normal".to_owned(),
            binding_host: host.name.clone(),
            binding_profile: json!({}),
            binding: Some(PortBinding {
                host: host.id,
                host_number: host.host_number,
                l2_domain: host.l2_domain.clone(),
                port_number: spec.port_number,
                attachment: spec.attachment.clone(),
            }),
            mtu: network.mtu,
            network_up: network.admin_state_up,
            tags: Vec::new(),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let scope = host.id.to_string();
        if !numbers::take(tx, &scope, spec.port_number, &id.to_string()).await? {
            return Err(Fault::conflict(format!(
                "Number {} of host {} has gone to another port than {id}.",
                spec.port_number, host.name
            )));
        }
        store::insert(tx, &port).await?;
        // The binding is part of a change, not of a new row.
        store::update(tx, &mut port).await?;
        groups::set_groups_of_port(tx, &port.id, &port.security_groups).await?;
        documents::adopt(tx, &host.id, held).await?;
        binding::publish(tx, &port).await?;
        journal(tx, "port", port.id, &port.project_id, None, Some(&port));
        Ok(true)
    }
}
