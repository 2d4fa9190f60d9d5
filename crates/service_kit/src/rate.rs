//! A limit on how fast one caller may ask: a token bucket for each project, so that one tenant's
//! loop does not take the service from the others.

use std::collections::HashMap;
use std::sync::Mutex;

use cloud_types::{Fault, FaultKind, Timestamp};

/// Requests for each second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Refill, in requests for each second; zero switches the limit off.
    pub per_second: u32,
    /// The bucket's size, in requests.
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        // About what one process answers on a few cores: nobody who works meets it, and a loop
        // gone wild does not pile up. Operators of shared clouds set less.
        RateLimit { per_second: 10_000, burst: 20_000 }
    }
}

/// Buckets are dropped when there are more than this many and they are full again.
const MAX_BUCKETS: usize = 10_000;

#[derive(Clone, Copy)]
struct Bucket {
    /// Millionths of a request, so that refilling is exact in whole microseconds.
    level: u64,
    at: Timestamp,
}

/// The buckets of this process.
pub struct RateLimiter {
    limit: RateLimit,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl RateLimiter {
    /// Full buckets for everybody.
    pub fn new(limit: RateLimit) -> Self {
        RateLimiter { limit, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one request out of `caller`'s bucket.
    ///
    /// # Errors
    /// 429 with the seconds after which there is room again.
    pub fn take(&self, caller: &str, now: Timestamp) -> Result<(), Fault> {
        const UNIT: u64 = 1_000_000;
        if self.limit.per_second == 0 {
            return Ok(());
        }
        let rate = u64::from(self.limit.per_second);
        let size = u64::from(self.limit.burst.max(1)) * UNIT;
        let refill = |bucket: &Bucket| {
            let micros = u64::try_from(now.since(bucket.at).as_micros()).unwrap_or(u64::MAX);
            bucket.level.saturating_add(micros.saturating_mul(rate)).min(size)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(caller) {
            buckets.retain(|_, bucket| refill(bucket) < size);
        }
        let fresh = Bucket { level: size, at: now };
        let bucket = buckets.entry(caller.to_owned()).or_insert(fresh);
        bucket.level = refill(bucket);
        bucket.at = now;
        if bucket.level < UNIT {
            let seconds = (UNIT - bucket.level).div_ceil(rate).div_ceil(UNIT).max(1);
            return Err(Fault::new(
                FaultKind::TooManyRequests,
                format!(
                    "More than {} requests a second. Slow down and try again.",
                    self.limit.per_second
                ),
            )
            .retry_after(u32::try_from(seconds).unwrap_or(u32::MAX)));
        }
        bucket.level -= UNIT;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_and_refills_for_each_caller_alone() {
        let limiter = RateLimiter::new(RateLimit { per_second: 2, burst: 3 });
        let t = Timestamp(1_000_000_000);
        for _ in 0..3 {
            limiter.take("a", t).unwrap();
        }
        let fault = limiter.take("a", t).unwrap_err();
        assert_eq!((fault.status(), fault.retry_after), (429, Some(1)));
        limiter.take("b", t).unwrap();
        let later = t.after(Duration::from_millis(500));
        limiter.take("a", later).unwrap();
        assert!(limiter.take("a", later).is_err());
    }
}
