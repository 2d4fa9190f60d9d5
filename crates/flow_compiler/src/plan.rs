//! The input, checked and arranged by network: what every stage of the compiler starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cloud_types::{Locator, MacAddress};
use host_protocol::{NeighbourSpec, NetworkSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::security::rules::RuleSets;
use crate::services::service_addresses;
use crate::services6::service_addresses6;
use crate::{CompileError, Cookie, HostInput, LocalPort};

/// Highest number that fits the 24 bits of a locator.
const MAX_NUMBER: u32 = 0xff_ffff;

/// The checked input.
pub(crate) struct Plan<'a> {
    pub host_number: u16,
    pub wire: Option<u32>,
    pub responder: Option<u32>,
    /// By network number.
    pub networks: BTreeMap<u32, Network<'a>>,
    pub rules: RuleSets,
}

/// A network with a port here.
pub(crate) struct Network<'a> {
    pub number: u32,
    pub spec: &'a NetworkSpec,
    /// Ports here that are up, by port number.
    pub ports: Vec<Port<'a>>,
    /// Ports elsewhere, by host and port number.
    pub neighbours: Vec<Neighbour<'a>>,
    /// Addresses of the responders in this network: see [`service_addresses`].
    pub services: Vec<Ipv4Addr>,
    /// The same over IPv6: see [`service_addresses6`].
    pub services6: Vec<Ipv6Addr>,
}

/// A port of this host that forwards.
pub(crate) struct Port<'a> {
    pub local: LocalPort<'a>,
    /// Which set of rules judges it; meaningless without port security.
    pub rules: u32,
}

/// A port of another host.
pub(crate) struct Neighbour<'a> {
    pub spec: &'a NeighbourSpec,
}

/// Addresses that a port may send from with one MAC.
pub(crate) struct Identity {
    pub mac: MacAddress,
    pub nets: Vec<IpNet>,
}

impl<'a> Plan<'a> {
    pub fn new(input: &HostInput<'a>) -> Result<Self, CompileError> {
        let mut networks = BTreeMap::new();
        let mut number_of: BTreeMap<&str, u32> = BTreeMap::new();
        for spec in input.networks {
            in_range("network", &spec.network_id, spec.network_number)?;
            let network = Network {
                number: spec.network_number,
                spec,
                ports: Vec::new(),
                neighbours: Vec::new(),
                services: Vec::new(),
                services6: Vec::new(),
            };
            if let Some(other) = networks.insert(spec.network_number, network) {
                return Err(CompileError::Duplicate {
                    kind: "network",
                    id: spec.network_id.clone(),
                    other: other.spec.network_id.clone(),
                    number: spec.network_number,
                });
            }
            number_of.insert(&spec.network_id, spec.network_number);
        }

        let mut seen = Seen::new(input);
        let mut rules = RuleSets::default();
        for local in input.ports {
            let spec = local.spec;
            in_range("port", &spec.port_id, spec.port_number)?;
            seen.port(local)?;
            let network = number_of
                .get(spec.network_id.as_str())
                .and_then(|number| networks.get_mut(number))
                .ok_or_else(|| CompileError::UnknownNetwork {
                    port_id: spec.port_id.clone(),
                    network_id: spec.network_id.clone(),
                })?;
            if spec.admin_state_up {
                let rules = match spec.port_security {
                    true => rules.add(network.number, &spec.security_rules),
                    false => 0,
                };
                network.ports.push(Port { local: *local, rules });
            }
        }
        for spec in input.neighbours {
            in_range("neighbour", &spec.port_id, spec.port_number)?;
            let here = spec.host_number == input.spec.host_number
                || input.ports.iter().any(|p| p.spec.port_id == spec.port_id);
            let network = number_of.get(spec.network_id.as_str()).and_then(|n| networks.get_mut(n));
            if let (Some(network), false) = (network, here) {
                network.neighbours.push(Neighbour { spec });
            }
        }
        for network in networks.values_mut() {
            network.ports.sort_by_key(|p| p.local.spec.port_number);
            network.neighbours.sort_by_key(|n| (n.spec.host_number, n.spec.port_number));
            let taken = network.addresses().map(|(ip, _)| ip).collect::<BTreeSet<_>>();
            network.services =
                service_addresses(network.spec, |ip| taken.contains(&IpAddr::V4(ip)));
            network.services6 =
                service_addresses6(network.spec, |ip| taken.contains(&IpAddr::V6(ip)));
        }
        Ok(Plan {
            host_number: input.spec.host_number,
            wire: input.wire_ofport,
            responder: input.responder_ofport,
            networks,
            rules,
        })
    }

    /// Every port here that forwards, with its network.
    pub fn ports(&self) -> impl Iterator<Item = (&Network<'a>, &Port<'a>)> {
        self.networks.values().flat_map(|n| n.ports.iter().map(move |p| (n, p)))
    }
}

impl<'a> Network<'a> {
    pub fn cookie(&self) -> u64 {
        Cookie::Network(self.number).encode()
    }

    /// Every fixed address in the network with the MAC that has it.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, MacAddress)> {
        let local = self
            .ports
            .iter()
            .flat_map(|p| p.local.spec.fixed_ips.iter().map(move |f| (f.ip, p.local.spec.mac)));
        let remote =
            self.neighbours.iter().flat_map(|n| n.spec.ips.iter().map(|ip| (*ip, n.spec.mac)));
        local.chain(remote)
    }

    /// The own MACs of all ports.
    pub fn macs(&self) -> impl Iterator<Item = MacAddress> {
        let local = self.ports.iter().map(|p| p.local.spec.mac);
        local.chain(self.neighbours.iter().map(|n| n.spec.mac))
    }

    /// The addresses of the members of each security group, in as few ranges as hold exactly them.
    pub fn members(&self) -> BTreeMap<&'a str, Vec<IpNet>> {
        let local = self.ports.iter().map(|p| p.local.spec).map(|spec| {
            let fixed: Vec<IpAddr> = spec.fixed_ips.iter().map(|f| f.ip).collect();
            (&spec.security_groups, fixed, &spec.allowed_address_pairs)
        });
        let remote = self
            .neighbours
            .iter()
            .map(|n| n.spec)
            .map(|spec| (&spec.security_groups, spec.ips.clone(), &spec.allowed_address_pairs));
        let mut found: BTreeMap<&'a str, Vec<IpNet>> = BTreeMap::new();
        for (groups, fixed, pairs) in local.chain(remote) {
            for group in groups {
                let nets = found.entry(group).or_default();
                nets.extend(fixed.iter().copied().map(IpNet::from));
                nets.extend(pairs.iter().map(|(net, _)| net.trunc()));
            }
        }
        found.into_iter().map(|(group, nets)| (group, IpNet::aggregate(&nets))).collect()
    }

    /// Numbers of the other hosts with a port in the network, rising.
    pub fn remote_hosts(&self) -> BTreeSet<u16> {
        self.neighbours.iter().map(|n| n.spec.host_number).collect()
    }
}

impl Port<'_> {
    pub fn cookie(&self) -> u64 {
        Cookie::Port(self.local.spec.port_number).encode()
    }

    pub fn locator(&self, host: u16) -> [u8; 6] {
        Locator::Port { host, port: self.local.spec.port_number }.mac().0
    }

    /// The IPv4 fixed addresses, in the document's order; at most 254, as many as there are
    /// numbers for them towards the responders.
    pub fn ipv4(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.local
            .spec
            .fixed_ips
            .iter()
            .filter_map(|f| match f.ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            })
            .take(254)
    }

    /// The addresses that the port asks services from over IPv6: that of its link, then its fixed
    /// ones in the document's order; at most 254.
    pub fn ipv6(&self) -> impl Iterator<Item = Ipv6Addr> {
        let spec = self.local.spec;
        let fixed = spec.fixed_ips.iter().filter_map(|f| match f.ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        });
        std::iter::once(link_local(spec.mac)).chain(fixed).take(254)
    }

    /// What the port may send from: its own MAC with its addresses, then each MAC of an allowed
    /// address pair with those of the pairs. Every MAC has its link-local IPv6 address too.
    pub fn identities(&self) -> Vec<Identity> {
        let spec = self.local.spec;
        let fixed = spec.fixed_ips.iter().map(|f| (IpNet::from(f.ip), spec.mac));
        let mut by_mac: BTreeMap<MacAddress, BTreeSet<IpNet>> = BTreeMap::new();
        for (net, mac) in fixed.chain(spec.allowed_address_pairs.iter().copied()) {
            by_mac.entry(mac).or_default().insert(net.trunc());
        }
        by_mac.entry(spec.mac).or_default();
        by_mac
            .into_iter()
            .map(|(mac, mut nets)| {
                nets.insert(IpNet::from(IpAddr::V6(link_local(mac))));
                Identity { mac, nets: nets.into_iter().collect() }
            })
            .collect()
    }
}

impl Neighbour<'_> {
    pub fn cookie(&self) -> u64 {
        Cookie::Neighbour { host: self.spec.host_number, port: self.spec.port_number }.encode()
    }

    pub fn locator(&self) -> [u8; 6] {
        Locator::Port { host: self.spec.host_number, port: self.spec.port_number }.mac().0
    }
}

/// MACs other than its own that a port may use, with the addresses that say which is meant.
pub(crate) fn foreign_pairs(
    own: MacAddress,
    pairs: &[(IpNet, MacAddress)],
) -> Vec<(IpNet, MacAddress)> {
    let with_own: BTreeSet<IpNet> =
        pairs.iter().filter(|(_, mac)| *mac == own).map(|(net, _)| net.trunc()).collect();
    let mut chosen = BTreeMap::new();
    for (net, mac) in pairs.iter().filter(|(_, mac)| *mac != own) {
        let net = net.trunc();
        if !with_own.contains(&net) {
            chosen.entry(net).or_insert(*mac);
        }
    }
    chosen.into_iter().collect()
}

/// Modified EUI-64 in fe80::/64 (RFC 4291, appendix A).
pub fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// One of the two families, so that matches can be written for it.
pub(crate) fn split(net: IpNet) -> Result<Ipv4Net, Ipv6Net> {
    match net {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(net) => Err(net),
    }
}

fn in_range(kind: &'static str, id: &str, number: u32) -> Result<(), CompileError> {
    if (1..=MAX_NUMBER).contains(&number) {
        Ok(())
    } else {
        Err(CompileError::Number { kind, id: id.to_owned(), number })
    }
}

/// Numbers that must be one port's alone.
struct Seen<'a> {
    port_numbers: BTreeMap<u32, &'a str>,
    ofports: BTreeMap<u32, &'a str>,
    zones: BTreeMap<u32, &'a str>,
}

impl<'a> Seen<'a> {
    fn new(input: &HostInput<'a>) -> Self {
        let fixed = [(input.wire_ofport, "the wire"), (input.responder_ofport, "the responders")];
        Seen {
            port_numbers: BTreeMap::new(),
            ofports: fixed.into_iter().filter_map(|(p, name)| Some((p?, name))).collect(),
            zones: BTreeMap::from([(0, "untracked traffic")]),
        }
    }

    fn port(&mut self, local: &LocalPort<'a>) -> Result<(), CompileError> {
        let id = local.spec.port_id.as_str();
        for (kind, map, number) in [
            ("port", &mut self.port_numbers, local.spec.port_number),
            ("OpenFlow port", &mut self.ofports, local.ofport),
            ("conntrack zone", &mut self.zones, u32::from(local.ct_zone)),
        ] {
            if let Some(other) = map.insert(number, id) {
                return Err(CompileError::Duplicate {
                    kind,
                    id: id.to_owned(),
                    other: other.to_owned(),
                    number,
                });
            }
        }
        Ok(())
    }
}
