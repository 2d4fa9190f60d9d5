//! Time as the cloud stores it: microseconds since the Unix epoch, and a clock that tests and the
//! simulation can replace. Code that decides anything takes its time from a [`Clock`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, in microseconds since 1970-01-01T00:00:00Z. Stored as BIGINT.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `duration` later; saturates at the end of time.
    pub fn after(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }

    /// The moment `duration` earlier; saturates at the beginning of time.
    pub fn before(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_sub(micros))
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2026-11-23T19:00:00.123456Z`: Keystone's form, with six fractional digits.
    pub fn rfc3339_micros(self) -> String {
        let moment = self.to_jiff();
        format!("{}.{:06}Z", moment.strftime("%Y-%m-%dT%H:%M:%S"), self.0.rem_euclid(1_000_000))
    }

    /// `2026-11-23T19:00:00Z`: the form of Nova, Neutron and Glance.
    pub fn rfc3339_seconds(self) -> String {
        self.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2026-11-23T19:00:00.000000`: Nova's form for `OS-SRV-USG:launched_at`, without a zone.
    pub fn iso_micros_naive(self) -> String {
        let moment = self.to_jiff();
        format!("{}.{:06}", moment.strftime("%Y-%m-%dT%H:%M:%S"), self.0.rem_euclid(1_000_000))
    }

    /// Reads RFC 3339, with or without fraction; a missing zone is read as UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let parsed = text
            .parse::<jiff::Timestamp>()
            .or_else(|_| format!("{text}Z").parse::<jiff::Timestamp>())
            .ok()?;
        Some(Timestamp(parsed.as_microsecond()))
    }

    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339_micros())
    }
}

/// Where decisions take their time from.
pub trait Clock: Send + Sync + 'static {
    /// The current moment.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is told to move, or runs at an offset from the wall clock.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        TestClock(Arc::new(AtomicI64::new(start.0)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_agree_with_the_services() {
        let t = Timestamp(1_700_000_000_123_456);
        assert_eq!(t.rfc3339_micros(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(t.rfc3339_seconds(), "2023-11-14T22:13:20Z");
        assert_eq!(t.iso_micros_naive(), "2023-11-14T22:13:20.123456");
    }

    #[test]
    fn parse_reads_what_it_prints() {
        let t = Timestamp(1_700_000_000_123_456);
        assert_eq!(Timestamp::parse(&t.rfc3339_micros()), Some(t));
        assert_eq!(Timestamp::parse("2023-11-14T22:13:20"), Some(Timestamp(1_700_000_000_000_000)));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
