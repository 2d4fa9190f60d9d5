//! Fields and matches as OXM entries: a 32-bit header (class, field, has-mask, length), the value,
//! and the mask if there is one (OpenFlow 1.4 section 7.2.3.2).

use std::sync::OnceLock;

use super::buffer::{Reader, fill_len, pad8, put_number, put_u16, put_u32};
use super::error::{DecodeError, EncodeError};
use crate::model::{Field, Match, Subfield};

/// Class of experimenters' fields: the value is preceded by who they are.
const EXPERIMENTER_CLASS: u32 = 0xffff;
/// The Open Networking Foundation as an experimenter: OpenFlow 1.5's fields in older versions.
const ONF: u32 = 0x4f4e_4600;

const CLASSES: [u16; 5] = [0x0000, 0x0001, 0x1000, 0x8000, 0x8001];

/// NXM numbers of fields that we send by their OXM numbers. Left out are those whose values differ
/// (16-bit `in_port`, shifted `ip_tos`).
const ALIASES: [(u16, u8, Field); 25] = [
    (0, 1, Field::EthDst),
    (0, 2, Field::EthSrc),
    (0, 3, Field::EthType),
    (0, 6, Field::IpProto),
    (0, 7, Field::Ipv4Src),
    (0, 8, Field::Ipv4Dst),
    (0, 9, Field::TcpSrc),
    (0, 10, Field::TcpDst),
    (0, 11, Field::UdpSrc),
    (0, 12, Field::UdpDst),
    (0, 13, Field::IcmpType),
    (0, 14, Field::IcmpCode),
    (0, 15, Field::ArpOp),
    (0, 16, Field::ArpSpa),
    (0, 17, Field::ArpTpa),
    (1, 16, Field::TunnelId),
    (1, 17, Field::ArpSha),
    (1, 18, Field::ArpTha),
    (1, 19, Field::Ipv6Src),
    (1, 20, Field::Ipv6Dst),
    (1, 21, Field::Icmpv6Type),
    (1, 22, Field::Icmpv6Code),
    (1, 23, Field::NdTarget),
    (1, 24, Field::NdSll),
    (1, 25, Field::NdTll),
];

type Table = [[Option<Field>; 128]; CLASSES.len()];

fn lookup(class: u16, number: u8) -> Option<Field> {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table: Table = [[None; 128]; CLASSES.len()];
        let mut enter = |class: u16, number: u8, field: Field| {
            if let Some(row) = CLASSES.iter().position(|&c| c == class) {
                table[row][usize::from(number)] = Some(field);
            }
        };
        let registers =
            (0..16).map(Field::Reg).chain((0..8).map(Field::XReg)).chain((0..4).map(Field::XxReg));
        for field in Field::PLAIN.iter().copied().chain(registers) {
            let info = field.info();
            enter(info.class, info.number, field);
        }
        for (class, number, field) in ALIASES {
            enter(class, number, field);
        }
        enter(1, 27, Field::Ipv6Label);
        enter(1, 28, Field::IpEcn);
        enter(0x8000, 42, Field::TcpFlags);
        table
    });
    let row = CLASSES.iter().position(|&c| c == class)?;
    table[row].get(usize::from(number)).copied().flatten()
}

pub(crate) fn check_field(field: Field) -> Result<(), EncodeError> {
    match field {
        Field::Reg(n) if n > 15 => Err(EncodeError::NoSuchField(field.to_string())),
        Field::XReg(n) if n > 7 => Err(EncodeError::NoSuchField(field.to_string())),
        Field::XxReg(n) if n > 3 => Err(EncodeError::NoSuchField(field.to_string())),
        _ => Ok(()),
    }
}

pub(crate) fn check_range(range: Subfield) -> Result<(), EncodeError> {
    check_field(range.field)?;
    // 64 is what the six bits of `ofs_nbits` can say, and no field that is copied needs more.
    if range.bits == 0
        || u32::from(range.offset) + u32::from(range.bits) > u32::from(range.field.bits())
    {
        return Err(EncodeError::BadRange(range.to_string()));
    }
    Ok(())
}

/// `(offset << 6) | (bits - 1)`, as several Nicira actions pack a range.
pub(crate) fn pack_range(range: Subfield) -> Result<u16, EncodeError> {
    check_range(range)?;
    if range.bits > 64 || range.offset > 0x3ff {
        return Err(EncodeError::BadRange(range.to_string()));
    }
    Ok(range.offset << 6 | (range.bits - 1))
}

pub(crate) fn unpack_range(
    field: Field,
    packed: u16,
    what: &'static str,
) -> Result<Subfield, DecodeError> {
    range(field, packed >> 6, (packed & 0x3f) + 1, what)
}

pub(crate) fn range(
    field: Field,
    offset: u16,
    bits: u16,
    what: &'static str,
) -> Result<Subfield, DecodeError> {
    if bits == 0 || u32::from(offset) + u32::from(bits) > u32::from(field.bits()) {
        return Err(DecodeError::BadValue(what, u64::from(offset) << 16 | u64::from(bits)));
    }
    Ok(Subfield { field, offset, bits })
}

/// Header of a field without a value.
pub(crate) fn header(field: Field) -> u32 {
    let info = field.info();
    u32::from(info.class) << 16 | u32::from(info.number) << 9 | field.octets() as u32
}

pub(crate) fn field_of(header: u32) -> Result<Field, DecodeError> {
    lookup((header >> 16) as u16, (header >> 9 & 0x7f) as u8)
        .ok_or(DecodeError::Unknown("field", header.into()))
}

/// Writes one entry.
pub(crate) fn put_entry(
    out: &mut Vec<u8>,
    field: Field,
    value: u128,
    mask: u128,
) -> Result<(), EncodeError> {
    check_field(field)?;
    let octets = field.octets();
    if mask == field.full_mask() {
        put_u32(out, header(field));
        put_number(out, value, octets);
    } else {
        // The length covers the mask too; both are short enough that no bit carries over.
        put_u32(out, (header(field) & !0xff) | 0x100 | (octets as u32 * 2));
        put_number(out, value, octets);
        put_number(out, mask, octets);
    }
    Ok(())
}

/// Reads one entry: field, value, mask. `Ok(None)` for a field that is not known.
pub(crate) fn entry(
    reader: &mut Reader<'_>,
) -> Result<Result<(Field, u128, u128), DecodeError>, DecodeError> {
    let header = reader.u32()?;
    let len = (header & 0xff) as usize;
    let mut payload = Reader::new(reader.take(len)?, "match field");
    let field = match header >> 16 {
        EXPERIMENTER_CLASS => match (payload.u32()?, header >> 9 & 0x7f) {
            (ONF, 42) => Ok(Field::TcpFlags),
            (vendor, _) => Err(DecodeError::Unknown("field of experimenter", vendor.into())),
        },
        _ => field_of(header),
    };
    let field = match field {
        Ok(field) => field,
        Err(e) => return Ok(Err(e)),
    };
    let len = payload.remaining();
    let octets = field.octets();
    let masked = header & 0x100 != 0;
    if len != if masked { octets * 2 } else { octets } {
        return Err(DecodeError::BadLength("match field", len));
    }
    let value = payload.number(octets)?;
    let mask = if masked { payload.number(octets)? } else { field.full_mask() };
    Ok(Ok((field, value & mask & field.full_mask(), mask & field.full_mask())))
}

/// Writes the entries of a match, without header or padding.
fn put_entries(out: &mut Vec<u8>, m: &Match) -> Result<(), EncodeError> {
    for f in m.fields() {
        // The standard's two fields, as the switch gives them back; they cannot say a part of a priority.
        if f.field == Field::VlanTci && matches!(f.mask >> 13, 0 | 7) {
            if f.mask & 0x1fff != 0 {
                put_entry(out, Field::VlanVid, f.value & 0x1fff, f.mask & 0x1fff)?;
            }
            if f.mask >> 13 != 0 {
                put_entry(out, Field::VlanPcp, f.value >> 13, 7)?;
            }
        } else {
            put_entry(out, f.field, f.value, f.mask)?;
        }
    }
    Ok(())
}

/// Writes a match as an `ofp_match`: header, entries, padding to 8 octets.
pub fn encode_match(out: &mut Vec<u8>, m: &Match) -> Result<(), EncodeError> {
    let start = out.len();
    put_u16(out, 1);
    put_u16(out, 0);
    put_entries(out, m)?;
    fill_len(out, start, 2);
    pad8(out, start);
    Ok(())
}

/// Reads the entries of a match. Where `strict`, a field that is not known is an error.
pub(crate) fn entries(bytes: &[u8], strict: bool) -> Result<Match, DecodeError> {
    let mut reader = Reader::new(bytes, "match");
    let mut out = Match::any();
    while !reader.is_empty() {
        match entry(&mut reader)? {
            Ok((field, value, mask)) => out.set(field, value, mask),
            Err(e) if strict => return Err(e),
            Err(_) => {}
        }
    }
    Ok(out)
}

/// Takes an `ofp_match` off the front and returns its entries' bytes.
pub(crate) fn take_match<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let (kind, len) = (reader.u16()?, usize::from(reader.u16()?));
    if kind != 1 {
        return Err(DecodeError::Unknown("match type", kind.into()));
    }
    let inner = len.checked_sub(4).ok_or(DecodeError::BadLength("match", len))?;
    let bytes = reader.take(inner)?;
    reader.skip(len.next_multiple_of(8) - len)?;
    Ok(bytes)
}

/// Reads an `ofp_match` from the front of `bytes`; every field must be known.
pub fn decode_match(bytes: &[u8]) -> Result<Match, DecodeError> {
    entries(take_match(&mut Reader::new(bytes, "match"))?, true)
}
