//! Reading the flow table and the ports back (`OFPT_MULTIPART`, OpenFlow 1.4 section 7.3.5).

use std::time::Duration;

use super::buffer::{Reader, message, put_u16, put_u32, put_u64, put_zeros};
use super::error::{DecodeError, EncodeError};
use super::flow_mod::RawMatch;
use super::instruction::instructions;
use super::oxm::{encode_match, entries, take_match};
use super::packet::{Port, port};
use crate::model::{Flow, Match, TABLE_ALL};

pub(crate) const OFPT_MULTIPART_REQUEST: u8 = 18;
pub(crate) const OFPMP_DESC: u16 = 0;
pub(crate) const OFPMP_FLOW: u16 = 1;
pub(crate) const OFPMP_PORT_DESC: u16 = 13;
const NONE: u32 = 0xffff_ffff;

/// Which flows to read. The default is all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowFilter {
    /// One table, or [`TABLE_ALL`].
    pub table: u8,
    /// Cookie to compare under `cookie_mask`.
    pub cookie: u64,
    /// Which bits of the cookie are compared; 0 for none.
    pub cookie_mask: u64,
    /// Only flows that this match covers.
    pub match_fields: Match,
}

impl Default for FlowFilter {
    fn default() -> Self {
        Self { table: TABLE_ALL, cookie: 0, cookie_mask: 0, match_fields: Match::any() }
    }
}

/// A flow with its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStats {
    /// The flow.
    pub flow: Flow,
    /// Packets that it matched.
    pub packets: u64,
    /// Octets that it matched.
    pub octets: u64,
    /// How long it has been there.
    pub age: Duration,
}

/// One entry of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowStatsEntry {
    /// A flow that this client could have written.
    Known(FlowStats),
    /// One with a field or an action that this client does not know. It can still be deleted, by
    /// [`super::FlowMod::delete_strict_raw`].
    Foreign {
        /// Table.
        table: u8,
        /// Priority.
        priority: u16,
        /// Cookie.
        cookie: u64,
        /// Match, as bytes where it cannot be read.
        match_fields: RawMatch,
        /// What is not known.
        why: DecodeError,
    },
}

fn request(
    out: &mut Vec<u8>,
    xid: u32,
    kind: u16,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    message(out, OFPT_MULTIPART_REQUEST, xid, |out| {
        put_u16(out, kind);
        put_u16(out, 0);
        put_zeros(out, 4);
        body(out)
    })
}

/// Asks for flows.
pub fn flow_stats_request(xid: u32, filter: &FlowFilter) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    request(&mut out, xid, OFPMP_FLOW, |out| {
        out.push(filter.table);
        put_zeros(out, 3);
        put_u32(out, NONE);
        put_u32(out, NONE);
        put_zeros(out, 4);
        put_u64(out, filter.cookie);
        put_u64(out, filter.cookie_mask);
        encode_match(out, &filter.match_fields)
    })?;
    Ok(out)
}

/// What a switch says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// Who made it.
    pub manufacturer: String,
    /// Kind of hardware.
    pub hardware: String,
    /// Version of its software.
    pub software: String,
}

/// Asks what the switch is.
pub fn description_request(xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    // A request without a body always fits.
    let _ = request(&mut out, xid, OFPMP_DESC, |_| Ok(()));
    out
}

pub(crate) fn description(bytes: &[u8]) -> Result<Description, DecodeError> {
    let mut reader = Reader::new(bytes, "switch description");
    let mut text = || {
        let field = reader.take(256)?;
        let field = field.split(|&b| b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(field).into_owned())
    };
    Ok(Description { manufacturer: text()?, hardware: text()?, software: text()? })
}

/// Asks for the bridge's ports.
pub fn port_desc_request(xid: u32) -> Vec<u8> {
    let mut out = Vec::new();
    // A request without a body always fits.
    let _ = request(&mut out, xid, OFPMP_PORT_DESC, |_| Ok(()));
    out
}

/// Reads the entries of a flow statistics reply. A flow that cannot be understood is an entry of its
/// own kind; bytes that cannot be walked are an error.
pub(crate) fn flow_stats(bytes: &[u8]) -> Result<Vec<FlowStatsEntry>, DecodeError> {
    let mut reader = Reader::new(bytes, "flow statistics");
    let mut out = Vec::new();
    while !reader.is_empty() {
        let mut head = reader;
        let len = usize::from(head.u16()?);
        if len < 48 {
            return Err(DecodeError::BadLength("flow statistics", len));
        }
        let mut entry = Reader::new(reader.take(len)?, "flow statistics");
        entry.skip(2)?;
        let table = entry.u8()?;
        entry.skip(1)?;
        let age = Duration::from_secs(entry.u32()?.into())
            .saturating_add(Duration::from_nanos(entry.u32()?.into()));
        let priority = entry.u16()?;
        entry.skip(10)?;
        let (cookie, packets, octets) = (entry.u64()?, entry.u64()?, entry.u64()?);
        let raw = take_match(&mut entry)?;
        let what = entries(raw, true);
        out.push(match (what, instructions(entry.rest())) {
            (Ok(match_fields), Ok(actions)) => FlowStatsEntry::Known(FlowStats {
                flow: Flow { table, priority, cookie, match_fields, actions },
                packets,
                octets,
                age,
            }),
            (Ok(known), Err(why)) => FlowStatsEntry::Foreign {
                table,
                priority,
                cookie,
                match_fields: RawMatch::Known(known),
                why,
            },
            (Err(why), _) => FlowStatsEntry::Foreign {
                table,
                priority,
                cookie,
                match_fields: RawMatch::Bytes(raw.to_vec()),
                why,
            },
        });
    }
    Ok(out)
}

pub(crate) fn ports(bytes: &[u8]) -> Result<Vec<Port>, DecodeError> {
    let mut reader = Reader::new(bytes, "port description");
    let mut out = Vec::new();
    while !reader.is_empty() {
        out.push(port(&mut reader)?);
    }
    Ok(out)
}
