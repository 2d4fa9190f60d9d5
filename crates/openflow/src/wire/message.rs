//! Whole messages: the header, what arrives, and the short messages that we send.

use bytes::Bytes;

use super::buffer::{Reader, message, nicira_message, put_u16, put_u32, small_message};
use super::error::{DecodeError, EncodeError, SwitchError};
use super::packet::{PacketIn, Port, PortChange, packet_in, packet_in2, port_status};
use super::stats::{
    Description, FlowStatsEntry, OFPMP_DESC, OFPMP_FLOW, OFPMP_PORT_DESC, description, flow_stats,
    ports,
};
use super::{HEADER_LEN, NICIRA, VERSION};

const OFPT_HELLO: u8 = 0;
const OFPT_ERROR: u8 = 1;
const OFPT_ECHO_REQUEST: u8 = 2;
const OFPT_ECHO_REPLY: u8 = 3;
const OFPT_EXPERIMENTER: u8 = 4;
const OFPT_SET_CONFIG: u8 = 9;
const OFPT_PACKET_IN: u8 = 10;
const OFPT_PORT_STATUS: u8 = 12;
const OFPT_MULTIPART_REPLY: u8 = 19;
const OFPT_BARRIER_REQUEST: u8 = 20;
const OFPT_BARRIER_REPLY: u8 = 21;
const OFPT_SET_ASYNC: u8 = 28;
const OFPT_BUNDLE_CONTROL: u8 = 33;
const OFPT_BUNDLE_ADD_MESSAGE: u8 = 34;

const NXT_SET_PACKET_IN_FORMAT: u32 = 16;
const NXT_CT_FLUSH_ZONE: u32 = 29;
const NXT_PACKET_IN2: u32 = 30;

/// Atomic and ordered: all or nothing, in the order in which they were added.
const BUNDLE_FLAGS: u16 = 3;

/// What every message begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Protocol version.
    pub version: u8,
    /// Message type.
    pub kind: u8,
    /// Octets of the whole message, at least 8.
    pub len: usize,
    /// Transaction id: a reply has that of its request.
    pub xid: u32,
}

impl Header {
    /// Reads a header. Whether the version suits is for [`Incoming::decode`] to say.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "message header");
        let (version, kind, len, xid) =
            (reader.u8()?, reader.u8()?, usize::from(reader.u16()?), reader.u32()?);
        if len < HEADER_LEN {
            return Err(DecodeError::BadLength("message", len));
        }
        Ok(Self { version, kind, len, xid })
    }
}

/// Step of a bundle (`OFPBCT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleControl {
    /// Begin.
    Open,
    /// Apply.
    Commit,
    /// Forget.
    Discard,
}

/// A message from the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Beginning of the conversation. Whether the peer can speak OpenFlow 1.4.
    Hello {
        /// Whether the peer can speak OpenFlow 1.4.
        speaks_1_4: bool,
        /// Highest version that the peer can speak.
        version: u8,
    },
    /// A request was refused.
    Error(SwitchError),
    /// To be answered with the same data.
    EchoRequest(Bytes),
    /// Answer to ours.
    EchoReply,
    /// A packet.
    PacketIn(PacketIn),
    /// A port came, went or changed.
    PortStatus(PortChange),
    /// Part of a flow dump.
    FlowStats {
        /// Flows of this part.
        flows: Vec<FlowStatsEntry>,
        /// More parts follow.
        more: bool,
    },
    /// What the switch is.
    Description(Description),
    /// Part of the list of ports.
    Ports {
        /// Ports of this part.
        ports: Vec<Port>,
        /// More parts follow.
        more: bool,
    },
    /// Everything before our barrier is done.
    BarrierReply,
    /// Answer to a bundle control: its number (`OFPBCT_*`).
    BundleReply(u16),
    /// Another message, by its type.
    Other(u8),
}

impl Incoming {
    /// Reads the body of a message.
    pub fn decode(header: &Header, body: &Bytes) -> Result<Self, DecodeError> {
        if header.kind == OFPT_HELLO {
            return hello_from(header.version, body);
        }
        // A peer that shares no version with us says so in its own.
        if header.version != VERSION && header.kind != OFPT_ERROR {
            return Err(DecodeError::BadVersion(header.version));
        }
        let mut reader = Reader::new(body, "message");
        Ok(match header.kind {
            OFPT_ERROR => {
                let (kind, code) = (reader.u16()?, reader.u16()?);
                Incoming::Error(SwitchError { kind, code, data: body.slice_ref(reader.rest()) })
            }
            OFPT_ECHO_REQUEST => Incoming::EchoRequest(body.clone()),
            OFPT_ECHO_REPLY => Incoming::EchoReply,
            OFPT_PACKET_IN => Incoming::PacketIn(packet_in(body)?),
            OFPT_PORT_STATUS => Incoming::PortStatus(port_status(body)?),
            OFPT_BARRIER_REPLY => Incoming::BarrierReply,
            OFPT_BUNDLE_CONTROL => {
                reader.skip(4)?;
                Incoming::BundleReply(reader.u16()?)
            }
            OFPT_MULTIPART_REPLY => {
                let (kind, flags) = (reader.u16()?, reader.u16()?);
                reader.skip(4)?;
                let more = flags & 1 != 0;
                match kind {
                    OFPMP_DESC => Incoming::Description(description(reader.rest())?),
                    OFPMP_FLOW => Incoming::FlowStats { flows: flow_stats(reader.rest())?, more },
                    OFPMP_PORT_DESC => Incoming::Ports { ports: ports(reader.rest())?, more },
                    _ => Incoming::Other(header.kind),
                }
            }
            OFPT_EXPERIMENTER => match (reader.u32()?, reader.u32()?) {
                (NICIRA, NXT_PACKET_IN2) => {
                    Incoming::PacketIn(packet_in2(&body.slice_ref(reader.rest()))?)
                }
                _ => Incoming::Other(header.kind),
            },
            other => Incoming::Other(other),
        })
    }
}

fn hello_from(version: u8, body: &Bytes) -> Result<Incoming, DecodeError> {
    let mut reader = Reader::new(body, "hello");
    let mut speaks = version >= VERSION;
    while reader.remaining() >= 4 {
        let mut head = reader;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < 4 {
            return Err(DecodeError::BadLength("hello element", len));
        }
        let mut element = reader.padded(len, "hello element")?;
        element.skip(4)?;
        if kind == 1 && element.remaining() >= 4 {
            speaks = element.u32()? >> VERSION & 1 == 1;
        }
    }
    Ok(Incoming::Hello { speaks_1_4: speaks, version })
}

/// Begins the conversation, offering OpenFlow 1.4 alone.
pub fn hello(xid: u32) -> Vec<u8> {
    let mut body = Vec::new();
    put_u16(&mut body, 1);
    put_u16(&mut body, 8);
    put_u32(&mut body, 1 << VERSION);
    small_message(OFPT_HELLO, xid, &body)
}

/// Asks whether the peer is there.
pub fn echo_request(xid: u32) -> Vec<u8> {
    small_message(OFPT_ECHO_REQUEST, xid, &[])
}

/// Says that we are here.
pub fn echo_reply(xid: u32, data: &[u8]) -> Vec<u8> {
    small_message(OFPT_ECHO_REPLY, xid, data)
}

/// Asks to be told when everything before is done.
pub fn barrier_request(xid: u32) -> Vec<u8> {
    small_message(OFPT_BARRIER_REQUEST, xid, &[])
}

/// How much of a packet without a flow is sent (`miss_send_len`). On Open vSwitch's management
/// socket a value other than zero also turns asynchronous messages on, packet-in among them.
pub fn set_config(xid: u32, miss_send_len: u16) -> Vec<u8> {
    let mut body = Vec::new();
    put_u16(&mut body, 0);
    put_u16(&mut body, miss_send_len);
    small_message(OFPT_SET_CONFIG, xid, &body)
}

/// Asks for packet-ins of Nicira's extended kind, which carry registers and user data.
pub fn set_packet_in_format(xid: u32) -> Vec<u8> {
    nicira_message(xid, NXT_SET_PACKET_IN_FORMAT, &2u32.to_be_bytes())
}

/// Asks for packets that an action sends or whose TTL ends, and for changes of ports.
pub fn set_async(xid: u32) -> Vec<u8> {
    const PACKET_IN_MASTER: u16 = 1;
    const PORT_STATUS_MASTER: u16 = 3;
    let mut body = Vec::new();
    for (property, mask) in [(PACKET_IN_MASTER, 0b11_1110), (PORT_STATUS_MASTER, 0b111)] {
        put_u16(&mut body, property);
        put_u16(&mut body, 8);
        put_u32(&mut body, mask);
    }
    small_message(OFPT_SET_ASYNC, xid, &body)
}

/// Forgets every tracked connection of a zone. Established TCP connections come back with their
/// next packet: this frees a zone for another user, it does not cut connections.
pub fn flush_zone(xid: u32, zone: u16) -> Vec<u8> {
    let [a, b] = zone.to_be_bytes();
    nicira_message(xid, NXT_CT_FLUSH_ZONE, &[0, 0, 0, 0, 0, 0, a, b])
}

/// One step of a bundle.
pub fn bundle_control(xid: u32, bundle: u32, step: BundleControl) -> Vec<u8> {
    let mut body = Vec::new();
    put_u32(&mut body, bundle);
    put_u16(
        &mut body,
        match step {
            BundleControl::Open => 0,
            BundleControl::Commit => 4,
            BundleControl::Discard => 6,
        },
    );
    put_u16(&mut body, BUNDLE_FLAGS);
    small_message(OFPT_BUNDLE_CONTROL, xid, &body)
}

/// Adds a message to a bundle. `inner` appends it, under the same transaction id as this one.
pub fn bundle_add(
    out: &mut Vec<u8>,
    xid: u32,
    bundle: u32,
    inner: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    message(out, OFPT_BUNDLE_ADD_MESSAGE, xid, |out| {
        put_u32(out, bundle);
        put_u16(out, 0);
        put_u16(out, BUNDLE_FLAGS);
        inner(out)
    })
}
