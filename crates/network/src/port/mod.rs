//! Ports: a place on a network with a MAC, addresses and security groups. See [`model`] for the
//! states.

pub mod api;
pub mod model;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
