//! Open vSwitch behind [`crate::switch::Switch`].
//!
//! Division of the work at the moment: `flow_table.rs` (OpenFlow side: apply, verify, checksum,
//! reconnect) is written by the lead; `ports.rs` (OVSDB side: bridge and ports)
//! and this file's adapter that puts them together come with the OVSDB client.

pub mod flow_table;
