//! DNS messages (RFC 1035), as far as a responder and forwarder needs them: one question in, and
//! addresses or a name out. A full library would parse a hundred record kinds that guests could
//! reach; this reads a header, one name and two numbers.

use std::net::IpAddr;

/// Types of records.
pub(crate) mod kind {
    pub const A: u16 = 1;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

const HEADER: usize = 12;
const CLASS_INTERNET: u16 = 1;
/// Seconds that a guest may keep an answer: names change when ports do.
const TTL: u32 = 30;
/// Largest UDP answer that is believed when a guest asks for more: one that fits its MTU.
const MAX_EDNS: usize = 1232;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseCode {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NameError = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// Why a message is not answered as a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not a question at all.
    Silence,
    /// A question that is answered with an error.
    Answer(Vec<u8>),
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The message as it came.
    pub bytes: Vec<u8>,
    /// The name's labels in lower case; not all need be UTF-8, such ones match nothing here.
    pub name: Vec<String>,
    pub kind: u16,
    /// End of the question in `bytes`.
    question_end: usize,
    udp_size: Option<u16>,
}

/// What is said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub code: ResponseCode,
    pub records: Vec<Record>,
}

/// One record about the name that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(IpAddr),
    Pointer(String),
}

impl Query {
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let flags = u16_at(bytes, 2).ok_or(Refusal::Silence)?;
        if bytes.len() < HEADER || flags & RESPONSE != 0 {
            return Err(Refusal::Silence);
        }
        let refuse = |code| Err(Refusal::Answer(bare(&bytes[..HEADER], code)));
        if flags & OPCODE != 0 {
            return refuse(ResponseCode::NotImplemented);
        }
        if u16_at(bytes, 4) != Some(1) {
            return refuse(ResponseCode::FormatError);
        }
        let Some((name, end)) = read_name(bytes, HEADER) else {
            return refuse(ResponseCode::FormatError);
        };
        let (Some(kind), Some(class)) = (u16_at(bytes, end), u16_at(bytes, end + 2)) else {
            return refuse(ResponseCode::FormatError);
        };
        if class != CLASS_INTERNET {
            return refuse(ResponseCode::NotImplemented);
        }
        let question_end = end + 4;
        Ok(Query {
            bytes: bytes.to_vec(),
            name,
            kind,
            question_end,
            udp_size: edns_size(bytes, question_end),
        })
    }

    /// The identifier.
    pub fn id(&self) -> u16 {
        u16_at(&self.bytes, 0).unwrap_or_default()
    }

    /// Header and question, to compare an answer's with.
    pub fn question(&self) -> &[u8] {
        &self.bytes[HEADER..self.question_end]
    }

    /// Where the question ends in the message.
    pub fn end(&self) -> usize {
        self.question_end
    }

    /// Largest UDP answer that the guest says it takes.
    pub fn udp_size(&self) -> usize {
        usize::from(self.udp_size.unwrap_or_default()).min(MAX_EDNS)
    }

    /// An answer without records that says what went wrong.
    pub fn failure(&self, code: ResponseCode) -> Vec<u8> {
        let mut out = self.bytes[..self.question_end].to_vec();
        self.write_header(&mut out, RECURSION_AVAILABLE | code as u16, 0);
        out
    }

    /// An answer from this network's own names. What does not fit is cut off, and said to be: the
    /// guest asks again over TCP.
    pub fn reply(&self, answer: &Answer, limit: usize) -> Vec<u8> {
        let mut out = self.bytes[..self.question_end].to_vec();
        let mut flags = AUTHORITATIVE | RECURSION_AVAILABLE | answer.code as u16;
        let mut count = 0;
        for record in &answer.records {
            let before = out.len();
            write_record(&mut out, record);
            if out.len() > limit {
                out.truncate(before);
                flags |= TRUNCATED;
                break;
            }
            count += 1;
        }
        self.write_header(&mut out, flags, count);
        out
    }

    fn write_header(&self, out: &mut [u8], flags: u16, answers: u16) {
        let asked = u16_at(&self.bytes, 2).unwrap_or_default() & RECURSION_DESIRED;
        write_header(out, RESPONSE | asked | flags, 1, answers);
    }
}

/// A header alone, for a message whose question could not be read.
fn bare(header: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut out = header.to_vec();
    let kept = u16_at(header, 2).unwrap_or_default() & (OPCODE | RECURSION_DESIRED);
    write_header(&mut out, RESPONSE | kept | code as u16, 0, 0);
    out
}

fn write_header(out: &mut [u8], flags: u16, questions: u16, answers: u16) {
    for (at, value) in [(2, flags), (4, questions), (6, answers), (8, 0), (10, 0)] {
        out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

fn write_record(out: &mut Vec<u8>, record: &Record) {
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(ip)) => (kind::A, ip.octets().to_vec()),
        Record::Address(IpAddr::V6(ip)) => (kind::AAAA, ip.octets().to_vec()),
        Record::Pointer(name) => (kind::PTR, write_name(name)),
    };
    // The owner is the name of the question, which begins right after the header.
    out.extend_from_slice(&[0xc0, HEADER as u8]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(&data);
}

/// A name as labels; what is longer than a label or a name may be is cut.
fn write_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        if out.len() + label.len() + 2 > 255 {
            break;
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// A name without compression (a first name has nothing to point to), and where it ends.
fn read_name(bytes: &[u8], mut at: usize) -> Option<(Vec<String>, usize)> {
    let start = at;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels, at));
        }
        if length > 63 || at + length - start > 254 {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

/// The size in an OPT record (RFC 6891), when that is the only additional record, as it is in
/// questions.
fn edns_size(bytes: &[u8], at: usize) -> Option<u16> {
    let counts = [u16_at(bytes, 6)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?];
    let root = *bytes.get(at)? == 0;
    (counts == [0, 0, 1] && root && u16_at(bytes, at + 1)? == kind::OPT)
        .then(|| u16_at(bytes, at + 3))
        .flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A question as a resolver sends it.
    pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        out.extend_from_slice(&write_name(name));
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
        out
    }

    #[test]
    fn a_question_is_read_and_answered_in_its_own_words() {
        let bytes = question("Hello.Example", kind::A);
        let query = Query::read(&bytes).unwrap();
        assert_eq!(query.name, ["hello", "example"]);
        assert_eq!((query.id(), query.kind), (0x1234, kind::A));
        let answer = Answer {
            code: ResponseCode::NoError,
            records: vec![Record::Address([10, 1, 0, 9].into())],
        };
        let reply = query.reply(&answer, 512);
        assert_eq!(&reply[..8], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1]);
        assert_eq!(reply[HEADER..bytes.len()], bytes[HEADER..]);
        assert_eq!(reply[bytes.len()..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 1, 0, 9]);
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_missing() {
        let query = Query::read(&question("many", kind::A)).unwrap();
        let records = (0..100).map(|i| Record::Address([10, 0, 0, i].into())).collect();
        let reply = query.reply(&Answer { code: ResponseCode::NoError, records }, 512);
        assert!(reply.len() <= 512);
        assert_ne!(u16_at(&reply, 2).unwrap() & TRUNCATED, 0);
        let room = (512 - query.bytes.len()) / 16;
        assert_eq!(u16_at(&reply, 6), Some(room as u16));
    }

    #[test]
    fn answers_and_fragments_are_met_with_silence_and_nonsense_with_an_error() {
        assert_eq!(Query::read(&[]), Err(Refusal::Silence));
        let mut answer = question("x", kind::A);
        answer[2] |= 0x80;
        assert_eq!(Query::read(&answer), Err(Refusal::Silence));
        let mut pointer = question("x", kind::A);
        pointer[HEADER] = 0xc0;
        assert!(matches!(Query::read(&pointer), Err(Refusal::Answer(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_message_panics(bytes: Vec<u8>) {
            let mut query = question("a.b", kind::A);
            query.extend_from_slice(&bytes);
            query[11] = 1;
            for message in [bytes, query] {
                if let Ok(query) = Query::read(&message) {
                    let _ = query.failure(ResponseCode::Refused);
                    let _ = query.udp_size();
                }
            }
        }

        #[test]
        fn a_name_survives_writing_and_reading(labels in proptest::collection::vec("[a-z0-9-]{1,63}", 0..4)) {
            let query = Query::read(&question(&labels.join("."), kind::A)).unwrap();
            let fits = labels.iter().map(|l| l.len() + 1).sum::<usize>() < 255;
            if fits {
                proptest::prop_assert_eq!(query.name, labels);
            }
        }
    }
}
