//! Hosts: machines that joined with a one-time token.
//!
//! ```text
//!   (token) ──enrol──▶ enabled ◀──set_enabled──▶ disabled     disabled: no new servers
//!                         └───────────remove─────────┴──▶ gone; its number is not used again
//! ```
//!
//! Whether a host is *alive* is not a state but an observation: it was seen within
//! [`ALIVE_SECONDS`]. Nothing is torn down because a host is not alive; it only gets no new work.

//! A host reads one stream of documents at a time, and each has a number, its *session*. The
//! newest counts: reports that come through an earlier one are refused, and whoever still serves
//! one ends it.

mod model;
mod service;
mod store;

pub use model::{ALIVE_SECONDS, Host, HostState, JOIN_TOKEN_HOURS};
pub(crate) use service::set_facts;
pub use service::{
    check_session, connected, create_join_token, enrol, forget_tokens, get, get_by_name, list,
    page, remove, seen, seen_together, set_enabled,
};

/// Notified with a host's id and its session when it has opened a stream.
pub const SESSIONS: &str = "host_sessions";

#[cfg(test)]
mod tests;
