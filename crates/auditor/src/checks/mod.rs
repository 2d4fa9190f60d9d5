//! The checks. Each is a pure function from rows of one snapshot to findings.

mod addresses;
mod hosts;
mod journal;
mod networks;
mod ports;
mod quota;
mod servers;
mod workflows;

pub use addresses::{addresses, forgotten_addresses, waits};
pub use hosts::{hosts, orphans, reports_without_documents};
pub use journal::{Existing, journal};
pub use networks::networks;
pub(crate) use ports::fixed_ips;
pub use ports::ports;
pub use quota::quota;
pub use servers::servers;
pub use workflows::{workflows, written_after_loss};
