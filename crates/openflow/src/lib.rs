//! An OpenFlow 1.4 client for Open vSwitch, with the Nicira extensions that a virtual network needs.
//!
//! Three layers, each usable without the next:
//!
//! ```text
//!   model   what a flow table says: Match, Action, Flow ...   plain data, ordered, printable
//!   wire    those types and the protocol's messages as bytes  pure, never panics on input
//!   client  one connection over a unix socket                 tokio
//! ```
//!
//! The model is canonical: a flow that was sent and then dumped from the switch compares equal, so
//! the difference of two flow tables is a set operation. `Display` writes the syntax of `ovs-ofctl`.

pub mod client;
pub mod model;
pub mod wire;

pub use client::{BundleMember, Connection, ConnectionError, Event, Options};
pub use model::*;
pub use wire::{
    DecodeError, EncodeError, FlowMod, PacketIn, PacketOut, Port, PortChange, SwitchError,
};
