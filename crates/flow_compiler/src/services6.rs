//! What a guest asks of its network over IPv6: router and neighbour discovery, DHCPv6, DNS, metadata.
//!
//! As over IPv4 (see [`crate::services`]), a request on its way to the responders is rewritten, and
//! the answer is rewritten back from the two addresses alone:
//!
//! ```text
//!   source       PORT_NETWORK6 and the port's identity         who asks
//!   destination  RESPONDER_NETWORK6 and, in its last 16 bits,   which address asks, which is asked
//!                i: 0 none yet, else 1 + index of the port's IPv6 address (its link's first)
//!                k: index in `service_addresses6`
//! ```
//! Neighbours are answered here. It takes two tables: the switch lets the MAC of an advertisement be
//! written only where the flow matches one, so the type changes in the first.

use std::net::{IpAddr, Ipv6Addr};

use host_protocol::NetworkSpec;
use ipnet::Ipv6Net;
use openflow::{Actions, Field, Flow, Match, Subfield, ip_proto, mac_to_u64};

use crate::Cookie;
use crate::plan::{Network, Plan, Port, link_local};
use crate::services::{RESPONDER_MAC, ROUTER_MAC, port_identity};
use crate::tables::*;

/// ICMPv6 types (RFC 4861, section 4).
const ROUTER_SOLICITATION: u8 = 133;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Option that tells an advertisement's target's MAC (RFC 4861, section 4.6.1).
const TARGET_LINK_LAYER: u128 = 2;
/// Flags of an advertisement: it is a router's, was asked for, replaces what is known.
const ROUTER: u128 = 0x8000_0000;
const SOLICITED: u128 = 0x4000_0000;
const OVERRIDE: u128 = 0x2000_0000;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Where metadata is asked over IPv6 in every network.
pub const LINK_LOCAL_SERVICE6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe);
/// The router's own address on every link: that of its MAC.
pub const ROUTER_LINK_LOCAL: Ipv6Addr =
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0c00, 0x00ff, 0xfe00, 0x0001);
/// The responders' own addresses: local ones (RFC 4193) that exist in their namespace alone.
pub const RESPONDER_NETWORK6: Ipv6Net =
    network64(Ipv6Addr::new(0xfd6d, 0x6572, 0x6964, 1, 0, 0, 0, 0));
/// What ports' requests come from, at the responders.
pub const PORT_NETWORK6: Ipv6Net = network64(Ipv6Addr::new(0xfd6d, 0x6572, 0x6964, 2, 0, 0, 0, 0));
/// Index of the router's address among the services.
const ROUTER_SERVICE: u8 = 1;

const fn network64(address: Ipv6Addr) -> Ipv6Net {
    match Ipv6Net::new(address, 64) {
        Ok(net) => net,
        Err(_) => panic!("a constant prefix length below 129"),
    }
}

/// The address that a port's requests over IPv6 come from, at the responders.
pub fn port_identity6(port_number: u32) -> Ipv6Addr {
    let identity = u128::from(port_identity(port_number).to_bits());
    Ipv6Addr::from_bits(PORT_NETWORK6.addr().to_bits() | identity)
}

/// The port number that an IPv6 address at the responders stands for.
pub fn port_of_identity6(address: Ipv6Addr) -> Option<u32> {
    let low = address.to_bits() as u32;
    let number = crate::services::port_of_identity(low.into())?;
    (port_identity6(number) == address).then_some(number)
}

/// The IPv6 addresses at which the responders can be asked in a network, empty when it has no IPv6
/// subnet: [`LINK_LOCAL_SERVICE6`], [`ROUTER_LINK_LOCAL`], then each subnet's gateway that no port
/// has (`taken`), in the order of the subnets.
pub fn service_addresses6(
    network: &NetworkSpec,
    taken: impl Fn(Ipv6Addr) -> bool,
) -> Vec<Ipv6Addr> {
    let mut six = network.subnets.iter().filter(|s| s.cidr.addr().is_ipv6()).peekable();
    if six.peek().is_none() {
        return Vec::new();
    }
    let mut addresses = vec![LINK_LOCAL_SERVICE6, ROUTER_LINK_LOCAL];
    for subnet in six {
        if let Some(IpAddr::V6(gateway)) = subnet.gateway_ip
            && !taken(gateway)
            && !addresses.contains(&gateway)
            && addresses.len() < 255
        {
            addresses.push(gateway);
        }
    }
    addresses
}

/// The responders' own address for the port's address `source` and the service `service`.
fn service_key(source: u8, service: u8) -> u128 {
    RESPONDER_NETWORK6.addr().to_bits() | u128::from(source) << 8 | u128::from(service)
}

pub(crate) fn flows(plan: &Plan<'_>, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    let solicitation = || Match::any().icmpv6_type(NEIGHBOUR_SOLICITATION);
    // Without a MAC to answer to, or an address: who looks whether an address is free asks all.
    for m in [solicitation().with(Field::NdSll, 0), solicitation().ipv6_src(Ipv6Addr::UNSPECIFIED)]
    {
        out.push(Flow::new(NEIGHBOUR, 150, m, Actions::new().goto(LOOKUP)).cookie(host));
    }
    out.push(Flow::new(NEIGHBOUR, 10, Match::any(), Actions::new().goto(LOOKUP)).cookie(host));
    for network in plan.networks.values() {
        neighbours(network, plan.responder.is_some(), out);
    }
    let Some(responder) = plan.responder else { return };
    for network in plan.networks.values().filter(|n| !n.services6.is_empty()) {
        requests(network, out);
        for port in &network.ports {
            sources(port, out);
            replies(network, port, out);
        }
        reply_sources(network, out);
    }
    let low = |field| Subfield::new(field, 0, 32);
    let identity = (PORT_NETWORK6.addr(), RESPONDER_NETWORK6.addr());
    let key = Subfield::new(Field::Reg(REG_SERVICE), 0, 16);
    let actions = Actions::new()
        .set_eth_src(ROUTER_MAC)
        .set_eth_dst(RESPONDER_MAC)
        .set_ipv6_src(identity.0)
        .mov(low(Field::Reg(REG_IDENTITY)), low(Field::Ipv6Src))
        .set_ipv6_dst(identity.1)
        .mov(key, Subfield::new(Field::Ipv6Dst, 0, 16))
        .output(responder);
    out.push(Flow::new(SERVICE_SEND, 100, Match::any().ipv6(), actions).cookie(host));
}

/// Requests of all kinds.
fn requests(network: &Network<'_>, out: &mut Vec<Flow>) {
    let mut punt = |m: Match, service: u8| {
        let actions = Actions::new()
            .set_masked(Field::Reg(REG_SERVICE), service.into(), 0xff)
            .goto(SERVICE_SOURCE);
        let m = m.metadata(network.number.into());
        out.push(Flow::new(SERVICES, 90, m, actions).cookie(network.cookie()));
    };
    let subnets = || network.spec.subnets.iter().filter(|s| s.enable_dhcp);
    if subnets().any(|s| s.ipv6_address_mode.is_some()) {
        let to_servers = Match::any().ipv6_dst(ALL_DHCP_SERVERS).ip_proto(ip_proto::UDP);
        punt(to_servers.udp_src(546).udp_dst(547), ROUTER_SERVICE);
    }
    if subnets().any(|s| s.ipv6_ra_mode.is_some()) {
        let solicitation = Match::any().ipv6_dst(ALL_ROUTERS).icmpv6_type(ROUTER_SOLICITATION);
        punt(solicitation, ROUTER_SERVICE);
    }
    for (k, address) in network.services6.iter().enumerate() {
        let to = || Match::any().eth_dst(ROUTER_MAC).ipv6_dst(*address);
        punt(to().ip_proto(ip_proto::UDP).udp_dst(53), k as u8);
        punt(to().ip_proto(ip_proto::TCP).tcp_dst(53), k as u8);
    }
    let metadata = Match::any().eth_dst(ROUTER_MAC).ipv6_dst(LINK_LOCAL_SERVICE6);
    punt(metadata.ip_proto(ip_proto::TCP).tcp_dst(80), 0);
}

/// Which of the port's addresses asks.
fn sources(port: &Port<'_>, out: &mut Vec<Flow>) {
    let mut push = |m: Match, i: u128| {
        let actions =
            Actions::new().set_masked(Field::Reg(REG_SERVICE), i << 8, 0xff00).goto(SERVICE_SEND);
        out.push(Flow::new(SERVICE_SOURCE, 100, m, actions).cookie(port.cookie()));
    };
    let from = || Match::any().in_port(port.local.ofport);
    // A guest without an address asks for routers only.
    let nobody = from().ipv6_src(Ipv6Addr::UNSPECIFIED).icmpv6_type(ROUTER_SOLICITATION);
    push(nobody, 0);
    for (i, address) in port.ipv6().enumerate() {
        push(from().ipv6_src(address), i as u128 + 1);
    }
}

/// Back to the port that asked, and to the address that it asked from; advertisements that nobody
/// asked for go to all nodes of the link, which is this port alone.
fn replies(network: &Network<'_>, port: &Port<'_>, out: &mut Vec<Flow>) {
    let asked_by = |i: u8, m: Match| {
        m.ipv6_dst(port_identity6(port.local.spec.port_number)).with_masked(
            Field::Ipv6Src,
            service_key(i, 0),
            !0xff,
        )
    };
    let mut push = |m: Match, mac: [u8; 6], address: Ipv6Addr| {
        let actions = Actions::new()
            .set_metadata(network.number.into())
            .set_reg(REG_DESTINATION, port.local.ofport)
            .set_eth_src(ROUTER_MAC)
            .set_eth_dst(mac)
            .set_ipv6_dst(address)
            .goto(REPLY_SOURCE);
        out.push(Flow::new(REPLY, 100, m, actions).cookie(port.cookie()));
    };
    let advertisement = Match::any().icmpv6_type(ROUTER_ADVERTISEMENT);
    push(asked_by(0, advertisement), [0x33, 0x33, 0, 0, 0, 1], ALL_NODES);
    for (i, address) in port.ipv6().enumerate() {
        push(asked_by(i as u8 + 1, Match::any().ipv6()), port.local.spec.mac.0, address);
    }
}

fn reply_sources(network: &Network<'_>, out: &mut Vec<Flow>) {
    for (k, address) in network.services6.iter().enumerate() {
        let m = Match::any().metadata(network.number.into()).ipv6().with_masked(
            Field::Ipv6Src,
            service_key(0, k as u8),
            !0xff00,
        );
        let actions = Actions::new().set_ipv6_src(*address).goto(DELIVER);
        out.push(Flow::new(REPLY_SOURCE, 100, m, actions).cookie(network.cookie()));
    }
}

/// Solicitations for addresses that are known are answered at once; others are asked of the members.
fn neighbours(network: &Network<'_>, responder: bool, out: &mut Vec<Flow>) {
    let solicitation =
        |address: Ipv6Addr| Match::any().icmpv6_type(NEIGHBOUR_SOLICITATION).nd_target(address);
    for port in &network.ports {
        for address in port.ipv6() {
            // A guest that looks whether its address is free must hear nothing (RFC 4862, 5.4).
            let m = solicitation(address).in_port(port.local.ofport);
            out.push(Flow::new(NEIGHBOUR, 200, m, Actions::drop()).cookie(port.cookie()));
        }
    }
    let mut answered = std::collections::BTreeMap::new();
    for (ip, mac) in network.addresses() {
        if let IpAddr::V6(ip) = ip {
            answered.entry(ip).or_insert((mac.0, SOLICITED | OVERRIDE));
        }
    }
    if !network.services6.is_empty() || !answered.is_empty() {
        for mac in network.macs() {
            answered.entry(link_local(mac)).or_insert((mac.0, SOLICITED | OVERRIDE));
        }
    }
    // Without responders a gateway would swallow what is sent to it; better that it is missed.
    for service in network.services6.iter().filter(|_| responder) {
        answered.entry(*service).or_insert((ROUTER_MAC, ROUTER | SOLICITED | OVERRIDE));
    }
    for (ip, (mac, flags)) in answered {
        let m = solicitation(ip).metadata(network.number.into());
        let actions = Actions::new()
            .set(Field::Icmpv6Type, NEIGHBOUR_ADVERTISEMENT.into())
            .goto(NEIGHBOUR_ANSWER);
        out.push(Flow::new(NEIGHBOUR, 100, m, actions).cookie(network.cookie()));
        let m = Match::any()
            .metadata(network.number.into())
            .icmpv6_type(NEIGHBOUR_ADVERTISEMENT)
            .nd_target(ip);
        let actions = Actions::new()
            .mov(Field::EthSrc, Field::EthDst)
            .set_eth_src(mac)
            .mov(Field::Ipv6Src, Field::Ipv6Dst)
            .set_ipv6_src(ip)
            .set(Field::NdReserved, flags)
            .set(Field::NdOptionsType, TARGET_LINK_LAYER)
            .set(Field::NdTll, mac_to_u64(mac).into())
            .output_in_port();
        out.push(Flow::new(NEIGHBOUR_ANSWER, 100, m, actions).cookie(network.cookie()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_known_by_its_address_at_the_responders() {
        for number in [1, 0x01_0203, 0xff_ffff] {
            assert_eq!(port_of_identity6(port_identity6(number)), Some(number));
        }
        assert_eq!(port_of_identity6("fd6d:6572:6964:1::a00:5".parse().unwrap()), None);
        assert_eq!(port_of_identity6("fd6d:6572:6964:2::b00:5".parse().unwrap()), None);
        assert_eq!(link_local(cloud_types::MacAddress(ROUTER_MAC)), ROUTER_LINK_LOCAL);
    }
}
