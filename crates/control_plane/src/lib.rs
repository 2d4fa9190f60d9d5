//! Wires the services into one server.
pub mod pki;
