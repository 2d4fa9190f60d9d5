//! Bodies of tokens that somebody asked about a moment ago. A body holds names, and names are read
//! from the database; one that is asked for again within [`KEPT`] is answered from here.
//!
//! What a token *may* do is never taken from here: signature, expiry, revocation and the policy of
//! whoever asks are looked at before, every time. A change in this process empties it at once; a
//! name that another process changed may be seen for [`KEPT`] longer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long a body is answered again.
const KEPT: Duration = Duration::from_secs(1);
/// Bytes of all bodies together.
const MOST_BYTES: usize = 8 << 20;

/// Which body: the hash of the token's text, and whether its catalogue is in it.
pub(crate) type Key = ([u8; 32], bool);

/// The state that a body was read from. Whoever reads the database takes it *before*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    changes: u64,
    roles_version: u64,
}

struct Entry {
    body: Bytes,
    read: Moment,
    at: Instant,
}

#[derive(Default)]
struct State {
    changes: u64,
    bytes: usize,
    entries: HashMap<Key, Entry>,
}

/// The bodies.
#[derive(Default)]
pub(crate) struct Descriptions {
    state: Mutex<State>,
}

impl Descriptions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of identity changed in this process: no name is what it was.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.changes += 1;
        state.bytes = 0;
        state.entries.clear();
    }

    /// The state now, with the version of the roles that names are taken from.
    pub fn moment(&self, roles_version: u64) -> Moment {
        Moment { changes: self.lock().changes, roles_version }
    }

    /// A body that holds at this moment.
    pub fn get(&self, key: &Key, moment: Moment) -> Option<Bytes> {
        let state = self.lock();
        let entry = state.entries.get(key)?;
        let holds = entry.read == moment && entry.at.elapsed() < KEPT;
        holds.then(|| entry.body.clone())
    }

    /// Keeps a body that was read at a moment, unless something changed meanwhile.
    pub fn keep(&self, key: Key, moment: Moment, body: Bytes) {
        let mut state = self.lock();
        if state.changes != moment.changes || body.len() > MOST_BYTES {
            return;
        }
        if state.bytes + body.len() > MOST_BYTES {
            // What is over leaves together with what is not: it is read again within a second.
            state.bytes = 0;
            state.entries.clear();
        }
        state.bytes += body.len();
        let entry = Entry { body, read: moment, at: Instant::now() };
        if let Some(old) = state.entries.insert(key, entry) {
            state.bytes -= old.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = ([7; 32], true);

    #[test]
    fn a_body_is_answered_again_until_something_changes() {
        let descriptions = Descriptions::default();
        let moment = descriptions.moment(1);
        assert_eq!(descriptions.get(&KEY, moment), None);
        descriptions.keep(KEY, moment, Bytes::from_static(b"{}"));
        assert_eq!(descriptions.get(&KEY, moment).as_deref(), Some(&b"{}"[..]));
        assert_eq!(descriptions.get(&([7; 32], false), moment), None, "without its catalogue");
        assert_eq!(descriptions.get(&KEY, descriptions.moment(2)), None, "a role was renamed");
        descriptions.forget();
        assert_eq!(descriptions.get(&KEY, descriptions.moment(1)), None);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let descriptions = Descriptions::default();
        let before = descriptions.moment(1);
        descriptions.forget();
        descriptions.keep(KEY, before, Bytes::from_static(b"an old name"));
        assert_eq!(descriptions.get(&KEY, descriptions.moment(1)), None);
    }

    #[test]
    fn bodies_never_take_more_than_their_share_of_memory() {
        let descriptions = Descriptions::default();
        let moment = descriptions.moment(0);
        for number in 0..40_u8 {
            descriptions.keep(([number; 32], true), moment, vec![0; MOST_BYTES / 16].into());
            let state = descriptions.lock();
            let held: usize = state.entries.values().map(|entry| entry.body.len()).sum();
            assert_eq!(held, state.bytes);
            assert!(held <= MOST_BYTES);
        }
        descriptions.keep(KEY, moment, vec![0; MOST_BYTES + 1].into());
        assert_eq!(descriptions.get(&KEY, moment), None);
        let one = ([39; 32], true);
        descriptions.keep(one, moment, Bytes::from_static(b"{}"));
        assert_eq!(descriptions.get(&one, moment).map(|body| body.len()), Some(2));
    }
}
