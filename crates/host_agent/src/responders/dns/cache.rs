//! Answers from upstream, kept for as long as they say, for each network apart: what another tenant
//! asks can neither be seen nor changed.
//!
//! A question is known again only when the whole message is the same but for its identifier and the
//! case of its name: flags and what stands beside the question may change an answer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::message::Query;
use super::message::kind;
use super::records::{Found, Section};

/// Answers of one network and of all.
const PER_NETWORK: usize = 512;
const TOTAL: usize = 8192;
/// Longest answer that is kept.
const MAX_ANSWER: usize = 4096;
/// Longest that an answer, or the absence of one, is believed, in seconds.
const LONGEST: u32 = 3600;
const LONGEST_ABSENCE: u32 = 60;
/// Flags and code: truncated; "no such name".
const TRUNCATED: u8 = 0x02;
const NAME_ERROR: u8 = 3;

struct Kept {
    answer: Vec<u8>,
    /// Where TTLs begin.
    ttls: Vec<usize>,
    since: Instant,
    until: Instant,
}

/// The answers.
#[derive(Default)]
pub(crate) struct Cache {
    networks: Mutex<HashMap<u32, HashMap<Vec<u8>, Kept>>>,
}

/// What makes two questions the same.
fn key(query: &Query) -> Vec<u8> {
    let mut key = query.bytes[2..].to_vec();
    let name = 10..10 + query.question().len() - 4;
    key[name].make_ascii_lowercase();
    key
}

impl Cache {
    /// A kept answer in the words of the question, with what is left of its times.
    pub fn get(&self, network: u32, query: &Query) -> Option<Vec<u8>> {
        let now = Instant::now();
        let networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = networks.get(&network)?.get(&key(query)).filter(|kept| kept.until > now)?;
        let mut answer = kept.answer.clone();
        answer[..2].copy_from_slice(&query.id().to_be_bytes());
        let question = query.question();
        answer.get_mut(12..12 + question.len())?.copy_from_slice(question);
        let age = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        for &at in &kept.ttls {
            let octets = answer.get_mut(at..at + 4)?;
            let ttl = u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]);
            octets.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
        }
        Some(answer)
    }

    /// Keeps an answer, if it may be.
    pub fn put(&self, network: u32, query: &Query, answer: &[u8], records: &[Found]) {
        let Some(seconds) = seconds(answer, records).filter(|seconds| *seconds > 0) else { return };
        if answer.len() > MAX_ANSWER || answer.len() < 12 + query.question().len() {
            return;
        }
        let now = Instant::now();
        let ttls = records.iter().filter(|r| r.kind != kind::OPT).map(|r| r.ttl_at).collect();
        let until = now + Duration::from_secs(seconds.into());
        let kept = Kept { answer: answer.to_vec(), ttls, since: now, until };
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if networks.values().map(HashMap::len).sum::<usize>() >= TOTAL {
            for answers in networks.values_mut() {
                answers.retain(|_, kept| kept.until > now);
            }
            networks.retain(|_, answers| !answers.is_empty());
            if networks.values().map(HashMap::len).sum::<usize>() >= TOTAL {
                return;
            }
        }
        let answers = networks.entry(network).or_default();
        if answers.len() >= PER_NETWORK {
            answers.retain(|_, kept| kept.until > now);
            if answers.len() >= PER_NETWORK {
                // Whichever comes first: its network asks again.
                if let Some(some) = answers.keys().next().cloned() {
                    answers.remove(&some);
                }
            }
        }
        answers.insert(key(query), kept);
    }
}

/// How long an answer may be kept; `None` when it may not.
fn seconds(answer: &[u8], records: &[Found]) -> Option<u32> {
    let (flags, code) = (answer.get(2)?, answer.get(3)? & 0xf);
    if flags & TRUNCATED != 0 || !matches!(code, 0 | NAME_ERROR) {
        return None;
    }
    let answered = records.iter().any(|record| record.section == Section::Answer);
    if answered && code == 0 {
        let times = records.iter().filter(|r| r.kind != kind::OPT).map(|r| r.ttl);
        return times.min().map(|ttl| ttl.min(LONGEST));
    }
    records.iter().find_map(|record| record.absence).map(|ttl| ttl.min(LONGEST_ABSENCE))
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::question;
    use super::super::records::tests::response;
    use super::super::records::{self, Section};
    use super::*;

    fn asked(name: &str) -> Query {
        Query::read(&question(name, kind::A)).unwrap()
    }

    fn keep(cache: &Cache, network: u32, query: &Query, answer: &[u8]) {
        let records = records::read(answer, query.bytes.len()).unwrap();
        cache.put(network, query, answer, &records);
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_in_its_network_alone() {
        tokio::time::pause();
        let cache = Cache::default();
        let query = asked("a.example");
        let answer = response(&query.bytes, 0, &[(Section::Answer, kind::A, 100, &[192, 0, 2, 1])]);
        keep(&cache, 1, &query, &answer);
        assert_eq!(cache.get(2, &query), None);
        tokio::time::advance(Duration::from_secs(40)).await;
        let mut other = question("A.Example", kind::A);
        other[0] ^= 1;
        let found = cache.get(1, &Query::read(&other).unwrap()).unwrap();
        assert_eq!((&found[..2], &found[12..query.bytes.len()]), (&other[..2], &other[12..]));
        let ttl_at = records::read(&found, other.len()).unwrap()[0].ttl_at;
        assert_eq!(found[ttl_at..ttl_at + 4], 60_u32.to_be_bytes());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(cache.get(1, &query), None);
    }

    #[tokio::test]
    async fn failures_and_cut_answers_are_not_kept_and_absence_not_for_long() {
        tokio::time::pause();
        let cache = Cache::default();
        let query = asked("a.example");
        let address = (Section::Answer, kind::A, 100, &[192, 0, 2, 1][..]);
        keep(&cache, 1, &query, &response(&query.bytes, 2, &[address]));
        let mut cut = response(&query.bytes, 0, &[address]);
        cut[2] |= TRUNCATED;
        keep(&cache, 1, &query, &cut);
        keep(&cache, 1, &query, &response(&query.bytes, 0, &[]));
        assert_eq!(cache.get(1, &query), None);
        let soa = [&[0, 0][..], &[0; 16], &9000_u32.to_be_bytes()].concat();
        let absent = response(&query.bytes, NAME_ERROR, &[(Section::Authority, 6, 9000, &soa)]);
        keep(&cache, 1, &query, &absent);
        assert!(cache.get(1, &query).is_some());
        tokio::time::advance(Duration::from_secs(u64::from(LONGEST_ABSENCE) + 1)).await;
        assert_eq!(cache.get(1, &query), None);
    }

    #[tokio::test]
    async fn a_network_fills_its_own_share_only() {
        let cache = Cache::default();
        for n in 0..=PER_NETWORK {
            let query = asked(&format!("a{n}.example"));
            let address = (Section::Answer, kind::A, 100, &[192, 0, 2, 1][..]);
            keep(&cache, 1, &query, &response(&query.bytes, 0, &[address]));
        }
        let networks = cache.networks.lock().unwrap();
        assert_eq!(networks[&1].len(), PER_NETWORK);
    }
}
