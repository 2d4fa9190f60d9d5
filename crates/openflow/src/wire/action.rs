//! Actions to bytes: the standard's own, and Open vSwitch's under Nicira's experimenter id.

use std::net::IpAddr;

use super::NICIRA;
use super::buffer::{fill_len, pad8, put_u16, put_u32, put_u64, put_zeros};
use super::error::EncodeError;
use super::oxm::{check_range, header, pack_range, put_entry};
use crate::model::{Action, Ct, CtZone, Nat, NatKind, port};

/// Standard actions (OpenFlow 1.4 section 7.2.4).
pub(crate) mod standard {
    pub const OUTPUT: u16 = 0;
    pub const PUSH_VLAN: u16 = 17;
    pub const POP_VLAN: u16 = 18;
    pub const GROUP: u16 = 22;
    pub const SET_NW_TTL: u16 = 23;
    pub const DEC_NW_TTL: u16 = 24;
    pub const SET_FIELD: u16 = 25;
    pub const EXPERIMENTER: u16 = 0xffff;
}

/// Subtypes of Nicira's actions.
pub(crate) mod nicira {
    pub const RESUBMIT: u16 = 1;
    pub const REG_MOVE: u16 = 6;
    pub const REG_LOAD: u16 = 7;
    pub const RESUBMIT_TABLE: u16 = 14;
    pub const OUTPUT_REG: u16 = 15;
    pub const DEC_TTL: u16 = 18;
    pub const CONTROLLER: u16 = 20;
    pub const REG_LOAD2: u16 = 33;
    pub const CONJUNCTION: u16 = 34;
    pub const CT: u16 = 35;
    pub const NAT: u16 = 36;
    pub const CONTROLLER2: u16 = 37;
    pub const CLONE: u16 = 42;
    pub const CT_CLEAR: u16 = 43;
    pub const CHECK_PKT_LARGER: u16 = 49;
}

/// In `resubmit`: the port that the packet has already.
pub(crate) const RESUBMIT_SAME_PORT: u16 = 0xfff8;
/// In `resubmit` and `ct`: no table.
pub(crate) const NO_TABLE: u8 = 0xff;

pub(crate) const CT_COMMIT: u16 = 1;
pub(crate) const CT_FORCE: u16 = 2;

pub(crate) mod nat_flag {
    pub const SOURCE: u16 = 1;
    pub const DESTINATION: u16 = 2;
    pub const PERSISTENT: u16 = 4;
    pub const HASH: u16 = 8;
    pub const RANDOM: u16 = 16;
}

pub(crate) mod nat_range {
    pub const IPV4_FIRST: u16 = 1;
    pub const IPV4_LAST: u16 = 2;
    pub const IPV6_FIRST: u16 = 4;
    pub const IPV6_LAST: u16 = 8;
    pub const PORT_FIRST: u16 = 16;
    pub const PORT_LAST: u16 = 32;
}

/// Properties of `controller2`.
pub(crate) const CONTROLLER_MAX_LEN: u16 = 0;
pub(crate) const CONTROLLER_USERDATA: u16 = 3;

pub(crate) fn put_actions(out: &mut Vec<u8>, actions: &[Action]) -> Result<(), EncodeError> {
    actions.iter().try_for_each(|action| put_action(out, action))
}

fn standard(
    out: &mut Vec<u8>,
    kind: u16,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    put_u16(out, kind);
    put_u16(out, 0);
    body(out)?;
    pad8(out, start);
    fill_len(out, start, 2);
    Ok(())
}

fn extension(
    out: &mut Vec<u8>,
    subtype: u16,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    standard(out, standard::EXPERIMENTER, |out| {
        put_u32(out, NICIRA);
        put_u16(out, subtype);
        body(out)
    })
}

/// A standard action of 8 octets with a 32-bit argument.
fn number(out: &mut Vec<u8>, kind: u16, value: u32) -> Result<(), EncodeError> {
    standard(out, kind, |out| {
        put_u32(out, value);
        Ok(())
    })
}

fn put_action(out: &mut Vec<u8>, action: &Action) -> Result<(), EncodeError> {
    match action {
        Action::Output(port) => put_output(out, *port, 0xffff),
        Action::Controller { max_len, userdata } if userdata.is_empty() => {
            put_output(out, port::CONTROLLER, *max_len)
        }
        Action::Controller { max_len, userdata } => extension(out, nicira::CONTROLLER2, |out| {
            put_zeros(out, 6);
            if *max_len != 0xffff {
                put_u16(out, CONTROLLER_MAX_LEN);
                put_u16(out, 8);
                put_u16(out, *max_len);
                put_zeros(out, 2);
            }
            let start = out.len();
            put_u16(out, CONTROLLER_USERDATA);
            put_u16(out, 0);
            out.extend_from_slice(userdata);
            fill_len(out, start, 2);
            pad8(out, start);
            Ok(())
        }),
        Action::OutputField(source) => extension(out, nicira::OUTPUT_REG, |out| {
            put_u16(out, pack_range(*source)?);
            put_u32(out, header(source.field));
            put_u16(out, 0xffff);
            put_zeros(out, 6);
            Ok(())
        }),
        Action::Group(id) => number(out, standard::GROUP, *id),
        Action::SetField { field, value, mask } if *mask == field.full_mask() => {
            standard(out, standard::SET_FIELD, |out| put_entry(out, *field, *value, *mask))
        }
        Action::SetField { field, value, mask } => {
            extension(out, nicira::REG_LOAD2, |out| put_entry(out, *field, *value, *mask))
        }
        Action::Move { src, dst } => {
            check_range(*src)?;
            check_range(*dst)?;
            if src.bits != dst.bits {
                return Err(EncodeError::BadRange(action.to_string()));
            }
            extension(out, nicira::REG_MOVE, |out| {
                put_u16(out, src.bits);
                put_u16(out, src.offset);
                put_u16(out, dst.offset);
                put_u32(out, header(src.field));
                put_u32(out, header(dst.field));
                Ok(())
            })
        }
        Action::PushVlan(eth_type) => number(out, standard::PUSH_VLAN, u32::from(*eth_type) << 16),
        Action::PopVlan => number(out, standard::POP_VLAN, 0),
        Action::Resubmit { in_port, table } => extension(out, nicira::RESUBMIT_TABLE, |out| {
            put_u16(out, in_port.unwrap_or(RESUBMIT_SAME_PORT));
            out.push(table.unwrap_or(NO_TABLE));
            put_zeros(out, 3);
            Ok(())
        }),
        Action::Ct(ct) => put_ct(out, ct),
        Action::CtClear => extension(out, nicira::CT_CLEAR, |out| {
            put_zeros(out, 6);
            Ok(())
        }),
        Action::Nat(nat) => put_nat(out, nat),
        Action::DecTtl => number(out, standard::DEC_NW_TTL, 0),
        Action::SetTtl(ttl) => number(out, standard::SET_NW_TTL, u32::from(*ttl) << 24),
        Action::Conjunction { id, clause, clauses } => extension(out, nicira::CONJUNCTION, |out| {
            out.extend_from_slice(&[*clause, *clauses]);
            put_u32(out, *id);
            Ok(())
        }),
        Action::Clone(actions) => extension(out, nicira::CLONE, |out| {
            put_zeros(out, 6);
            put_actions(out, actions)
        }),
        Action::CheckPktLarger { len, dst } => {
            check_range(*dst)?;
            if dst.bits != 1 {
                return Err(EncodeError::BadRange(dst.to_string()));
            }
            extension(out, nicira::CHECK_PKT_LARGER, |out| {
                put_u16(out, *len);
                put_u16(out, dst.offset);
                put_u32(out, header(dst.field));
                put_zeros(out, 6);
                Ok(())
            })
        }
    }
}

fn put_output(out: &mut Vec<u8>, port: u32, max_len: u16) -> Result<(), EncodeError> {
    standard(out, standard::OUTPUT, |out| {
        put_u32(out, port);
        put_u16(out, max_len);
        put_zeros(out, 6);
        Ok(())
    })
}

fn put_ct(out: &mut Vec<u8>, ct: &Ct) -> Result<(), EncodeError> {
    extension(out, nicira::CT, |out| {
        put_u16(out, if ct.commit { CT_COMMIT } else { 0 } | if ct.force { CT_FORCE } else { 0 });
        match ct.zone {
            CtZone::Number(zone) => {
                put_u32(out, 0);
                put_u16(out, zone);
            }
            CtZone::From(source) => {
                let packed = pack_range(source)?;
                put_u32(out, header(source.field));
                put_u16(out, packed);
            }
        }
        out.push(ct.table.unwrap_or(NO_TABLE));
        put_zeros(out, 3);
        put_u16(out, ct.alg);
        put_actions(out, &ct.actions)
    })
}

fn put_nat(out: &mut Vec<u8>, nat: &Nat) -> Result<(), EncodeError> {
    let bad = || EncodeError::BadNat(nat.to_string());
    let mut flags = match nat.kind {
        NatKind::Existing => 0,
        NatKind::Source => nat_flag::SOURCE,
        NatKind::Destination => nat_flag::DESTINATION,
    };
    for (on, flag) in [
        (nat.persistent, nat_flag::PERSISTENT),
        (nat.hash, nat_flag::HASH),
        (nat.random, nat_flag::RANDOM),
    ] {
        flags |= if on { flag } else { 0 };
    }
    // The order of the ranges is that of their flags.
    let mut present = 0;
    let mut ranges = Vec::new();
    match nat.addresses {
        Some((IpAddr::V4(first), IpAddr::V4(last))) if first <= last && !first.is_unspecified() => {
            ranges.extend_from_slice(&first.octets());
            present |= nat_range::IPV4_FIRST;
            if last != first {
                ranges.extend_from_slice(&last.octets());
                present |= nat_range::IPV4_LAST;
            }
        }
        Some((IpAddr::V6(first), IpAddr::V6(last))) if first <= last && !first.is_unspecified() => {
            ranges.extend_from_slice(&first.octets());
            present |= nat_range::IPV6_FIRST;
            if last != first {
                ranges.extend_from_slice(&last.octets());
                present |= nat_range::IPV6_LAST;
            }
        }
        Some(_) => return Err(bad()),
        None => {}
    }
    if let Some((first, last)) = nat.ports {
        if nat.addresses.is_none() || first == 0 || last < first {
            return Err(bad());
        }
        put_u16(&mut ranges, first);
        present |= nat_range::PORT_FIRST;
        if last != first {
            put_u16(&mut ranges, last);
            present |= nat_range::PORT_LAST;
        }
    }
    extension(out, nicira::NAT, |out| {
        put_zeros(out, 2);
        put_u16(out, flags);
        put_u16(out, present);
        out.extend_from_slice(&ranges);
        Ok(())
    })
}

/// `put_u64` for the instructions beside this file.
pub(crate) fn put_pair(out: &mut Vec<u8>, value: u64, mask: u64) {
    put_u64(out, value);
    put_u64(out, mask);
}
