//! Documents: what each host should have.
//!
//! Each host has a sequence of its own. Positions are given out as a transaction's last act, from
//! a counter row that is held until it ends: so they are dense and committed in order, and whoever
//! has read up to one has everything below it. Until then a document waits for its position with
//! a negative number, in the order of the calls. (Taken at once, the counter would be held while
//! the transaction waits for other objects, and two that tell the same hosts could wait for each
//! other.)
//!
//! A generation never comes back, not even when a document is made again after it was gone.
//!
//! ```text
//!   (none) ──put──▶ live ──put (changed)──▶ live      each write: next position of the host,
//!                    │                                a higher generation
//!                    │ put_tombstone
//!                    ▼
//!                 tombstone ──report Gone──▶ (none)
//!                    │ put: the object is wanted again
//!                    └──────────▶ live
//! ```

mod service;
mod store;

pub use service::{
    adopt, after, get, holders, list_of_kind, position, put, put_tombstone, rebase, remove,
    skip_positions, snapshot,
};
pub(crate) use service::{close, count_besides_host, open};

/// Notified with the host's id when its documents changed.
pub const CHANNEL: &str = "host_documents";

#[cfg(test)]
mod tests;
