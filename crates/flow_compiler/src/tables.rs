//! The pipeline's tables, and what each register carries between them.

use openflow::{Actions, Flow, Match};

use crate::cookie::Cookie;

/// Where a frame came from: sets network, sender's locator and identity.
pub const CLASSIFY: u8 = 0;
/// Wire: locator it is addressed to → network and port, or flood.
pub const WIRE_DESTINATION: u8 = 1;
/// Wire: locator it comes from → the sender's own MAC, if it is of the same network.
pub const WIRE_SOURCE: u8 = 2;
/// Wire: group addresses are put back after a flood.
pub const WIRE_DELIVER: u8 = 3;
/// Port security: protocols that a guest may not speak.
pub const PROTOCOL_GUARD: u8 = 10;
/// Port security: addresses that a guest may send from.
pub const ADDRESS_GUARD: u8 = 11;
/// DHCP, DNS and metadata leave the tenant's network here; ARP goes its own way.
pub const SERVICES: u8 = 20;
/// Which of the port's addresses asks.
pub const SERVICE_SOURCE: u8 = 21;
/// Addresses rewritten for the responders.
pub const SERVICE_SEND: u8 = 22;
/// ARP answered on the host, or forwarded.
pub const ARP: u8 = 23;
/// Neighbour solicitations that the host answers become advertisements, others go on.
pub const NEIGHBOUR: u8 = 24;
/// The rest of such an advertisement: its target's MAC.
pub const NEIGHBOUR_ANSWER: u8 = 25;
/// Conntrack for what a guest sends.
pub const EGRESS_TRACK: u8 = 30;
/// Direction of its connection.
pub const EGRESS_STATE: u8 = 31;
/// Rules without state, for ports that have some: before the tracker.
pub const STATELESS_EGRESS: u8 = 32;
/// Destination MAC within the network.
pub const LOOKUP: u8 = 40;
/// A copy for each local member.
pub const FLOOD_LOCAL: u8 = 41;
/// A copy for each other host.
pub const FLOOD_REMOTE: u8 = 42;
/// Conntrack for what a guest gets.
pub const INGRESS_TRACK: u8 = 50;
/// Direction of its connection.
pub const INGRESS_STATE: u8 = 51;
/// Rules without state for what a guest gets.
pub const STATELESS_INGRESS: u8 = 52;
/// Connections that the port began.
pub const RULES_EGRESS: u8 = 60;
/// Connections that others began.
pub const RULES_INGRESS: u8 = 61;
/// Allowed: record the connection if it is new, and go on.
pub const ACCEPT: u8 = 62;
/// From the responders: which port asked.
pub const REPLY: u8 = 70;
/// From the responders: the address that was asked.
pub const REPLY_SOURCE: u8 = 71;
/// Out to the local port in [`REG_DESTINATION`].
pub const DELIVER: u8 = 80;
/// Out to the wire, from this host's own locators only.
pub const WIRE_SEND: u8 = 90;

/// OpenFlow port of the local port that a frame goes to.
pub const REG_DESTINATION: u8 = 1;
/// The rules that judge: an identifier of a set of rules.
pub const REG_RULES: u8 = 2;
/// Low 16 bits: conntrack zone; above: [`PATH_EGRESS`] or [`PATH_INGRESS`].
pub const REG_TRACK: u8 = 3;
/// 64-bit register with the sender's locator (it is `reg4` and `reg5`).
pub const XREG_LOCATOR: u8 = 2;
/// The port's identity towards the responders, an IPv4 address in 10.0.0.0/8.
pub const REG_IDENTITY: u8 = 6;
/// Which address asks and which is asked, as an address in [`crate::RESPONDER_NETWORK`].
pub const REG_SERVICE: u8 = 7;
/// 1 on a frame from the wire that was flooded.
pub const REG_FLOODED: u8 = 8;

/// In [`REG_TRACK`]: the packet is on its way from the port.
pub const PATH_EGRESS: u32 = 0x1_0000;
/// In [`REG_TRACK`]: the packet is on its way to the port.
pub const PATH_INGRESS: u32 = 0x2_0000;
/// The bits of [`REG_TRACK`] that hold the path.
pub const PATH_MASK: u32 = 0xf_0000;

/// Every table with its name, for tracing.
pub const NAMES: &[(u8, &str)] = &[
    (CLASSIFY, "classify"),
    (WIRE_DESTINATION, "wire destination"),
    (WIRE_SOURCE, "wire source"),
    (WIRE_DELIVER, "wire deliver"),
    (PROTOCOL_GUARD, "protocol guard"),
    (ADDRESS_GUARD, "address guard"),
    (SERVICES, "services"),
    (SERVICE_SOURCE, "service source"),
    (SERVICE_SEND, "service send"),
    (ARP, "arp"),
    (NEIGHBOUR, "neighbour discovery"),
    (NEIGHBOUR_ANSWER, "neighbour answer"),
    (EGRESS_TRACK, "egress track"),
    (EGRESS_STATE, "egress state"),
    (STATELESS_EGRESS, "stateless egress rules"),
    (LOOKUP, "lookup"),
    (FLOOD_LOCAL, "flood local"),
    (FLOOD_REMOTE, "flood remote"),
    (INGRESS_TRACK, "ingress track"),
    (INGRESS_STATE, "ingress state"),
    (STATELESS_INGRESS, "stateless ingress rules"),
    (RULES_EGRESS, "egress rules"),
    (RULES_INGRESS, "ingress rules"),
    (ACCEPT, "accept"),
    (REPLY, "reply"),
    (REPLY_SOURCE, "reply source"),
    (DELIVER, "deliver"),
    (WIRE_SEND, "wire send"),
];

/// Every table ends in a drop that counts.
pub(crate) fn miss_flows(out: &mut Vec<Flow>) {
    for &(table, _) in NAMES {
        out.push(Flow::new(table, 0, Match::any(), Actions::drop()).cookie(Cookie::Host.encode()));
    }
}
