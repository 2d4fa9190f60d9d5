//! The words that every layer of the cloud shares: identifiers, times, sizes, addresses and
//! faults. Nothing here does I/O, so that pure code (the scheduler, the flow compiler) and the
//! host agent can use it without pulling in a server.

mod clock;
mod fault;
mod id;
mod mac;

pub use clock::{Clock, SystemClock, TestClock, Timestamp};
pub use fault::{Fault, FaultKind};
pub use id::*;
pub use mac::{Locator, MacAddress, ParseMacError};
