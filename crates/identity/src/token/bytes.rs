//! Identifiers, serials and texts as bytes: what the format of tokens is made of. Pure.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::format::Stamp;

const DEFAULT_WORD: &str = "default";
/// Tags of an identifier; above them, a text's length and this many.
const UUID: u8 = 0;
const WORD: u8 = 1;
const DIGEST: u8 = 2;

/// `None` when an identifier is empty or too long, or a list too long.
pub(super) type Put = Option<()>;

pub(super) fn put_stamp<T: fmt::Display>(out: &mut Vec<u8>, stamp: &Stamp<T>) -> Put {
    put_id(out, &stamp.id.to_string())?;
    put_number(out, stamp.serial);
    Some(())
}

/// LEB128.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

pub(super) fn put_count(out: &mut Vec<u8>, count: usize) -> Put {
    out.push(u8::try_from(count).ok()?);
    Some(())
}

pub(super) fn put_id(out: &mut Vec<u8>, id: &str) -> Put {
    if id == DEFAULT_WORD {
        out.push(WORD);
    } else if let Some(bytes) = uuid_of(id) {
        out.push(UUID);
        out.extend(bytes);
    } else if let Some(bytes) = digest_of(id) {
        out.push(DIGEST);
        out.extend(bytes);
    } else if id.is_empty() {
        return None;
    } else {
        out.push(u8::try_from(id.len()).ok()?.checked_add(DIGEST)?);
        out.extend(id.as_bytes());
    }
    Some(())
}

/// 32 lower-case hexadecimal digits.
fn uuid_of(id: &str) -> Option<[u8; 16]> {
    let uuid = Uuid::try_parse(id).ok()?;
    (uuid.simple().to_string() == id).then(|| uuid.into_bytes())
}

/// 64 lower-case hexadecimal digits: upstream's ids of mapped users are SHA-256.
fn digest_of(id: &str) -> Option<[u8; 32]> {
    let (first, second) = (id.len() == 64).then(|| id.split_at_checked(32))??;
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&uuid_of(first)?);
    digest[16..].copy_from_slice(&uuid_of(second)?);
    Some(digest)
}

fn hexadecimal(bytes: [u8; 16]) -> String {
    Uuid::from_bytes(bytes).simple().to_string()
}

/// What is still to be read.
pub(super) struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn slice(&mut self, length: usize) -> Option<&'b str> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(head).ok()
    }

    pub fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        self.slice(length).map(str::to_owned)
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub fn id<T: FromStr>(&mut self) -> Option<T> {
        let text = match self.byte()? {
            UUID => hexadecimal(self.array()?),
            WORD => DEFAULT_WORD.to_owned(),
            DIGEST => hexadecimal(self.array()?) + &hexadecimal(self.array()?),
            length => self.slice(usize::from(length - DIGEST))?.to_owned(),
        };
        text.parse().ok()
    }

    pub fn stamp<T: FromStr>(&mut self) -> Option<Stamp<T>> {
        Some(Stamp { id: self.id()?, serial: self.number()? })
    }

    /// As many as the next byte says.
    pub fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.byte()?;
        (0..count).map(|_| one(self)).collect()
    }
}
