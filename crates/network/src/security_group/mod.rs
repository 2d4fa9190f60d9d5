//! Security groups: what may reach a port and what it may reach. Everything that no rule allows is
//! dropped; answers to what was allowed pass. A rule's remote side may be a group: then it stands
//! for the addresses of that group's members on the same network, and hosts hear of it when the
//! membership changes.

pub mod api;
pub mod model;
pub mod service;
pub mod store;
