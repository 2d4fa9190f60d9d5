//! What a simulation puts between a process and its database: delay, loss, death.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::future::BoxFuture;

use crate::DatabaseError;
use crate::notify::Notifier;

/// A process's connection to a database in memory.
pub trait Wire: Send + Sync {
    /// Before a transaction: may take time, fail, or never return (the process has died).
    fn before(&self, read_only: bool) -> BoxFuture<'_, Result<(), DatabaseError>>;
    /// After a transaction, before its answer reaches the process: what was stored stays stored,
    /// whatever this returns.
    fn after(&self, read_only: bool) -> BoxFuture<'_, Result<(), DatabaseError>>;
    /// Whether word of a change arrives now.
    fn hears(&self) -> bool;
}

/// Who listens, in a simulation of several processes on one database.
#[derive(Default)]
pub(crate) struct Processes(Mutex<Vec<Process>>);

struct Process {
    notifier: Weak<Notifier>,
    wire: Arc<dyn Wire>,
    /// It missed something, and is to be told so.
    missed: AtomicBool,
}

impl Processes {
    fn each(&self, mut what: impl FnMut(&Arc<Notifier>, &Process)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|process| match process.notifier.upgrade() {
            Some(notifier) => {
                what(&notifier, process);
                true
            }
            None => false,
        });
    }

    pub fn add(&self, notifier: &Arc<Notifier>, wire: Arc<dyn Wire>) {
        let process =
            Process { notifier: Arc::downgrade(notifier), wire, missed: AtomicBool::new(false) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    /// Tells everybody but the one who committed.
    pub fn notify(&self, by: &Arc<Notifier>, channel: &str, key: &str) {
        self.each(|notifier, process| match process.wire.hears() {
            _ if Arc::ptr_eq(notifier, by) => {}
            true => notifier.send(channel, key),
            false => process.missed.store(true, Ordering::SeqCst),
        });
    }

    /// As when the connection on which a process listens is made anew.
    pub fn reached(&self, by: &Arc<Notifier>) {
        self.each(|notifier, process| {
            if Arc::ptr_eq(notifier, by) && process.missed.swap(false, Ordering::SeqCst) {
                notifier.lagged();
            }
        });
    }
}
