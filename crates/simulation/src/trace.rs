//! What happened, in order: a hash that is the same for the same seed, and the lines from which a
//! finding's story is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::clock::SimulatedClock;

/// Lines that are kept for the story; older ones are only in the hash.
const KEPT: usize = 200_000;

struct State {
    hash: Sha256,
    lines: VecDeque<String>,
    count: u64,
}

/// The trace of a run. Clones are the same one.
#[derive(Clone)]
pub struct Trace {
    clock: SimulatedClock,
    state: Arc<Mutex<State>>,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(clock: SimulatedClock) -> Trace {
        let state = State { hash: Sha256::new(), lines: VecDeque::new(), count: 0 };
        Trace { clock, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub fn say(&self, what: impl std::fmt::Display) {
        let passed = self.clock.passed();
        let line = format!("{:>11.6}  {what}", passed as f64 / 1e6);
        tracing::debug!(target: "trace", "{line}");
        let mut state = self.state();
        state.hash.update(line.as_bytes());
        state.hash.update(b"\n");
        state.count += 1;
        if state.lines.len() == KEPT {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// The hash of everything that was said, and how much that was.
    pub fn hash(&self) -> (String, u64) {
        let state = self.state();
        let hash = hex::encode(state.hash.clone().finalize());
        (hash.chars().take(32).collect(), state.count)
    }

    /// The lines that name an object, the last `most` of them.
    pub fn about(&self, object: &str, most: usize) -> Vec<String> {
        let state = self.state();
        let mut found: Vec<String> =
            state.lines.iter().filter(|line| line.contains(object)).cloned().collect();
        found.drain(..found.len().saturating_sub(most));
        found
    }

    /// All lines that are kept.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.iter().cloned().collect()
    }
}
