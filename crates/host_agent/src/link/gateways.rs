//! Which of several gateways a host uses.
//!
//! Each host ranks the gateways in an order of its own (a hash of host and gateway), so that hosts
//! are spread over the replicas of the control plane and, when one dies, over those that are left.
//!
//! ```text
//!             no answer, or silence                      welcomed
//!   on the best ──────────────────▶ on the next that ──────────────────▶ there
//!        ▲                          did not fail lately                    │
//!        └──────── after a random time, once the best serves again ◄───────┘
//! ```
//! What the control plane said last of its gateways is kept in the agent's store, so that a host
//! that starts while its first gateway is down finds another.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host_protocol::{GatewayState, StreamTerms};
use rand::Rng;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// A gateway that failed is not turned to for this long, while there is another.
const FAILED_FOR: Duration = Duration::from_secs(15);
/// A better gateway that serves again is turned to within this time, each host at a moment of its
/// own: a replica that comes back is not run over.
const TURN_WITHIN: Duration = Duration::from_secs(15);

/// The gateways of one host's control plane.
#[derive(Debug)]
pub struct Gateways {
    host_id: String,
    /// What the operator configured: the first contact, and the last resort.
    configured: Vec<String>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What the control plane said.
    known: Vec<GatewayState>,
    current: String,
    session: u64,
    failed: BTreeMap<String, Instant>,
    /// When to turn to a better one.
    turn_at: Option<Instant>,
}

impl Gateways {
    /// The gateways that an operator configured; at least one.
    pub fn new(host_id: &str, configured: &[String]) -> Gateways {
        let configured: Vec<String> =
            configured.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let inner = Inner {
            known: Vec::new(),
            current: String::new(),
            session: 0,
            failed: BTreeMap::new(),
            turn_at: None,
        };
        let gateways =
            Gateways { host_id: host_id.to_owned(), configured, inner: Mutex::new(inner) };
        let first = gateways.ranked(&gateways.lock()).into_iter().next().unwrap_or_default();
        gateways.lock().current = first;
        gateways
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one assignment, so what a panic left behind is sound.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateway in use.
    pub fn current(&self) -> String {
        self.lock().current.clone()
    }

    /// The session of the stream that is read; 0 before the first.
    pub fn session(&self) -> u64 {
        self.lock().session
    }

    /// Whether there is a choice.
    pub fn are_several(&self) -> bool {
        self.ranked(&self.lock()).len() > 1
    }

    /// Whether the gateway failed lately, so that an answer from it is not worth waiting for.
    pub fn has_failed(&self, url: &str) -> bool {
        self.lock().failed.get(url).is_some_and(|at| at.elapsed() < FAILED_FOR)
    }

    /// What was known before the agent started: (url, serving).
    pub fn recall(&self, known: Vec<GatewayState>) {
        let mut inner = self.lock();
        inner.known = known;
        if let Some(best) = self.ranked(&inner).into_iter().next() {
            inner.current = best;
        }
    }

    /// A stream was opened at the current gateway.
    pub fn welcomed(&self, terms: &StreamTerms) {
        let mut inner = self.lock();
        inner.session = terms.session;
        let current = inner.current.clone();
        inner.failed.remove(&current);
        inner.turn_at = None;
        inner.known.clone_from(&terms.gateways);
        self.plan_turn(&mut inner);
    }

    /// The control plane says which gateways there are now.
    pub fn learn(&self, gateways: &[GatewayState]) {
        let mut inner = self.lock();
        inner.known = gateways.to_vec();
        self.plan_turn(&mut inner);
    }

    /// The current gateway does not answer: the next best is current from now on.
    pub fn failed(&self) {
        let mut inner = self.lock();
        let current = inner.current.clone();
        inner.failed.insert(current.clone(), Instant::now());
        inner.failed.retain(|_, at| at.elapsed() < FAILED_FOR);
        inner.turn_at = None;
        let ranked = self.ranked(&inner);
        let next = ranked
            .iter()
            .find(|url| !inner.failed.contains_key(*url))
            // All failed: the one whose failure is the oldest.
            .or_else(|| ranked.iter().min_by_key(|url| inner.failed.get(*url).copied()));
        if let Some(next) = next.cloned() {
            inner.current = next;
        }
    }

    /// When a better gateway should be turned to, if there is one that serves.
    pub fn turn_at(&self) -> Option<Instant> {
        self.lock().turn_at
    }

    /// Turns to the better gateway, if it still is one.
    pub fn turn(&self) {
        let mut inner = self.lock();
        inner.turn_at = None;
        if let Some(better) = self.better(&inner) {
            inner.current = better;
        }
    }

    fn plan_turn(&self, inner: &mut Inner) {
        inner.turn_at = match (self.better(inner), inner.turn_at) {
            (None, _) => None,
            (Some(_), Some(planned)) => Some(planned),
            (Some(better), None) => {
                // One that failed just now may be on its way up: it is given some time.
                let rested = inner.failed.get(&better).map(|at| *at + FAILED_FOR);
                let from = rested.map_or_else(Instant::now, |at| at.max(Instant::now()));
                Some(from + rand::rng().random_range(Duration::ZERO..=TURN_WITHIN))
            }
        };
    }

    fn better(&self, inner: &Inner) -> Option<String> {
        let serving: Vec<&GatewayState> =
            inner.known.iter().filter(|gateway| gateway.serving).collect();
        let best = serving.iter().map(|gateway| &gateway.url).max_by_key(|url| self.weight(url))?;
        (*best != inner.current).then(|| best.clone())
    }

    /// All gateways, the best first: those that serve, those that are known, those that are only
    /// configured.
    fn ranked(&self, inner: &Inner) -> Vec<String> {
        let mut all: Vec<(u8, String)> = inner
            .known
            .iter()
            .map(|gateway| (if gateway.serving { 2 } else { 1 }, gateway.url.clone()))
            .collect();
        for url in &self.configured {
            if !all.iter().any(|(_, known)| known == url) {
                all.push((0, url.clone()));
            }
        }
        all.sort_by_cached_key(|(class, url)| std::cmp::Reverse((*class, self.weight(url))));
        all.into_iter().map(|(_, url)| url).collect()
    }

    /// Rendezvous hashing: the highest wins, and the loss of one gateway moves only its hosts.
    fn weight(&self, url: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.host_id.as_bytes());
        hash.update([0]);
        hash.update(url.as_bytes());
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URLS: [&str; 3] = ["https://a:1", "https://b:1", "https://c:1"];

    fn states(serving: [bool; 3]) -> Vec<GatewayState> {
        URLS.iter()
            .zip(serving)
            .map(|(url, serving)| GatewayState { url: (*url).to_owned(), serving })
            .collect()
    }

    fn terms(serving: [bool; 3]) -> StreamTerms {
        StreamTerms { session: 7, gateways: states(serving), ..StreamTerms::default() }
    }

    fn host(number: usize) -> Gateways {
        Gateways::new(&format!("host-{number}"), &["https://a:1/".to_owned()])
    }

    /// Where each of many hosts goes when it knows these gateways.
    fn spread(serving: [bool; 3]) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for number in 0..900 {
            let gateways = host(number);
            gateways.recall(states(serving));
            *count.entry(gateways.current()).or_default() += 1;
        }
        count
    }

    #[test]
    fn hosts_are_spread_over_all_gateways_and_over_those_left() {
        let all = spread([true; 3]);
        assert!(all.len() == 3 && all.values().all(|hosts| (200..400).contains(hosts)), "{all:?}");
        let two = spread([true, false, true]);
        assert!(two.len() == 2 && two.values().all(|hosts| (350..550).contains(hosts)), "{two:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_leaves_a_gateway_that_fails_and_returns_when_it_serves_again() {
        let gateways = host(1);
        gateways.welcomed(&terms([true; 3]));
        gateways.turn();
        let best = gateways.current();
        gateways.failed();
        let next = gateways.current();
        assert_ne!(best, next);
        let dead = |url: &str| URLS.map(|known| known != url);
        gateways.welcomed(&terms(dead(&best)));
        assert_eq!(gateways.turn_at(), None, "nothing better serves");
        gateways.learn(&states([true; 3]));
        let planned = gateways.turn_at().unwrap();
        assert!(planned >= Instant::now() + FAILED_FOR, "it is not trusted at once");
        assert!(planned <= Instant::now() + FAILED_FOR + TURN_WITHIN);
        gateways.learn(&states([true; 3]));
        assert_eq!(gateways.turn_at(), Some(planned), "one moment is chosen, once");
        gateways.turn();
        assert_eq!(gateways.current(), best);
    }

    #[tokio::test(start_paused = true)]
    async fn every_gateway_is_tried_before_one_is_tried_again() {
        let gateways = host(2);
        gateways.recall(states([true; 3]));
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(gateways.current());
            gateways.failed();
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let mut first: Vec<_> = tried[..3].to_vec();
        first.sort();
        assert_eq!(first, URLS);
        assert_eq!(tried[3], tried[0]);
    }

    #[test]
    fn a_gateway_that_is_only_configured_is_the_last_resort() {
        let gateways = Gateways::new("host", &["https://balancer:1".to_owned()]);
        assert_eq!(gateways.current(), "https://balancer:1");
        assert!(!gateways.are_several());
        gateways.recall(states([false, false, true]));
        assert_eq!(gateways.current(), "https://c:1");
        for _ in 0..3 {
            gateways.failed();
        }
        assert_eq!(gateways.current(), "https://balancer:1");
    }
}
