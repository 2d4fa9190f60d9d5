//! The control plane's end of the host protocol: which hosts there are, what each should have,
//! and what it last said.
//!
//! ```text
//!  token ──enrol──▶ host ──▶ documents::put / put_tombstone   (in the caller's transaction)
//!                              │ generation, position, channel "host_documents"
//!                              ▼
//!                            stream to the host
//!                              │
//!  reports::apply ◀────────────┘  stored, then the sink hears of it in the same transaction
//! ```
//!
//! A document's generation rises even across a removal and a new document of the same id, so an
//! old message can never be taken for a new one.

pub mod documents;
pub mod hosts;
pub mod inventories;
mod migrations;
pub mod questions;
pub mod reports;
#[cfg(test)]
mod test_support;

pub use documents::CHANNEL;
pub use hosts::{Host, HostState};
pub use migrations::MIGRATIONS;
