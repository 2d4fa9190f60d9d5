//! A client for OVSDB (RFC 7047), and Open vSwitch's own database on top of it.
//!
//! ```text
//!   Connection   JSON-RPC over a unix socket: schema, transactions, monitors   any database
//!   OvsDb        bridges and ports of Open vSwitch, level-triggered            "Open_vSwitch"
//! ```
//!
//! The server closes nothing silently: when it goes, every request ends with an error and every
//! monitor with `None`. Whoever owns the connection makes another.

mod client;
mod error;
mod framing;
mod monitor;
mod operation;
mod tasks;
mod value;
pub mod vswitch;

pub use client::{Connection, Options};
pub use error::OvsdbError;
pub use framing::Frames;
pub use monitor::{Monitor, MonitorTable, RowUpdate, TableUpdates};
pub use operation::{Condition, Function, Mutation, Mutator, Operation, OperationResult};
pub use value::{Row, map, named, reference, references, set};
pub use vswitch::{BridgeSpec, OvsDb, PortSpec, PortStatus};
