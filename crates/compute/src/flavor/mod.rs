//! Flavors: the sizes that servers come in. A request changes one row; nothing runs afterwards,
//! because a server keeps a copy of its flavor from the moment it was accepted. A flavor is
//! therefore changed (its description, its extra specs) or deleted freely.
//!
//! Public flavors are everybody's; the others are for the projects on their access list, and for
//! administrators.

pub mod api;
pub mod model;
pub mod service;
pub mod store;

#[cfg(test)]
mod tests;
