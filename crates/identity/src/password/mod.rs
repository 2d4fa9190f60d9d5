//! Passwords. A hash takes 19 MiB and tens of milliseconds on purpose, so it runs on a few threads
//! of low priority with a bounded queue: a flood of logins is answered 429 and leaves the rest of
//! the service its cores and memory.
//!
//! Hashes are PHC strings (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`): they carry their parameters,
//! so these can be raised without anybody losing a login. Hashes of other parameters, and those of
//! an imported Keystone, are replaced when their owner next logs in.

mod pool;
mod scheme;

use std::sync::atomic::{AtomicU64, Ordering};

use cloud_types::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use pool::{NotDone, Threads};
pub(crate) use scheme::is_known;

/// Longest password, in bytes; upstream's `max_password_length`.
pub(crate) const MAX_PASSWORD: usize = 4096;

/// Cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HashParams {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for HashParams {
    /// OWASP's first recommendation for argon2id: 19 MiB, two passes, one lane.
    fn default() -> Self {
        HashParams { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

impl HashParams {
    /// The cheapest that the algorithm allows, for tests.
    pub const CHEAP: HashParams = HashParams { memory_kib: 8, passes: 1, lanes: 1 };

    /// Whether the algorithm can be run with them, and a server can bear it.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        const MOST_KIB: u32 = 4 * 1024 * 1024;
        if !(1..=255).contains(&self.lanes) || !(1..=1000).contains(&self.passes) {
            return Err("lanes have to be 1 to 255, and passes 1 to 1000".into());
        }
        let least = 8 * self.lanes;
        if !(least..=MOST_KIB).contains(&self.memory_kib) {
            return Err(format!(
                "memory_kib is {}; with {} lanes it has to be {least} to {MOST_KIB}",
                self.memory_kib, self.lanes
            ));
        }
        Ok(())
    }
}

/// Whether a password was the right one, and what its hash should be replaced by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub matches: bool,
    /// A hash with today's parameters, where the old one had others.
    pub better_hash: Option<String>,
}

/// Hashes and verifies within limits.
pub struct PasswordPool {
    params: HashParams,
    threads: Threads,
    /// What an unknown user's password is compared with, so that the answer costs as much.
    nobody: String,
    /// How many hashes were computed, for whatever reason.
    computed: AtomicU64,
}

impl PasswordPool {
    /// Niceness of the threads: a tenth of the weight of those that answer requests.
    pub const NICENESS: i32 = 10;

    /// A pool that computes `workers` hashes at once and lets `queue` more wait.
    pub fn new(params: HashParams, workers: usize, queue: usize) -> Self {
        PasswordPool {
            params,
            threads: Threads::new(workers, queue, Self::NICENESS),
            nobody: scheme::of_nobody(params),
            computed: AtomicU64::new(0),
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// 400 when the password is too long, 429 when too many wait already.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String, Fault> {
        if password.len() > MAX_PASSWORD {
            return Err(Fault::bad_request(format!(
                "Invalid input for field 'password': it is longer than {MAX_PASSWORD} bytes."
            )));
        }
        let params = self.params;
        self.work(move || hash_now(params, &password)).await?
    }

    /// Whether the password is the one of `hash`. Without a hash (an unknown user, or one who has
    /// no password) the answer is no, after the same work.
    ///
    /// # Errors
    /// 429 when too many wait already.
    pub async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool, Fault> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        let known = hash.is_some();
        let against = hash.unwrap_or_else(|| self.nobody.clone());
        let matches = self.work(move || scheme::verify(&password, &against)).await?;
        Ok(matches && known)
    }

    /// The same for a login: a hash that is not what would be written today comes back renewed.
    /// Where there is no room for that just now, the next login does it.
    ///
    /// # Errors
    /// 429 when too many wait already.
    pub(crate) async fn verify_login(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<Verified, Fault> {
        let old = hash.as_deref().is_some_and(|hash| !scheme::is_current(self.params, hash));
        let again = old.then(|| password.clone());
        let matches = self.verify(password, hash).await?;
        let better_hash = match again {
            Some(password) if matches => self.hash(password).await.ok(),
            _ => None,
        };
        Ok(Verified { matches, better_hash })
    }

    /// How many hashes were computed so far, for whatever reason.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Acquire)
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let done = self.threads.run(job).await.map_err(|reason| match reason {
            NotDone::Full => busy(),
            NotDone::Failed => {
                tracing::error!("a password could not be hashed");
                Fault::internal("The password could not be checked.")
            }
        })?;
        self.computed.fetch_add(1, Ordering::AcqRel);
        Ok(done)
    }
}

fn busy() -> Fault {
    Fault::new(
        FaultKind::TooManyRequests,
        "Too many logins at once. Try again, and keep using the token that you get.",
    )
    .retry_after(2)
}

pub(crate) fn hash_now(params: HashParams, password: &str) -> Result<String, Fault> {
    scheme::hash(params, password).map_err(|reason| {
        tracing::error!(%reason, "a password could not be hashed");
        Fault::internal("The password could not be hashed.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_records_its_cost_and_verifies() {
        let pool = PasswordPool::new(HashParams::CHEAP, 1, 4);
        let hash = pool.hash(secret("horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(pool.verify(secret("horse"), Some(hash.clone())).await.unwrap());
        assert!(!pool.verify(secret("cow"), Some(hash.clone())).await.unwrap());
        assert!(!pool.verify(secret("horse"), None).await.unwrap());
        let dearer = PasswordPool::new(HashParams { memory_kib: 16, ..HashParams::CHEAP }, 1, 4);
        assert!(dearer.verify(secret("horse"), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn an_old_hash_is_renewed_at_a_login_that_succeeds_and_only_then() {
        let old = PasswordPool::new(HashParams::CHEAP, 1, 4).hash(secret("horse")).await.unwrap();
        let params = HashParams { memory_kib: 16, ..HashParams::CHEAP };
        let pool = PasswordPool::new(params, 1, 4);
        let wrong = pool.verify_login(secret("cow"), Some(old.clone())).await.unwrap();
        assert_eq!(wrong, Verified { matches: false, better_hash: None });
        let right = pool.verify_login(secret("horse"), Some(old)).await.unwrap();
        let better = right.better_hash.unwrap();
        assert!(better.starts_with("$argon2id$v=19$m=16,t=1,p=1$"), "{better}");
        let again = pool.verify_login(secret("horse"), Some(better)).await.unwrap();
        assert_eq!(again, Verified { matches: true, better_hash: None });
    }

    #[tokio::test]
    async fn nobody_costs_as_much_as_somebody() {
        let pool = PasswordPool::new(HashParams::CHEAP, 1, 4);
        let hash = pool.hash(secret("horse")).await.unwrap();
        let mut costs = Vec::new();
        for known in [None, Some(hash)] {
            let before = pool.computed();
            assert!(!pool.verify_login(secret("cow"), known).await.unwrap().matches);
            costs.push(pool.computed() - before);
        }
        assert_eq!(costs, [1, 1]);
    }

    #[test]
    fn costs_that_cannot_be_paid_are_refused() {
        assert!(HashParams::default().check().is_ok() && HashParams::CHEAP.check().is_ok());
        for (memory_kib, passes, lanes) in
            [(7, 1, 1), (8, 0, 1), (8, 1, 0), (8, 1, 2), (u32::MAX, 1, 1)]
        {
            assert!(HashParams { memory_kib, passes, lanes }.check().is_err());
        }
    }
}
