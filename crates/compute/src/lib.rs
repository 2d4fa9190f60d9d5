//! Compute: servers, flavors, key pairs, hosts as compute sees them, and the scheduler. Speaks
//! Nova's v2.1 API under `/compute`.
//!
//! A request is one transaction; what then has to happen on a host is a workflow whose steps write
//! documents for the host and sleep until it reports. [`server`] draws the state machine.

pub mod keypair;
pub mod scheduler;
pub mod server;
pub mod wire;
