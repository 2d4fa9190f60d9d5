//! Time as processes of the simulation see it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cloud_types::{Clock, Timestamp};
use tokio::time::Instant;

/// When every simulation begins: 2027-01-15T08:00:00Z.
pub const BEGIN: Timestamp = Timestamp(1_800_000_000_000_000);

thread_local! {
    /// Nanoseconds since the beginning, for whoever asks the system for the time.
    static PASSED: Cell<i64> = const { Cell::new(0) };
}

/// Nanoseconds of simulated time since the beginning, as this thread last saw it.
pub fn passed_nanos() -> i64 {
    PASSED.get()
}

/// The world's clock: tokio's, which stands still and jumps. Clones share their skew.
#[derive(Clone)]
pub struct SimulatedClock {
    start: Instant,
    skew_micros: Arc<AtomicI64>,
}

impl SimulatedClock {
    /// A clock that begins now.
    pub fn new() -> SimulatedClock {
        SimulatedClock { start: Instant::now(), skew_micros: Arc::default() }
    }

    /// A clock of another process: as this one, until it is skewed.
    pub fn of_another(&self) -> SimulatedClock {
        SimulatedClock { start: self.start, skew_micros: Arc::default() }
    }

    /// Has the clock go wrong by so much.
    pub fn skew(&self, micros: i64) {
        self.skew_micros.store(micros, Ordering::SeqCst);
    }

    /// Microseconds since the beginning, without skew.
    pub fn passed(&self) -> i64 {
        let passed = self.start.elapsed();
        PASSED.set(i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX));
        i64::try_from(passed.as_micros()).unwrap_or(i64::MAX)
    }
}

impl Default for SimulatedClock {
    fn default() -> Self {
        SimulatedClock::new()
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp(BEGIN.0 + self.passed() + self.skew_micros.load(Ordering::SeqCst))
    }
}
