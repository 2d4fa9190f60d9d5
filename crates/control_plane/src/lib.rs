//! The region's server: all services on one port, the gateway for hosts on another, and the
//! workers that carry out workflows. Stateless but for the database; any number may run.

pub mod clock;
pub mod config;
pub mod gateway;
pub mod housekeeping;
pub mod init;
pub mod layout;
pub mod operator;
pub mod pki;
pub mod server;
