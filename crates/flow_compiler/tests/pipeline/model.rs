//! What should happen, said in the words of the API and without a look at the compiler: who may
//! hear a frame that a port sends.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use host_protocol::{Direction, PortSpec, Remote, SecurityRule};
use ipnet::IpNet;

use crate::frame::{Body, Frame, Tuple};
use crate::world::{Cloud, Receiver};

/// MAC of gateways; the same in every network.
pub const ROUTER: [u8; 6] = [0x0e, 0, 0, 0, 0, 1];

/// What the firewalls of all ports remember.
#[derive(Default)]
pub struct Firewalls {
    /// Port, and the first packet of a connection that it let begin.
    connections: HashSet<(usize, Tuple)>,
}

impl Firewalls {
    /// Who hears the frame that port `from` sends, and what they hear.
    pub fn expect(&mut self, cloud: &Cloud, from: usize, frame: &Frame) -> Vec<(Receiver, Frame)> {
        let sender = &cloud.ports[from].spec;
        if !sender.admin_state_up || frame.tag.is_some() {
            return Vec::new();
        }
        if sender.port_security && !may_say(sender, frame) {
            return Vec::new();
        }
        if let Some(asked) = asks_for(frame) {
            match answerer(cloud, from, asked) {
                Asked::Own => return Vec::new(),
                Asked::Known(mac) if can_be_answered(frame) => {
                    return vec![(Receiver::Port(from), answer(frame, mac))];
                }
                Asked::Known(_) | Asked::Unknown => {}
            }
        }
        if let Some(tuple) = tracked(frame)
            && !self.passes(cloud, from, Direction::Egress, tuple)
        {
            return Vec::new();
        }
        let network = cloud.ports[from].network;
        let members: Vec<usize> = (0..cloud.ports.len())
            .filter(|i| *i != from && cloud.ports[*i].network == network)
            .filter(|i| cloud.ports[*i].spec.admin_state_up)
            .filter(|i| frame.is_group() || cloud.ports[*i].spec.mac.0 == frame.eth_dst)
            .collect();
        let mut out = Vec::new();
        for to in members {
            let passes = match tracked(frame) {
                Some(tuple) => self.passes(cloud, to, Direction::Ingress, tuple),
                None => speaks_ip(frame) || !cloud.ports[to].spec.port_security,
            };
            if passes {
                out.push((Receiver::Port(to), heard(cloud, from, to, frame)));
            }
        }
        out
    }

    /// Whether a port's groups let a packet through, and remember that they did.
    fn passes(&mut self, cloud: &Cloud, port: usize, direction: Direction, packet: &Tuple) -> bool {
        let spec = &cloud.ports[port].spec;
        if !spec.port_security {
            return true;
        }
        let by_itself = |rule: &SecurityRule| rule.stateless && rule.direction == direction;
        if spec.security_rules.iter().any(|r| by_itself(r) && fits(cloud, port, r, packet)) {
            return true;
        }
        if self.connections.contains(&(port, packet.clone())) {
            return allowed(cloud, port, direction, packet);
        }
        let first = packet.reversed();
        if self.connections.contains(&(port, first.clone())) {
            // An answer passes if what it answers would still be let begin.
            let opposite = match direction {
                Direction::Ingress => Direction::Egress,
                Direction::Egress => Direction::Ingress,
            };
            return allowed(cloud, port, opposite, &first);
        }
        let passes = packet.can_begin() && allowed(cloud, port, direction, packet);
        if passes {
            self.connections.insert((port, packet.clone()));
        }
        passes
    }
}

/// Whether a rule lets a connection begin.
fn allowed(cloud: &Cloud, port: usize, direction: Direction, first: &Tuple) -> bool {
    let rules = &cloud.ports[port].spec.security_rules;
    rules
        .iter()
        .filter(|rule| !rule.stateless && rule.direction == direction)
        .any(|rule| fits(cloud, port, rule, first))
}

/// Whether an address is one of a port in the group, on whatever host; in this network only.
fn is_member(cloud: &Cloud, network: usize, group: &String, address: IpAddr) -> bool {
    let members = cloud.ports.iter().filter(|place| {
        place.network == network
            && place.spec.admin_state_up
            && place.spec.security_groups.contains(group)
    });
    members.map(|place| &place.spec).any(|spec| {
        spec.fixed_ips.iter().any(|fixed| fixed.ip == address)
            || spec.allowed_address_pairs.iter().any(|(net, _)| net.contains(&address))
    })
}

fn fits(cloud: &Cloud, port: usize, rule: &SecurityRule, first: &Tuple) -> bool {
    let other = if rule.direction == Direction::Ingress { first.src } else { first.dst };
    let protocol = match (rule.protocol, rule.ipv6) {
        (Some(1), true) => Some(58),
        (protocol, _) => protocol,
    };
    let ports = match protocol {
        Some(6 | 17) => {
            rule.port_min.unwrap_or(0) <= first.dst_port
                && first.dst_port <= rule.port_max.unwrap_or(u16::MAX)
        }
        Some(1 | 58) => {
            rule.port_min.is_none_or(|kind| kind == first.src_port)
                && rule.port_max.is_none_or(|code| code == first.dst_port)
        }
        _ => true,
    };
    rule.ipv6 == other.is_ipv6()
        && protocol.is_none_or(|p| p == first.proto)
        && ports
        && match &rule.remote {
            Remote::Anyone => true,
            Remote::Range(net) => net.contains(&other),
            Remote::Addresses(nets) => nets.iter().any(|net| net.contains(&other)),
            Remote::Group(group) => is_member(cloud, cloud.ports[port].network, group, other),
        }
}

/// IP that a firewall judges: all but what IPv6 cannot do without.
fn tracked(frame: &Frame) -> Option<&Tuple> {
    match &frame.body {
        Body::Ip(tuple) if !neighbour_discovery(tuple) => Some(tuple),
        _ => None,
    }
}

fn speaks_ip(frame: &Frame) -> bool {
    !matches!(frame.body, Body::Other(_))
}

fn neighbour_discovery(tuple: &Tuple) -> bool {
    tuple.proto == 58 && matches!(tuple.src_port, 130..=136 | 143)
}

/// Port security: the sender's own addresses, and nothing that only the network says.
fn may_say(sender: &PortSpec, frame: &Frame) -> bool {
    let mac = frame.eth_src;
    let known =
        sender.mac.0 == mac || sender.allowed_address_pairs.iter().any(|(_, pair)| pair.0 == mac);
    let own = |ip: IpAddr| {
        let fixed = sender.fixed_ips.iter().map(|f| (IpNet::from(f.ip), sender.mac));
        let mut pairs = fixed.chain(sender.allowed_address_pairs.iter().copied());
        pairs.any(|(net, pair_mac)| pair_mac.0 == mac && net.contains(&ip))
            || known && ip == IpAddr::V6(link_local(mac))
    };
    match &frame.body {
        Body::Other(_) => false,
        Body::Arp { op, sha, spa, .. } => {
            let probe = spa.is_unspecified() && *op == 1;
            *sha == mac && known && (probe || own((*spa).into()))
        }
        Body::Nd { kind, src, target, mac: told, .. } => {
            let first = src.is_unspecified() && *kind == 135;
            let its_own = *kind == 135 || own((*target).into());
            told.is_none_or(|told| told == mac) && known && its_own && (first || own((*src).into()))
        }
        Body::Ip(tuple) => {
            let server = match (tuple.proto, tuple.src) {
                (17, IpAddr::V4(_)) => (tuple.src_port, tuple.dst_port) == (67, 68),
                (17, IpAddr::V6(_)) => (tuple.src_port, tuple.dst_port) == (547, 546),
                (58, _) => matches!(tuple.src_port, 134 | 137),
                _ => false,
            };
            !server && own(tuple.src)
        }
    }
}

enum Asked {
    Own,
    Known([u8; 6]),
    Unknown,
}

/// The address whose MAC a frame asks for.
fn asks_for(frame: &Frame) -> Option<IpAddr> {
    match &frame.body {
        Body::Arp { op: 1, tpa, .. } => Some((*tpa).into()),
        Body::Nd { kind: 135, target, .. } => Some((*target).into()),
        _ => None,
    }
}

/// Who looks whether an address is free (RFC 4862, section 5.4) asks all; so does who does not say
/// where to answer.
fn can_be_answered(frame: &Frame) -> bool {
    match &frame.body {
        Body::Nd { src, mac, .. } => !src.is_unspecified() && mac.is_some_and(|mac| mac != [0; 6]),
        _ => true,
    }
}

/// Interface identifiers from MACs: RFC 4291, appendix A.
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Who has an address, as the sender's host knows it.
fn answerer(cloud: &Cloud, from: usize, address: IpAddr) -> Asked {
    let has = |spec: &PortSpec| {
        spec.fixed_ips.iter().any(|f| f.ip == address)
            || address == IpAddr::V6(link_local(spec.mac.0))
    };
    if has(&cloud.ports[from].spec) {
        return Asked::Own;
    }
    let network = cloud.ports[from].network;
    let port =
        cloud.ports.iter().find(|p| p.network == network && p.spec.admin_state_up && has(&p.spec));
    if let Some(port) = port {
        return Asked::Known(port.spec.mac.0);
    }
    let gateway = cloud.networks[network].subnets.iter().any(|s| s.gateway_ip == Some(address));
    let services = ["169.254.169.254", "fe80::a9fe:a9fe", "fe80::c00:ff:fe00:1"];
    if gateway || services.iter().any(|service| service.parse() == Ok(address)) {
        return Asked::Known(ROUTER);
    }
    Asked::Unknown
}

fn answer(request: &Frame, mac: [u8; 6]) -> Frame {
    let router = if mac == ROUTER { 0x8000_0000 } else { 0 };
    let body = match request.body {
        Body::Arp { sha, spa, tpa, .. } => {
            Body::Arp { op: 2, sha: mac, spa: tpa, tha: sha, tpa: spa }
        }
        Body::Nd { src, target, .. } => Body::Nd {
            kind: 136,
            src: target,
            dst: src,
            target,
            mac: Some(mac),
            flags: router | 0x6000_0000,
        },
        _ => unreachable!(),
    };
    Frame { eth_src: mac, eth_dst: request.eth_src, tag: None, body }
}

/// The frame as the receiver sees it. On the wire a frame loses its own source MAC and, when it
/// is flooded, its group address; both come back from what the packet says.
fn heard(cloud: &Cloud, from: usize, to: usize, frame: &Frame) -> Frame {
    if cloud.ports[from].host == cloud.ports[to].host {
        return frame.clone();
    }
    let mut frame = Frame { eth_src: cloud.ports[from].spec.mac.0, ..frame.clone() };
    if frame.is_group() {
        frame.eth_dst = match frame.ip_dst() {
            Some(IpAddr::V4(ip)) if ip.is_multicast() => {
                let [_, b, c, d] = ip.octets();
                [0x01, 0, 0x5e, b & 0x7f, c, d]
            }
            Some(IpAddr::V6(ip)) if ip.is_multicast() => {
                let [.., a, b, c, d] = ip.octets();
                [0x33, 0x33, a, b, c, d]
            }
            _ => [0xff; 6],
        };
    }
    frame
}
