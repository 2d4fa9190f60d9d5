//! Port security: what a guest may not say, whatever its security groups allow.
//!
//! A guest sends from its own addresses (or an allowed pair's), is no DHCP server, no router, and
//! advertises no other's address. Ports without port security do not come by here.

use ipnet::IpNet;
use openflow::{Actions, Field, Flow, Match, ip_proto, mac_to_u64};

use crate::Cookie;
use crate::plan::{Identity, Plan, Port, split};
use crate::tables::*;

/// ICMPv6: router solicitation, advertisement; neighbour solicitation, advertisement.
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// ICMPv6 that a host without an address yet sends from `::` (RFC 4861, 4862, 3810): multicast
/// listener reports and solicitations.
const FROM_UNSPECIFIED: [u8; 5] = [131, 132, 143, ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION];

pub(crate) fn flows(plan: &Plan<'_>, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    let forbidden = [
        (100, Match::any().udp4().udp_src(67).udp_dst(68)),
        (100, Match::any().udp6().udp_src(547).udp_dst(546)),
        (100, Match::any().icmpv6_type(ROUTER_ADVERTISEMENT)),
        (100, Match::any().icmpv6_type(REDIRECT)),
        (80, Match::any().icmpv6_type(NEIGHBOUR_ADVERTISEMENT)),
        (80, Match::any().icmpv6_type(NEIGHBOUR_SOLICITATION)),
    ];
    for (priority, m) in forbidden {
        out.push(Flow::new(PROTOCOL_GUARD, priority, m, Actions::drop()).cookie(host));
    }
    let next = Actions::new().goto(ADDRESS_GUARD);
    out.push(Flow::new(PROTOCOL_GUARD, 10, Match::any(), next).cookie(host));

    for (_, port) in plan.ports().filter(|(_, p)| p.local.spec.port_security) {
        for identity in port.identities() {
            solicitations(port, &identity, out);
            advertisements(port, &identity, out);
            addresses(port, &identity, out);
        }
    }
}

/// The MAC that neighbour discovery carries is the sender's own, or there is none.
fn own_or_none(m: &Match, field: Field, identity: &Identity) -> [Match; 2] {
    let own = u128::from(mac_to_u64(identity.mac.0));
    [m.clone().with(field, own), m.clone().with(field, 0)]
}

/// A neighbour solicitation tells the sender's MAC.
fn solicitations(port: &Port<'_>, identity: &Identity, out: &mut Vec<Flow>) {
    let m = Match::any().in_port(port.local.ofport).icmpv6_type(NEIGHBOUR_SOLICITATION);
    for m in own_or_none(&m, Field::NdSll, identity) {
        let next = Actions::new().goto(ADDRESS_GUARD);
        out.push(Flow::new(PROTOCOL_GUARD, 90, m, next).cookie(port.cookie()));
    }
}

/// A neighbour advertisement names an address of the port, with its MAC.
fn advertisements(port: &Port<'_>, identity: &Identity, out: &mut Vec<Flow>) {
    for net in &identity.nets {
        if let IpNet::V6(net) = net {
            let m = Match::any()
                .in_port(port.local.ofport)
                .icmpv6_type(NEIGHBOUR_ADVERTISEMENT)
                .with_masked(Field::NdTarget, net.addr().to_bits(), net.netmask().to_bits());
            for m in own_or_none(&m, Field::NdTll, identity) {
                let next = Actions::new().goto(ADDRESS_GUARD);
                out.push(Flow::new(PROTOCOL_GUARD, 90, m, next).cookie(port.cookie()));
            }
        }
    }
}

/// The frame's and the packet's source belong together and to the port.
fn addresses(port: &Port<'_>, identity: &Identity, out: &mut Vec<Flow>) {
    let mac = identity.mac.0;
    let from = || Match::any().in_port(port.local.ofport).eth_src(mac);
    let mut allow = |m: Match| {
        out.push(
            Flow::new(ADDRESS_GUARD, 100, m, Actions::new().goto(SERVICES)).cookie(port.cookie()),
        );
    };
    for net in &identity.nets {
        match split(*net) {
            Ok(net) => {
                allow(from().ipv4_src(net));
                allow(from().arp_sha(mac).arp_spa(net));
            }
            Err(net) => allow(from().ipv6_src(net)),
        }
    }
    // Before it has an address: ARP probes (RFC 5227), DHCP, neighbour discovery.
    let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
    allow(from().arp_sha(mac).arp_op(1).arp_spa(unspecified));
    allow(from().ipv4_src(unspecified).ip_proto(ip_proto::UDP).udp_src(68).udp_dst(67));
    for kind in FROM_UNSPECIFIED {
        allow(from().ipv6_src(std::net::Ipv6Addr::UNSPECIFIED).icmpv6_type(kind));
    }
}
