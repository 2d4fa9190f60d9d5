//! A step of a trace in words.

use openflow::{Flow, ip_proto};

use super::{Probe, Step};
use crate::{Cookie, tables};

/// What things are called by whoever asks.
pub trait Names {
    /// A network, by its number.
    fn network(&self, number: u32) -> String;
    /// A port of this host, by its number.
    fn port(&self, number: u32) -> String;
    /// A port of this host, by its OpenFlow number; also the wire and the responders.
    fn ofport(&self, ofport: u32) -> String;
    /// A port of another host.
    fn neighbour(&self, host: u16, port: u32) -> String;
}

/// The packet itself.
pub fn packet(probe: &Probe) -> String {
    let (src, dst) = (probe.ip_src, probe.ip_dst);
    match probe.protocol {
        ip_proto::ICMP | ip_proto::ICMPV6 => {
            format!("ICMP type {} from {src} to {dst}", probe.src_port)
        }
        ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP => {
            let name = match probe.protocol {
                ip_proto::TCP => "TCP",
                ip_proto::UDP => "UDP",
                _ => "SCTP",
            };
            format!("{name} from {src} port {} to {dst} port {}", probe.src_port, probe.dst_port)
        }
        other => format!("IP protocol {other} from {src} to {dst}"),
    }
}

/// What a step decided, and why.
pub fn step(step: &Step, flow: Option<&Flow>, names: &dyn Names) -> String {
    let owner = flow.and_then(|flow| Cookie::decode(flow.cookie));
    let probe = &step.packet;
    let hit = flow.is_some_and(|flow| flow.priority > 0);
    let sender = || names.ofport(step.from);
    let receiver = || step.towards.map_or_else(|| "nobody".to_owned(), |port| names.ofport(port));
    match (step.table, step.drops, owner) {
        (tables::CLASSIFY, false, Some(Cookie::Port(_))) => {
            format!("{} is up, so the packet enters its network", sender())
        }
        (tables::CLASSIFY, false, _) if hit => format!("it comes from {}", sender()),
        (tables::CLASSIFY, true, _) if hit => {
            "its addresses are a bridge's own, or this host's own from outside".to_owned()
        }
        (tables::CLASSIFY, ..) => {
            format!(
                "nobody here listens to {}: the port is down, or the packet is not for this host",
                sender()
            )
        }
        (tables::WIRE_DESTINATION, false, _) => {
            format!("the locator {} stands for {}", probe.eth_dst, owned(owner, names))
        }
        (tables::WIRE_DESTINATION, true, _) => {
            format!("no port or network of this host has the locator {}", probe.eth_dst)
        }
        (tables::WIRE_SOURCE, false, _) => {
            format!("the locator {} is that of {}", probe.eth_src, owned(owner, names))
        }
        (tables::WIRE_SOURCE, true, _) => {
            format!("the locator {} is of no member of this network", probe.eth_src)
        }
        (tables::PROTOCOL_GUARD, true, _) => {
            "port security: guests may be no router and no DHCP server".to_owned()
        }
        (tables::PROTOCOL_GUARD, ..) => "port security: guests may say this".to_owned(),
        (tables::ADDRESS_GUARD, false, _) => {
            format!("port security: {} and {} are the port's own", probe.eth_src, probe.ip_src)
        }
        (tables::ADDRESS_GUARD, true, _) => format!(
            "port security: {} from {} is not an address of the port, nor an allowed pair",
            probe.ip_src, probe.eth_src
        ),
        (tables::SERVICES, _, Some(Cookie::Network(_))) => {
            "it asks the network's own services, which this host answers".to_owned()
        }
        (tables::SERVICE_SOURCE, true, _) => {
            format!("{} is no address that the port may ask services from", probe.ip_src)
        }
        (tables::EGRESS_TRACK, false, Some(Cookie::Port(_))) => {
            format!("what {} sends is judged by its security groups", sender())
        }
        (tables::INGRESS_TRACK, false, Some(Cookie::Port(_))) => {
            format!("what {} gets is judged by its security groups", receiver())
        }
        (tables::RULES_EGRESS | tables::STATELESS_EGRESS, false, _) if rule(owner) => {
            format!("an egress rule of {} allows it{}", sender(), said(flow))
        }
        (tables::RULES_INGRESS | tables::STATELESS_INGRESS, false, _) if rule(owner) => {
            format!("an ingress rule of {} allows it{}", receiver(), said(flow))
        }
        (tables::RULES_EGRESS | tables::STATELESS_EGRESS, true, _) => {
            format!("no egress rule of the security groups of {} allows it", sender())
        }
        (tables::RULES_INGRESS | tables::STATELESS_INGRESS, true, _) => {
            format!("no ingress rule of the security groups of {} allows it", receiver())
        }
        (tables::EGRESS_STATE | tables::INGRESS_STATE, true, _) => {
            "the connection tracker cannot make sense of it".to_owned()
        }
        (tables::ACCEPT, ..) => "its connection is known from now on".to_owned(),
        (tables::LOOKUP, false, Some(Cookie::Network(_))) => {
            format!("{} is a group's: every member gets a copy", probe.eth_dst)
        }
        (tables::LOOKUP, false, _) => {
            format!("{} is the MAC of {}", probe.eth_dst, owned(owner, names))
        }
        (tables::LOOKUP, true, _) => {
            format!("no port of the network has the MAC {}", probe.eth_dst)
        }
        (tables::DELIVER, false, _) => format!("it is delivered to {}", receiver()),
        (tables::WIRE_SEND, false, _) => {
            format!("it leaves by the wire from {} to {}", probe.eth_src, probe.eth_dst)
        }
        (table, drops, _) => {
            let name = tables::NAMES.iter().find(|(number, _)| *number == table);
            let name = name.map_or("unknown table", |(_, name)| name);
            if drops {
                format!("nothing in {name:?} allows it")
            } else {
                format!("passes {name:?}")
            }
        }
    }
}

fn rule(owner: Option<Cookie>) -> bool {
    matches!(owner, Some(Cookie::Rules(_) | Cookie::Group(_)))
}

/// What the rule says, as the switch holds it.
fn said(flow: Option<&Flow>) -> String {
    flow.map_or_else(String::new, |flow| format!(" ({})", flow.match_fields))
}

fn owned(owner: Option<Cookie>, names: &dyn Names) -> String {
    match owner {
        Some(Cookie::Network(number)) => names.network(number),
        Some(Cookie::Port(number)) => names.port(number),
        Some(Cookie::Neighbour { host, port }) => names.neighbour(host, port),
        _ => "this host".to_owned(),
    }
}
