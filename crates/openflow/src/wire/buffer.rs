//! Reading with checked lengths, and writing with lengths filled in afterwards.

use super::{
    MAX_MESSAGE, NICIRA, VERSION,
    error::{DecodeError, EncodeError},
};

/// Reads big-endian numbers from the front of a slice. `what` names the thing in errors.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(n) {
            Some((front, rest)) => {
                self.rest = rest;
                Ok(front)
            }
            None => Err(DecodeError::Truncated(self.what)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn skip(&mut self, n: usize) -> Result<(), DecodeError> {
        self.take(n).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn mac(&mut self) -> Result<[u8; 6], DecodeError> {
        self.array()
    }

    /// A right-aligned number of up to 16 octets.
    pub(crate) fn number(&mut self, octets: usize) -> Result<u128, DecodeError> {
        Ok(self.take(octets)?.iter().fold(0, |number, &octet| number << 8 | u128::from(octet)))
    }

    /// The next `len` octets as a reader of their own, and the padding after them to 8 octets gone
    /// as far as it is there.
    pub(crate) fn padded(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<Reader<'a>, DecodeError> {
        let inner = Reader::new(self.take(len)?, what);
        self.skip(len.next_multiple_of(8).saturating_sub(len).min(self.remaining()))?;
        Ok(inner)
    }
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, 0);
}

/// The low `octets` octets of a number.
pub(crate) fn put_number(out: &mut Vec<u8>, value: u128, octets: usize) {
    out.extend_from_slice(&value.to_be_bytes()[16 - octets..]);
}

/// Zeros up to a multiple of 8 octets since `start`.
pub(crate) fn pad8(out: &mut Vec<u8>, start: usize) {
    put_zeros(out, (out.len() - start).next_multiple_of(8) - (out.len() - start));
}

/// Writes how long the thing that began at `start` is into its 16 bits at `start + offset`. What is
/// too long for them is too long for a message as well, which [`message`] refuses.
pub(crate) fn fill_len(out: &mut [u8], start: usize, offset: usize) {
    let len = (out.len() - start) as u16;
    out[start + offset..start + offset + 2].copy_from_slice(&len.to_be_bytes());
}

/// Writes one message; on an error `out` is as it was.
pub(crate) fn message(
    out: &mut Vec<u8>,
    kind: u8,
    xid: u32,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[VERSION, kind, 0, 0]);
    put_u32(out, xid);
    let result = body(out).and_then(|()| match out.len() - start {
        len if len > MAX_MESSAGE => Err(EncodeError::TooLong(len)),
        _ => Ok(()),
    });
    match result {
        Ok(()) => fill_len(out, start, 2),
        Err(_) => out.truncate(start),
    }
    result
}

/// A message that always fits.
pub(crate) fn small_message(kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_MESSAGE - super::HEADER_LEN)];
    let mut out = Vec::with_capacity(super::HEADER_LEN + body.len());
    out.extend_from_slice(&[VERSION, kind]);
    put_u16(&mut out, (super::HEADER_LEN + body.len()) as u16);
    put_u32(&mut out, xid);
    out.extend_from_slice(body);
    out
}

/// A Nicira experimenter message (`OFPT_EXPERIMENTER`).
pub(crate) fn nicira_message(xid: u32, subtype: u32, body: &[u8]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(8 + body.len());
    put_u32(&mut inner, NICIRA);
    put_u32(&mut inner, subtype);
    inner.extend_from_slice(body);
    small_message(4, xid, &inner)
}
