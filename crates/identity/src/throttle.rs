//! How often passwords may be guessed: a bucket for each user and one for each source. An attempt
//! takes from both before anything is computed, and one that succeeds gives back what it took: so
//! whoever knows the password never meets the limit, and guesses under way count, too.
//!
//! Users who do not exist have buckets like those who do.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use cloud_types::{Fault, FaultKind, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How many logins may fail; zero in a minute switches a limit off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginLimits {
    /// For one user, in a minute.
    pub user_per_minute: u32,
    /// For one user, at once; logins under way count until they have succeeded.
    pub user_burst: u32,
    /// From one address (IPv6: one /64), in a minute.
    pub source_per_minute: u32,
    /// From one address, at once.
    pub source_burst: u32,
}

impl Default for LoginLimits {
    fn default() -> Self {
        // A person mistypes a few times, a script with an old password asks every few seconds; an
        // office of hundreds may stand behind one address.
        LoginLimits {
            user_per_minute: 20,
            user_burst: 50,
            source_per_minute: 200,
            source_burst: 100,
        }
    }
}

impl LoginLimits {
    /// No limits.
    pub const NONE: LoginLimits =
        LoginLimits { user_per_minute: 0, user_burst: 0, source_per_minute: 0, source_burst: 0 };
}

/// Buckets that are not full are kept, up to so many; what comes beyond shares one.
const MAX_BUCKETS: usize = 50_000;
/// One attempt, in the units that a bucket counts: millionths, so that a minute refills exactly.
const ATTEMPT: u64 = 60_000_000;

/// What a bucket belongs to: a hash, since a name may be as long as a request.
type Key = [u8; 16];

struct Bucket {
    level: u64,
    at: Timestamp,
}

#[derive(Clone, Copy)]
struct Limit {
    per_minute: u64,
    size: u64,
}

impl Limit {
    fn new(per_minute: u32, burst: u32) -> Option<Limit> {
        let size = u64::from(burst.max(1)) * ATTEMPT;
        (per_minute > 0).then_some(Limit { per_minute: per_minute.into(), size })
    }

    fn level(self, bucket: &Bucket, now: Timestamp) -> u64 {
        let micros = u64::try_from(now.since(bucket.at).as_micros()).unwrap_or(u64::MAX);
        bucket.level.saturating_add(micros.saturating_mul(self.per_minute)).min(self.size)
    }
}

/// The buckets of one kind.
struct Buckets {
    limit: Option<Limit>,
    known: Mutex<HashMap<Key, Bucket>>,
}

impl Buckets {
    fn new(per_minute: u32, burst: u32) -> Self {
        Buckets { limit: Limit::new(per_minute, burst), known: Mutex::default() }
    }

    /// Takes one attempt. Answers the seconds until there is room, where there is none, and the
    /// bucket that it came from.
    fn take(&self, key: Key, now: Timestamp) -> Result<Option<Key>, u32> {
        let Some(limit) = self.limit else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_BUCKETS && !known.contains_key(&key) {
            known.retain(|_, bucket| limit.level(bucket, now) < limit.size);
        }
        let key =
            if known.len() >= MAX_BUCKETS && !known.contains_key(&key) { [0; 16] } else { key };
        let bucket = match known.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Bucket { level: limit.size, at: now }),
        };
        bucket.level = limit.level(bucket, now);
        bucket.at = now;
        if bucket.level < ATTEMPT {
            let seconds = (ATTEMPT - bucket.level).div_ceil(limit.per_minute).div_ceil(1_000_000);
            return Err(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX));
        }
        bucket.level -= ATTEMPT;
        Ok(Some(key))
    }

    fn give_back(&self, key: Option<Key>) {
        let (Some(limit), Some(key)) = (self.limit, key) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = known.get_mut(&key) {
            bucket.level = (bucket.level + ATTEMPT).min(limit.size);
        }
    }
}

/// The limits of this process.
pub(crate) struct Throttle {
    users: Buckets,
    sources: Buckets,
}

/// An attempt that was let through.
#[must_use = "an attempt that succeeds gives back what it took"]
pub(crate) struct Attempt {
    throttle: Arc<Throttle>,
    user: Option<Key>,
    source: Option<Key>,
}

impl Throttle {
    pub fn new(limits: LoginLimits) -> Arc<Self> {
        Arc::new(Throttle {
            users: Buckets::new(limits.user_per_minute, limits.user_burst),
            sources: Buckets::new(limits.source_per_minute, limits.source_burst),
        })
    }

    /// Lets one attempt through that names nobody here, or not.
    ///
    /// # Errors
    /// 429 with the seconds after which there is room again.
    pub fn enter_from(
        self: &Arc<Self>,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt, Fault> {
        let mut attempt = Attempt { throttle: self.clone(), user: None, source: None };
        if let Some(source) = source {
            attempt.source = self
                .sources
                .take(key_of_source(source), now)
                .map_err(|seconds| too_many("from your address", seconds))?;
        }
        Ok(attempt)
    }

    /// Lets one guess through, or not. `user` is whatever names the user, known or not; requests
    /// from inside the process have no source.
    ///
    /// # Errors
    /// 429 with the seconds after which there is room again.
    pub fn enter(
        self: &Arc<Self>,
        user: &str,
        source: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt, Fault> {
        let mut attempt = self.enter_from(source, now)?;
        match self.users.take(key(b"user", user.as_bytes()), now) {
            Ok(taken) => attempt.user = taken,
            Err(seconds) => {
                self.sources.give_back(attempt.source);
                return Err(too_many("for this user", seconds));
            }
        }
        Ok(attempt)
    }
}

impl Attempt {
    /// It was no wrong guess.
    pub fn give_back(self) {
        self.throttle.users.give_back(self.user);
        self.throttle.sources.give_back(self.source);
    }
}

fn too_many(what: &str, seconds: u32) -> Fault {
    Fault::new(
        FaultKind::TooManyRequests,
        format!("Too many logins failed, or are under way, {what}. Try again in {seconds} s."),
    )
    .retry_after(seconds)
}

fn key(kind: &[u8], of: &[u8]) -> Key {
    let digest: [u8; 32] =
        Sha256::new().chain_update(kind).chain_update(b"\0").chain_update(of).finalize().into();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

/// One customer has a whole /64.
fn key_of_source(source: IpAddr) -> Key {
    match source.to_canonical() {
        IpAddr::V4(v4) => key(b"v4", &v4.octets()),
        IpAddr::V6(v6) => key(b"v6", &v6.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const T: Timestamp = Timestamp(1_000_000_000);

    fn limits() -> LoginLimits {
        LoginLimits { user_per_minute: 6, user_burst: 2, source_per_minute: 60, source_burst: 3 }
    }

    fn fails(throttle: &Arc<Throttle>, user: &str, source: &str, now: Timestamp) -> Option<u32> {
        match throttle.enter(user, Some(source.parse().unwrap()), now) {
            Ok(attempt) => {
                drop(attempt);
                None
            }
            Err(fault) => {
                assert_eq!(fault.status(), 429);
                fault.retry_after
            }
        }
    }

    #[test]
    fn a_user_is_guessed_at_slowly_from_wherever() {
        let throttle = Throttle::new(limits());
        assert_eq!(fails(&throttle, "a", "10.0.0.1", T), None);
        assert_eq!(fails(&throttle, "a", "10.0.0.2", T), None);
        assert_eq!(fails(&throttle, "a", "10.0.0.3", T), Some(10));
        assert_eq!(fails(&throttle, "b", "10.0.0.3", T), None);
        let later = T.after(Duration::from_secs(10));
        assert_eq!(fails(&throttle, "a", "10.0.0.3", later), None);
        assert_eq!(fails(&throttle, "a", "10.0.0.3", later), Some(10));
    }

    #[test]
    fn a_source_guesses_slowly_at_whomever() {
        let throttle = Throttle::new(limits());
        for user in ["a", "b", "c"] {
            assert_eq!(fails(&throttle, user, "2001:db8::1", T), None);
        }
        assert_eq!(fails(&throttle, "d", "2001:db8::ffff", T), Some(1), "the same /64");
        assert_eq!(fails(&throttle, "d", "2001:db8:0:1::1", T), None);
        assert_eq!(fails(&throttle, "e", "::ffff:10.0.0.1", T), None);
    }

    #[test]
    fn an_attempt_that_names_nobody_counts_for_its_source() {
        let throttle = Throttle::new(limits());
        let source = "10.0.0.1".parse().ok();
        throttle.enter_from(source, T).unwrap().give_back();
        for _ in 0..3 {
            drop(throttle.enter_from(source, T).unwrap());
        }
        assert_eq!(fails(&throttle, "a", "10.0.0.1", T), Some(1));
        assert!(throttle.enter_from(source, T).is_err());
        assert!(throttle.enter_from(None, T).is_ok(), "from inside the process");
    }

    #[test]
    fn who_is_refused_for_the_user_takes_nothing_from_the_source() {
        let throttle = Throttle::new(limits());
        for _ in 0..2 {
            assert_eq!(fails(&throttle, "a", "10.0.0.1", T), None);
        }
        for _ in 0..9 {
            assert_eq!(fails(&throttle, "a", "10.0.0.1", T), Some(10));
        }
        assert_eq!(fails(&throttle, "b", "10.0.0.1", T), None);
    }

    #[test]
    fn the_right_password_never_meets_the_limit() {
        let throttle = Throttle::new(limits());
        for _ in 0..100 {
            throttle.enter("a", "10.0.0.1".parse().ok(), T).unwrap().give_back();
        }
        let under_way: Vec<_> = (0..2).map(|_| throttle.enter("a", None, T).unwrap()).collect();
        assert!(throttle.enter("a", None, T).is_err(), "guesses under way count");
        drop(under_way);
    }

    #[test]
    fn zero_switches_a_limit_off() {
        let throttle = Throttle::new(LoginLimits::NONE);
        for _ in 0..1000 {
            assert_eq!(fails(&throttle, "a", "10.0.0.1", T), None);
        }
    }

    #[test]
    fn no_number_of_names_takes_more_than_so_much_memory() {
        let throttle = Throttle::new(LoginLimits { source_per_minute: 0, ..limits() });
        for number in 0..MAX_BUCKETS + 100 {
            let _ = throttle.enter(&number.to_string(), None, T).map(drop);
        }
        assert!(throttle.users.known.lock().unwrap().len() <= MAX_BUCKETS + 1);
        let later = T.after(Duration::from_secs(600));
        throttle.enter("another", None, later).unwrap().give_back();
        assert_eq!(throttle.users.known.lock().unwrap().len(), 1, "full buckets are dropped");
    }
}
