//! The network between the parts, and the life and death of processes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use database::simulation::Wire;
use database::{BoxFuture, DatabaseError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

/// The world's source of randomness. Clones draw from the same source.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    /// A source for one purpose: purposes do not disturb each other.
    pub fn new(seed: u64, purpose: &str) -> Dice {
        let mixed = purpose.bytes().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Dice(Arc::new(Mutex::new(StdRng::seed_from_u64(mixed))))
    }

    fn source(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `bound`.
    pub fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.source().random_range(0..bound) }
    }

    /// Whether something happens that happens `times` in a thousand.
    pub fn chance(&self, times: u32) -> bool {
        self.source().random_range(0..1000) < times
    }

    /// One of them.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// A time up to `most`, in whole milliseconds.
    pub fn up_to(&self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.source().random_range(0..=most))
    }

    /// A time around `mean`, now and then much longer.
    pub fn around(&self, mean: Duration) -> Duration {
        let uniform: f64 = self.source().random_range(0.0001..1.0);
        mean.mul_f64(-uniform.ln())
    }
}

/// Whether a process lives, and runs. A dead one never gets an answer to anything again; one that
/// stands still (SIGSTOP) gets it when it goes on.
#[derive(Debug, Default)]
pub struct Life {
    dead: AtomicBool,
    still: AtomicBool,
    changed: Notify,
}

impl Life {
    /// Ends it, at whatever it waits for.
    pub fn end(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Has it stand still, or go on.
    pub fn stand_still(&self, still: bool) {
        self.still.store(still, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Returns at once while it runs, when it goes on while it stands still, and never when it is
    /// dead.
    pub async fn go_on(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_ended() {
                std::future::pending::<()>().await;
            }
            if !self.still.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }

    /// Returns when it ends.
    pub async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_ended() {
                return;
            }
            changed.await;
        }
    }
}

/// Which parts cannot reach which. Names are `replica-N`, `host-N`, `database`.
#[derive(Clone, Default)]
pub struct Partitions(Arc<Mutex<BTreeSet<(String, String)>>>, Arc<Notify>);

impl Partitions {
    fn cuts(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts two parts off from each other.
    pub fn cut(&self, a: &str, b: &str) {
        self.cuts().insert((a.to_owned(), b.to_owned()));
        self.1.notify_waiters();
    }

    /// Connects them again.
    pub fn heal(&self, a: &str, b: &str) {
        self.cuts().remove(&(a.to_owned(), b.to_owned()));
        self.1.notify_waiters();
    }

    /// Connects everything.
    pub fn heal_all(&self) {
        self.cuts().clear();
        self.1.notify_waiters();
    }

    /// Whether the first cannot reach the second.
    pub fn are_apart(&self, a: &str, b: &str) -> bool {
        self.cuts().contains(&(a.to_owned(), b.to_owned()))
    }

    /// Returns when they can reach each other.
    pub async fn together(&self, a: &str, b: &str) {
        loop {
            let changed = self.1.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.are_apart(a, b) {
                return;
            }
            changed.await;
        }
    }
}

/// A replica's connection to the database.
pub struct DatabaseWire {
    /// The replica's name.
    pub name: String,
    /// Whether the replica lives.
    pub life: Arc<Life>,
    /// What is cut off.
    pub partitions: Partitions,
    /// For delays.
    pub dice: Dice,
    /// How many milliseconds a transaction takes at most; a slow disk raises it.
    pub slowest_millis: Arc<AtomicU64>,
    /// How often, in a thousand, the connection breaks before the answer arrives.
    pub answers_lost: u32,
}

/// How long a process tries a database that it cannot reach.
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);

impl DatabaseWire {
    async fn wait(&self) {
        let most = Duration::from_millis(self.slowest_millis.load(Ordering::SeqCst));
        let wait = self.dice.up_to(most);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.life.go_on().await;
    }
}

impl Wire for DatabaseWire {
    fn hears(&self) -> bool {
        !self.life.has_ended() && !self.partitions.are_apart(&self.name, "database")
    }

    fn before(&self, _read_only: bool) -> BoxFuture<'_, Result<(), DatabaseError>> {
        Box::pin(async move {
            self.life.go_on().await;
            if self.partitions.are_apart(&self.name, "database") {
                let back = self.partitions.together(&self.name, "database");
                if tokio::time::timeout(DATABASE_PATIENCE, back).await.is_err() {
                    self.life.go_on().await;
                    return Err(DatabaseError::Unreachable("the network is cut".to_owned()));
                }
            }
            self.wait().await;
            Ok(())
        })
    }

    fn after(&self, read_only: bool) -> BoxFuture<'_, Result<(), DatabaseError>> {
        Box::pin(async move {
            self.wait().await;
            if !read_only && self.dice.chance(self.answers_lost) {
                return Err(DatabaseError::Unknown(
                    "the connection broke before the answer".to_owned(),
                ));
            }
            Ok(())
        })
    }
}
