//! Documents in, flow table out.
//!
//! [`compile`] is a pure function from what a host was told (its number, networks, ports,
//! neighbours) and what it found out itself (OpenFlow ports, conntrack zones) to the whole flow
//! table of its bridge. It does no I/O and gives the same flows in the same order for the same
//! input, so that the agent can send differences, and tests can run the table in an interpreter.
//!
//! ## Isolation by rewriting, without encapsulation
//! Guests see their own MACs; the wire between hosts sees only locators ([`cloud_types::Locator`]),
//! which name a host and a port number. A guest's frame gets its network from the port by which it
//! came, a frame from the wire from the locator it is addressed to, and every later table matches
//! on that network: there is no flow by which a frame of one network reaches a port of another.
//!
//! ```text
//!  guest ──► 0 CLASSIFY ─► 10 PROTOCOL_GUARD ─► 11 ADDRESS_GUARD ─► 20 SERVICES ──► 30 EGRESS_TRACK
//!                 │                       (port security only)        │    │              │ ct
//!                 │                                               23–25    21,22 ──► responders
//!                 │                                                   │                   ▼
//!                 │         ┌── 42 FLOOD_REMOTE ◄ 41 FLOOD_LOCAL ◄ 40 LOOKUP ◄── 62 ◄ 60/61 RULES ◄ 31
//!                 │         ▼                          │              │
//!                 │     90 WIRE_SEND ◄─────────────────┼──(remote)────┤
//!                 │         ▼                          ▼              ▼
//!                 │       wire                    50 INGRESS_TRACK ◄──┘ (local)
//!                 │                                    │ ct
//!  wire ──────────┴─► 1 WIRE_DESTINATION ─► 2 ─► 3 ────┤        51 ─► 60/61 RULES ─► 62 ─► 80 DELIVER ─► guest
//!  responders ──► 0 ─► 70 REPLY ─► 71 ────────────────────────────────────────────────────►┘
//! ```
//!
//! ## Security groups
//! Each port with port security has a conntrack zone of its own. Every packet of a tracked
//! connection, not only its first, is judged by the rules that are in force now, on the
//! addresses of the packet that *began* the connection (`ct_nw_src` and its siblings): a reply
//! passes because the rule that let the connection begin still does. Taking a rule away therefore
//! stops live connections in both directions, and nothing has to be flushed. Rules are compiled
//! once for each distinct set of rules, however many ports use it.
//!
//! ## What is not here
//! Frames to MACs that no port of the network may use are dropped, not flooded: a port without
//! port security can send from such a MAC, but gets no answer to it.

mod classify;
mod cookie;
mod forward;
mod guard;
mod plan;
mod ranges;
mod security;
mod services;
mod services6;
pub mod tables;
pub mod trace;

use host_protocol::{HostSpec, NeighbourSpec, NetworkSpec, PortSpec};
use openflow::Flow;

pub use cookie::Cookie;
pub use plan::link_local;
pub use services::{
    LINK_LOCAL_SERVICE, RESPONDER_MAC, RESPONDER_NETWORK, ROUTER_MAC, port_identity,
    port_of_identity, service_addresses,
};
pub use services6::{
    LINK_LOCAL_SERVICE6, PORT_NETWORK6, RESPONDER_NETWORK6, ROUTER_LINK_LOCAL, port_identity6,
    port_of_identity6, service_addresses6,
};

/// A port of this host with what the host itself decided for it.
#[derive(Clone, Copy, Debug)]
pub struct LocalPort<'a> {
    /// The port's document.
    pub spec: &'a PortSpec,
    /// Its OpenFlow port on the bridge.
    pub ofport: u32,
    /// Its conntrack zone, at least 1, no other port's.
    pub ct_zone: u16,
}

/// Everything that the flow table is made from.
#[derive(Clone, Copy, Debug)]
pub struct HostInput<'a> {
    /// The host's document.
    pub spec: &'a HostSpec,
    /// OpenFlow port of the device towards the other hosts; `None` on a machine that is alone.
    pub wire_ofport: Option<u32>,
    /// OpenFlow port of the responders' veth; `None` when there are no responders.
    pub responder_ofport: Option<u32>,
    /// Networks with a port here.
    pub networks: &'a [NetworkSpec],
    /// Ports here whose device is on the bridge.
    pub ports: &'a [LocalPort<'a>],
    /// Ports of these networks on other hosts. One of a network that is not in `networks`, or
    /// that claims this host's own number, is left out.
    pub neighbours: &'a [NeighbourSpec],
}

/// Why a host's documents do not make a flow table. [`CompileError::port_id`] names the port to
/// leave out, so that one wrong document does not keep the other tenants' flows from the switch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A number does not fit the 24 bits that a locator has, or is 0.
    #[error(
        "{kind} {id} has number {number}; numbers are 1 to 16777215, so its locator cannot be written"
    )]
    Number {
        /// `port`, `network` or `neighbour`.
        kind: &'static str,
        /// Its identifier.
        id: String,
        /// The number.
        number: u32,
    },
    /// Two objects have one number.
    #[error(
        "{kind} {id} and {other} both have number {number}; the later one cannot be told apart"
    )]
    Duplicate {
        /// `port`, `network`, `OpenFlow port` or `conntrack zone`.
        kind: &'static str,
        /// The object that came later.
        id: String,
        /// The object that came first.
        other: String,
        /// What they share.
        number: u32,
    },
    /// A port's network has no document (yet).
    #[error("port {port_id} is on network {network_id}, whose document is not on this host")]
    UnknownNetwork {
        /// The port.
        port_id: String,
        /// Its network.
        network_id: String,
    },
}

impl CompileError {
    /// The port whose omission makes the rest compile; `None` when a network is wrong.
    pub fn port_id(&self) -> Option<&str> {
        match self {
            CompileError::Number { kind: "network", .. } => None,
            CompileError::Duplicate { kind: "network", .. } => None,
            CompileError::Number { id, .. } | CompileError::Duplicate { id, .. } => Some(id),
            CompileError::UnknownNetwork { port_id, .. } => Some(port_id),
        }
    }
}

/// Compiles the whole flow table of a host: sorted by table, falling priority and match.
///
/// # Errors
/// When numbers that must be unique are not, or do not fit; see [`CompileError`].
pub fn compile(input: &HostInput<'_>) -> Result<Vec<Flow>, CompileError> {
    let plan = plan::Plan::new(input)?;
    let mut out = Vec::new();
    tables::miss_flows(&mut out);
    classify::flows(&plan, &mut out);
    guard::flows(&plan, &mut out);
    services::flows(&plan, &mut out);
    services6::flows(&plan, &mut out);
    security::flows(&plan, &mut out);
    forward::flows(&plan, &mut out);
    out.sort_by(|a, b| {
        (a.table, std::cmp::Reverse(a.priority), &a.match_fields).cmp(&(
            b.table,
            std::cmp::Reverse(b.priority),
            &b.match_fields,
        ))
    });
    // (table, priority, match) is a flow's identity in the switch: of two, the switch would keep
    // the later one, the difference to what it has would never be empty.
    out.dedup_by(|later, first| later.key() == first.key());
    Ok(out)
}
