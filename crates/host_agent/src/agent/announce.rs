//! Announcements: a frame from each of the host's locators, so that the switches of the underlay know
//! where it is and flood nothing that is addressed to it.
//!
//! A switch forgets an address that has been silent for its ageing time. A port that only receives is
//! silent, and a flood locator always is: no frame comes from it. So each locator is heard from at
//! once when it is new (a start, a move), and then every third of the ageing time, spread evenly. The
//! frames go to a group address that every switch floods and every host drops.
//!
//! ```text
//!   rate of a host, frames a second = 3 × (ports + networks) / ageing time in seconds
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cloud_types::{Locator, MacAddress};
use tokio::time::Instant;

use super::shared::{Shared, lock};

/// Who is addressed: everybody. Locally administered, so that nobody else means it.
pub const GROUP: MacAddress = MacAddress([0x03, 0x6d, 0x65, 0x72, 0x69, 0x64]);
/// IEEE 802's type for local experiments: no stack takes such a frame for anything.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// The shortest frame, without its checksum.
const LENGTH: usize = 60;
/// Shortest pause between two batches.
const PAUSE: Duration = Duration::from_millis(100);
/// Frames of one batch, also when everything is new.
const BATCH: usize = 100;

/// What is announced: set by the network's task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// OpenFlow port of the wire; nothing is announced without one.
    pub wire: Option<u32>,
    /// The host's locators.
    pub locators: BTreeSet<MacAddress>,
    /// Counts the switch's restarts: after one, everything is announced anew.
    pub since: u64,
}

/// The locators of a host: its ports' and, for what is flooded, its networks'.
pub fn locators(
    host: u16,
    ports: impl IntoIterator<Item = u32>,
    networks: impl IntoIterator<Item = u32>,
) -> BTreeSet<MacAddress> {
    let ports = ports.into_iter().map(|port| Locator::Port { host, port }.mac());
    let networks = networks.into_iter().map(|network| Locator::Flood { host, network }.mac());
    ports.chain(networks).collect()
}

/// The frame by which a locator is announced.
pub fn frame(locator: MacAddress) -> Vec<u8> {
    let mut frame = [&GROUP.0[..], &locator.0, &ETHER_TYPE, b"meridian locator"].concat();
    frame.resize(LENGTH, 0);
    frame
}

/// Which locators are to be heard from next.
struct Round {
    /// Not heard from yet.
    new: VecDeque<MacAddress>,
    /// The others, next first, with the time at which each is due.
    rest: VecDeque<(Instant, MacAddress)>,
    period: Duration,
}

impl Round {
    fn new(period: Duration) -> Round {
        Round { new: VecDeque::new(), rest: VecDeque::new(), period }
    }

    /// Takes another set; `anew` when all are to be announced.
    fn set(&mut self, wanted: &BTreeSet<MacAddress>, anew: bool) {
        if anew {
            self.rest.clear();
            self.new.clear();
        }
        self.rest.retain(|(_, locator)| wanted.contains(locator));
        self.new.retain(|locator| wanted.contains(locator));
        let known: BTreeSet<MacAddress> =
            self.rest.iter().map(|(_, locator)| *locator).chain(self.new.iter().copied()).collect();
        self.new.extend(wanted.difference(&known));
    }

    /// The next batch; those in it are due again a period later.
    fn take(&mut self, now: Instant) -> Vec<MacAddress> {
        let mut batch: Vec<MacAddress> = Vec::new();
        while batch.len() < BATCH
            && let Some(locator) = self.new.pop_front()
        {
            batch.push(locator);
        }
        while batch.len() < BATCH
            && let Some((_, locator)) = self.rest.pop_front_if(|(at, _)| *at <= now)
        {
            batch.push(locator);
        }
        self.rest.extend(batch.iter().map(|locator| (now + self.period, *locator)));
        batch
    }

    /// When the next batch is due, not before `earliest`.
    fn next(&self, earliest: Instant) -> Option<Instant> {
        if !self.new.is_empty() {
            return Some(earliest);
        }
        self.rest.front().map(|(at, _)| (*at).max(earliest))
    }
}

/// Announces for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(ageing) = shared.config.underlay_ageing else { return };
    let mut round = Round::new(ageing / 3);
    let mut seen = Announced::default();
    let mut earliest = Instant::now();
    loop {
        let pause = async {
            match round.next(earliest) {
                Some(at) if seen.wire.is_some() => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.announce_wake.notified() => {
                let wanted = lock(&shared.announced).clone();
                let anew = (wanted.wire, wanted.since) != (seen.wire, seen.since);
                round.set(&wanted.locators, anew);
                seen = wanted;
            }
            () = pause => {
                let now = Instant::now();
                earliest = now + PAUSE;
                let Some(wire) = seen.wire else { continue };
                let batch = round.take(now);
                let frames = batch.iter().map(|locator| frame(*locator)).collect();
                if let Err(error) = shared.edges.switch.announce(wire, frames).await {
                    // When the switch is back, everything is announced anew.
                    tracing::debug!(%error, "locators could not be announced");
                }
            }
            () = shared.shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_from_its_locator_and_is_addressed_to_nobody_alone() {
        let locator = Locator::Flood { host: 7, network: 9 }.mac();
        let frame = frame(locator);
        assert_eq!((frame.len(), &frame[6..12]), (LENGTH, &locator.0[..]));
        assert!(
            MacAddress([frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]]).is_multicast()
        );
        assert_eq!(Locator::from_mac(GROUP), None);
    }

    #[tokio::test]
    async fn what_is_new_is_announced_at_once_and_everything_once_in_a_period() {
        let period = Duration::from_secs(100);
        let begin = Instant::now();
        let mut round = Round::new(period);
        let three = locators(1, [1, 2], [9]);
        round.set(&three, false);
        assert_eq!(round.next(begin), Some(begin));
        assert_eq!(round.take(begin).len(), 3);
        assert_eq!(round.next(begin), Some(begin + period));
        assert_eq!(round.take(begin + period / 2), []);
        let four = locators(1, [1, 2, 3], [9]);
        round.set(&four, false);
        let fourth = Locator::Port { host: 1, port: 3 }.mac();
        assert_eq!(round.take(begin + period / 2), [fourth]);
        round.set(&locators(1, [3], []), false);
        assert_eq!(round.take(begin + period), []);
        assert_eq!(round.take(begin + period * 3 / 2), [fourth]);
        round.set(&locators(1, [3], []), true);
        assert_eq!(round.take(begin + period * 3 / 2), [fourth]);
    }

    #[tokio::test]
    async fn a_large_host_announces_in_batches() {
        let now = Instant::now();
        let mut round = Round::new(Duration::from_secs(100));
        round.set(&locators(1, 1..=250, []), false);
        let batches: Vec<usize> = (0..4).map(|_| round.take(now).len()).collect();
        assert_eq!(batches, [100, 100, 50, 0]);
    }
}
