//! Wires the services into one server.
pub mod config;
pub mod layout;
pub mod pki;
