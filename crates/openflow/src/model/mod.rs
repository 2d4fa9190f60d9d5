//! What a flow table says, as plain data: cheap to build, compare, sort and print.
//!
//! Nothing here knows about bytes on a wire or about sockets, so that a flow compiler and its
//! property tests depend on data alone.

mod action;
mod display;
mod field;
mod flow;
mod group;
mod matching;

pub use action::{Action, Actions, Ct, CtZone, Nat, NatKind, Subfield};
pub use field::{Field, ct_state, eth_type, ip_proto, mac_to_u64, port};
pub use flow::{Flow, TABLE_ALL};
pub use group::{Bucket, Group, GroupKind, Meter, MeterUnit};
pub use matching::{Match, MatchField};
