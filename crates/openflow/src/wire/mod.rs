//! OpenFlow 1.4 as bytes: pure functions between the model and messages.
//!
//! Encoding fails only for what no message can say. Decoding takes bytes from a peer that may be
//! broken or hostile: every length is checked, nesting is limited, and nothing panics.
//!
//! Layouts are those of the OpenFlow 1.4.1 specification, and of `nicira-ext.h` and
//! `ovs-actions(7)` for Open vSwitch's extensions.

mod action;
mod action_decode;
mod buffer;
mod error;
mod flow_mod;
mod group_mod;
mod instruction;
mod message;
mod oxm;
mod packet;
mod stats;

pub use error::{DecodeError, EncodeError, SwitchError};
pub use flow_mod::{FlowMod, FlowModCommand, RawMatch};
pub use group_mod::{GroupMod, MeterMod};
pub use message::{
    BundleControl, Header, Incoming, barrier_request, bundle_add, bundle_control, echo_reply,
    echo_request, flush_zone, hello, set_async, set_config, set_packet_in_format,
};
pub use oxm::{decode_match, encode_match};
pub use packet::{PacketIn, PacketInReason, PacketOut, Port, PortChange};
pub use stats::{
    Description, FlowFilter, FlowStats, FlowStatsEntry, description_request, flow_stats_request,
    port_desc_request,
};

/// Version byte of OpenFlow 1.4.
pub const VERSION: u8 = 0x05;
/// Experimenter id of Nicira, under which Open vSwitch's extensions live.
pub(crate) const NICIRA: u32 = 0x0000_2320;
/// Octets of a message header.
pub const HEADER_LEN: usize = 8;
/// Longest message: the length field has 16 bits.
pub const MAX_MESSAGE: usize = 0xffff;
