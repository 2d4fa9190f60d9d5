//! Address scopes: within one, the prefixes of subnet pools do not overlap, so that addresses from
//! it mean one thing.

pub mod api;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
