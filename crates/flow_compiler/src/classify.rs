//! Where a frame comes from. Its network is decided here and never again: by the guest's port, or
//! by the locator that it is addressed to, checked against the locator that it comes from.

use std::net::IpAddr;

use cloud_types::{Locator, MacAddress};
use ipnet::IpNet;
use openflow::{Action, Actions, Field, Flow, Match, Subfield, mac_to_u64};

use crate::plan::{Network, Plan, Port, foreign_pairs, split};
use crate::services::{dhcp_service, port_identity};
use crate::tables::*;
use crate::{Cookie, services, services6};

/// Prefix, host: the part of a locator that names a host.
pub(crate) const LOCATOR_HOST_MASK: [u8; 6] = [0xff, 0xff, 0xff, 0, 0, 0];
/// Link-local group addresses of bridges (IEEE 802.1Q, 8.6.3): spanning tree, LACP, LLDP.
const BRIDGE_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
const BRIDGE_GROUP_MASK: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xf0];

pub(crate) fn flows(plan: &Plan<'_>, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    out.push(
        Flow::new(
            CLASSIFY,
            200,
            Match::any().eth_dst_masked(BRIDGE_GROUP, BRIDGE_GROUP_MASK),
            Actions::drop(),
        )
        .cookie(host),
    );
    if let Some(wire) = plan.wire {
        from_wire(plan, wire, out);
    }
    if let Some(responder) = plan.responder {
        // Only answers: whatever else the responders' namespace says (an ICMP error, say) stays there.
        let from = || Match::any().in_port(responder);
        for m in [
            from().udp4().udp_src(67),
            from().udp4().udp_src(53),
            from().tcp4().with(Field::TcpSrc, 53),
            from().tcp4().with(Field::TcpSrc, 80),
            from().udp6().udp_src(547),
            from().udp6().udp_src(53),
            from().tcp6().with(Field::TcpSrc, 53),
            from().tcp6().with(Field::TcpSrc, 80),
            from().icmpv6_type(services6::ROUTER_ADVERTISEMENT),
        ] {
            out.push(Flow::new(CLASSIFY, 100, m, Actions::new().goto(REPLY)).cookie(host));
        }
    }
    for (network, port) in plan.ports() {
        out.push(from_guest(plan, network, port));
        if plan.wire.is_some() {
            to_port_by_wire(plan.host_number, network, port, out);
        }
    }
    if plan.wire.is_some() {
        for network in plan.networks.values() {
            by_wire(plan.host_number, network, out);
        }
    }
}

fn from_guest(plan: &Plan<'_>, network: &Network<'_>, port: &Port<'_>) -> Flow {
    let spec = port.local.spec;
    let service = services::service_key(0, dhcp_service(network, port));
    let next = if spec.port_security { PROTOCOL_GUARD } else { SERVICES };
    // Untagged only: a tag would travel with the frame to ports that did not ask for it.
    Flow::new(
        CLASSIFY,
        100,
        Match::any().in_port(port.local.ofport).untagged(),
        Actions::new()
            .set_metadata(network.number.into())
            .set_xreg(XREG_LOCATOR, mac_to_u64(port.locator(plan.host_number)))
            .set_reg(REG_IDENTITY, port_identity(spec.port_number).to_bits())
            .set_reg(REG_SERVICE, service.to_bits())
            .goto(next),
    )
    .cookie(port.cookie())
}

/// Frames for this host's locators, from another host's. What they carry is looked at later.
fn from_wire(plan: &Plan<'_>, wire: u32, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    let port = Locator::Port { host: plan.host_number, port: 0 }.mac().0;
    let flood = Locator::Flood { host: plan.host_number, network: 0 }.mac().0;
    let wire = || Match::any().in_port(wire);
    // A frame of ours that comes back, or that somebody sends in our name.
    for own in [port, flood] {
        out.push(
            Flow::new(
                CLASSIFY,
                150,
                wire().eth_src_masked(own, LOCATOR_HOST_MASK),
                Actions::drop(),
            )
            .cookie(host),
        );
    }
    for own in [port, flood] {
        out.push(
            Flow::new(
                CLASSIFY,
                100,
                wire().untagged().eth_dst_masked(own, LOCATOR_HOST_MASK),
                Actions::new().goto(WIRE_DESTINATION),
            )
            .cookie(host),
        );
    }
}

/// The port's locator becomes its MAC. Where an allowed address pair has a MAC of its own, the
/// address that the packet is for says which of the port's MACs is meant.
fn to_port_by_wire(host: u16, network: &Network<'_>, port: &Port<'_>, out: &mut Vec<Flow>) {
    let spec = port.local.spec;
    let locator = port.locator(host);
    let mut push = |priority: u16, m: Match, mac: MacAddress| {
        let actions = Actions::new()
            .set_metadata(network.number.into())
            .set_reg(REG_DESTINATION, port.local.ofport)
            .set_eth_dst(mac.0)
            .goto(WIRE_SOURCE);
        out.push(
            Flow::new(WIRE_DESTINATION, priority, m.eth_dst(locator), actions)
                .cookie(port.cookie()),
        );
    };
    push(100, Match::any(), spec.mac);
    let own: Vec<IpAddr> = spec.fixed_ips.iter().map(|f| f.ip).collect();
    for (priority, net, mac) in by_address(spec.mac, &own, &spec.allowed_address_pairs) {
        match split(net) {
            Ok(net) => {
                push(priority, Match::any().ipv4_dst(net), mac);
                push(priority, Match::any().arp_tpa(net), mac);
            }
            Err(net) => push(priority, Match::any().ipv6_dst(net), mac),
        }
    }
}

/// Which MAC of a port an address belongs to, with a priority: longest prefix first, the port's
/// own addresses before all. Empty when the port has but one MAC.
fn by_address(
    own_mac: MacAddress,
    own: &[IpAddr],
    pairs: &[(IpNet, MacAddress)],
) -> Vec<(u16, IpNet, MacAddress)> {
    let foreign = foreign_pairs(own_mac, pairs);
    if foreign.is_empty() {
        return Vec::new();
    }
    let with_own = pairs.iter().filter(|(_, mac)| *mac == own_mac).map(|(net, _)| net.trunc());
    let fixed = own.iter().map(|ip| (400, IpNet::from(*ip), own_mac));
    fixed
        .chain(with_own.map(|net| (200 + u16::from(net.prefix_len()), net, own_mac)))
        .chain(foreign.into_iter().map(|(n, mac)| (200 + u16::from(n.prefix_len()), n, mac)))
        .collect()
}

/// A network as seen from the wire: its flood locator here, and its members elsewhere.
fn by_wire(host: u16, network: &Network<'_>, out: &mut Vec<Flow>) {
    let in_network = || Match::any().metadata(network.number.into());
    let flood = Locator::Flood { host, network: network.number }.mac().0;
    out.push(
        Flow::new(
            WIRE_DESTINATION,
            100,
            Match::any().eth_dst(flood),
            Actions::new()
                .set_metadata(network.number.into())
                .set_reg(REG_FLOODED, 1)
                .goto(WIRE_SOURCE),
        )
        .cookie(network.cookie()),
    );
    for neighbour in &network.neighbours {
        let spec = neighbour.spec;
        let mut push = |priority: u16, m: Match, mac: MacAddress| {
            out.push(
                Flow::new(
                    WIRE_SOURCE,
                    priority,
                    m.metadata(network.number.into()).eth_src(neighbour.locator()),
                    Actions::new().set_eth_src(mac.0).goto(WIRE_DELIVER),
                )
                .cookie(neighbour.cookie()),
            );
        };
        push(100, Match::any(), spec.mac);
        for (priority, net, mac) in by_address(spec.mac, &spec.ips, &spec.allowed_address_pairs) {
            match split(net) {
                Ok(net) => {
                    push(priority, Match::any().ipv4_src(net), mac);
                    push(priority, Match::any().arp_spa(net), mac);
                }
                Err(net) => push(priority, Match::any().ipv6_src(net), mac),
            }
        }
    }
    // On the wire a flooded frame carried a host's locator, so its group address is lost; it
    // follows from the packet (RFC 1112 section 6.4, RFC 2464 section 7).
    let flooded = || in_network().reg(REG_FLOODED, 1);
    let group = |m: Match, mac: [u8; 6], from: Option<(Field, u16)>| {
        let mut actions = Actions::new().set_eth_dst(mac);
        if let Some((field, bits)) = from {
            actions = actions.then(Action::mov(
                Subfield::new(field, 0, bits),
                Subfield::new(Field::EthDst, 0, bits),
            ));
        }
        (m, actions.goto(FLOOD_LOCAL))
    };
    let cases = [
        (
            30,
            group(
                flooded().ipv4().with_masked(Field::Ipv4Dst, 0xe000_0000, 0xf000_0000),
                [0x01, 0, 0x5e, 0, 0, 0],
                Some((Field::Ipv4Dst, 23)),
            ),
        ),
        (
            30,
            group(
                flooded().ipv6().with_masked(Field::Ipv6Dst, 0xff << 120, 0xff << 120),
                [0x33, 0x33, 0, 0, 0, 0],
                Some((Field::Ipv6Dst, 32)),
            ),
        ),
        (20, group(flooded(), [0xff; 6], None)),
    ];
    for (priority, (m, actions)) in cases {
        out.push(Flow::new(WIRE_DELIVER, priority, m, actions).cookie(network.cookie()));
    }
    out.push(
        Flow::new(
            WIRE_DELIVER,
            10,
            in_network().reg(REG_FLOODED, 0),
            Actions::new().goto(INGRESS_TRACK),
        )
        .cookie(network.cookie()),
    );
}
