//! What should happen, said in the words of the API and without a look at the compiler: who may
//! hear a frame that a port sends.

use std::collections::HashSet;
use std::net::IpAddr;

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
        if let Body::Arp { op: 1, tpa, .. } = frame.body {
            match answerer(cloud, from, tpa.into()) {
                Asked::Own => return Vec::new(),
                Asked::Known(mac) => {
                    return vec![(Receiver::Port(from), answer(frame, mac))];
                }
                Asked::Unknown => {}
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
    rules.iter().any(|rule| rule.direction == direction && fits(cloud, port, rule, first))
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
    let own = |ip: IpAddr| {
        let fixed = sender.fixed_ips.iter().map(|f| (IpNet::from(f.ip), sender.mac));
        let mut pairs = fixed.chain(sender.allowed_address_pairs.iter().copied());
        pairs.any(|(net, pair_mac)| pair_mac.0 == mac && net.contains(&ip))
    };
    match &frame.body {
        Body::Other(_) => false,
        Body::Arp { op, sha, spa, .. } => {
            let probe = spa.is_unspecified() && *op == 1;
            let known = sender.mac.0 == mac
                || sender.allowed_address_pairs.iter().any(|(_, pair)| pair.0 == mac);
            *sha == mac && known && (probe || own((*spa).into()))
        }
        Body::Ip(tuple) => {
            let server = match (tuple.proto, tuple.src) {
                (17, IpAddr::V4(_)) => (tuple.src_port, tuple.dst_port) == (67, 68),
                (17, IpAddr::V6(_)) => (tuple.src_port, tuple.dst_port) == (547, 546),
                (58, _) => matches!(tuple.src_port, 134 | 136),
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

/// Who has an address, as the sender's host knows it.
fn answerer(cloud: &Cloud, from: usize, address: IpAddr) -> Asked {
    let has = |spec: &PortSpec| spec.fixed_ips.iter().any(|f| f.ip == address);
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
    if gateway || address == IpAddr::from([169, 254, 169, 254]) {
        return Asked::Known(ROUTER);
    }
    Asked::Unknown
}

fn answer(request: &Frame, mac: [u8; 6]) -> Frame {
    let Body::Arp { sha, spa, tpa, .. } = request.body else { unreachable!() };
    Frame {
        eth_src: mac,
        eth_dst: request.eth_src,
        tag: None,
        body: Body::Arp { op: 2, sha: mac, spa: tpa, tha: sha, tpa: spa },
    }
}

/// The frame as the receiver sees it. On the wire a frame loses its own source MAC and, when it
/// is flooded, its group address; both come back from what the packet says.
fn heard(cloud: &Cloud, from: usize, to: usize, frame: &Frame) -> Frame {
    if cloud.ports[from].host == cloud.ports[to].host {
        return frame.clone();
    }
    let mut frame = Frame { eth_src: cloud.ports[from].spec.mac.0, ..frame.clone() };
    if frame.is_group() {
        frame.eth_dst = match &frame.body {
            Body::Ip(Tuple { dst: IpAddr::V4(ip), .. }) if ip.is_multicast() => {
                let [_, b, c, d] = ip.octets();
                [0x01, 0, 0x5e, b & 0x7f, c, d]
            }
            Body::Ip(Tuple { dst: IpAddr::V6(ip), .. }) if ip.is_multicast() => {
                let [.., a, b, c, d] = ip.octets();
                [0x33, 0x33, a, b, c, d]
            }
            _ => [0xff; 6],
        };
    }
    frame
}
