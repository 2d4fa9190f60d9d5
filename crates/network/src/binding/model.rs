//! Documents from rows. Pure: the same rows make the same documents, byte for byte, so that what
//! did not change is not sent.

use std::collections::{HashMap, HashSet};

use cloud_types::{AddressGroupId, NetworkId, SecurityGroupId};
use host_protocol::{
    Attachment, DhcpOption, FixedIp, NeighbourSpec, NetworkSpec, PortSpec, SubnetSpec,
};
use ipnet::IpNet;

use crate::network::model::NetworkRow;
use crate::port::model::{Port, PortBinding};
use crate::security_group::model::{RuleRow, in_order};
use crate::subnet::model::SubnetRow;

/// What ports' groups say.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Rules by group.
    pub rules: HashMap<SecurityGroupId, Vec<RuleRow>>,
    /// The ranges of the address groups that the rules name.
    pub addresses: HashMap<AddressGroupId, Vec<IpNet>>,
    /// The groups whose rules judge each packet by itself.
    pub stateless: HashSet<SecurityGroupId>,
}

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
            ipv6_ra_mode: subnet.ipv6_ra_mode.map(Into::into),
            ipv6_address_mode: subnet.ipv6_address_mode.map(Into::into),
        })
        .collect();
    subnets.sort_by(|a, b| a.subnet_id.cmp(&b.subnet_id));
    NetworkSpec {
        network_id: network.id.to_string(),
        network_number: network.network_number,
        mtu: network.mtu,
        dns_domain: network.domain().to_owned(),
        subnets,
    }
}

/// A bound port as its host needs it.
pub fn port_spec(port: &Port, binding: &PortBinding, rules: &Rules) -> PortSpec {
    let Rules { rules, addresses, stateless } = rules;
    let security_rules = if port.port_security_enabled {
        port.security_groups
            .iter()
            .flat_map(|group| {
                let state = !stateless.contains(group);
                rules.get(group).into_iter().flatten().map(move |rule| (rule, state))
            })
            .map(|(rule, stateful)| rule.spec.for_host(addresses, stateful))
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
        hostname: port.host_name(),
        dns_domain: port.own_domain(),
        dhcp_options: port.extra_dhcp_opts.iter().map(DhcpOption::from).collect(),
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
        hostname: port.host_name(),
        dns_domain: port.own_domain(),
    }
}

/// The groups that a port is in, in one order.
fn group_names(port: &Port) -> Vec<String> {
    let mut names: Vec<String> = port.security_groups.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
