//! Open vSwitch behind [`crate::switch::Switch`].
//!
//! Two connections are kept: to the database (which bridge and ports there are) and to the
//! bridge's management socket (its flow table). A watcher opens them again when they end, and says
//! so; what was set before is then set again by whoever hears of it. No command is ever spawned,
//! and a controller is never set: under fail mode `secure` that would empty every table.
//!
//! ```text
//!   (none) ──both open──▶ Ready ──either ends──▶ Lost ──both open──▶ Ready …
//!                           └──a port's number or link changes──▶ PortsChanged
//! ```

mod adapter;
pub mod daemons;
mod flow_table;

pub use adapter::OpenVswitch;
