//! What hosts are told of networks and ports, and the numbers inside locators.
//!
//! Everything here is level-triggered: documents are computed from rows and put; one that says
//! what the host knows already is no change. A port that is bound concerns its own host (port and
//! network) and the other hosts of the L2 domain that have ports of the network (a neighbour each).
//! These documents also name the port's security groups: a rule about a group goes to the hosts as
//! such, and each host finds the members among the ports and neighbours that it knows. So binding a
//! port writes one document for each host of the network, however many ports have rules about it.
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
