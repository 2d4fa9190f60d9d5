//! The replicas of the control plane: who there is, who lives, and what becomes of what a dead one
//! was at work on.
//!
//! There is no leader. Every replica gives a sign of life in the database each second, and looks at
//! the others' at the same time:
//!
//! ```text
//!   (none) ──register──▶ serving ◀──a sign of life────┐
//!                           │                         │
//!                           ├─ leave (shutdown) ──▶ silent ──after a week──▶ forgotten
//!                           │                         ▲
//!                           └─ four looks without ────┘
//!                              a sign of life, by anybody: its leases, workflows and
//!                              claims are free from then on
//! ```
//! Whether a replica lives is judged by looks, not by clocks: its counter has not moved in several
//! looks of ours, each of which succeeded. A replica that was only stopped finds, when it goes on,
//! that its leases have another epoch and its claims another owner, and can change nothing.
//!
//! A replica that cannot reach the database knows it by the same means, and sends its hosts away:
//! their streams end, `/healthz` answers 503, and they go to another.
//!
//! On SQLite there is one control plane, and none of this.

mod model;
mod service;
mod store;

pub use model::{Replica, View};
pub use service::{Registry, forget_silent, list};
pub use store::MIGRATIONS;
pub(crate) use store::{image_store, set_image_store, set_under_review, under_review};

#[cfg(test)]
mod tests;
