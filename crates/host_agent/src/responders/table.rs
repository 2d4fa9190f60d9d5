//! The documents, arranged for the responders: by port number.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flow_compiler::{service_addresses, service_addresses6};
use host_protocol::{NetworkSpec, PortSpec, ServerSpec, SubnetSpec};

use super::advertise;
use crate::edges::ResponderTables;

/// Everything that can be asked for, as of one moment.
#[derive(Default)]
pub(crate) struct PortTable {
    ports: HashMap<u32, PortEntry>,
}

/// A port that may ask.
pub(crate) struct PortEntry {
    pub spec: Arc<PortSpec>,
    pub network: Arc<NetworkEntry>,
    /// The server that the port belongs to, when it is here.
    pub server: Option<Arc<ServerEntry>>,
}

/// A network as its members see it.
pub(crate) struct NetworkEntry {
    pub spec: NetworkSpec,
    /// Where the responders can be asked; see [`service_addresses`].
    services: Vec<Ipv4Addr>,
    /// The same over IPv6; see [`service_addresses6`].
    services6: Vec<Ipv6Addr>,
    /// What its router says of it, if anything.
    pub advertisement: Option<Arc<Vec<u8>>>,
    /// Lower-case host names without domain.
    names: HashMap<String, Vec<IpAddr>>,
    /// Whole names in lower case of ports that have a domain of their own.
    whole_names: HashMap<String, Vec<IpAddr>>,
    /// The whole name of each address.
    addresses: HashMap<IpAddr, String>,
}

/// A port of a network as its names need it.
struct Named<'a> {
    hostname: &'a str,
    domain: Option<&'a str>,
    ips: Vec<IpAddr>,
}

/// A server with its NICs in order.
pub(crate) struct ServerEntry {
    pub spec: ServerSpec,
    pub nics: Vec<(Arc<PortSpec>, Arc<NetworkEntry>)>,
}

impl PortTable {
    pub fn new(tables: ResponderTables) -> Self {
        let mut taken: HashMap<&str, HashSet<IpAddr>> = HashMap::new();
        let mut hosts: HashMap<&str, Vec<Named<'_>>> = HashMap::new();
        for port in &tables.ports {
            let ips: Vec<IpAddr> = port.fixed_ips.iter().map(|f| f.ip).collect();
            taken.entry(&port.network_id).or_default().extend(&ips);
            let domain = port.dns_domain.as_deref();
            let named = Named { hostname: &port.hostname, domain, ips };
            hosts.entry(&port.network_id).or_default().push(named);
        }
        for neighbour in &tables.neighbours {
            taken.entry(&neighbour.network_id).or_default().extend(&neighbour.ips);
            let domain = neighbour.dns_domain.as_deref();
            let ips = neighbour.ips.clone();
            let named = Named { hostname: &neighbour.hostname, domain, ips };
            hosts.entry(&neighbour.network_id).or_default().push(named);
        }
        let networks: HashMap<&str, Arc<NetworkEntry>> = tables
            .networks
            .iter()
            .map(|spec| {
                let id = spec.network_id.as_str();
                let none = HashSet::new();
                let taken = taken.get(id).unwrap_or(&none);
                let hosts = hosts.remove(id).unwrap_or_default();
                (id, Arc::new(NetworkEntry::new(spec.clone(), taken, hosts)))
            })
            .collect();
        let ports: HashMap<&str, Arc<PortSpec>> =
            tables.ports.iter().map(|p| (p.port_id.as_str(), Arc::new(p.clone()))).collect();
        let servers: HashMap<&str, Arc<ServerEntry>> = tables
            .servers
            .iter()
            .map(|spec| {
                let nics = spec.nics.iter().filter_map(|nic| {
                    let port = ports.get(nic.port_id.as_str())?;
                    Some((port.clone(), networks.get(port.network_id.as_str())?.clone()))
                });
                let entry = ServerEntry { spec: spec.clone(), nics: nics.collect() };
                (spec.server_id.as_str(), Arc::new(entry))
            })
            .collect();
        let entries = ports.values().filter_map(|port| {
            let server =
                port.server_id.as_deref().and_then(|id| servers.get(id)).filter(|server| {
                    // Both documents must say so: a port is never shown another server's secrets.
                    server.spec.nics.iter().any(|nic| nic.port_id == port.port_id)
                });
            let entry = PortEntry {
                spec: port.clone(),
                network: networks.get(port.network_id.as_str())?.clone(),
                server: server.cloned(),
            };
            Some((port.port_number, entry))
        });
        PortTable { ports: entries.collect() }
    }

    /// The port of this number.
    pub fn port(&self, number: u32) -> Option<&PortEntry> {
        self.ports.get(&number).filter(|entry| entry.spec.admin_state_up)
    }
}

impl PortTable {
    /// Every port that is up, by its number.
    pub fn ports(&self) -> impl Iterator<Item = (u32, &PortEntry)> {
        let up = self.ports.iter().filter(|(_, entry)| entry.spec.admin_state_up);
        up.map(|(number, entry)| (*number, entry))
    }
}

impl PortEntry {
    /// The domain of the port's name, in lower case and without dots at its ends.
    pub fn domain(&self) -> String {
        self.spec.dns_domain.as_deref().map_or_else(|| self.network.domain(), trimmed)
    }

    /// The address that DHCP gives the port: its first IPv4 address in a subnet with DHCP.
    pub fn lease(&self) -> Option<(Ipv4Addr, &SubnetSpec)> {
        self.spec.fixed_ips.iter().find_map(|fixed| {
            let IpAddr::V4(ip) = fixed.ip else { return None };
            let subnets = &self.network.spec.subnets;
            let subnet = subnets.iter().find(|s| s.subnet_id == fixed.subnet_id)?;
            (subnet.enable_dhcp && subnet.cidr.addr().is_ipv4()).then_some((ip, subnet))
        })
    }
}

impl NetworkEntry {
    fn new(spec: NetworkSpec, taken: &HashSet<IpAddr>, hosts: Vec<Named<'_>>) -> Self {
        let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        let mut whole_names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        let mut addresses = HashMap::new();
        for named in hosts.into_iter().filter(|named| !named.hostname.is_empty()) {
            let name = named.hostname.to_ascii_lowercase();
            let domain = trimmed(named.domain.unwrap_or(&spec.dns_domain));
            let whole = if domain.is_empty() { name.clone() } else { format!("{name}.{domain}") };
            for ip in &named.ips {
                addresses.insert(*ip, whole.clone());
            }
            if named.domain.is_some() {
                whole_names.entry(whole).or_default().extend(&named.ips);
            }
            names.entry(name).or_default().extend(named.ips);
        }
        for ips in names.values_mut().chain(whole_names.values_mut()) {
            ips.sort();
            ips.dedup();
        }
        let services = service_addresses(&spec, |ip| taken.contains(&IpAddr::V4(ip)));
        let services6 = service_addresses6(&spec, |ip| taken.contains(&IpAddr::V6(ip)));
        let mut entry = NetworkEntry {
            spec,
            services,
            services6,
            advertisement: None,
            names,
            whole_names,
            addresses,
        };
        let is_ours = |ip| matches!(ip, IpAddr::V6(ip) if entry.services6.contains(&ip));
        let servers = entry.name_servers6();
        let said = advertise::advertisement(&entry.spec, is_ours, &servers, &entry.domain());
        entry.advertisement = said.map(Arc::new);
        entry
    }

    /// The IPv6 name servers of the network's subnets; the responders' own, where they name none.
    pub fn name_servers6(&self) -> Vec<Ipv6Addr> {
        let six = self.spec.subnets.iter().filter(|s| s.cidr.addr().is_ipv6());
        let mut servers = Vec::new();
        for subnet in six {
            let named = subnet.dns_nameservers.iter().filter_map(|ip| match ip {
                IpAddr::V6(ip) => Some(*ip),
                IpAddr::V4(_) => None,
            });
            let mut named: Vec<Ipv6Addr> = named.collect();
            if named.is_empty() {
                named.push(match subnet.gateway_ip {
                    Some(IpAddr::V6(gateway)) if self.services6.contains(&gateway) => gateway,
                    _ => flow_compiler::ROUTER_LINK_LOCAL,
                });
            }
            servers.extend(named);
        }
        let mut seen = HashSet::new();
        servers.retain(|server| seen.insert(*server));
        servers
    }

    /// The address at which a subnet's members find the responders: their gateway, unless it is
    /// missing or a guest.
    pub fn service_address(&self, subnet: &SubnetSpec) -> Ipv4Addr {
        match subnet.gateway_ip {
            Some(IpAddr::V4(gateway)) if self.services.contains(&gateway) => gateway,
            _ => flow_compiler::LINK_LOCAL_SERVICE,
        }
    }

    /// Search domain in lower case, without dots at its ends.
    pub fn domain(&self) -> String {
        trimmed(&self.spec.dns_domain)
    }

    /// Addresses of a host of this network; `None` when there is no such host.
    pub fn host(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// Addresses of a host with a domain of its own, by its whole name.
    pub fn whole_name(&self, name: &str) -> Option<&[IpAddr]> {
        self.whole_names.get(name).map(Vec::as_slice)
    }

    /// Whole name of the host that has an address.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address).map(String::as_str)
    }
}

fn trimmed(domain: &str) -> String {
    domain.trim_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
pub(crate) mod tests {
    //! One small network with one port, for the responders' tests.
    use host_protocol::{Attachment, FixedIp};

    use super::*;

    pub(crate) fn network() -> NetworkSpec {
        NetworkSpec {
            network_id: "net".to_owned(),
            network_number: 3,
            mtu: 1450,
            dns_domain: "Cloud.Internal".to_owned(),
            subnets: vec![SubnetSpec {
                subnet_id: "sub".to_owned(),
                cidr: "10.1.0.0/24".parse().unwrap(),
                gateway_ip: Some([10, 1, 0, 1].into()),
                enable_dhcp: true,
                dns_nameservers: Vec::new(),
                host_routes: vec![("192.168.7.0/24".parse().unwrap(), [10, 1, 0, 77].into())],
                ipv6_ra_mode: None,
                ipv6_address_mode: None,
            }],
        }
    }

    pub(crate) fn port() -> PortSpec {
        PortSpec {
            port_id: "port".to_owned(),
            network_id: "net".to_owned(),
            project_id: "project".to_owned(),
            port_number: 5,
            mac: "fa:16:3e:00:00:05".parse().unwrap(),
            fixed_ips: vec![FixedIp { subnet_id: "sub".to_owned(), ip: [10, 1, 0, 9].into() }],
            allowed_address_pairs: Vec::new(),
            port_security: true,
            admin_state_up: true,
            security_groups: Vec::new(),
            security_rules: Vec::new(),
            hostname: "hello".to_owned(),
            dns_domain: None,
            dhcp_options: Vec::new(),
            attachment: Attachment::Tap,
            server_id: Some("server".to_owned()),
        }
    }

    /// The same network with an IPv6 subnet too.
    pub(crate) fn dual() -> NetworkSpec {
        let mut dual = network();
        dual.subnets.push(SubnetSpec {
            subnet_id: "sub6".to_owned(),
            cidr: "fd01::/64".parse().unwrap(),
            gateway_ip: Some("fd01::1".parse().unwrap()),
            enable_dhcp: true,
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
        });
        dual
    }

    /// The same port with an IPv6 address too.
    pub(crate) fn dual_port() -> PortSpec {
        let mut port = port();
        let ip = "fd01::9".parse().unwrap();
        port.fixed_ips.push(FixedIp { subnet_id: "sub6".to_owned(), ip });
        port
    }
}
