//! DHCP, DNS, metadata and ARP: what a guest asks of its network over IPv4 and the host answers.
//!
//! The responders are ordinary sockets in a namespace of the host. So that a thousand networks
//! with the same addresses can ask at once, a request is rewritten on its way:
//!
//! ```text
//!   source       the port's number       10.pp.pp.pp      who asks; the responders' only key
//!   destination  which address asks,     198.18.i.k       i: 0 none yet, else 1 + index of the
//!                which one is asked                          port's IPv4 address
//!                                                         k: index in `service_addresses`
//! ```
//! and the answer, which goes back between the same two addresses, is rewritten from them alone:
//! no state, nothing a guest can say that makes it another port.

use std::net::Ipv4Addr;

use host_protocol::NetworkSpec;
use ipnet::Ipv4Net;
use openflow::{Actions, Field, Flow, Match, ip_proto, mac_to_u64};

use crate::Cookie;
use crate::plan::{Network, Plan, Port};
use crate::tables::*;

/// The MAC that every network's gateway and services have. Locally administered, and no locator.
pub const ROUTER_MAC: [u8; 6] = [0x0e, 0, 0, 0, 0, 0x01];
/// The MAC of the responders' end of their veth.
pub const RESPONDER_MAC: [u8; 6] = [0x0e, 0, 0, 0, 0, 0x02];
/// Where metadata is asked in every network; also DHCP and DNS where no gateway stands.
pub const LINK_LOCAL_SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The responders' own addresses (RFC 2544's range: on no network, and theirs in their namespace).
pub const RESPONDER_NETWORK: Ipv4Net = match Ipv4Net::new(Ipv4Addr::new(198, 18, 0, 0), 15) {
    Ok(net) => net,
    Err(_) => panic!("a constant prefix length below 33"),
};

/// The address that a port's requests come from, at the responders.
pub fn port_identity(port_number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(10 << 24 | (port_number & 0xff_ffff))
}

/// The port number that an address at the responders stands for.
pub fn port_of_identity(address: Ipv4Addr) -> Option<u32> {
    let bits = address.to_bits();
    (bits >> 24 == 10).then_some(bits & 0xff_ffff)
}

/// The IPv4 addresses at which the responders can be asked in a network: 169.254.169.254, then
/// each subnet's gateway that no port has (`taken`), in the order of the subnets.
pub fn service_addresses(network: &NetworkSpec, taken: impl Fn(Ipv4Addr) -> bool) -> Vec<Ipv4Addr> {
    let mut addresses = vec![LINK_LOCAL_SERVICE];
    for subnet in &network.subnets {
        if let Some(std::net::IpAddr::V4(gateway)) = subnet.gateway_ip
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
pub(crate) fn service_key(source: u8, service: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(
        RESPONDER_NETWORK.addr().to_bits() | u32::from(source) << 8 | u32::from(service),
    )
}

/// The service that answers the port's DHCP: the gateway of the subnet it gets its address from.
pub(crate) fn dhcp_service(network: &Network<'_>, port: &Port<'_>) -> u8 {
    port.local
        .spec
        .fixed_ips
        .iter()
        .filter(|f| f.ip.is_ipv4())
        .find_map(|f| {
            let subnet = network.spec.subnets.iter().find(|s| s.subnet_id == f.subnet_id)?;
            subnet.enable_dhcp.then_some(subnet.gateway_ip)
        })
        .flatten()
        .and_then(|gateway| network.services.iter().position(|s| gateway == *s))
        .map_or(0, |k| k as u8)
}

pub(crate) fn flows(plan: &Plan<'_>, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    let mut push = |table, priority, m, actions| {
        out.push(Flow::new(table, priority, m, actions).cookie(host));
    };
    push(SERVICES, 100, Match::any().arp(), Actions::new().goto(ARP));
    push(SERVICES, 100, Match::any().icmpv6_type(135), Actions::new().goto(NEIGHBOUR));
    push(SERVICES, 10, Match::any(), Actions::new().goto(EGRESS_TRACK));
    push(ARP, 10, Match::any(), Actions::new().goto(LOOKUP));
    for network in plan.networks.values() {
        arp(network, plan.responder.is_some(), out);
    }
    if let Some(responder) = plan.responder {
        requests(plan, responder, out);
        for network in plan.networks.values() {
            for port in &network.ports {
                replies(network, port, out);
            }
            reply_sources(network, out);
        }
    }
}

/// Requests of all kinds, per network; then who asks, per port; then one way out for all.
fn requests(plan: &Plan<'_>, responder: u32, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    for network in plan.networks.values() {
        let mut punt = |m: Match, service: Option<usize>| {
            let mut actions = Actions::new();
            if let Some(k) = service {
                actions = actions.set_masked(Field::Reg(REG_SERVICE), k as u128, 0xff);
            }
            out.push(
                Flow::new(
                    SERVICES,
                    90,
                    m.metadata(network.number.into()),
                    actions.goto(SERVICE_SOURCE),
                )
                .cookie(network.cookie()),
            );
        };
        let dhcp = network.spec.subnets.iter().any(|s| s.enable_dhcp && s.cidr.addr().is_ipv4());
        if dhcp {
            // Otherwise a guest may be its network's DHCP server.
            for mac in [[0xff; 6], ROUTER_MAC] {
                punt(Match::any().eth_dst(mac).udp4().udp_src(68).udp_dst(67), None);
            }
        }
        for (k, address) in network.services.iter().enumerate() {
            let to = || Match::any().eth_dst(ROUTER_MAC).ipv4_dst(*address);
            punt(to().ip_proto(ip_proto::UDP).udp_dst(53), Some(k));
            punt(to().ip_proto(ip_proto::TCP).tcp_dst(53), Some(k));
        }
        let metadata = Match::any().eth_dst(ROUTER_MAC).ipv4_dst(LINK_LOCAL_SERVICE);
        punt(metadata.ip_proto(ip_proto::TCP).tcp_dst(80), Some(0));
    }
    let unspecified = Match::any().ipv4_src(Ipv4Addr::UNSPECIFIED).ip_proto(ip_proto::UDP);
    out.push(
        Flow::new(SERVICE_SOURCE, 50, unspecified.udp_dst(67), Actions::new().goto(SERVICE_SEND))
            .cookie(host),
    );
    for (_, port) in plan.ports() {
        for (i, address) in port.ipv4().enumerate() {
            let m = Match::any().in_port(port.local.ofport).ipv4_src(address);
            let actions = Actions::new()
                .set_masked(Field::Reg(REG_SERVICE), (i as u128 + 1) << 8, 0xff00)
                .goto(SERVICE_SEND);
            out.push(Flow::new(SERVICE_SOURCE, 100, m, actions).cookie(port.cookie()));
        }
    }
    out.push(
        Flow::new(
            SERVICE_SEND,
            100,
            Match::any().ipv4(),
            Actions::new()
                .set_eth_src(ROUTER_MAC)
                .set_eth_dst(RESPONDER_MAC)
                .mov(Field::Reg(REG_IDENTITY), Field::Ipv4Src)
                .mov(Field::Reg(REG_SERVICE), Field::Ipv4Dst)
                .output(responder),
        )
        .cookie(host),
    );
}

/// Back to the port that asked, and to the address that it asked from.
fn replies(network: &Network<'_>, port: &Port<'_>, out: &mut Vec<Flow>) {
    let asked_by = |i: u8, m: Match| {
        m.ipv4_dst(port_identity(port.local.spec.port_number)).with_masked(
            Field::Ipv4Src,
            service_key(i, 0).to_bits().into(),
            0xffff_ff00,
        )
    };
    let mut push = |m: Match, mac: [u8; 6], address: Ipv4Addr| {
        let actions = Actions::new()
            .set_metadata(network.number.into())
            .set_reg(REG_DESTINATION, port.local.ofport)
            .set_eth_src(ROUTER_MAC)
            .set_eth_dst(mac)
            .set_ipv4_dst(address)
            .goto(REPLY_SOURCE);
        out.push(Flow::new(REPLY, 100, m, actions).cookie(port.cookie()));
    };
    // A guest without an address hears broadcasts only.
    push(asked_by(0, Match::any().udp4().udp_src(67)), [0xff; 6], Ipv4Addr::BROADCAST);
    for (i, address) in port.ipv4().enumerate() {
        push(asked_by(i as u8 + 1, Match::any()), port.local.spec.mac.0, address);
    }
}

fn reply_sources(network: &Network<'_>, out: &mut Vec<Flow>) {
    for (k, address) in network.services.iter().enumerate() {
        let m = Match::any().metadata(network.number.into()).ipv4().with_masked(
            Field::Ipv4Src,
            service_key(0, k as u8).to_bits().into(),
            0xffff_00ff,
        );
        let actions = Actions::new().set_ipv4_src(*address).goto(DELIVER);
        out.push(Flow::new(REPLY_SOURCE, 100, m, actions).cookie(network.cookie()));
    }
}

/// Requests for addresses that are known are answered at once; others are asked of the members.
fn arp(network: &Network<'_>, responder: bool, out: &mut Vec<Flow>) {
    for port in &network.ports {
        for address in port.ipv4() {
            // A guest that looks whether its address is free must hear nothing (RFC 5227).
            let m = Match::any().in_port(port.local.ofport).arp_op(1).arp_tpa(address);
            out.push(Flow::new(ARP, 200, m, Actions::drop()).cookie(port.cookie()));
        }
    }
    let mut answered = std::collections::BTreeMap::new();
    for (ip, mac) in network.addresses() {
        if let std::net::IpAddr::V4(ip) = ip {
            answered.entry(ip).or_insert(mac.0);
        }
    }
    // Without responders a gateway would swallow what is sent to it; better that it is missed.
    for service in network.services.iter().filter(|_| responder) {
        answered.entry(*service).or_insert(ROUTER_MAC);
    }
    for (ip, mac) in answered {
        let m = Match::any().metadata(network.number.into()).arp_op(1).arp_tpa(ip);
        let actions = Actions::new()
            .mov(Field::EthSrc, Field::EthDst)
            .set_eth_src(mac)
            .set(Field::ArpOp, 2)
            .mov(Field::ArpSha, Field::ArpTha)
            .mov(Field::ArpSpa, Field::ArpTpa)
            .set(Field::ArpSha, mac_to_u64(mac).into())
            .set(Field::ArpSpa, ip.to_bits().into())
            .output_in_port();
        out.push(Flow::new(ARP, 100, m, actions).cookie(network.cookie()));
    }
}
