//! Hosts as compute sees them: what is claimed on each, and the views that operators know as
//! hypervisors, compute services, aggregates and availability zones. The hosts themselves, who
//! they are and whether they live, belong to `host_documents`.
//!
//! A claim is taken and given back by the workflows of servers, one row for each server and one
//! running sum for each host. The sum is raised by a statement that also checks what the host
//! has, so two schedulers that chose the same host cannot both have its last gigabyte:
//!
//! ```text
//!   schedule (pure) ──▶ claim: UPDATE … WHERE used + wanted <= allowed ──1 row──▶ claimed
//!        ▲                                 │ 0 rows: somebody was faster
//!        └─────────────────────────────────┘
//! ```

pub mod api;
pub mod model;
pub mod service;
pub mod store;

use cloud_types::Fault;
use database::BoxFuture;
use host_protocol::{HostAnswer, HostQuery};

/// Asks a host something that changes nothing, over the connection that it holds open. The
/// control plane implements it: the host may be connected to another replica.
pub trait HostQueries: Send + Sync {
    /// The host's answer.
    ///
    /// # Errors
    /// 503 when the host is not connected, 504 when it does not answer in time.
    fn ask(
        &self,
        host: &cloud_types::HostId,
        query: HostQuery,
    ) -> BoxFuture<'_, Result<HostAnswer, Fault>>;
}

#[cfg(test)]
mod tests;
