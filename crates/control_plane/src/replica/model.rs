//! Who lives, judged by what was seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloud_types::Timestamp;
use host_protocol::{GatewayState, StreamTerms};

/// How often a sign of life is given, and the others' are looked at.
pub const BEAT: Duration = Duration::from_secs(1);
/// So many looks in a row without a sign of life, and a replica is taken to be dead.
pub const SILENT_LOOKS: u32 = 4;
/// A replica that could not give a sign of life for so long sends its hosts away. Shorter than the
/// others take to think it dead.
pub const OUT_OF_TOUCH: Duration = Duration::from_millis(2500);
/// Pings on hosts' streams where there are other replicas to go to, and how long a host waits for
/// one: with what a new connection takes, a host is served again within five seconds.
const PING: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(3000));

/// One control plane among several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its identity: that of its state directory.
    pub id: String,
    /// Where its hosts connect.
    pub gateway: String,
    /// Where its API listens.
    pub api: String,
    /// Its release.
    pub version: String,
    /// The name under which its process holds leases and claims.
    pub worker: String,
    /// Counts its processes.
    pub epoch: u64,
    /// Counts its signs of life.
    pub beat: u64,
    /// Whether it is taken to be alive.
    pub serving: bool,
    /// When its process started.
    pub started_at: Timestamp,
    /// When it last gave a sign of life, by its own clock: for people.
    pub seen_at: Timestamp,
}

/// What this replica knows of itself and the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether this one is in touch with the database.
    pub in_touch: bool,
    /// The gateways of all; empty where there is one.
    pub gateways: Arc<Vec<GatewayState>>,
}

impl View {
    /// A control plane without others.
    pub fn alone() -> View {
        View { in_touch: true, gateways: Arc::default() }
    }

    /// What hosts are told of a stream.
    pub fn terms(&self, session: u64) -> StreamTerms {
        if self.gateways.is_empty() {
            return StreamTerms { session, ..StreamTerms::default() };
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        StreamTerms {
            session,
            ping_millis: millis(PING.0),
            silence_millis: millis(PING.1),
            gateways: self.gateways.to_vec(),
        }
    }
}

/// The gateways of these replicas, one for each address (some may stand behind a balancer).
pub fn gateways(replicas: &[Replica]) -> Vec<GatewayState> {
    let mut by_url: BTreeMap<&str, bool> = BTreeMap::new();
    for replica in replicas {
        *by_url.entry(&replica.gateway).or_default() |= replica.serving;
    }
    if by_url.len() < 2 {
        return Vec::new();
    }
    by_url.into_iter().map(|(url, serving)| GatewayState { url: url.to_owned(), serving }).collect()
}

/// What was seen of the others.
#[derive(Debug, Default)]
pub struct Watch {
    /// By id: epoch and beat, and in how many looks since they have not moved.
    seen: BTreeMap<String, (u64, u64, u32)>,
}

impl Watch {
    /// Takes a look in; answers who is to be taken for dead. The caller makes sure, where it says
    /// so, that the counter has still not moved.
    pub fn look(&mut self, replicas: &[Replica], own: &str) -> Vec<Replica> {
        let mut dead = Vec::new();
        let mut seen = BTreeMap::new();
        for replica in replicas.iter().filter(|replica| replica.serving && replica.id != own) {
            let unmoved = match self.seen.get(&replica.id) {
                Some((epoch, beat, unmoved))
                    if (*epoch, *beat) == (replica.epoch, replica.beat) =>
                {
                    unmoved + 1
                }
                _ => 0,
            };
            if unmoved >= SILENT_LOOKS {
                dead.push(replica.clone());
            }
            seen.insert(replica.id.clone(), (replica.epoch, replica.beat, unmoved));
        }
        self.seen = seen;
        dead
    }

    /// A look failed: the database may have been out of reach for everybody, and nobody's silence
    /// counts.
    pub fn failed(&mut self) {
        self.seen.clear();
    }
}
