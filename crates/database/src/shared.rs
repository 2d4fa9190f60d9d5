//! What the handle, its threads and every transaction of a database have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cloud_types::Clock;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::notify::Notifier;

pub(crate) struct Shared {
    pub clock: Arc<dyn Clock>,
    pub notifier: Arc<Notifier>,
    #[cfg(feature = "simulation")]
    processes: Arc<crate::simulation::Processes>,
    pub counters: Counters,
    random: Arc<Mutex<StdRng>>,
    /// Who the database is. A restored backup is given a new lineage.
    lineage: Arc<RwLock<Arc<str>>>,
    lock_order: Mutex<HashMap<(&'static str, &'static str), ()>>,
}

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub committed: AtomicU64,
    pub failed: AtomicU64,
    pub commits: AtomicU64,
    pub retried: AtomicU64,
    pub lock_order: AtomicU64,
}

/// What a database has done since it was opened, for the metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseMetrics {
    /// Transactions whose changes were stored.
    pub committed: u64,
    /// Transactions that ended in an error, the caller's own included.
    pub failed: u64,
    /// Commits on disk; on SQLite fewer than `committed`, because waiting transactions share one.
    pub commits: u64,
    /// Attempts beyond the first.
    pub retried: u64,
    /// Pairs of kinds of objects that were locked in both orders (debug builds only): each can
    /// make two transactions wait for each other, which costs a retry.
    pub lock_order_inversions: u64,
}

impl Shared {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Shared {
            clock,
            notifier: Arc::default(),
            #[cfg(feature = "simulation")]
            processes: Arc::default(),
            counters: Counters::default(),
            random: Arc::new(Mutex::new(StdRng::from_os_rng())),
            lineage: Arc::new(RwLock::new("".into())),
            lock_order: Mutex::new(HashMap::new()),
        }
    }

    /// The same database for another process, which has a clock of its own and hears by itself of
    /// what the others commit, as long as `wire` lets it.
    #[cfg(feature = "simulation")]
    pub fn for_process(
        &self,
        clock: Arc<dyn Clock>,
        wire: Arc<dyn crate::simulation::Wire>,
    ) -> Self {
        let notifier = Arc::<Notifier>::default();
        self.processes.add(&notifier, wire);
        Shared {
            clock,
            notifier,
            processes: self.processes.clone(),
            counters: Counters::default(),
            random: self.random.clone(),
            lineage: self.lineage.clone(),
            lock_order: Mutex::new(HashMap::new()),
        }
    }

    /// Passes word of a committed change on.
    pub fn notify(&self, channel: &str, key: &str) {
        self.notifier.send(channel, key);
        #[cfg(feature = "simulation")]
        self.processes.notify(&self.notifier, channel, key);
    }

    /// A process has reached the database: it learns that it missed something, if it did.
    #[cfg(feature = "simulation")]
    pub fn reached(&self) {
        self.processes.reached(&self.notifier);
    }

    pub fn seed(&self, seed: u64) {
        *self.random.lock().unwrap_or_else(PoisonError::into_inner) = StdRng::seed_from_u64(seed);
    }

    pub fn random_u64(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    pub fn lineage(&self) -> Arc<str> {
        self.lineage.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_lineage(&self, lineage: Arc<str>) {
        *self.lineage.write().unwrap_or_else(PoisonError::into_inner) = lineage;
    }

    pub fn metrics(&self) -> DatabaseMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DatabaseMetrics {
            committed: read(&self.counters.committed),
            failed: read(&self.counters.failed),
            commits: read(&self.counters.commits),
            retried: read(&self.counters.retried),
            lock_order_inversions: read(&self.counters.lock_order),
        }
    }

    /// Remembers that `then` was locked while `held` was, and says so when the reverse was seen
    /// before. Different kinds only: within a kind, one call sorts.
    pub fn note_lock_order(&self, held: &'static str, then: &'static str) {
        if held == then {
            return;
        }
        let mut seen = self.lock_order.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.insert((held, then), ()).is_none() && seen.contains_key(&(then, held)) {
            self.counters.lock_order.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                held,
                then,
                "objects of these kinds are locked in both orders; two such transactions can wait \
                 for each other: take both locks in one call, or always in one order"
            );
        }
    }
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
