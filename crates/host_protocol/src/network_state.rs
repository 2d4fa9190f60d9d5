//! What a host says of its flow table when it is asked: whether the table is as it should be, and
//! which way a packet takes through it.

use std::net::IpAddr;

use cloud_types::MacAddress;
use serde::{Deserialize, Serialize};

use crate::{Generation, Position};

/// A host's flow table, as it should be and as the switch has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkState {
    /// Position of the newest document that the host holds.
    pub desired: Position,
    /// Position up to which its flows are in force; 0 before the first time.
    pub applied: Position,
    /// The whole table.
    pub table: TableState,
    /// Flows that others changed and the host put right, since its agent started.
    pub mended: u64,
    /// When it last had to, in seconds since the epoch.
    pub mended_at: Option<i64>,
    /// Its ports; one, when one was asked for.
    pub ports: Vec<PortState>,
}

/// Flows as they should be, and as they were read from the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// How many there should be.
    pub wanted_flows: u64,
    /// How many there are; those of other programs too.
    pub flows: u64,
    /// SHA-256 over the flows that should be, 64 hexadecimal digits.
    pub wanted_checksum: String,
    /// The same over those that are.
    pub checksum: String,
}

impl TableState {
    /// Whether the switch has what it should have.
    pub fn is_as_wanted(&self) -> bool {
        (self.wanted_flows, &self.wanted_checksum) == (self.flows, &self.checksum)
    }
}

/// One port's part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortState {
    /// The port.
    pub port_id: String,
    /// Generation of its document.
    pub desired: Generation,
    /// Generation whose flows are in force; `None` when none is.
    pub applied: Option<Generation>,
    /// The flows that are the port's own.
    pub table: TableState,
}

/// Where a trace begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum TraceStart {
    /// A guest sends it.
    Port {
        /// Its port.
        port_id: String,
        /// What it sends.
        packet: TraceRequest,
    },
    /// It is on the wire.
    Wire {
        /// As it is there.
        packet: TracePacket,
    },
}

/// What a guest sends, as far as somebody who asks has to say it: MACs follow from addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// Source address; the port's first of the destination's family when absent.
    #[serde(default)]
    pub ip_src: Option<IpAddr>,
    /// Destination address.
    pub ip_dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port, or type of ICMP.
    pub src_port: u16,
    /// Destination port, or code of ICMP.
    pub dst_port: u16,
}

/// A packet with its MACs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracePacket {
    /// Source MAC; between hosts a locator.
    pub eth_src: MacAddress,
    /// Destination MAC; between hosts a locator.
    pub eth_dst: MacAddress,
    /// Source address.
    pub ip_src: IpAddr,
    /// Destination address.
    pub ip_dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port, or type of ICMP.
    pub src_port: u16,
    /// Destination port, or code of ICMP.
    pub dst_port: u16,
}

/// The way of a packet through one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTrace {
    /// One for each look-up, in order.
    pub steps: Vec<TraceStep>,
    /// Copies that leave by the wire.
    pub wire: Vec<TracePacket>,
    /// Ports here that get it.
    pub delivered: Vec<String>,
    /// Whether the host answers it itself.
    pub answered: bool,
}

/// One look-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Table of the pipeline.
    pub table: u8,
    /// What was decided, and why.
    pub words: String,
    /// The flow that decided, as the switch has it; `None` when there is none that fits.
    #[serde(default)]
    pub flow: Option<String>,
    /// Packets that the flow has matched so far.
    #[serde(default)]
    pub packets: Option<u64>,
    /// The packet, or this copy of it, ends here.
    pub drops: bool,
}
