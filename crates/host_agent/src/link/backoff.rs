//! How long to wait before the next try: a random time below a bound that doubles. When a
//! control plane comes back, its hosts come back spread over time rather than all at once.

use std::time::Duration;

use rand::Rng;

/// The first bound.
const FIRST: Duration = Duration::from_secs(1);
/// The last bound.
const LONGEST: Duration = Duration::from_secs(30);

/// Counts the tries that failed in a row.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A try succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A try failed: how long to wait.
    pub fn failed(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        rand::rng().random_range(Duration::ZERO..=bound)
    }

    fn bound(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_to_its_limit_and_waits_are_spread() {
        let mut backoff = Backoff::default();
        let mut bounds = Vec::new();
        for _ in 0..8 {
            bounds.push(backoff.bound().as_secs());
            assert!(backoff.clone().failed() <= backoff.bound());
            backoff.failed();
        }
        assert_eq!(bounds, [1, 2, 4, 8, 16, 30, 30, 30]);
        let waits: std::collections::BTreeSet<Duration> =
            (0..20).map(|_| backoff.clone().failed()).collect();
        assert!(waits.len() > 10, "full jitter: {waits:?}");
        backoff.reset();
        assert_eq!(backoff.bound(), FIRST);
    }
}
