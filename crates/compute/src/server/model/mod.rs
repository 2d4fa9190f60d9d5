//! A server without I/O: its states, its record, what a request for one says, and the document
//! that a host gets.

mod document;
mod record;
mod state;
mod wish;

pub use document::server_spec;
pub use record::{
    DiskConfig, Fixed, FlavorSnapshot, HostRef, ImageSnapshot, KeySnapshot, LockedBy, Nic, Payload,
    Server, ServerFault,
};
pub use state::{
    Command, Power, State, TaskState, Verdict, VmState, hostname_of, judge, refusal, settle,
    states_with_status,
};
pub use wish::{CreateRequest, ImageFacts, Networks, TagChange, check_image};
pub(super) use wish::{read_access_v4, read_access_v6};
