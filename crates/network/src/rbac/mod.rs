//! Sharing: an owner lets another project, or everybody, use a network, security group, address
//! group, address scope or subnet pool (Neutron's RBAC policies).
//!
//! What is shared is seen and used by the target, and changed by its owner alone. A policy stays as
//! long as somebody uses the object who could not without it. `shared` of a network, pool or scope
//! is such a policy for everybody, which its object made by itself.

pub mod api;
pub mod model;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
