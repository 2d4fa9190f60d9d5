//! Subnet pools: prefixes from which subnets get their ranges, so that nobody has to keep the books
//! of who has which. What is given is not written a second time: it is the ranges of the pool's
//! subnets, and one lock orders them.

pub mod api;
pub mod model;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
