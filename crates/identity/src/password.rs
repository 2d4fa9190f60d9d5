//! Passwords. A hash takes 19 MiB and tens of milliseconds on purpose, so it runs on blocking
//! threads behind a semaphore, with a bounded queue: a flood of logins is answered 429 and leaves
//! the rest of the service its cores and memory.
//!
//! Hashes are PHC strings (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`): they carry their parameters,
//! so these can be raised without anybody losing a login.

use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use cloud_types::{Fault, FaultKind};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Longest password, in bytes; upstream's `max_password_length`.
pub(crate) const MAX_PASSWORD: usize = 4096;

/// Cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// Hashes and verifies within limits.
pub struct PasswordPool {
    params: HashParams,
    workers: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    /// What an unknown user's password is compared with, so that the answer takes as long.
    dummy: std::sync::OnceLock<String>,
}

impl PasswordPool {
    /// A pool that computes `workers` hashes at once and lets `queue` more wait.
    pub fn new(params: HashParams, workers: usize, queue: usize) -> Self {
        PasswordPool {
            params,
            workers: Semaphore::new(workers.max(1)),
            waiting: AtomicUsize::new(0),
            queue,
            dummy: std::sync::OnceLock::new(),
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// 400 when the password is too long, 429 when too many wait already.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String, Fault> {
        if password.len() > MAX_PASSWORD {
            return Err(Fault::bad_request(format!(
                "The password is longer than {MAX_PASSWORD} bytes."
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
        let params = self.params;
        let dummy = match (&hash, self.dummy.get()) {
            (None, None) => {
                let made =
                    self.work(move || hash_now(params, "nobody has this password")).await??;
                self.dummy.get_or_init(|| made).clone()
            }
            (None, Some(dummy)) => dummy.clone(),
            (Some(_), _) => String::new(),
        };
        self.work(move || {
            let known = hash.is_some();
            let against = hash.unwrap_or(dummy);
            let argon2 = Argon2::default();
            let matches = argon2.verify_password(password.as_bytes(), against.as_str()).is_ok();
            matches && known
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = match self.workers.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = Waiting::enter(&self.waiting, self.queue)?;
                self.workers.acquire().await.map_err(|_| busy())?
            }
        };
        let done = tokio::task::spawn_blocking(job).await;
        drop(permit);
        done.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Fault::internal("The password could not be checked.")
        })
    }
}

/// A place in the queue, given back when dropped (also when the client hangs up).
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn enter(waiting: &'p AtomicUsize, queue: usize) -> Result<Self, Fault> {
        if waiting.fetch_add(1, Ordering::AcqRel) >= queue {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(busy());
        }
        Ok(Waiting(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
    let failed = |reason: String| {
        tracing::error!(%reason, "a password could not be hashed");
        Fault::internal("The password could not be hashed.")
    };
    let costs = Params::new(params.memory_kib, params.passes, params.lanes, None)
        .map_err(|error| failed(error.to_string()))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, costs);
    let salt: [u8; 16] = rand::random();
    argon2
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| failed(error.to_string()))
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
        assert!(!pool.verify(secret("nobody has this password"), None).await.unwrap());
        let dearer = PasswordPool::new(HashParams { memory_kib: 16, ..HashParams::CHEAP }, 1, 4);
        assert!(dearer.verify(secret("horse"), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn beyond_the_queue_the_answer_is_429() {
        let pool = PasswordPool::new(HashParams::CHEAP, 1, 0);
        let _held = pool.workers.acquire().await.unwrap();
        let fault = pool.hash(secret("horse")).await.unwrap_err();
        assert_eq!(fault.status(), 429);
        assert!(fault.retry_after.is_some());
    }
}
