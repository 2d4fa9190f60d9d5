//! Bytes to actions, into the canonical form that was sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::NICIRA;
use super::action::{
    CONTROLLER_MAX_LEN, CONTROLLER_USERDATA, CT_COMMIT, CT_FORCE, NO_TABLE, RESUBMIT_SAME_PORT,
    nat_flag, nat_range, nicira, standard,
};
use super::buffer::Reader;
use super::error::DecodeError;
use super::oxm::{entry, field_of, range, unpack_range};
use crate::model::{Action, Ct, CtZone, Nat, NatKind, port};

/// How deep `ct` and `clone` may nest; Open vSwitch itself stops resubmitting at 64, and real flows need 2.
const MAX_DEPTH: usize = 8;

pub(crate) fn actions(bytes: &[u8]) -> Result<Vec<Action>, DecodeError> {
    nested(bytes, 0)
}

fn nested(bytes: &[u8], depth: usize) -> Result<Vec<Action>, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let mut reader = Reader::new(bytes, "action");
    let mut out = Vec::new();
    while !reader.is_empty() {
        let mut head = reader;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < 8 || len % 8 != 0 {
            return Err(DecodeError::BadLength("action", len));
        }
        let mut body = Reader::new(reader.take(len)?, "action");
        body.skip(4)?;
        if kind == standard::EXPERIMENTER {
            match body.u32()? {
                NICIRA => out.push(extension(body.u16()?, body, depth)?),
                vendor => return Err(DecodeError::Unknown("action experimenter", vendor.into())),
            }
        } else {
            out.push(plain(kind, body)?);
        }
    }
    Ok(out)
}

fn plain(kind: u16, mut body: Reader<'_>) -> Result<Action, DecodeError> {
    Ok(match kind {
        standard::OUTPUT => match (body.u32()?, body.u16()?) {
            (port::CONTROLLER, max_len) => Action::Controller { max_len, userdata: Vec::new() },
            (port, _) => Action::Output(port),
        },
        standard::PUSH_VLAN => Action::PushVlan(body.u16()?),
        standard::POP_VLAN => Action::PopVlan,
        standard::GROUP => Action::Group(body.u32()?),
        standard::SET_NW_TTL => Action::SetTtl(body.u8()?),
        standard::DEC_NW_TTL => Action::DecTtl,
        standard::SET_FIELD => {
            let (field, value, mask) = entry(&mut body)??;
            Action::SetField { field, value, mask }
        }
        kind => return Err(DecodeError::Unknown("action type", kind.into())),
    })
}

fn extension(subtype: u16, mut body: Reader<'_>, depth: usize) -> Result<Action, DecodeError> {
    Ok(match subtype {
        nicira::RESUBMIT => Action::Resubmit { in_port: resubmit_port(body.u16()?), table: None },
        nicira::RESUBMIT_TABLE => Action::Resubmit {
            in_port: resubmit_port(body.u16()?),
            table: Some(body.u8()?).filter(|&t| t != NO_TABLE),
        },
        nicira::REG_MOVE => {
            let (bits, src, dst) = (body.u16()?, body.u16()?, body.u16()?);
            Action::Move {
                src: range(field_of(body.u32()?)?, src, bits, "source of a move")?,
                dst: range(field_of(body.u32()?)?, dst, bits, "destination of a move")?,
            }
        }
        nicira::REG_LOAD => {
            let packed = body.u16()?;
            let dst = unpack_range(field_of(body.u32()?)?, packed, "destination of a load")?;
            let value = u128::from(body.u64()?);
            let mask = (u128::MAX >> (128 - dst.bits)) << dst.offset;
            Action::set_masked(dst.field, value << dst.offset, mask)
        }
        nicira::REG_LOAD2 => {
            let (field, value, mask) = entry(&mut body)??;
            Action::SetField { field, value, mask }
        }
        nicira::OUTPUT_REG => {
            let packed = body.u16()?;
            Action::OutputField(unpack_range(
                field_of(body.u32()?)?,
                packed,
                "source of an output",
            )?)
        }
        nicira::DEC_TTL => Action::DecTtl,
        nicira::CONTROLLER => {
            let (max_len, id, reason) = (body.u16()?, body.u16()?, body.u8()?);
            if id != 0 || reason != 1 {
                return Err(DecodeError::Unknown(
                    "controller id or reason",
                    u64::from(id) << 8 | u64::from(reason),
                ));
            }
            Action::Controller { max_len, userdata: Vec::new() }
        }
        nicira::CONTROLLER2 => controller2(body)?,
        nicira::CONJUNCTION => {
            let (clause, clauses) = (body.u8()?, body.u8()?);
            Action::Conjunction { id: body.u32()?, clause, clauses }
        }
        nicira::CT => ct(body, depth)?,
        nicira::NAT => Action::Nat(nat(body)?),
        nicira::CLONE => {
            body.skip(6)?;
            Action::Clone(nested(body.rest(), depth + 1)?)
        }
        nicira::CT_CLEAR => Action::CtClear,
        nicira::CHECK_PKT_LARGER => {
            let (len, offset) = (body.u16()?, body.u16()?);
            Action::CheckPktLarger {
                len,
                dst: range(field_of(body.u32()?)?, offset, 1, "result bit")?,
            }
        }
        subtype => return Err(DecodeError::Unknown("Nicira action", subtype.into())),
    })
}

fn resubmit_port(port: u16) -> Option<u16> {
    Some(port).filter(|&p| p != RESUBMIT_SAME_PORT)
}

fn controller2(mut body: Reader<'_>) -> Result<Action, DecodeError> {
    body.skip(6)?;
    let mut max_len = 0xffff;
    let mut userdata = Vec::new();
    // The action is padded to 8 octets, and so is each property: what is shorter than one is padding.
    while body.remaining() >= 4 {
        let mut head = body;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < 4 {
            return Err(DecodeError::BadLength("property of a controller action", len));
        }
        let mut property = body.padded(len, "property of a controller action")?;
        property.skip(4)?;
        match kind {
            CONTROLLER_MAX_LEN => max_len = property.u16()?,
            CONTROLLER_USERDATA => userdata = property.rest().to_vec(),
            kind => {
                return Err(DecodeError::Unknown("property of a controller action", kind.into()));
            }
        }
    }
    Ok(Action::Controller { max_len, userdata })
}

fn ct(mut body: Reader<'_>, depth: usize) -> Result<Action, DecodeError> {
    let flags = body.u16()?;
    if flags & !(CT_COMMIT | CT_FORCE) != 0 {
        return Err(DecodeError::Unknown("ct flags", flags.into()));
    }
    let (source, zone) = (body.u32()?, body.u16()?);
    let zone = match source {
        0 => CtZone::Number(zone),
        header => CtZone::From(unpack_range(field_of(header)?, zone, "ct zone")?),
    };
    let table = Some(body.u8()?).filter(|&t| t != NO_TABLE);
    body.skip(3)?;
    let alg = body.u16()?;
    Ok(Action::Ct(Ct {
        commit: flags & CT_COMMIT != 0,
        force: flags & CT_FORCE != 0,
        zone,
        table,
        alg,
        actions: nested(body.rest(), depth + 1)?,
    }))
}

fn nat(mut body: Reader<'_>) -> Result<Nat, DecodeError> {
    body.skip(2)?;
    let (flags, present) = (body.u16()?, body.u16()?);
    let has = |bit: u16| present & bit != 0;
    let kind = match flags & (nat_flag::SOURCE | nat_flag::DESTINATION) {
        0 => NatKind::Existing,
        nat_flag::SOURCE => NatKind::Source,
        nat_flag::DESTINATION => NatKind::Destination,
        _ => return Err(DecodeError::BadValue("nat flags", flags.into())),
    };
    if flags >> 5 != 0 {
        return Err(DecodeError::Unknown("nat flags", flags.into()));
    }
    let addresses = if has(nat_range::IPV4_FIRST) {
        let first = Ipv4Addr::from_bits(body.u32()?);
        let last = if has(nat_range::IPV4_LAST) { Ipv4Addr::from_bits(body.u32()?) } else { first };
        Some((IpAddr::V4(first), IpAddr::V4(last)))
    } else if has(nat_range::IPV6_FIRST) {
        let first = Ipv6Addr::from_bits(body.number(16)?);
        let last =
            if has(nat_range::IPV6_LAST) { Ipv6Addr::from_bits(body.number(16)?) } else { first };
        Some((IpAddr::V6(first), IpAddr::V6(last)))
    } else {
        None
    };
    let ports = if has(nat_range::PORT_FIRST) {
        let first = body.u16()?;
        Some((first, if has(nat_range::PORT_LAST) { body.u16()? } else { first }))
    } else {
        None
    };
    Ok(Nat {
        kind,
        addresses,
        ports,
        persistent: flags & nat_flag::PERSISTENT != 0,
        hash: flags & nat_flag::HASH != 0,
        random: flags & nat_flag::RANDOM != 0,
    })
}
