//! Documents from rows. Pure: the same rows make the same documents, byte for byte, so that what
//! did not change is not sent.

use std::collections::HashMap;

use cloud_types::{NetworkId, SecurityGroupId};
use host_protocol::{Attachment, FixedIp, NeighbourSpec, NetworkSpec, PortSpec, SubnetSpec};

use crate::network::model::NetworkRow;
use crate::port::model::{Port, PortBinding};
use crate::security_group::model::{RuleRow, in_order};
use crate::subnet::model::SubnetRow;

/// Rules by group.
pub type Rules = HashMap<SecurityGroupId, Vec<RuleRow>>;

/// The name of the namespace through which operators reach the guests of a network.
pub fn access_namespace(network: &NetworkId) -> String {
    format!("mer-{}", network.to_string().get(..8).unwrap_or_default())
}

/// What an operator's port is plugged into.
pub fn access_attachment(network: &NetworkId) -> Attachment {
    Attachment::Namespace { name: access_namespace(network) }
}

/// The network as a host needs it.
pub fn network_spec(network: &NetworkRow, subnets: &[SubnetRow]) -> NetworkSpec {
    let mut subnets: Vec<SubnetSpec> = subnets
        .iter()
        .map(|subnet| SubnetSpec {
            subnet_id: subnet.id.to_string(),
            cidr: subnet.cidr,
            gateway_ip: subnet.gateway_ip,
            enable_dhcp: subnet.enable_dhcp,
            dns_nameservers: subnet
                .dns_nameservers
                .iter()
                .filter_map(|server| server.parse().ok())
                .collect(),
            host_routes: subnet
                .host_routes
                .iter()
                .map(|route| (route.destination, route.nexthop))
                .collect(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
        })
        .collect();
    subnets.sort_by(|a, b| a.subnet_id.cmp(&b.subnet_id));
    NetworkSpec {
        network_id: network.id.to_string(),
        network_number: network.network_number,
        mtu: network.mtu,
        dns_domain: network.dns_domain.clone(),
        subnets,
    }
}

/// A bound port as its host needs it.
pub fn port_spec(port: &Port, binding: &PortBinding, rules: &Rules) -> PortSpec {
    let security_rules = if port.port_security_enabled {
        port.security_groups
            .iter()
            .filter_map(|group| rules.get(group))
            .flatten()
            .map(|rule| rule.spec.for_host())
            .collect()
    } else {
        Vec::new()
    };
    PortSpec {
        port_id: port.id.to_string(),
        network_id: port.network_id.to_string(),
        project_id: port.project_id.to_string(),
        port_number: binding.port_number,
        mac: port.mac,
        fixed_ips: port
            .fixed_ips
            .iter()
            .map(|(subnet, ip)| FixedIp { subnet_id: subnet.to_string(), ip: *ip })
            .collect(),
        allowed_address_pairs: port.pairs(),
        port_security: port.port_security_enabled,
        admin_state_up: port.admin_state_up && port.network_up,
        security_groups: group_names(port),
        security_rules: in_order(security_rules),
        hostname: port.dns_name(),
        dns_domain: None,
        dhcp_options: Vec::new(),
        attachment: binding.attachment.clone(),
        server_id: port.is_compute().then(|| port.device_id.clone()),
    }
}

/// A bound port as the other hosts need it.
pub fn neighbour_spec(port: &Port, binding: &PortBinding) -> NeighbourSpec {
    NeighbourSpec {
        port_id: port.id.to_string(),
        network_id: port.network_id.to_string(),
        host_number: binding.host_number,
        port_number: binding.port_number,
        mac: port.mac,
        ips: port.fixed_ips.iter().map(|(_, ip)| *ip).collect(),
        allowed_address_pairs: port.pairs(),
        security_groups: group_names(port),
        hostname: port.dns_name(),
        dns_domain: None,
    }
}

/// The groups that a port is in, in one order.
fn group_names(port: &Port) -> Vec<String> {
    let mut names: Vec<String> = port.security_groups.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
