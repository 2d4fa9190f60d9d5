//! Packets to and from the connection, and changes of ports (OpenFlow 1.4 sections 7.3.7 and 7.4).

use bytes::Bytes;

use super::action::put_actions;
use super::buffer::{Reader, message, put_u16, put_u32, put_zeros};
use super::error::{DecodeError, EncodeError};
use super::oxm::{entries, take_match};
use crate::model::{Action, Match, port as port_number};

const OFPT_PACKET_OUT: u8 = 13;
const NO_BUFFER: u32 = 0xffff_ffff;

/// Why a packet was sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketInReason {
    /// No flow matched.
    NoMatch,
    /// An action said so.
    Action,
    /// Its TTL or hop limit was at its end.
    InvalidTtl,
    /// Another reason, by its number.
    Other(u8),
}

impl From<u8> for PacketInReason {
    fn from(reason: u8) -> Self {
        match reason {
            0 => Self::NoMatch,
            // Apply-actions, action set, group and packet-out are all "an action said so".
            1 | 3 | 4 | 5 => Self::Action,
            2 => Self::InvalidTtl,
            other => Self::Other(other),
        }
    }
}

/// A packet that the switch sent to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    /// Why.
    pub reason: PacketInReason,
    /// Table of the flow that sent it.
    pub table: u8,
    /// Cookie of the flow that sent it; all ones when there was none.
    pub cookie: u64,
    /// Ingress port, metadata, registers, tunnel and conntrack fields as they were.
    pub metadata: Match,
    /// What the flow's action carried.
    pub userdata: Bytes,
    /// Length of the whole packet; `data` may be shorter.
    pub full_len: u32,
    /// The packet, from its Ethernet header on.
    pub data: Bytes,
}

impl PacketIn {
    /// Ingress port, where known.
    pub fn in_port(&self) -> Option<u32> {
        self.metadata.get(crate::model::Field::InPort).map(|(port, _)| port as u32)
    }
}

/// A standard packet-in.
pub(crate) fn packet_in(body: &Bytes) -> Result<PacketIn, DecodeError> {
    let mut reader = Reader::new(body, "packet-in");
    reader.skip(4)?;
    let (full_len, reason, table, cookie) =
        (reader.u16()?, reader.u8()?, reader.u8()?, reader.u64()?);
    let metadata = entries(take_match(&mut reader)?, false)?;
    reader.skip(2)?;
    Ok(PacketIn {
        reason: reason.into(),
        table,
        cookie,
        metadata,
        userdata: Bytes::new(),
        full_len: full_len.into(),
        data: body.slice_ref(reader.rest()),
    })
}

/// Nicira's extended packet-in (`NXT_PACKET_IN2`), a list of properties.
pub(crate) fn packet_in2(body: &Bytes) -> Result<PacketIn, DecodeError> {
    const WHAT: &str = "property of a packet-in";
    let mut out = PacketIn {
        // Properties with their default value are left out.
        reason: PacketInReason::NoMatch,
        table: 0,
        cookie: u64::MAX,
        metadata: Match::any(),
        userdata: Bytes::new(),
        full_len: 0,
        data: Bytes::new(),
    };
    let mut reader = Reader::new(body, "packet-in");
    while reader.remaining() >= 4 {
        let mut head = reader;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < 4 {
            return Err(DecodeError::BadLength(WHAT, len));
        }
        let mut property = reader.padded(len, WHAT)?;
        property.skip(4)?;
        match kind {
            0 => out.data = body.slice_ref(property.rest()),
            1 => out.full_len = property.u32()?,
            3 => out.table = property.u8()?,
            4 => {
                property.skip(4)?;
                out.cookie = property.u64()?;
            }
            5 => out.reason = property.u8()?.into(),
            6 => out.metadata = entries(property.rest(), false)?,
            7 => out.userdata = body.slice_ref(property.rest()),
            _ => {}
        }
    }
    if out.full_len == 0 {
        out.full_len = out.data.len() as u32;
    }
    Ok(out)
}

/// A packet that the switch shall send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// Where it pretends to have come in; [`port_number::CONTROLLER`] for nowhere.
    pub in_port: u32,
    /// What to do with it; an output to [`port_number::TABLE`] runs it through the flow table.
    pub actions: Vec<Action>,
    /// The packet, from its Ethernet header on.
    pub data: Bytes,
}

impl PacketOut {
    /// Sends `data` out of one port.
    pub fn to_port(port: u32, data: impl Into<Bytes>) -> Self {
        Self {
            in_port: port_number::CONTROLLER,
            actions: vec![Action::Output(port)],
            data: data.into(),
        }
    }

    /// Appends the message to `out`; on an error `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>, xid: u32) -> Result<(), EncodeError> {
        message(out, OFPT_PACKET_OUT, xid, |out| {
            put_u32(out, NO_BUFFER);
            put_u32(out, self.in_port);
            let at = out.len();
            put_u16(out, 0);
            put_zeros(out, 6);
            let start = out.len();
            put_actions(out, &self.actions)?;
            let len = (out.len() - start) as u16;
            out[at..at + 2].copy_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&self.data);
            Ok(())
        })
    }
}

/// A port of the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// OpenFlow port number.
    pub number: u32,
    /// Name, cut by OpenFlow to 15 octets.
    pub name: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// Administratively down.
    pub down: bool,
    /// No link.
    pub link_down: bool,
}

/// What happened to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChange {
    /// It is new.
    Added(Port),
    /// It is gone.
    Removed(Port),
    /// Its state changed.
    Modified(Port),
}

pub(crate) fn port(reader: &mut Reader<'_>) -> Result<Port, DecodeError> {
    let mut head = *reader;
    let number = head.u32()?;
    let len = usize::from(head.u16()?);
    if len < 40 {
        return Err(DecodeError::BadLength("port description", len));
    }
    let mut body = Reader::new(reader.take(len)?, "port description");
    body.skip(8)?;
    let mac = body.mac()?;
    body.skip(2)?;
    let name = body.take(16)?;
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    let (config, state) = (body.u32()?, body.u32()?);
    Ok(Port {
        number,
        name: String::from_utf8_lossy(name).into_owned(),
        mac,
        down: config & 1 != 0,
        link_down: state & 1 != 0,
    })
}

pub(crate) fn port_status(body: &[u8]) -> Result<PortChange, DecodeError> {
    let mut reader = Reader::new(body, "port status");
    let reason = reader.u8()?;
    reader.skip(7)?;
    let port = port(&mut reader)?;
    Ok(match reason {
        0 => PortChange::Added(port),
        1 => PortChange::Removed(port),
        2 => PortChange::Modified(port),
        other => return Err(DecodeError::Unknown("port status reason", other.into())),
    })
}
