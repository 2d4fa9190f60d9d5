//! Random clouds, and their hosts run together: each bridge from the compiler's flows, joined by
//! an underlay that shows every frame to every host, which is the worst that a switch can do.

use cloud_types::{Locator, MacAddress};
use flow_compiler::{HostInput, LocalPort, compile};
use host_protocol::{
    Attachment, Direction, FixedIp, HostSpec, NeighbourSpec, NetworkSpec, PortSpec, Remote,
    SecurityRule, SubnetSpec,
};
use ipnet::IpNet;
use openflow::Flow;
use proptest::prelude::*;

use crate::frame::{Frame, Mac};
use crate::interpreter::Bridge;

pub const WIRE: u32 = 1;
pub const RESPONDER: u32 = 2;
const FIRST_OFPORT: u32 = 10;
pub const HOSTS: usize = 3;

/// A port and where it is.
#[derive(Clone, Debug)]
pub struct Place {
    pub host: usize,
    /// Index of its network.
    pub network: usize,
    pub spec: PortSpec,
}

/// A cloud: networks that all have the same subnets, ports that share MACs and addresses over
/// networks, hosts.
#[derive(Clone, Debug)]
pub struct Cloud {
    pub networks: Vec<NetworkSpec>,
    pub ports: Vec<Place>,
}

/// Address `n` of either family; every network has the same.
pub fn address(n: u8, v6: bool) -> std::net::IpAddr {
    if v6 {
        std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        std::net::Ipv4Addr::new(10, 0, 0, n).into()
    }
}

/// MAC `n`; every network has the same.
pub fn mac(n: u8) -> MacAddress {
    MacAddress([0xfa, 0x16, 0x3e, 0, 0, n])
}

fn network(index: usize) -> NetworkSpec {
    let subnet = |cidr: &str, id: &str, gateway| SubnetSpec {
        subnet_id: id.to_owned(),
        cidr: cidr.parse().unwrap(),
        gateway_ip: Some(gateway),
        enable_dhcp: true,
        dns_nameservers: Vec::new(),
        host_routes: Vec::new(),
        ipv6_ra_mode: None,
        ipv6_address_mode: None,
    };
    NetworkSpec {
        network_id: format!("network-{index}"),
        network_number: 100 + index as u32,
        mtu: 1500,
        dns_domain: String::new(),
        subnets: vec![
            subnet("10.0.0.0/24", "v4", address(254, false)),
            subnet("fd00::/64", "v6", address(254, true)),
        ],
    }
}

/// Group `n`; the names are the same in every network.
pub fn group(n: u8) -> String {
    format!("group-{n}")
}

/// The groups of a port.
pub fn groups() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set(0u8..3, 0..3)
        .prop_map(|groups| groups.into_iter().map(group).collect())
}

pub fn rule() -> impl Strategy<Value = SecurityRule> {
    let remote = prop_oneof![
        2 => Just(Remote::Anyone),
        2 => prop_oneof![
            (1u8..6, any::<bool>()).prop_map(|(n, v6)| IpNet::from(address(n, v6))),
            Just("10.0.0.0/30".parse().unwrap()),
            Just("fd00::4/126".parse().unwrap()),
        ]
        .prop_map(Remote::Range),
        3 => (0u8..3).prop_map(|n| Remote::Group(group(n))),
        1 => proptest::collection::btree_set((1u8..6, any::<bool>()), 0..4).prop_map(|set| {
            Remote::Addresses(set.into_iter().map(|(n, v6)| address(n, v6).into()).collect())
        }),
    ];
    let protocol = prop_oneof![Just(None), Just(Some(1)), Just(Some(6)), Just(Some(17))];
    let ports = prop_oneof![
        2 => Just((None, None)),
        1 => Just((Some(8), None)),
        1 => Just((Some(8), Some(0))),
        5 => (0u16..6, 0u16..6).prop_map(|(a, b)| (Some(80 + a.min(b)), Some(80 + a.max(b)))),
        1 => Just((Some(1), Some(65535))),
    ];
    let stateless = prop::bool::weighted(0.15);
    (any::<bool>(), any::<bool>(), protocol, ports, remote, stateless).prop_map(
        |(ingress, ipv6, protocol, (port_min, port_max), remote, stateless)| SecurityRule {
            direction: if ingress { Direction::Ingress } else { Direction::Egress },
            ipv6,
            protocol,
            port_min,
            port_max,
            remote,
            stateless,
        },
    )
}

/// Often with a rule that lets everything begin one way: else little would pass at all.
pub fn rules() -> impl Strategy<Value = Vec<SecurityRule>> {
    let some = proptest::collection::vec(rule(), 1..7);
    let open = (prop::bool::weighted(0.5), prop::bool::weighted(0.25));
    (some, open).prop_map(|(mut rules, (egress, ingress))| {
        for (direction, open) in [(Direction::Egress, egress), (Direction::Ingress, ingress)] {
            let everything = |ipv6| SecurityRule {
                direction,
                ipv6,
                protocol: None,
                port_min: None,
                port_max: None,
                remote: Remote::Anyone,
                stateless: false,
            };
            rules.extend([false, true].map(everything).into_iter().filter(|_| open));
        }
        rules
    })
}

/// A few ports of one network: number `i` has MAC and addresses `i` in each network.
fn ports(network: usize, foreign_pairs: bool) -> impl Strategy<Value = Vec<Place>> {
    let pair =
        (1u8..9, any::<bool>(), any::<bool>(), 1u8..9).prop_map(move |(n, v6, wide, other)| {
            let mut net = IpNet::from(address(n, v6));
            if wide {
                let length = if v6 { 126 } else { 30 };
                net = IpNet::new(net.addr(), length).unwrap().trunc();
            }
            (net, foreign_pairs.then(|| mac(other)))
        });
    let port = (
        0..HOSTS,
        prop::bool::weighted(0.85),
        prop::bool::weighted(0.9),
        (rules(), groups()),
        proptest::collection::vec(pair, 0..2),
    );
    proptest::collection::vec(port, 1..5).prop_map(move |ports| {
        ports
            .into_iter()
            .zip(1u8..)
            .map(|((host, port_security, admin_state_up, (rules, groups), pairs), n)| Place {
                host,
                network,
                spec: PortSpec {
                    port_id: format!("port-{network}-{n}"),
                    network_id: format!("network-{network}"),
                    project_id: format!("project-{network}"),
                    // Numbers are one host's; the same on another host is another port.
                    port_number: network as u32 * 8 + u32::from(n),
                    mac: mac(n),
                    fixed_ips: [("v4", false), ("v6", true)]
                        .map(|(id, v6)| FixedIp { subnet_id: id.to_owned(), ip: address(n, v6) })
                        .to_vec(),
                    allowed_address_pairs: pairs
                        .into_iter()
                        .map(|(net, other)| (net, other.unwrap_or(mac(n))))
                        .collect(),
                    port_security,
                    admin_state_up,
                    security_groups: groups,
                    security_rules: rules,
                    hostname: String::new(),
                    dns_domain: None,
                    dhcp_options: Vec::new(),
                    attachment: Attachment::Tap,
                    server_id: None,
                },
            })
            .collect()
    })
}

/// A cloud of three tenants. With `foreign_pairs`, allowed address pairs have MACs of others.
pub fn cloud(foreign_pairs: bool) -> impl Strategy<Value = Cloud> {
    (ports(0, foreign_pairs), ports(1, foreign_pairs), ports(2, foreign_pairs)).prop_map(
        |(a, b, c)| Cloud { networks: (0..3).map(network).collect(), ports: [a, b, c].concat() },
    )
}

impl Cloud {
    /// The flows of one host.
    pub fn compile(&self, host: usize) -> Vec<Flow> {
        let here = |place: &&Place| place.host == host;
        let networks: Vec<NetworkSpec> = self
            .networks
            .iter()
            .enumerate()
            .filter(|(i, _)| self.ports.iter().any(|p| p.host == host && p.network == *i))
            .map(|(_, network)| network.clone())
            .collect();
        let ports: Vec<LocalPort<'_>> = self
            .ports
            .iter()
            .enumerate()
            .filter(|(_, place)| here(place))
            .map(|(index, place)| LocalPort {
                spec: &place.spec,
                ofport: ofport(index),
                ct_zone: index as u16 + 1,
            })
            .collect();
        let neighbours: Vec<NeighbourSpec> = self
            .ports
            .iter()
            .filter(|place| !here(place) && place.spec.admin_state_up)
            .map(|place| NeighbourSpec {
                port_id: place.spec.port_id.clone(),
                network_id: place.spec.network_id.clone(),
                host_number: number(place.host),
                port_number: place.spec.port_number,
                mac: place.spec.mac,
                ips: place.spec.fixed_ips.iter().map(|f| f.ip).collect(),
                allowed_address_pairs: place.spec.allowed_address_pairs.clone(),
                security_groups: place.spec.security_groups.clone(),
                hostname: String::new(),
                dns_domain: None,
            })
            .collect();
        let spec = HostSpec {
            name: format!("host-{host}"),
            host_number: number(host),
            l2_domain: "underlay".to_owned(),
            zone: "zone".to_owned(),
            cluster: "cluster".to_owned(),
        };
        let input = HostInput {
            spec: &spec,
            wire_ofport: Some(WIRE),
            responder_ofport: Some(RESPONDER),
            networks: &networks,
            ports: &ports,
            neighbours: &neighbours,
        };
        let flows = compile(&input).unwrap();
        assert_eq!(flows, compile(&input).unwrap(), "the same input gives the same flows");
        flows
    }
}

/// OpenFlow port of the cloud's port of this index.
pub fn ofport(index: usize) -> u32 {
    FIRST_OFPORT + index as u32
}

/// A host's number.
pub fn number(host: usize) -> u16 {
    host as u16 + 0x0101
}

/// All hosts' bridges.
pub struct Fabric {
    pub bridges: Vec<Bridge>,
    /// Everything that was ever on the wire, with the host that sent it.
    pub wire: Vec<(usize, Frame)>,
}

/// Who got a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    /// A port, by its index in the cloud.
    Port(usize),
    /// The responders of a host.
    Responder(usize),
}

impl Fabric {
    pub fn new(tables: Vec<Vec<Flow>>) -> Self {
        Fabric { bridges: tables.into_iter().map(Bridge::new).collect(), wire: Vec::new() }
    }

    /// A port sends a frame; returns who gets what.
    pub fn send(&mut self, cloud: &Cloud, from: usize, frame: &Frame) -> Vec<(Receiver, Frame)> {
        let host = cloud.ports[from].host;
        let mut delivered = Vec::new();
        for frame in self.enter(host, ofport(from), frame, &mut delivered) {
            self.wire.push((host, frame.clone()));
            self.inject(host, &frame, &mut delivered);
        }
        delivered
    }

    /// A frame stands on the wire, from a host (or nobody); every other host sees it.
    pub fn inject(&mut self, from: usize, frame: &Frame, delivered: &mut Vec<(Receiver, Frame)>) {
        for other in (0..self.bridges.len()).filter(|other| *other != from) {
            let again = self.enter(other, WIRE, frame, delivered);
            assert!(again.is_empty(), "a frame from the wire goes back to it: {again:?}");
        }
    }

    /// Runs one bridge; returns what it sends to the wire.
    fn enter(
        &mut self,
        host: usize,
        port: u32,
        frame: &Frame,
        delivered: &mut Vec<(Receiver, Frame)>,
    ) -> Vec<Frame> {
        let mut wire = Vec::new();
        for (out, frame) in self.bridges[host].run(port, frame) {
            match out {
                WIRE => wire.push(frame),
                RESPONDER => delivered.push((Receiver::Responder(host), frame)),
                port => delivered.push((Receiver::Port((port - FIRST_OFPORT) as usize), frame)),
            }
        }
        wire
    }
}

/// The host that a locator names, if it is one.
pub fn locator_host(mac: Mac) -> Option<u16> {
    match Locator::from_mac(MacAddress(mac))? {
        Locator::Port { host, .. } | Locator::Flood { host, .. } => Some(host),
    }
}
