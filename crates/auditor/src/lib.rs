//! The auditor: looks whether what the cloud has written agrees with itself and with what hosts
//! say, and says where it does not. Nothing else in the cloud checks this twice: there are no
//! foreign keys, and every service keeps its own references true.
//!
//! It reads the tables of all services with SQL of its own, on purpose: it shares no code with
//! those whose mistakes it is to find.
//!
//! ```text
//!   one slice: one snapshot        pure                     each in a transaction of its own
//!   store::… ──▶ rows ──────▶ checks::… ──▶ findings ──▶ what can be proven wrong is repaired
//!                                              │
//!                                              └──▶ audit_findings (first seen, last seen),
//!                                                   `meridian audit`, a gauge for each kind
//! ```
//! A slice is a part of the identifiers, so that a region of any size is audited in small pieces,
//! each on one snapshot: within a snapshot every invariant holds exactly. What a host is merely
//! slow with is reported only when the next audit finds it unchanged ([`Kind::needs_patience`]).
//!
//! In production it runs every [`EVERY`], in the process that holds its lease.

mod api;
mod audit;
pub mod checks;
mod model;
pub mod rows;
mod store;
mod worker;

pub use api::{POLICY, routes};
pub use audit::{Audit, JOURNAL_PAGE, Options, audit, stored};
pub use model::{Finding, Kind, Repair, StoredFinding};
pub use store::MIGRATIONS;
pub use worker::{Auditor, EVERY};

#[cfg(test)]
mod tests;
