//! Key pairs: public keys that a user has put into servers from the first boot. They belong to a
//! user, not to a project. Before microversion 2.92 the server can make a pair; the private half
//! is in that one answer and nowhere else.

pub mod api;
pub mod model;
pub mod service;
pub mod store;

#[cfg(test)]
mod tests;
