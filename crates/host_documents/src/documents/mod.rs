//! Documents: what each host should have.
//!
//! ```text
//!   (none) ──put──▶ live ──put (changed)──▶ live      each write: next position of the host
//!                    │ put_tombstone
//!                    ▼
//!                 tombstone ──report Gone──▶ (none)
//!                    │ put: the object is wanted again
//!                    └──────────▶ live
//! ```

mod service;
mod store;

pub use service::{after, get, list_of_kind, put, put_tombstone, remove, snapshot};

/// Notified with the host's id when its documents changed.
pub const CHANNEL: &str = "host_documents";

#[cfg(test)]
mod tests;
