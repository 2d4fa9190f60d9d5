//! The region's server: all services on one port, the gateway for hosts on another, and the
//! workers that carry out workflows. Stateless but for the database; any number may run.

pub mod adoption;
pub mod clock;
pub mod config;
pub mod explain;
pub mod gateway;
pub mod housekeeping;
mod image_store;
pub mod init;
pub mod keys;
pub mod layout;
pub mod operator;
pub mod pki;
pub mod replica;
pub mod server;

/// What a token can be for, as [`explain`] asks.
pub mod identity_scope {
    pub use identity::standing::Scope;
}
pub use identity::mapping::dry_run::explain as explain_mapping;
