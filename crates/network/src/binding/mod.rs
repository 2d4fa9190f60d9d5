//! What hosts are told of networks and ports, and the numbers inside locators.
//!
//! Everything here is level-triggered: documents are computed from rows and put; one that says
//! what the host knows already is no change. A port that is bound concerns its own host (port and
//! network), the other hosts of the L2 domain that have ports of the network (a neighbour each),
//! and whoever has a rule whose remote side is one of the port's groups.
//!
//! ```text
//!   number:  free ──take──▶ used ──release──▶ quarantined ──every document that named it is done
//!             ▲                                   │          or gone on its host──┐
//!             └───────────────────────────────────┴──────────────────────────────┘
//! ```

pub mod model;
pub mod numbers;
pub mod reports;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
