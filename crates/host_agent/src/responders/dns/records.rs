//! The records of an answer from upstream, as far as a forwarder must know them: how long each may
//! be kept, and which addresses it tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::kind;

const HEADER: usize = 12;
const SOA: u16 = 6;
/// Records of one answer that are looked at; more are not believed.
const MAX_RECORDS: usize = 1024;

/// Part of an answer in which a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub section: Section,
    pub kind: u16,
    pub ttl: u32,
    /// Where the four octets of the TTL begin.
    pub ttl_at: usize,
    /// The address that it tells.
    pub address: Option<IpAddr>,
    /// How long the absence of what was asked may be believed (RFC 2308, section 5).
    pub absence: Option<u32>,
}

/// Reads the records after a question that ends at `at`; `None` when they are not whole.
pub(crate) fn read(message: &[u8], at: usize) -> Option<Vec<Found>> {
    let count = |at: usize| Some(usize::from(u16_at(message, at)?));
    let counts = [
        (Section::Answer, count(6)?),
        (Section::Authority, count(8)?),
        (Section::Additional, count(10)?),
    ];
    if message.len() < HEADER || counts.iter().map(|(_, n)| n).sum::<usize>() > MAX_RECORDS {
        return None;
    }
    let mut at = at;
    let mut out = Vec::new();
    for (section, count) in counts {
        for _ in 0..count {
            at = skip_name(message, at)?;
            let (kind, ttl_at) = (u16_at(message, at)?, at + 4);
            let ttl = u32_at(message, ttl_at)?;
            let length = usize::from(u16_at(message, at + 8)?);
            let start = at + 10;
            let data = message.get(start..start + length)?;
            let address = match kind {
                kind::A => data.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).into()),
                kind::AAAA => data.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).into()),
                _ => None,
            };
            // Two names, then five numbers, of which the last is meant.
            let absence = (kind == SOA && length >= 4)
                .then(|| u32_at(message, start + length - 4).map(|minimum| minimum.min(ttl)))
                .flatten();
            out.push(Found { section, kind, ttl, ttl_at, address, absence });
            at = start + length;
        }
    }
    Some(out)
}

/// Past a name, which ends at its root or at its first pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + length,
            length if length >= 192 => return (at + 2 <= message.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::message::tests::question;
    use super::*;

    /// A response to a question with these records: section, kind, TTL, data. Owners point to the
    /// question's name.
    pub(crate) fn response(
        question: &[u8],
        code: u8,
        records: &[(Section, u16, u32, &[u8])],
    ) -> Vec<u8> {
        let mut out = question.to_vec();
        (out[2], out[3]) = (0x81, 0x80 | code);
        for (at, section) in
            [(7, Section::Answer), (9, Section::Authority), (11, Section::Additional)]
        {
            out[at] = records.iter().filter(|(s, ..)| *s == section).count() as u8;
        }
        for (_, kind, ttl, data) in records {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn records_are_read_with_their_times_and_addresses() {
        let asked = question("a.example", kind::A);
        let soa = [&[0, 0][..], &[0; 16], &60_u32.to_be_bytes()].concat();
        let answer = response(
            &asked,
            0,
            &[
                (Section::Answer, kind::A, 300, &[10, 0, 0, 1]),
                (Section::Authority, SOA, 900, &soa),
            ],
        );
        let found = read(&answer, asked.len()).unwrap();
        assert_eq!(found[0].address, Some([10, 0, 0, 1].into()));
        assert_eq!((found[0].ttl, found[1].absence), (300, Some(60)));
        assert_eq!(answer[found[0].ttl_at..][..4], 300_u32.to_be_bytes());
        for cut in asked.len()..answer.len() {
            assert_eq!(read(&answer[..cut], asked.len()), None, "cut at {cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes: Vec<u8>, at in 0usize..64) {
            let _ = read(&bytes, at);
        }
    }
}
